"""What the generated tests of elementwise rules cannot see: extremes, and kinks of second order."""

import math
import warnings

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.agreement import assert_close


def pair(function, *args, times=1):
    """The gradients by every argument, ours and JAX's, taken `times` in a row."""
    ours, theirs = function, function
    for _ in range(times - 1):
        ours, theirs = fg.grad(ours), jax.grad(theirs)
    every = tuple(range(len(args)))
    return fg.grad(ours, every)(*args), jax.grad(theirs, every)(*args)


def assert_same(function, *args, times=1):
    assert_close(*pair(function, *args, times=times))


# --- Powers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0, 3.0, -1.0])
@pytest.mark.parametrize("base", [0.0, -0.0, 1.5])
def test_float_powers_are_those_of_jax(base, exponent, times):
    assert_same(lambda x: lax.pow(x, exponent), base, times=times)


@pytest.mark.parametrize("power", [lambda x, n: lax.pow(x, jnp.int32(n)), lax.integer_pow])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_integer_powers_have_every_derivative_at_zero(power, n):
    def function(x):
        return power(x, n)

    for times in (1, 2, 3, 4):
        function = fg.grad(function)
        assert function(0.0) == (math.factorial(n) if times == n else 0)


def test_power_by_its_exponent_at_zero():
    assert_same(lambda y: lax.pow(0.0, y), 2.0)
    assert_same(lambda x, y: lax.pow(x, y), 0.0, 0.0)


# --- Quotients ------------------------------------------------------------------------------


def test_a_denominator_that_was_broadcast_is_divided_by_once_for_each_of_its_entries():
    x, y = jnp.arange(1.0, 21).reshape(4, 5), jnp.arange(1.0, 5).reshape(4, 1)
    gradients = fg.grad(lambda x, y: jnp.sum(lax.div(x, y)), argnums=(0, 1))
    equations = jax.make_jaxpr(gradients)(x, y).jaxpr.eqns
    sizes = [e.outvars[0].aval.size for e in equations if e.primitive.name == "div"]
    assert sizes == [20, 20, 4]  # x/y, g/y, and that times x, summed, by y
    assert_same(lambda x, y: jnp.sum(jnp.sin(lax.div(x, y))), x, y)


@pytest.mark.parametrize("y", [1e-200, 1e200])
def test_the_square_of_a_denominator_does_not_overflow(y):
    g = fg.grad(lambda x, y: x / y, argnums=1)(y, y)
    assert float(g) == pytest.approx(-1 / y, rel=1e-15)


# --- Extremes -------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [0.0, 1e-300, 1e10, 1e200, -1e300, np.inf])
def test_asinh_does_not_overflow(x):
    want = 1 / max(1.0, abs(x))
    np.testing.assert_allclose(fg.grad(lax.asinh)(x), want, rtol=1e-12)


def test_asinh_of_large_half_floats():
    x = jnp.asarray(6e4, "float16")
    np.testing.assert_allclose(fg.grad(lax.asinh)(x), 1 / 6e4, rtol=1e-2)


@pytest.mark.parametrize("x", [1 - 1e-9, -1 + 1e-12])
@pytest.mark.parametrize("function", [lax.asin, lax.acos, lax.atanh])
def test_digits_are_kept_near_one(function, x):
    near = (1 - abs(x)) * (1 + abs(x))
    want = {lax.asin: near**-0.5, lax.acos: -(near**-0.5), lax.atanh: 1 / near}[function]
    np.testing.assert_allclose(fg.grad(function)(x), want, rtol=1e-15)


def test_expm1_keeps_its_digits_far_below_zero():
    np.testing.assert_allclose(fg.grad(lax.expm1)(-100.0), np.exp(-100.0), rtol=1e-14)


# --- Choices --------------------------------------------------------------------------------


def test_a_tie_is_split_at_every_use():
    assert fg.grad(lambda x: lax.max(x, x))(1.0) == 1
    assert fg.grad(lambda x: lax.max(x, 0.0))(0.0) == 0.5


def test_max_lets_no_infinity_through_to_the_loser():
    _, pullback = fg.vjp(lax.max, jnp.zeros(()), jnp.ones(()))
    assert pullback(jnp.inf * jnp.ones(())) == (0, jnp.inf)


def test_clamp_by_scalar_bounds():
    x = jnp.asarray([-2.0, 0.1, 0.3, 3.0])

    def clamp(low, x, high):
        return jnp.sum(x**3 * 0 + jnp.arange(1.0, 5.0) * lax.clamp(low, x, high))

    got = fg.grad(clamp, (0, 1, 2))(-1.0, x, 1.0)
    assert got[0] == 1
    assert got[2] == 4
    np.testing.assert_array_equal(got[1], [0, 2, 3, 0])


