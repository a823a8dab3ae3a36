import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad import layers
from tests.agreement import assert_close, assert_gradients_agree, assert_keeps_dtype

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(3, 4, 5, 6)) * 2 + 1
SCALE, SHIFT = DRAW.normal(size=6), DRAW.normal(size=6)


def normalised(x, axes, epsilon=1e-5):
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon)


def arrays(*values):
    return [jnp.asarray(value) for value in values]


# ---------------------------------------------------------------------------- layer, group


@pytest.mark.parametrize("batch", [(), (3,), (3, 4, 5)])
def test_layer_norm(batch):
    x = X[(0,) * (3 - len(batch))]
    x, scale, shift = arrays(x, SCALE, SHIFT)
    assert_close(layers.layer_norm(x, scale, shift), normalised(np.asarray(x), -1) * SCALE + SHIFT)
    assert_close(layers.layer_norm(x), normalised(np.asarray(x), -1))


@pytest.mark.parametrize("epsilon", [0.0, 1e-5, 0.5])
def test_the_jacobian_of_a_normalisation(epsilon):
    x = X[0, 0, 0]
    hat, n = normalised(x, -1, epsilon), x.size
    expected = np.eye(n) - np.ones((n, n)) / n - np.outer(hat, hat) / n
    expected /= np.sqrt(x.var() + epsilon)
    assert_close(fg.jacobian(lambda x: layers.layer_norm(x, epsilon=epsilon))(x), expected)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm(groups):
    x, scale, shift = arrays(X, SCALE, SHIFT)
    parts = np.split(X, groups, axis=-1)
    expected = np.concatenate([normalised(part, (1, 2, 3)) for part in parts], axis=-1)
    assert_close(layers.group_norm(x, scale, shift, groups=groups), expected * SCALE + SHIFT)


def test_gradients_of_layer_and_group_norm():
    assert_gradients_agree(layers.layer_norm, X, SCALE, SHIFT)
    assert_gradients_agree(lambda *args: layers.group_norm(*args, groups=2), X, SCALE, SHIFT)


def test_group_norm_of_other_numbers_of_positions():
    (x,) = arrays(X)
    assert_close(layers.group_norm(x, groups=1, spatial=0), layers.layer_norm(x))
    rows = np.concatenate([normalised(part, (2, 3)) for part in np.split(X, 2, axis=-1)], axis=-1)
    assert_close(layers.group_norm(x, groups=2, spatial=1), rows)
    assert_close(layers.group_norm(x[0], groups=2), layers.group_norm(x, groups=2)[0])


# ---------------------------------------------------------------------------- batch


def test_batch_norm_in_training():
    x, scale, shift = arrays(X, SCALE, SHIFT)
    start = layers.Statistics(*arrays(DRAW.normal(size=6), DRAW.uniform(1, 2, size=6)))
    z, state = layers.batch_norm(x, scale, shift, start, train=True, momentum=0.8)
    assert_close(z, normalised(X, (0, 1, 2)) * SCALE + SHIFT)
    assert_close(state.mean, 0.8 * start.mean + 0.2 * X.mean((0, 1, 2)))
    assert_close(state.variance, 0.8 * start.variance + 0.2 * X.var((0, 1, 2), ddof=1))


def test_batch_norm_at_test_time():
    x, scale, shift = arrays(X, SCALE, SHIFT)
    start = layers.Statistics(*arrays(DRAW.normal(size=6), DRAW.uniform(1, 2, size=6)))
    z, state = layers.batch_norm(x, scale, shift, start, train=False)
    mean, variance = map(np.asarray, start)
    assert_close(z, (X - mean) / np.sqrt(variance + 1e-5) * SCALE + SHIFT)
    assert_close(state, start)


@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_gradients_flow_through_output_and_state(train):
    x, scale, shift = arrays(X[:, 0, 0], SCALE, SHIFT)

    def layer(x, scale, shift, mean, variance):
        state = layers.Statistics(mean, variance)
        z, state = layers.batch_norm(x, scale, shift, state, train=train)
        return z, state.mean, state.variance

    assert_gradients_agree(layer, x, scale, shift, jnp.zeros(6), jnp.ones(6))


def test_batch_norm_trains_under_jit_and_scan():
    def step(state, x):
        z, state = layers.batch_norm(x, None, None, state, train=True)
        return state, z

    start = layers.initial_statistics(6)
    state, _ = jax.jit(lambda state, xs: jax.lax.scan(step, state, xs))(start, jnp.asarray(X))
    for x in jnp.asarray(X):
        start, _ = step(start, x)
    assert_close(state, start)


def test_dtypes_are_kept():
    x, scale, shift = arrays(X, SCALE, SHIFT)
    assert_keeps_dtype(layers.layer_norm, x, scale, shift)
    assert_keeps_dtype(lambda x: layers.group_norm(x, groups=2), x)
    for dtype in (jnp.float32, jnp.bfloat16):
        for kept, train in itertools.product((jnp.bfloat16, jnp.float32, float), (True, False)):
            start = layers.initial_statistics(6, kept)
            z, state = layers.batch_norm(x.astype(dtype), None, None, start, train=train)
            assert (z.dtype, state.mean.dtype, state.variance.dtype) == (dtype, kept, kept)


def test_half_precision_does_not_lose_the_variance():
    x = jnp.array([256.0, 258.0], jnp.bfloat16)  # two neighbours: their squares are equal
    assert_close(layers.layer_norm(x).astype(float), jnp.array([-1.0, 1.0]), rtol=1e-5)


# ---------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: layers.layer_norm(jnp.array(1.0)), ValueError, r"x must be.*got a scalar"),
        (lambda x: layers.layer_norm(x.astype(int)), TypeError, r"x must be floating-point"),
        (lambda x: layers.layer_norm(x, jnp.ones(5)), ValueError, r"scale must have shape \[6\]"),
        (lambda x: layers.layer_norm(x, None, jnp.ones(1)), ValueError, r"shift must have shape"),
        (lambda x: layers.layer_norm(x, jnp.ones(6, int)), TypeError, r"scale must be floating"),
        (
            lambda x: layers.group_norm(x, groups=4),
            ValueError,
            r"groups must divide the 6 channels",
        ),
        (lambda x: layers.group_norm(x, groups=0), ValueError, r"groups must divide"),
        (lambda x: layers.group_norm(x[0, 0], groups=2), ValueError, r"x must have 2 axes before"),
        (
            lambda x: layers.batch_norm(x, None, None, layers.initial_statistics(5), train=True),
            ValueError,
            r"state\.mean must have shape \[6\].*got float64\[5\]",
        ),
        (
            lambda x: layers.batch_norm(
                x[0, 0, 0], None, None, layers.initial_statistics(6), train=True
            ),
            ValueError,
            r"x must hold at least two examples to train on, got float64\[6\]",
        ),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(jnp.asarray(X))
