"""Complex steps: slopes without differences, of functions that complex numbers can enter.

Where f is analytic, f(x + i h v) = f(x) + i h J v + O(h²). The imaginary part is the slope: no two
numbers near each other are subtracted, so that h may be as small as one likes, and the slope has
the error of the arithmetic alone [squire1998].

The program of f is evaluated with every float made complex. Choices, such as of `max`, are made by
real parts, which goes on in the branch of f that x is in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from fungrad import _jax
from fungrad.check.arrays import Arrays, inner, is_complex, is_float, widest
from fungrad.check.cases import Case
from fungrad.check.differences import Slope, directions, finite_of, without
from fungrad.check.programs import Hand

# So small that products of two imaginary parts are zero: O(h²) is nothing at all.
_STEPS_OF = {"float64": 2.0**-600, "float32": 2.0**-80}

# Primitives that JAX extends to complex numbers, analytically.
# fmt: off
_ANALYTIC = frozenset(
    {
        "acosh", "add", "add_any", "asinh", "atanh", "broadcast_in_dim", "concatenate",
        "copy", "copy_p", "cos", "cosh", "cumprod", "cumsum", "div",
        "dot_general", "dynamic_slice", "dynamic_update_slice", "exp", "exp2", "expand_dims",
        "expm1", "gather", "integer_pow", "log", "log1p", "logistic", "mul", "name", "neg",
        "optimization_barrier", "pad", "reduce_prod", "reduce_sum", "reshape", "rev", "rsqrt",
        "select_n", "sin", "sinh", "slice", "split", "sqrt", "square", "squeeze", "sub", "tan",
        "tanh", "transpose", "triangular_solve"
    }
)
# Of complex numbers these take three products for four, in which a small part is lost.
_BILINEAR = frozenset({"conv_general_dilated", "ragged_dot_general"})
# Constant but for jumps: evaluated at real parts.
_STEPS = frozenset(
    {
        "argmax", "argmin", "ceil", "eq", "floor", "ge", "gt", "is_finite", "le", "lt", "ne",
        "round", "sign", "stop_gradient"
    }
)
# fmt: on


class NotAnalytic(Exception):
    """A function that complex numbers cannot enter, or not so that its slopes come out."""


def complex_slopes(
    case: Case, g: Arrays, points: Arrays, gradients: Arrays, which: np.ndarray
) -> Slope:
    """The slopes of g · f along directions, by the gradients and by complex steps.

    Raises:
        NotAnalytic: f has operations that do not extend to complex numbers.
    """
    if any(is_complex(x) for x in (*points, *g)):
        raise NotAnalytic
    program = jax.make_jaxpr(case.function)(*points)
    finite, is_finite = finite_of(gradients)
    v, lost = without(directions(points, which), is_finite, which)
    h = _STEPS_OF[str(v[0].dtype)]

    def along(v):
        moved = [lax.complex(widest(x), h * d) for x, d in zip(points, v, strict=True)]
        outputs = Hand(_bind, constant=_lift).outputs(program, moved)
        return inner(g, [jnp.imag(_lift(z)) / h for z in outputs])

    try:
        want = jax.vmap(along)(v)
    except Exception as error:  # of any type: what is left real somewhere does not fit elsewhere
        raise NotAnalytic from error
    got = jax.vmap(lambda d: inner(finite, d))(v)
    return Slope(got, want, jnp.where(lost, jnp.inf, 0.0))


def _lift(x: Any) -> Any:
    """A float as a complex number."""
    x = jnp.asarray(x)
    return lax.complex(widest(x), jnp.zeros_like(widest(x))) if _is_real(x) else x


def _is_real(x: Any) -> bool:
    return _jax.is_differentiable(_jax.type_of(x)) and not is_complex(x)


def _bind(equation: Any, arguments: Sequence[Any]) -> list[Any]:
    """An equation evaluated with complex numbers for its floats."""
    name, params = equation.primitive.name, equation.params
    lifted = list(map(_lift, arguments))
    if name == "convert_element_type" and is_complex(lifted[0]):
        if is_float(equation.outvars[0].aval):
            return lifted[:1]
        return [jnp.real(lifted[0]).astype(params["new_dtype"])]
    if name in _BY_REAL_PARTS:
        return [_BY_REAL_PARTS[name](*lifted, **params)]
    if name == "pow" and is_complex(lifted[1]):
        return [jnp.exp(lifted[1] * jnp.log(lifted[0]))]
    if not any(is_complex(x) for x in lifted) or name in _STEPS:
        at = [
            jnp.real(x).astype(v.aval.dtype) if is_complex(x) else x
            for x, v in zip(lifted, equation.invars, strict=True)
        ]
        return [_lift(z) for z in _jax.bind(equation, at)]
    if name in _BILINEAR:
        return [_by_parts(equation, *lifted)]
    if name not in _ANALYTIC:
        raise NotAnalytic(name)
    if params.get("preferred_element_type") is not None:
        params = {**params, "preferred_element_type": lifted[0].dtype}
    out = equation.primitive.bind(*lifted, **equation.primitive.get_bind_params(params))
    return list(out) if equation.primitive.multiple_results else [out]


def _by_parts(equation: Any, x: Any, y: Any, *rest: Any) -> Any:
    """(a + i b) · (c + i d) = a · c − b · d + i (a · d + b · c)"""

    def product(x, y):
        return _jax.bind(equation, [x, y, *rest])[0]

    a, b, c, d = jnp.real(x), jnp.imag(x), jnp.real(y), jnp.imag(y)
    return lax.complex(product(a, c) - product(b, d), product(a, d) + product(b, c))


def _chosen(better: Callable[..., Any]) -> Callable[..., Any]:
    def choose(x, y, **params):
        return jnp.where(better(jnp.real(x), jnp.real(y)), x, y)

    return choose


def _extreme(reduce: Callable[..., Any]) -> Callable[..., Any]:
    """The entry with the extreme real part, or the mean of those."""

    def choose(x, axes, **params):
        is_extreme = jnp.real(x) == reduce(jnp.real(x), axis=axes, keepdims=True)
        weights = is_extreme.astype(x.dtype)
        return jnp.sum(weights * x, axis=axes) / jnp.sum(weights, axis=axes)

    return choose


_BY_REAL_PARTS = {
    "abs": lambda x, **params: jnp.where(jnp.real(x) < 0, -x, x),
    "max": _chosen(lambda x, y: x >= y),
    "min": _chosen(lambda x, y: x <= y),
    "clamp": lambda low, x, high: jnp.where(
        jnp.real(x) < jnp.real(low), low, jnp.where(jnp.real(x) > jnp.real(high), high, x)
    ),
    "reduce_max": _extreme(jnp.max),
    "reduce_min": _extreme(jnp.min),
}
