"""Rounding errors, measured: what the arithmetic of its formats does to the result of a program.

Every operation is repeated with its result moved by a random ±eps, relative, and an operation
that sums many terms with each of its terms moved so too. How far the final result then moves is
an estimate of its rounding error, entry by entry [parker1997]: it sees the dtype of every
operation, the size of the terms, their number, and where they cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax
from jax import numpy as jnp

from fungrad import _jax
from fungrad.check.programs import AUTHORED, CALLS, walk

SAMPLES = 8

# Operations that move numbers, or choose among them, or whose result is exact: none rounds.
# fmt: off
_EXACT = frozenset(
    {
        "abs", "and", "argmax", "argmin", "all_gather", "bitcast_convert_type", "broadcast",
        "broadcast_in_dim", "ceil", "clamp", "complex", "concatenate", "conj", "copy", "copy_p",
        "cummax", "cummin", "device_put", "dynamic_slice", "dynamic_update_slice", "eq",
        "floor", "gather", "ge", "gt", "imag", "iota", "is_finite", "le", "lt", "max", "min",
        "name", "ne", "neg", "not", "optimization_barrier", "or", "pad", "ppermute", "real",
        "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_precision", "rem",
        "reshape", "rev", "round", "scatter", "select_n", "sharding_constraint", "sign",
        "slice", "sort", "split", "squeeze", "stop_gradient", "top_k", "transpose", "while",
        "xor", "zeros_like"
    }
)
# Each entry of the result is one operation on entries of the operands.
_SINGLE = frozenset(
    {
        "acos", "acosh", "add", "add_any", "asin", "asinh", "atan", "atan2", "atanh", "cbrt",
        "convert_element_type", "cos", "cosh", "digamma", "div", "erf", "erf_inv", "erfc",
        "exp", "exp2", "expm1", "integer_pow", "lgamma", "log", "log1p", "log2", "logistic",
        "mul", "nextafter", "pow", "rsqrt", "sin", "sinh", "sqrt", "square", "sub", "tan",
        "tanh"
    }
)
# fmt: on


def spread(graph: Any, inputs: Sequence[Any]) -> list[Any]:
    """How far each output of a program moves by rounding; zeros for those that are no floats."""
    results = _run(graph, inputs, None)

    def moved(sample):
        return [_distance(x, y) for x, y in zip(_run(graph, inputs, sample), results, strict=True)]

    return [x.max(0) for x in lax.map(moved, jnp.arange(1, SAMPLES + 1, dtype="float32"))]


def _run(graph: Any, inputs: Sequence[Any], sample: Any) -> list[Any]:
    places = iter(range(1, 10**9))

    def bind(equation, arguments):
        name = equation.primitive.name
        if sample is None or name in _EXACT:
            return _jax.bind(equation, arguments)
        if name not in _SINGLE:
            arguments = [_disturbed(x, next(places), sample) for x in arguments]
        return [_disturbed(z, next(places), sample) for z in _jax.bind(equation, arguments)]

    return walk(graph, inputs, bind, CALLS | AUTHORED)


def _disturbed(x: Any, place: int, sample: Any) -> Any:
    """x (1 ± eps), with signs that differ from entry to entry, place to place, sample to sample."""
    if not _jax.is_differentiable(_jax.type_of(_jax.canonical(x))):
        return x
    x = jnp.asarray(x)
    eps = float(jnp.finfo(x.dtype).eps)
    real = jnp.zeros((), x.dtype).real.dtype
    entry = lax.iota("float32", x.size).reshape(x.shape)
    mixed = jnp.sin(entry * np.float32(12.9898) + sample * np.float32(place * 0.61803 + 0.7))
    factor = jnp.where(mixed > 0, np.asarray(1 + eps, real), np.asarray(1 - eps, real))
    return x * factor.astype(x.dtype)


def _distance(x: Any, y: Any) -> Any:
    """|x − y| in the widest format; zero where one is no number, or both are the same."""
    if not _jax.is_differentiable(_jax.type_of(y)):
        return jnp.zeros(jnp.shape(y))
    wide = complex if jnp.issubdtype(y.dtype, jnp.complexfloating) else float
    wide = jnp.zeros((), wide).dtype
    away = jnp.abs(x.astype(wide) - y.astype(wide))
    return jnp.where(jnp.isfinite(away), away, jnp.zeros_like(away))
