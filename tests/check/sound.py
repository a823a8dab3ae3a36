"""Right rules, of the kinds that a prover may take for wrong."""

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.check.faults import (
    complex_normal,
    matmul,
    newton_until,
    normal,
    product,
    right,
    ruled,
    running_sum,
    scale,
    tanh,
)


def _callback(x):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(np.tanh, shape, x, vmap_method="expand_dims")


def _relu_one_at_zero(residuals, g):
    return (jnp.where(residuals[0] >= 0, g, jnp.zeros_like(g)),)


@jax.custom_jvp
def _slope_one_at_zero(x):
    return jax.nn.relu(x)


_slope_one_at_zero.defjvp(lambda x, t: (jax.nn.relu(*x), jnp.where(x[0] >= 0, t[0], 0 * t[0])))


def _logsumexp_backward(residuals, g):
    x, z = residuals
    return (g * jnp.exp(x - z),)


def _logsumexp_forward(x):
    z = jax.nn.logsumexp(x)
    return z, (x, z)


def _newton_sqrt(x):
    """A loop that JAX does not differentiate, to the last digit."""

    def better(state):
        y, step = state
        return (y + x / y) / 2, step + 1

    return lax.while_loop(lambda state: state[1] < 20, better, (x, 0))[0]


def _half_over_root(residuals, g):
    return (g / (2 * jnp.sqrt(residuals[0])),)


def _log_or_nan(x):
    return jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1.0)), jnp.nan)


def _reciprocal_or_nan(residuals, g):
    (x,) = residuals
    return (jnp.where(x > 0, g / jnp.where(x > 0, x, 1.0), jnp.nan),)


def _straight(x):
    return x + lax.stop_gradient(jnp.round(x) - x)


@jax.custom_jvp
def _also_straight(x):
    return jnp.round(x)


_also_straight.defjvp(lambda primals, tangents: (_also_straight(*primals), tangents[0]))


def _in_bfloat16(x, y):
    """A running sum that takes no other format."""
    zero = jnp.zeros((), "bfloat16")
    return lax.scan(lambda total, a: (total + a * y, None), zero, x)[0]


def _of_sum(residuals, g):
    x, y = residuals
    return jnp.full_like(x, g * y), running_sum((g * x).astype("float32")).astype(y.dtype)


def _bell(x):
    return (1 - x * x) / (1 + x * x) ** 2


def _of_solve(residuals, g):
    a, b = residuals
    to_b = jnp.linalg.solve(a.T, g)
    return -jnp.outer(to_b, jnp.linalg.solve(a, b)), to_b


LONG = jnp.linspace(0, 1, 2000, dtype="bfloat16"), jnp.asarray(0.5, "bfloat16")

