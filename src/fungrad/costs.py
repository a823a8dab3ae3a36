"""What it costs to keep a value, and what it costs to compute it again.

Both are counted in operations that the machine could do in the meantime. To keep a byte costs
`PRICE` of them: it is written in the forward pass and read in the backward pass, and takes room in
between. To compute again costs the multiplications and additions of a product, or for each element
as many as its function takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from fungrad import _jax

PRICE = 80.0
"""Operations per byte. What processors could multiply and add while a byte goes to memory and comes
back lies between 50 (float32 on two cores) and 500 (bfloat16 on an H100): 16 bytes a float32 at
50 GB/s against 1 TFLOP/s, 4 bytes a bfloat16 at 3.35 TB/s against 990 TFLOP/s."""

LARGE = 20e6
"""Bytes. What a loop keeps beyond that outgrows caches and the pools of allocators: the system
hands it out page by page, which makes it `DEARER` times as dear."""

DEARER = 2.0

WRITING = 1.5
"""How many times dearer it is to keep a value that would not be in memory otherwise."""

STARTING = 3e4
"""Operations. What could be done while a product is called: some tenths of a microsecond, which is
longer than a small one takes."""

SHARE = 1e4
"""Operations. The part of an operation that is fused with others in their call, and in the time to
compile it: what takes a few hundred bytes is kept. In a loop to keep it is a call as well."""

SMALL = 0.02
"""Nor is an operation compiled twice for what takes less than this part of what an operation of the
program leaves for the backward pass on average: there would be little memory to it."""

LITTLE = 0.04
"""If no more than this part of all that the backward pass reads is spared, nothing is repeated."""

NEVER = math.inf


class Effort(NamedTuple):
    """What a minimum cut goes by.

    Attributes:
        thrift: how many times dearer than usual a byte is; the dearer, the more is repeated. If
            it is `NEVER`, operations cost nothing, but for those that may not be repeated.
        operands: whether that includes what is in memory anyway, as the operand of a product.
        dear: whether loops, decompositions, sorts, random bits and the like may be repeated.
        parts: into how many parts the forward pass is divided that are repeated one by one.
        levels: how deep the loops are nested that a scan is made into (rules/nested.py).
        inside: the effort at the graphs inside of the one that is cut; `None` is the same.
        steps: how often the graph is run, and what it keeps is stacked, by the loops around it.
    """

    thrift: float = 1.0
    operands: bool = False
    dear: bool = False
    parts: int = 1
    levels: int = 1
    inside: Effort | None = None
    steps: int = 1

    def price_of_byte(self, apart: bool) -> float:
        """In operations. A value that both halves have need not be copied to be kept."""
        return (PRICE if apart else PRICE / 2) * (self.thrift if self.thrift < NEVER else 1.0)

    def price_of(self, equation: Any, share: float = 0.0) -> float:
        """To do it again, in operations; `share` for each that is started."""
        price = operations(equation, self.dear)
        if self.thrift == NEVER and price < NEVER:
            return 0.0
        count = started(equation)
        return price + share * count if count else price


def _each(operations: float, names: str) -> dict[str, float]:
    return dict.fromkeys(names.split(), operations)


# Operations for each element of the output.
_LAYOUT = _each(  # as good as the input
    0.0,
    """arrival awaiting broadcast_in_dim copy iota layout_constraint name optimization_barrier
    pbroadcast pvary reshape reshard sharding_constraint squeeze stop_gradient""",
)
_MOVING = _each(
    4.0,
    """bitcast_convert_type concatenate convert_element_type dynamic_slice dynamic_update_slice
    gather pad reduce_precision rev select_n slice split stack tile transpose unstack""",
)
_ARITHMETIC = _each(
    4.0,
    """abs add add_any and ceil clamp clz complex conj eq eq_to floor ge gt imag integer_pow
    is_finite le le_to lt lt_to max min mul mulhi ne neg nextafter not one_minus_square or
    population_count real round shift_left shift_right_arithmetic shift_right_logical sign square
    sub xor""",
)
_ROOTS_AND_RATIOS = _each(16.0, "div rem rsqrt sqrt")
_TRANSCENDENTAL = _each(
    64.0,
    """acos acosh asin asinh atan atan2 atanh cbrt cos cosh erf erf_inv erfc exp exp2 expm1 log
    log1p log2 logistic polynomial pow sin sinh tan tanh""",
)
_OF_OUTPUT = _LAYOUT | _MOVING | _ARITHMETIC | _ROOTS_AND_RATIOS | _TRANSCENDENTAL
# Operations for each element of the input.
_OF_INPUT = _each(
    4.0,
    """argmax argmin cumlogsumexp cummax cummin cumprod cumsum reduce_and reduce_max reduce_min
    reduce_or reduce_prod reduce_sum reduce_window_max reduce_window_min reduce_window_sum
    reduce_xor""",
)
_RESULT = 40.0  # for each element of theirs: it is written to memory before it can be read
_OF_DEAR = 1000.0
_CALLS = ("jit", "custom_jvp_call", "custom_vjp_call")  # but no closed calls: see rules/calls.py


def bytes_of(aval: Any) -> float:
    """How much memory a value of this type takes, in bytes."""
    size, dtype = getattr(aval, "size", 0), getattr(aval, "dtype", None)
    return float(size * dtype.itemsize) if dtype is not None else 0.0


def bytes_of_all(variables: Iterable[Any]) -> float:
    """How much memory variables take together, in bytes."""
    return sum(bytes_of(v.aval) for v in variables)


def operations(equation: Any, dear: bool = False) -> float:
    """How many operations it takes to do an equation again; `NEVER` if that may not be.

    Args:
        dear: whether loops, decompositions, sorts, random bits and the like may be done again.
    """
    name = equation.primitive.name
    if _jax.is_effectful(equation):
        return NEVER
    if (each := _OF_OUTPUT.get(name)) is not None:
        return each * _elements(equation.outvars)
    if (each := _OF_INPUT.get(name)) is not None:
        return each * _elements(equation.invars) + _RESULT * _elements(equation.outvars)
    if name == "dot_general":
        left, out = equation.invars[0].aval, equation.outvars[0].aval
        (summed, _), _ = equation.params["dimension_numbers"]
        return STARTING + 2.0 * out.size * math.prod(left.shape[axis] for axis in summed)
    if name == "conv_general_dilated":
        kernel, out = equation.invars[1].aval, equation.outvars[0].aval
        features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
        return STARTING + 2.0 * out.size * kernel.size / max(features, 1)
    inside = sum(operations(e, dear) for e in _inside(equation))
    if name in _CALLS:
        return inside
    if not dear:
        return NEVER
    rounds = equation.params.get("length", 1)
    return rounds * inside + _OF_DEAR * _elements((*equation.invars, *equation.outvars))


def moves(equation: Any) -> bool:
    """Whether an equation only puts the entries of its inputs elsewhere."""
    return equation.primitive.name in _LAYOUT or equation.primitive.name in _MOVING


def started(equation: Any) -> int:
    """How many operations are started."""
    if equation.primitive.name in _CALLS:
        return sum(map(started, _inside(equation)))
    return int(not moves(equation))


def is_unfused(equation: Any) -> bool:
    """Whether the values that the equation makes are put in memory, not used up where they are."""
    name = equation.primitive.name
    if name in _CALLS:
        return any(map(is_unfused, _inside(equation)))
    return name not in _OF_OUTPUT and name not in _OF_INPUT


def _inside(equation: Any) -> list[Any]:
    return [e for graph in _jax.subgraphs(equation) for e in graph.jaxpr.eqns]


def _elements(variables: Any) -> float:
    return float(sum(getattr(v.aval, "size", 0) for v in variables))
