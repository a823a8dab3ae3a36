"""Primitives without a gradient, each with its reason.

Those of random numbers are in `random`, reductions and sorts without a gradient beside their kin.
"""

from __future__ import annotations

from functools import partial

import jax
from jax import lax

from fungrad.rulebook import no_gradient

_STEPS = "it is piecewise constant, so that its slope is 0 wherever it has one"
_TRUTH = "its output is a truth value"
_BITS = "it works on the bits of integers or truth values"
_SINK = "it has no outputs"
_SOURCE = "it has no inputs"


def _floats(draw):
    return draw.uniform(3)


def _pair(draw):
    return draw.uniform(3), draw.uniform(3)


def _integer(draw):
    return draw.integers(3)


def _integers(draw):
    return draw.integers(3), draw.integers(3)


def _bound(primitive):
    """For primitives that have no function in `jax.lax`."""
    return lambda draw: (primitive.bind, *_pair(draw))


# --- On purpose -----------------------------------------------------------------------------

stop_gradient = no_gradient("stop_gradient", reason="its author asked for none", example=_floats)

# --- Steps ----------------------------------------------------------------------------------

floor = no_gradient("floor", reason=_STEPS, example=_floats)
ceil = no_gradient("ceil", reason=_STEPS, example=_floats)
round = no_gradient("round", reason=_STEPS, example=_floats)

# --- Comparisons; those with `_to` order all floats, −0 before 0 and NaN last ----------------

eq = no_gradient("eq", reason=_TRUTH, example=_pair)
ne = no_gradient("ne", reason=_TRUTH, example=_pair)
lt = no_gradient("lt", reason=_TRUTH, example=_pair)
le = no_gradient("le", reason=_TRUTH, example=_pair)
gt = no_gradient("gt", reason=_TRUTH, example=_pair)
ge = no_gradient("ge", reason=_TRUTH, example=_pair)
eq_to = no_gradient("eq_to", reason=_TRUTH, example=_bound(lax.eq_to_p))
lt_to = no_gradient("lt_to", reason=_TRUTH, example=_bound(lax.lt_to_p))
le_to = no_gradient("le_to", reason=_TRUTH, example=_bound(lax.le_to_p))
is_finite = no_gradient("is_finite", reason=_TRUTH, example=_floats)

# --- Logic and bits -------------------------------------------------------------------------


def _truths(draw):
    return lax.bitwise_and, draw.boolean(3), draw.boolean(3)


and_ = no_gradient("and", reason=_BITS, example=_truths)
or_ = no_gradient("or", reason=_BITS, example=lambda draw: (lax.bitwise_or, *_integers(draw)))
xor = no_gradient("xor", reason=_BITS, example=lambda draw: (lax.bitwise_xor, *_integers(draw)))
not_ = no_gradient("not", reason=_BITS, example=lambda draw: (lax.bitwise_not, draw.boolean(3)))
shift_left = no_gradient("shift_left", reason=_BITS, example=_integers)
shift_right_logical = no_gradient("shift_right_logical", reason=_BITS, example=_integers)
shift_right_arithmetic = no_gradient("shift_right_arithmetic", reason=_BITS, example=_integers)
population_count = no_gradient("population_count", reason=_BITS, example=_integer)
clz = no_gradient("clz", reason=_BITS, example=_integer)
mulhi = no_gradient("mulhi", reason=_BITS, example=_integers)
bitcast_convert_type = no_gradient(
    "bitcast_convert_type",
    reason="it reads the bits of a number as another number, which has no slope",
    example=lambda draw: (partial(lax.bitcast_convert_type, new_dtype="int64"), draw.uniform(3)),
)

# --- Sinks ----------------------------------------------------------------------------------

dce_sink = no_gradient("dce_sink", reason=_SINK, example=_floats)
inspect_sharding = no_gradient(
    "inspect_sharding",
    reason=_SINK,
    example=lambda draw: (
        partial(jax.debug.inspect_array_sharding, callback=lambda sharding: None),
        draw.uniform(3),
    ),
)

# --- Sources --------------------------------------------------------------------------------

iota = no_gradient("iota", reason=_SOURCE, example=lambda draw: (lambda: lax.iota("int32", 3),))
empty = no_gradient(
    "empty", reason=_SOURCE, example=lambda draw: (lambda: lax.empty(3, "float32"),)
)