# --- Bare numbers ---------------------------------------------------------------------------

WITH_NUMBERS = [
    lambda x: jnp.maximum(0.2, x) * jnp.minimum(x, 0.4),
    lambda x: jnp.clip(x, -0.3, 0.4) * jnp.where(x > 0, x, 0.5),
    lambda x: 2.0**x / (x + 3.0) ** 2.5 - 1.0 / x,
    lambda x: jnp.arctan2(1.0, x) * jnp.arctan2(x, 1.0),
    lambda x: jnp.fmod(5.0, x) * jnp.fmod(x, 0.3),
    lambda x: jnp.logaddexp(x, 0.0) + jnp.hypot(x, 2.0),
    lambda x: jnp.pad(x, 1, constant_values=3.0) * 2.0,
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("function", WITH_NUMBERS)
def test_numbers_meet_arrays_of_every_format(function, dtype):
    x = jnp.asarray([0.375, -0.8125, 0.5625], dtype)
    g = jax.tree.map(jnp.ones_like, function(x))
    want = jax.vjp(function, x)[1](g)
    assert_close(fg.vjp(function, x)[1](g), want, 4 * float(jnp.finfo(dtype).eps))


# --- Formats and complex numbers ------------------------------------------------------------


@pytest.mark.parametrize("to", ["int32", "bool"])
def test_conversion_to_integers_ends_the_gradient(to):
    gradient = fg.grad(lambda x: x * lax.convert_element_type(x, to).astype("float64"))
    assert gradient(2.5) == (2 if to == "int32" else 1)


def test_a_complex_number_cut_to_its_real_part():
    def cut(x):
        with warnings.catch_warnings():  # JAX warns whoever drops an imaginary part
            warnings.simplefilter("ignore")
            return lax.convert_element_type(x, "float64")

    x = jnp.asarray(1 + 2j)
    g = jnp.asarray(3.0)
    assert_close(fg.vjp(cut, x)[1](g), jax.vjp(cut, x)[1](g))


def test_gradients_of_a_complex_sign_are_tangents_of_the_circle():
    def angle_loss(x):
        return jnp.real(lax.sign(x)) + 2 * jnp.imag(lax.sign(x))

    def reference(x):
        return (jnp.real(x) + 2 * jnp.imag(x)) / jnp.abs(x)

    x = jnp.asarray(1 - 2j)
    assert_close([fg.grad(angle_loss)(x)], [jax.grad(reference)(x)])
    assert fg.grad(angle_loss)(jnp.asarray(0j)) == 0


@pytest.mark.parametrize(
    "function", [lax.abs, lax.real, lax.imag, lambda x: lax.real(x * lax.conj(x))]
)
def test_complex_functions_twice(function):
    def squared(x):
        return function(x * x)

    x = jnp.asarray(0.7 - 0.4j)
    want = jax.vjp(jax.grad(squared), x)[1](1 + 2j)
    assert_close(fg.vjp(fg.grad(squared), x)[1](jnp.asarray(1 + 2j)), want)


# --- What has no derivative -----------------------------------------------------------------


def test_order_of_polygamma_is_refused():
    with pytest.raises(ValueError, match="no derivative by its order m"):
        fg.grad(lambda m: lax.polygamma(m, 1.5))(2.0)


def test_parameters_of_betainc_are_refused():
    with pytest.raises(ValueError, match="no derivative by a and b"):
        fg.grad(lambda a: lax.betainc(a, 1.5, 0.5))(2.0)


def test_steps_and_stops_are_zero():
    for function in (lax.floor, lax.ceil, lax.round, lax.sign, lax.stop_gradient):
        assert fg.grad(lambda x, f=function: f(x) * x)(1.7) == function(1.7)


@pytest.mark.parametrize("out", ["float32", "float64"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_product_of_two_formats_in_one_that_is_asked_for(out, times):
    def total(transform, x, y, order):
        if order == 0:
            return jnp.sum(lax.mul(x, y, out_dtype=np.dtype(out))).astype("float64")
        by_x, by_y = transform(lambda x, y: jnp.sin(total(transform, x, y, order - 1)), (0, 1))(
            x, y
        )
        assert (by_x.dtype, by_y.dtype) == (x.dtype, y.dtype)
        return jnp.sum(by_x * by_x).astype("float64") + jnp.sum(by_y)

    x, y = jnp.full((2, 3), 0.5, "float32"), jnp.array([[1.0, 2.0, 3.0]])
    ours, theirs = (total(transform, x, y, times) for transform in (fg.grad, jax.grad))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
