import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_iris

import fungrad as fg
from fungrad import losses, models
from tests.agreement import assert_close
from tests.models.drawn import drawn

KEY = jax.random.key(0)


def test_mlp_is_its_formula():
    apply, params = drawn(models.mlp, (4, 6, 5, 3), activation="tanh")
    (W1, b1), (W2, b2), (W3, b3) = params
    x = np.random.default_rng(1).normal(size=(7, 4))
    expected = np.tanh(np.tanh(x @ W1.T + b1) @ W2.T + b2) @ W3.T + b3
    assert_close(jax.jit(apply)(params, x), expected)


def test_logistic_is_one_linear_layer():
    apply, params = drawn(models.logistic, 4, 3)
    assert (params.W.shape, params.b.shape) == ((3, 4), (3,))
    assert_close(apply(params, np.ones(4)), params.W.sum(1) + params.b)


def test_weights_keep_the_variance_and_biases_start_at_zero():
    _, params = models.mlp((400, 300, 200), key=KEY)
    for layer in params:
        n = layer.W.shape[1]
        assert abs(layer.W.std() * np.sqrt(n / 2) - 1) < 0.02
        assert not layer.b.any()


def test_another_initializer():
    small = jax.nn.initializers.normal(0.01)
    _, params = models.mlp((40, 30, 20), initializer=small, key=KEY)
    assert all(abs(layer.W.std() / 0.01 - 1) < 0.1 for layer in params)
    _, params = models.logistic(4, 3, initializer=jax.nn.initializers.zeros, key=KEY)
    assert not params.W.any()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((4,), r"sizes must be \(inputs, \.\.\., outputs\), got \(4,\)"),
        ((), "sizes must be positive integers"),
        ((4, 0, 3), "sizes must be positive integers, got 4, 0, 3"),
        ((4, 2.5), "sizes must be positive integers"),
    ],
)
def test_sizes_are_checked(sizes, message):
    with pytest.raises(ValueError, match=message):
        models.mlp(sizes, key=KEY)


def test_inputs_of_another_size_are_refused():
    for apply, params in (drawn(models.mlp, (4, 5, 3)), drawn(models.logistic, 4, 3)):
        with pytest.raises(ValueError, match=r"W must be \[m, n\] with n the last axis of x"):
            apply(params, jnp.ones((2, 5)))
    with pytest.raises(ValueError, match="inputs and outputs must be positive integers"):
        models.logistic(4, 0, key=KEY)


def test_a_4_16_3_mlp_learns_iris():
    x, y = load_iris(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    apply, params = models.mlp((4, 16, 3), key=KEY)

    def cost(params):
        return losses.cross_entropy(apply(params, x), y).mean()

    def step(params, _):
        return jax.tree.map(lambda w, g: w - 0.5 * g, params, fg.grad(cost)(params)), None

    params = jax.jit(lambda params: jax.lax.scan(step, params, length=300)[0])(params)
    assert losses.zero_one(apply(params, x), y).mean() <= 0.03
