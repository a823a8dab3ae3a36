"""Special functions: many arguments, their borders, and where the rules know more than JAX."""

import math

import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.scipy import special

import fungrad as fg
from tests.rules.grids import STRICT, assert_agree

INSIDE = jnp.array([0.1, 0.5, 0.9, 0.999])
REAL = jnp.array([-7.25, -0.3, 1e-8, 0.5, 2.0, 40.0])


def test_functions():
    some = [special.erf, special.erfc, special.i0, special.i1e, special.log_ndtr]
    cases = [(function, REAL) for function in some]
    cases += [(special.logit, INSIDE), (special.ndtri, INSIDE), (special.erfinv, INSIDE)]
    assert_agree(cases)
    assert_agree(cases[::2], times=2)


def gradients(function, *args):
    return fg.vjp(function, *args, rules=STRICT)[1](jnp.ones(args[0].shape))


def test_incomplete_gamma_at_the_borders():
    """∂P(1, x)/∂x = e⁻ˣ is 1 at 0, and every density ends at ∞; JAX gives NaN."""
    a, x = jnp.array([1.0, 1.0, 3.0]), jnp.array([0.0, math.inf, math.inf])
    _, of_x = gradients(lambda a, x: lax.igamma(lax.stop_gradient(a), x), a, x)
    np.testing.assert_array_equal(of_x, [1, 0, 0])
    _, of_x = gradients(lambda a, x: lax.igammac(lax.stop_gradient(a), x), a, x)
    np.testing.assert_array_equal(of_x, [-1, 0, 0])


def test_incomplete_beta_at_the_borders():
    """∂I_x(1, b)/∂x is b at 0, that of I_x(a, 1) is a at 1; JAX gives NaN."""
    x, (a, b) = jnp.array([0.0, 1.0]), jnp.array([[1.0, 3.0], [2.5, 1.0]])
    (of_x,) = gradients(lambda x: lax.betainc(a, b, x), x)
    np.testing.assert_allclose(of_x, [2.5, 3], rtol=1e-14)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda m: lax.polygamma(m, jnp.ones(3)), "no derivative by its order m"),
        (lambda a: lax.betainc(a, jnp.ones(3), 0.5 * jnp.ones(3)), "no derivative by a and b"),
    ],
)
def test_arguments_without_derivative_say_so(function, words):
    with pytest.raises(ValueError, match=words):
        fg.grad(lambda x: function(x).sum())(jnp.ones(3))
