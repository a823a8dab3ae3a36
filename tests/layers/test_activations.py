import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad import layers
from tests.agreement import assert_close, assert_gradients_agree, assert_keeps_dtype

X = np.array([-30.0, -2.5, -0.3, 0.2, 1.7, 40.0])


def normal_distribution(x):
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])


def logistic(x):
    return 1 / (1 + np.exp(-x))


def inner(x):
    """The argument of the hyperbolic tangent in gelu's approximation."""
    return np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)


ALPHA = 1.6732632423543772  # selu's

# The function and its derivative, written out.
FORMULAS = {
    "identity": (lambda x: x, np.ones_like),
    "relu": (lambda x: x * (x > 0), lambda x: 1.0 * (x > 0)),
    "leaky_relu": (lambda x: np.maximum(x, 0.01 * x), lambda x: np.where(x > 0, 1, 0.01)),
    "elu": (
        lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
        lambda x: np.where(x > 0, 1, np.exp(np.minimum(x, 0))),
    ),
    "gelu": (
        lambda x: x * normal_distribution(x),
        lambda x: normal_distribution(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    ),
    "selu": (
        lambda x: 1.0507009873554805 * np.where(x > 0, x, ALPHA * np.expm1(np.minimum(x, 0))),
        lambda x: 1.0507009873554805 * np.where(x > 0, 1, ALPHA * np.exp(np.minimum(x, 0))),
    ),
    "gelu_tanh": (
        lambda x: 0.5 * x * (1 + np.tanh(inner(x))),
        lambda x: (
            0.5 * (1 + np.tanh(inner(x)))
            + 0.5 * x * (1 - np.tanh(inner(x)) ** 2) * np.sqrt(2 / np.pi) * (1 + 0.134145 * x**2)
        ),
    ),
    "quick_gelu": (
        lambda x: x * logistic(1.702 * x),
        lambda x: logistic(1.702 * x) * (1 + 1.702 * x * logistic(-1.702 * x)),
    ),
    "silu": (
        lambda x: x * logistic(x),
        lambda x: logistic(x) * (1 + x * (1 - logistic(x))),
    ),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "sigmoid": (logistic, lambda x: logistic(x) * (1 - logistic(x))),
    "softplus": (lambda x: np.log1p(np.exp(x)), logistic),
    "step": (lambda x: 1.0 * (x > 0), np.zeros_like),
}


@pytest.mark.parametrize("name", layers.activations)
def test_value_and_derivative_are_the_formulas(name):
    f, (value, slope) = layers.activations[name], FORMULAS[name]

    @jax.jit
    def found(x):
        return f(x), jax.vmap(fg.grad(f))(x), jax.vmap(jax.grad(f))(x), fg.jacobian(f)(x)

    z, ours, theirs, jacobian = found(X)
    assert_close(z, value(X))
    assert_close(ours, slope(X))
    assert_close(theirs, slope(X))
    assert_close(jacobian, np.diag(slope(X)))


@pytest.mark.parametrize("name", [name for name in layers.activations if name != "step"])
def test_gradients_agree(name):
    assert_gradients_agree(layers.activations[name], jnp.asarray(X).reshape(2, 3))


@pytest.mark.parametrize("name", layers.activations)
def test_dtype_is_kept(name):
    assert_keeps_dtype(layers.activations[name], jnp.asarray(X[1:-1]))


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "identity"])
def test_complex(name):
    z = jnp.array([0.3 - 0.4j, -1.0 + 2.0j])
    f, (value, slope) = layers.activations[name], FORMULAS[name]
    assert_close(f(z), value(np.asarray(z)))
    assert_close(fg.vjp(f, z)[1](jnp.ones_like(z))[0], slope(np.asarray(z)))


@pytest.mark.parametrize(
    ("f", "at_zero"),
    [
        (layers.relu, 0.0),
        (layers.leaky_relu, 1.0),
        (layers.elu, 1.0),
        (layers.selu, 1.0507009873554805 * ALPHA),
        (layers.step, 0.0),
    ],
)
def test_kinks_are_those_of_jax(f, at_zero):
    assert fg.grad(f)(0.0) == jax.grad(f)(0.0) == at_zero


def test_options():
    x = jnp.asarray(X)
    assert_close(layers.leaky_relu(x, slope=0.2), np.maximum(X, 0.2 * X))
    assert_close(layers.elu(x, alpha=2.0)[0], jnp.array(2 * math.expm1(X[0])))
    assert_close(layers.gelu(x, approximate=True), layers.gelu_tanh(x))


def test_far_from_zero_nothing_overflows():
    @jax.jit
    def values_and_jacobians(x):
        functions = (*layers.activations.values(), layers.softmax, layers.log_softmax)
        return jnp.array([[f(x), *fg.jacobian(f)(x)] for f in functions])

    assert jnp.isfinite(values_and_jacobians(jnp.array([-1e4, 1e4]))).all()


# ---------------------------------------------------------------------------- softmax


def test_softmax_and_its_jacobian():
    x = np.array([[0.5, -1.0, 2.0], [3.0, 3.0, 3.0]])
    p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    by_log = np.stack([np.eye(3) - row for row in p])
    for f, value, jacobian in (
        (layers.softmax, p, p[:, :, None] * by_log),  # diag(p) − pᵀp
        (layers.log_softmax, np.log(p), by_log),
    ):
        assert_close(jax.jit(f)(x), value)
        assert_close(jax.jit(jax.vmap(fg.jacobian(f)))(x), jacobian)


@pytest.mark.parametrize("f", [layers.softmax, layers.log_softmax])
def test_softmax_gradients(f):
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    assert_gradients_agree(lambda x: f(x, axis=1), x)
    assert_close(f(x, axis=1), np.swapaxes(f(np.swapaxes(x, 1, 2)), 1, 2))
    assert_keeps_dtype(f, x)


@pytest.mark.parametrize("f", [*layers.activations.values(), layers.softmax, layers.log_softmax])
def test_integers_are_refused(f):
    with pytest.raises(TypeError, match=r"x must be floating-point.*int64\[3\].*x\.astype"):
        f(jnp.arange(3))
