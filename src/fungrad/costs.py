"""What it costs to keep a value, and what it costs to compute it again.

Both are counted in operations, as many as the machine could do in the meantime. Keeping costs
`PRICE` operations a byte: it is written in the forward pass and read in the backward pass, and takes
room in between. Computing again costs the multiplications and additions of a product, or for each
element of the output as many operations as its function takes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from fungrad import _jax

PRICE = 160.0
"""Operations per byte. The balance of processors lies between 20 and 200: what they could compute
while one byte goes to memory and comes back."""

WRITING = 1.5
"""How many times dearer it is to keep a value that would not be in memory otherwise."""

NEVER = math.inf


class Effort(NamedTuple):
    """What a minimum cut goes by.

    Attributes:
        thrift: how many times dearer than usual a byte is.
        dear: whether loops, decompositions, sorts, random bits and the like may be repeated.
        levels: into how many levels of loops within loops a scan is divided (rules/control.py).
    """

    thrift: float = 1.0
    dear: bool = False
    levels: int = 1

    def price_of_byte(self, apart: bool) -> float:
        """In operations. A value that both halves have need not be copied to be kept."""
        return self.thrift * (PRICE if apart else PRICE / 4)


_LAYOUT = frozenset(
    "broadcast_in_dim iota copy copy_p squeeze expand_dims reshape name optimization_barrier arrival awaiting pvary "
    "pbroadcast stop_gradient reshard sharding_constraint layout_constraint".split()
)
"""As good as their input."""

_MOVING = frozenset(
    "transpose rev slice dynamic_slice dynamic_update_slice concatenate pad gather split select_n "
    "convert_element_type bitcast_convert_type reduce_precision real imag complex conj "
    "clamp tile".split()
)
_ARITHMETIC = frozenset(
    "add add_any sub mul neg abs sign max min and or xor not eq ne lt le gt ge eq_to le_to lt_to "
    "square floor ceil round is_finite shift_left shift_right_logical shift_right_arithmetic "
    "population_count clz integer_pow copysign nextafter mulhi".split()
)
_DIVIDING = frozenset("div rem sqrt rsqrt".split())
_TRANSCENDENTAL = frozenset(
    "exp exp2 expm1 log log1p tanh logistic sin cos tan erf pow cbrt atan2 asin acos atan sinh cosh "
    "asinh acosh atanh erfc erf_inv".split()
)
_FOLDING = frozenset(
    "reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax argmin "
    "reduce_window_sum reduce_window_max reduce_window_min cumsum cummax cummin cumprod "
    "cumlogsumexp".split()
)

_EACH = (
    dict.fromkeys(_LAYOUT, 0.0)
    | dict.fromkeys(_MOVING, 4.0)
    | dict.fromkeys(_ARITHMETIC, 4.0)
    | dict.fromkeys(_DIVIDING, 16.0)
    | dict.fromkeys(_TRANSCENDENTAL, 64.0)
)
_OF_DEAR = 1000.0


def bytes_of(aval: Any) -> float:
    """How much memory a value of this type takes, in bytes."""
    size, dtype = getattr(aval, "size", 0), getattr(aval, "dtype", None)
    return float(size * dtype.itemsize) if dtype is not None else 0.0


def operations(equation: Any, dear: bool = False) -> float:
    """How many operations it takes to do an equation again; `NEVER` if that may not be.

    Args:
        dear: whether loops, decompositions, sorts, random bits and the like may be done again.
    """
    name = equation.primitive.name
    if _jax.is_effectful(equation):
        return NEVER
    if (each := _EACH.get(name)) is not None:
        return each * _elements(equation.outvars)
    if name in _FOLDING:
        return 4.0 * _elements(equation.invars)
    if name == "dot_general":
        left, out = equation.invars[0].aval, equation.outvars[0].aval
        (summed, _), _ = equation.params["dimension_numbers"]
        return 2.0 * out.size * math.prod(left.shape[axis] for axis in summed)
    if name == "conv_general_dilated":
        kernel, out = equation.invars[1].aval, equation.outvars[0].aval
        features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * out.size * kernel.size / max(features, 1)
    if not dear:
        return NEVER
    rounds = equation.params.get("length", 1)
    inside = [operations(e, dear) for graph in _jax.subgraphs(equation) for e in graph.jaxpr.eqns]
    return rounds * sum(inside) + _OF_DEAR * _elements((*equation.invars, *equation.outvars))


def moves(equation: Any) -> bool:
    """Whether an equation only puts the entries of its inputs elsewhere."""
    return equation.primitive.name in _LAYOUT | _MOVING


def is_unfused(equation: Any) -> bool:
    """Whether the values that the equation makes are put in memory, not used up where they are."""
    products = ("dot_general", "conv_general_dilated")
    return equation.primitive.name in products or operations(equation) == NEVER


def _elements(variables: Any) -> float:
    return float(sum(getattr(v.aval, "size", 0) for v in variables))