# name: function, arguments, options
RIGHT = {
    "tanh": (ruled(tanh, right), (normal(4, 5),), {"dtypes": ["float64", "bfloat16", "float16"]}),
    "entries of many sizes": (ruled(tanh, right), (normal(50) * jnp.exp(normal(50)),), {}),
    "matmul in bfloat16": (
        ruled(matmul, lambda res, g: (g @ res[1].T, res[0].T @ g)),
        (normal(8, 30, dtype="bfloat16"), normal(30, 4, dtype="bfloat16")),
        {},
    ),
    "complex numbers": (
        ruled(
            lambda z: jnp.abs(z) ** 2,
            lambda res, g: (2 * g.astype(res[0].dtype) * res[0].conj(),),
        ),
        (complex_normal(3),),
        {},
    ),
    "another choice at a kink": (
        ruled(jax.nn.relu, _relu_one_at_zero),
        (jnp.asarray([-1.0, 0.0, 2.0], "float32"),),
        {},
    ),
    "a kink of the gradient": (
        ruled(lambda x: jax.nn.relu(x) ** 2, lambda res, g: (2 * g * _slope_one_at_zero(*res),)),
        (jnp.asarray([-1.0, 0.0, 2.0], "float32"),),
        {"witnesses": ["second order"]},
    ),
    "sums that cancel": (
        ruled(lambda x: jax.nn.logsumexp(x), _logsumexp_backward, _logsumexp_forward),
        (10 * normal(300),),
        {"dtypes": ["bfloat16"]},
    ),
    "short sums in bfloat16": (  # NumPy's own would round after each of the terms
        ruled(lambda x, b: x + b, lambda res, g: (g, g.sum(0))),
        (normal(4, 32, dtype="bfloat16"), normal(32, dtype="bfloat16")),
        {"witnesses": ["calls"]},
    ),
    "gradients of 1e-30 beside those of 1": (
        ruled(lambda x: jax.nn.logsumexp(x), _logsumexp_backward, _logsumexp_forward),
        (30 * normal(300),),
        {"witnesses": ["calls", "rounding"]},
    ),
    "entries of sizes that no step suits": (
        ruled(lambda x: x / (1 + x * x), lambda res, g: (g * _bell(res[0]),)),
        (jnp.asarray([1e-8, 1e-3, 1.0, 1e3, 1e8]),),
        {"witnesses": ["reference", "differences"]},
    ),
    "a matrix that is nearly singular": (
        ruled(lambda a, b: jnp.linalg.solve(a, b), _of_solve),
        (jnp.vander(jnp.linspace(1, 1.03, 4, dtype="float64")), jnp.ones(4, "float64")),
        {"witnesses": ["differences"]},
    ),
    "long sums": (
        ruled(matmul, lambda res, g: (g @ res[1].T, res[0].T @ g)),
        (normal(256, 256), normal(256, 256)),
        {"witnesses": ["reference", "linearity", "calls", "rounding"]},
    ),
    "a long sum in float32 of bfloat16": (
        ruled(product, lambda res, g: (g * res[1], _of_sum(res, g)[1])),
        LONG,
        {"witnesses": ["reference", "rounding"]},
    ),
    "a sum that keeps what JAX's own loses": (
        ruled(_in_bfloat16, _of_sum),
        LONG,
        {"witnesses": ["reference"]},
    ),
    "a callback, which has differences only": (
        ruled(_callback, right, lambda x: (_callback(x), (x,))),
        (normal(6),),
        {},
    ),
    "a while loop, which has differences only": (
        ruled(_newton_sqrt, _half_over_root),
        (jnp.exp(normal(4)),),
        {},
    ),
    "a while loop that ends when it has converged": (
        ruled(newton_until, _half_over_root),
        (jnp.exp(normal(3)),),
        {"witnesses": ["differences", "complex step"]},
    ),
    "no number, by intention, where the output is none": (
        ruled(_log_or_nan, _reciprocal_or_nan),
        (jnp.asarray([1.0, -1.0, 2.0], "float32"),),
        {},
    ),
    "a number where the output is none": (
        ruled(lambda x: jnp.log(x), lambda res, g: (g / res[0],)),
        (jnp.asarray([1.0, -1.0, 2.0], "float32"),),
        {"witnesses": ["reference", "differences", "complex step", "jacobian"]},
    ),
    "an infinite slope": (
        ruled(lambda x: jnp.sqrt(x), _half_over_root),
        (jnp.asarray([0.0, 1.0], "float32"),),
        {"witnesses": ["reference", "differences", "complex step", "jacobian", "linearity"]},
    ),
    "no number at zeros where there is no slope": (
        ruled(lambda z: jnp.abs(z), lambda res, g: (g * res[0] / jnp.abs(res[0]),)),
        (normal(3),),
        {"witnesses": ["reference", "zeros"]},
    ),
    "what stops gradients": (
        ruled(lambda x: x * lax.stop_gradient(x), lambda res, g: (g * res[0],)),
        (normal(3),),
        {"witnesses": ["reference", "differences", "complex step"]},
    ),
    "a straight-through estimator": (
        ruled(lambda x: jnp.round(x), lambda res, g: (g,)),
        (normal(3),),
        {"reference": _straight, "witnesses": ["reference", "differences", "complex step"]},
    ),
    "a reference with a rule of its own": (
        ruled(lambda x: jnp.round(x), lambda res, g: (g,)),
        (normal(3),),
        {"reference": _also_straight, "witnesses": ["reference", "differences"]},
    ),
    "an integer argument": (
        ruled(scale, lambda res, g: (g * res[1].astype(g.dtype), None)),
        (normal(3), jnp.asarray([2, 3, 2])),
        {},
    ),
    "a gradient for an integer, which JAX drops": (
        ruled(scale, lambda res, g: (g * res[1].astype(g.dtype), g * res[0])),
        (normal(3), jnp.asarray([2, 3, 2])),
        {},
    ),
    "half of the work in bfloat16": (
        ruled(
            lambda a, b: (a.astype("bfloat16") @ b.astype("bfloat16")).astype(a.dtype),
            lambda res, g: (
                (g.astype("bfloat16") @ res[1].T.astype("bfloat16")).astype(g.dtype),
                (res[0].T.astype("bfloat16") @ g.astype("bfloat16")).astype(g.dtype),
            ),
        ),
        (normal(3, 30), normal(30, 2)),
        {"witnesses": ["reference", "rounding"]},
    ),
    "a function of fungrad.custom": (
        fg.custom(tanh, lambda g, out, x: g * (1 - out * out)),
        (normal(5),),
        {},
    ),
}
