import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad import layers
from tests.agreement import assert_close, assert_gradients_agree, assert_keeps_dtype

DRAW = np.random.default_rng(0)
X, W, B = (jnp.asarray(DRAW.normal(size=shape)) for shape in ((5, 3), (4, 3), (4,)))


# ---------------------------------------------------------------------------- linear


def test_linear_is_a_matrix_times_each_example():
    expected = np.stack([np.asarray(W) @ x + np.asarray(B) for x in np.asarray(X)])
    assert_close(layers.linear(X, W, B), expected)
    assert_close(layers.linear(X, W), expected - np.asarray(B))


def test_jacobians_of_linear_are_those_of_the_lecture():
    by_x, by_W, by_b = (fg.jacobian(layers.linear, argnums=i)(X[0], W, B) for i in range(3))
    assert_close(by_x, W)
    assert_close(by_W, np.kron(np.eye(4), X[0]))  # ∂z/∂vec(W) = I ⊗ xᵀ
    assert_close(by_b, np.eye(4))


def test_linear_gradients_and_dtypes():
    assert_gradients_agree(layers.linear, X, W, B)
    assert_gradients_agree(layers.linear, X, W)
    assert_keeps_dtype(layers.linear, X, W, B)


@pytest.mark.parametrize("batch", [(), (1,), (2, 5), (0,)])
def test_any_batch_axes(batch):
    x = jnp.ones((*batch, 3))
    assert_close(layers.linear(x, W, B), jnp.broadcast_to(W.sum(1) + B, (*batch, 4)))


def test_linear_of_complex_arrays():
    z = np.asarray(X) + 1j * np.asarray(X)[::-1]
    assert_close(layers.linear(z, W.astype(complex)), z @ np.asarray(W).T)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((X, W.T), ValueError, r"W must be \[m, n\].*W float64\[3,4\] and x float64\[5,3\]"),
        ((X, W[0]), ValueError, r"W must be \[m, n\].*float64\[3\]"),
        ((jnp.array(1.0), W), ValueError, r"x float64\[\]"),
        ((X, W, jnp.ones(1)), ValueError, r"b must have shape \[4\] \(one bias per row of W\)"),
        ((X, W, jnp.ones((5, 4))), ValueError, r"b must have shape \[4\].*float64\[5,4\]"),
        ((X.astype(int), W), TypeError, r"x must be floating-point or complex.*int64\[5,3\]"),
        ((X, W.astype(int)), TypeError, r"W must be floating-point or complex.*int64\[4,3\]"),
    ],
)
def test_linear_refuses(args, error, message):
    with pytest.raises(error, match=message):
        layers.linear(*args)


# ---------------------------------------------------------------------------- the bias trick


def test_the_bias_trick():
    x, both = layers.prepend_one(X), layers.absorb_bias(W, B)
    assert_close(x, np.hstack([np.ones((5, 1)), X]))
    assert_close(both, np.hstack([np.asarray(B)[:, None], W]))
    assert_close(layers.linear(x, both), layers.linear(X, W, B))
    assert_gradients_agree(
        lambda x, W, b: layers.linear(layers.prepend_one(x), layers.absorb_bias(W, b)), X, W, B
    )
    assert_keeps_dtype(layers.prepend_one, X)


def test_the_bias_trick_refuses():
    with pytest.raises(ValueError, match=r"x must be \[\.\.\., n\], got a scalar"):
        layers.prepend_one(jnp.array(1.0))
    with pytest.raises(ValueError, match=r"W must be \[m, n\], got float64\[4\]"):
        layers.absorb_bias(B, B)
    with pytest.raises(ValueError, match=r"b must have shape \[4\]"):
        layers.absorb_bias(W, B[:3])
    with pytest.raises(TypeError, match=r"x must be floating-point"):
        layers.prepend_one(jnp.arange(3))


# ---------------------------------------------------------------------------- dropout

KEY = jax.random.key(0)


def test_dropout_drops_and_keeps_the_mean():
    x = jnp.full((200, 500), 3.0)
    z = layers.dropout(x, KEY, rate=0.25)
    assert set(np.unique(z)) == {0.0, 4.0}
    # The mean of 10⁵ entries 4 · Bernoulli(3/4) has a standard deviation of 0.0055.
    assert abs(z.mean() - 3) < 0.03
    assert abs((z == 0).mean() - 0.25) < 0.007


def test_dropout_repeats_with_its_key():
    assert_close(layers.dropout(X, KEY), layers.dropout(X, KEY))
    assert (layers.dropout(X, KEY) != layers.dropout(X, jax.random.key(1))).any()


def test_dropout_does_nothing_when_deterministic_or_at_rate_zero():
    assert_close(layers.dropout(X, deterministic=True), X)
    assert_close(layers.dropout(X, KEY, rate=0.0), X)


def test_dropout_gradient_is_its_mask():
    assert_gradients_agree(lambda x: layers.dropout(x, KEY, rate=0.3), X)
    gradient = fg.grad(lambda x: layers.dropout(x, KEY, rate=0.3).sum())(X)
    assert_close(gradient, layers.dropout(jnp.ones_like(X), KEY, rate=0.3))


def test_dropout_of_infinities_leaves_no_nan():
    assert not jnp.isnan(layers.dropout(jnp.full(100, jnp.inf), KEY)).any()


def test_dropout_keeps_dtype():
    for dtype in (jnp.bfloat16, jnp.float32):
        assert layers.dropout(X.astype(dtype), KEY, rate=0.3).dtype == dtype


def test_dropout_refuses():
    with pytest.raises(ValueError, match=r"key is needed"):
        layers.dropout(X)
    for rate in (-0.1, 1.0, 2):
        with pytest.raises(ValueError, match=rf"rate must be in \[0, 1\), got {rate}"):
            layers.dropout(X, KEY, rate=rate)
    with pytest.raises(TypeError, match="x must be floating-point"):
        layers.dropout(jnp.arange(3), KEY)
