"""Rounding errors, measured: what the arithmetic of its formats does to the result of a program.

Every operation is repeated with its result moved by a random ±eps, relative, and an operation
that sums many terms with each of its terms moved so too. How far the final result then moves is
an estimate of its rounding error, entry by entry [parker1997]: it sees the dtype of every
operation, the size of the terms, their number, and where they cancel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jax import lax
from jax import numpy as jnp

from fungrad import _jax
from fungrad.check.arrays import eps_of, is_complex
from fungrad.check.programs import Hand, primitives

SAMPLES = 8
_OFF = 8

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
        "add", "add_any", "convert_element_type", "div", "integer_pow", "mul", "nextafter", "sqrt",
        "square", "sub"
    }
)
# So is each of these, but no library rounds them correctly: they may be off by several eps.
_BY_LIBRARY = frozenset(
    {
        "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "bessel_i0e", "bessel_i1e",
        "cbrt", "cos", "cosh", "digamma", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1",
        "igamma", "igammac", "lgamma", "log", "log1p", "log2", "logistic", "polygamma", "pow",
        "random_gamma_grad", "regularized_incomplete_beta", "rsqrt", "sin", "sinh", "tan", "tanh",
        "zeta"
    }
)
# fmt: on


def spread(graph: Any, inputs: Sequence[Any], coarsest: float) -> list[Any]:
    """How far each output of a program moves by rounding; zeros for those that are no floats.

    Operations in formats with an eps above `coarsest` are granted that eps only. And how far it
    moves when while loops that have converged go on: so far they are from their limit.
    """
    results = Hand(_jax.bind).outputs(graph, inputs)

    def by(hand):
        found = hand.outputs(graph, inputs)
        return [_distance(x, y) for x, y in zip(found, results, strict=True)]

    def moved(sample):
        seed = _mixed(np.uint32(0), sample)
        return by(_Rounding(seed, coarsest, iter(range(1, 10**9))).hand)

    moves = [x.max(0) for x in lax.map(moved, jnp.arange(1, SAMPLES + 1, dtype="uint32"))]
    if "while" not in primitives(graph):
        return moves
    return list(map(jnp.maximum, moves, by(Hand(_jax.bind, goes_on=True))))


@dataclass(frozen=True)
class _Rounding:
    """Evaluates equations with results, or terms, that are moved by a random ±eps.

    Attributes:
        seed: tells samples apart, and in a loop its iterations: errors of the same sign in each
            of n iterations would grow with n, where those of arithmetic grow with √n.
        coarsest: the largest eps that is granted.
        places: the numbers of the operations in the program.
    """

    seed: Any
    coarsest: float
    places: Iterator[int]

    @property
    def hand(self) -> Hand:
        return Hand(self.bind, inside=self.inside)

    def inside(self, iteration: Any) -> Hand:
        return replace(self, seed=_mixed(self.seed, iteration + np.uint32(1))).hand

    def bind(self, equation: Any, arguments: Sequence[Any]) -> list[Any]:
        name = equation.primitive.name
        if name in _EXACT:
            return _jax.bind(equation, arguments)
        if name not in _SINGLE | _BY_LIBRARY:
            arguments = [self.disturbed(x) for x in arguments]
        off = _OFF if name in _BY_LIBRARY else 1
        return [self.disturbed(z, off) for z in _jax.bind(equation, arguments)]

    def disturbed(self, x: Any, off: int = 1) -> Any:
        """x (1 ± off · eps); signs differ from entry to entry and from place to place."""
        place = next(self.places)
        if not _jax.is_differentiable(_jax.type_of(_jax.canonical(x))):
            return x
        x = jnp.asarray(x)
        is_narrow = jnp.finfo(x.dtype).bits // (2 if is_complex(x) else 1) < 32
        # 16 bits are rounded from a result in 32.
        eps = min(eps_of(x), self.coarsest) * (1 if is_narrow else off)
        real = jnp.zeros((), x.dtype).real.dtype
        entry = lax.iota("uint32", x.size).reshape(x.shape)
        is_up = _mixed(_mixed(self.seed, np.uint32(place)), entry) >> np.uint32(31) == 1
        factor = jnp.where(is_up, np.asarray(1 + eps, real), np.asarray(1 - eps, real))
        return x * factor.astype(x.dtype)


def _mixed(seed: Any, number: Any) -> Any:
    """A random number of 32 bits, the same one for the same seed and number."""
    x = (seed ^ number) * np.uint32(0x9E3779B1)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x85EBCA77)
    return x ^ (x >> np.uint32(13))


def _distance(x: Any, y: Any) -> Any:
    """|x − y| in the widest format; zero where one is no number, or both are the same."""
    if not _jax.is_differentiable(_jax.type_of(y)):
        return jnp.zeros(jnp.shape(y))
    wide = complex if jnp.issubdtype(y.dtype, jnp.complexfloating) else float
    wide = jnp.zeros((), wide).dtype
    away = jnp.abs(x.astype(wide) - y.astype(wide))
    return jnp.where(jnp.isfinite(away), away, jnp.zeros_like(away))
