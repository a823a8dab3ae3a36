"""Smooth and integrated gradients: against sums that are written out, and against closed forms."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import fungrad as fg

W = jnp.array([[0.5, -1.0, 0.3], [1.2, 0.4, -0.8]])
x = jnp.array([0.7, -0.4])
key = jax.random.key(3)


def model(x):
    return jnp.sum(jnp.tanh(x @ W.astype(x.dtype)) ** 2)


# --- Smooth gradients -----------------------------------------------------------------------------


def test_the_mean_gradient_around_an_input():
    """For a quadratic function the mean is the gradient at the mean input."""
    A = jnp.array([[2.0, 1.0], [1.0, 3.0]])
    smooth = fg.smooth_gradient(lambda x: x @ A @ x / 2, noise=0.5, samples=4000, key=key)
    np.testing.assert_allclose(smooth(x), A @ x, atol=4 * 0.5 * 4 / np.sqrt(4000))
    without = fg.smooth_gradient(model, noise=0.0, samples=3, key=key)
    np.testing.assert_allclose(without(x), fg.grad(model)(x), rtol=1e-14)


def test_smooth_gradients_of_pytrees_under_jit_and_other_rules():
    def loss(p, x, scale=1.0):
        return scale * jnp.sum(jnp.tanh(p["w"] * x))

    book = fg.rules.replace({"tanh": lambda g, z, x: 0 * g + 1})
    smooth = fg.smooth_gradient(loss, (0, -1), noise=0.1, samples=5, key=key, rules=book)
    params, at_x = jax.jit(smooth)({"w": x}, 2 * x)
    np.testing.assert_allclose(at_x, x, atol=0.3)  # ∂/∂x is w, noise and all
    assert params["w"].shape == (2,)
    again = smooth({"w": x}, 2 * x)[1]
    np.testing.assert_allclose(again, at_x, rtol=1e-12)
    other = fg.smooth_gradient(loss, 1, noise=0.1, samples=5, key=jax.random.key(4))
    assert not np.allclose(other({"w": x}, 2 * x, scale=2.0), at_x)


def test_the_noise_is_a_traced_value_too():
    def smooth(noise, key):
        return fg.smooth_gradient(model, noise=noise, samples=4, key=key)(x)

    expected = smooth(0.2, key)
    np.testing.assert_allclose(jax.jit(smooth)(0.2, key), expected, rtol=1e-12)


# --- Integrated gradients -------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", [None, 0.5, jnp.array([-1.0, 2.0])])
def test_attributions_are_complete(baseline):
    shares = fg.integrated_gradients(model, baseline=baseline)(x)
    start = jnp.zeros(2) if baseline is None else jnp.broadcast_to(baseline, (2,))
    np.testing.assert_allclose(shares.sum(), model(x) - model(start), rtol=1e-12)


def test_the_quadrature_is_exact_for_polynomials():
    def cubic(x):
        return x[0] ** 3 + x[0] * x[1] ** 2

    shares = fg.integrated_gradients(cubic, steps=2)(x)
    a, b = x
    np.testing.assert_allclose(shares, [a**3 + a * b**2 / 3, 2 * a * b**2 / 3], rtol=1e-13)


def test_integrated_gradients_of_pytrees_and_dtypes():
    def loss(p, x):
        return jnp.sum(p["w"] * x)

    shares = fg.integrated_gradients(loss, (0, 1))({"w": x}, 2 * x)
    np.testing.assert_allclose(shares[0]["w"], x**2, rtol=1e-13)
    np.testing.assert_allclose(shares[1], x**2, rtol=1e-13)
    start = ({"w": x}, jnp.zeros(2))
    shares = fg.integrated_gradients(loss, (0, 1), baseline=start)({"w": x}, 2 * x)
    np.testing.assert_allclose(shares[0]["w"], 0 * x, atol=1e-15)
    for dtype in (jnp.float32, jnp.bfloat16):
        assert fg.integrated_gradients(model)(x.astype(dtype)).dtype == dtype


def test_integrated_gradients_under_vmap_jit_and_other_rules():
    rows = jnp.stack([x, 2 * x, -x])
    expected = [fg.integrated_gradients(model)(row) for row in rows]
    actual = jax.jit(jax.vmap(fg.integrated_gradients(model)))(rows)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    straight = fg.rules.replace({"tanh": lambda g, z, x: g})
    linear = fg.integrated_gradients(lambda x: jnp.sum(jnp.tanh(x)), rules=straight)
    np.testing.assert_allclose(linear(x), x, rtol=1e-13)


@pytest.mark.parametrize("make", [fg.integrated_gradients, fg.smooth_gradient])
def test_memory_does_not_grow_with_the_number_of_inputs(make):
    def program(count):
        given = {"steps": count}
        if make is fg.smooth_gradient:
            given = {"noise": 0.1, "samples": count, "key": key}
        return str(jax.make_jaxpr(make(model, **given))(x)).count("\n")

    assert program(4) == program(64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fg.integrated_gradients(model, steps=0), ValueError, "steps must be a positive"),
        (
            lambda: fg.integrated_gradients(model, baseline=jnp.ones(3))(x),
            ValueError,
            r"baseline has shape \[3\], .* argument's \[2\]",
        ),
        (
            lambda: fg.integrated_gradients(model, baseline={"a": x})(x),
            ValueError,
            "baseline must have the structure",
        ),
        (
            lambda: fg.smooth_gradient(model, noise=-1, samples=2, key=key),
            ValueError,
            "noise must be a number that is not negative, got -1",
        ),
        (
            lambda: fg.smooth_gradient(model, noise=1, samples=0, key=key),
            ValueError,
            r"samples must be a positive integer, got 0",
        ),
        (lambda: fg.integrated_gradients(lambda x: x)(x), TypeError, "scalar"),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
