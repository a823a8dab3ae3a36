"""Along which axes a value varies, and where axes are after a move."""

from __future__ import annotations

import math
from typing import Any

from fungrad import _jax
from fungrad.rulebooks.lrp.structure import CASTS, FUNCTIONS

_ENTRYWISE = FUNCTIONS | CASTS | {"add", "sub", "max", "min"}


def varying_axes(variable: Any, makers: dict[Any, Any]) -> set[int]:
    """The axes of a variable along which it may vary, as far as its makers say."""
    wide = {axis for axis, size in enumerate(variable.aval.shape) if size > 1}
    maker = None if isinstance(variable, _jax.Literal) else makers.get(variable)
    if maker is None or not wide:
        return wide
    if maker.primitive.name == "broadcast_in_dim":
        target = maker.params["broadcast_dimensions"]
        return wide & {int(target[axis]) for axis in varying_axes(maker.invars[0], makers)}
    if maker.primitive.name in _ENTRYWISE:
        return wide & set().union(*(varying_axes(v, makers) for v in maker.invars))
    return wide


def axes_after(move: Any, axes: set[int]) -> set[int] | None:
    """Where axes of its input are in the output of an equation that moves them; `None` if lost."""
    name, params = move.primitive.name, move.params
    before, after = move.invars[0].aval.shape, move.outvars[0].aval.shape
    if name in ("convert_element_type", "copy", "name"):
        return axes
    if name == "transpose":
        return {after_axis for after_axis, axis in enumerate(params["permutation"]) if axis in axes}
    one_to_one = name in ("reshape", "squeeze") or (
        name == "broadcast_in_dim" and math.prod(before) == math.prod(after)
    )
    return _after_reshape(before, after, axes) if one_to_one else None


def _after_reshape(
    before: tuple[int, ...], after: tuple[int, ...], axes: set[int]
) -> set[int] | None:
    """An axis is kept if one of its size has as many entries before it."""
    places = {(math.prod(after[:i]), n): i for i, n in enumerate(after) if n > 1}
    sought = [(math.prod(before[:i]), before[i]) for i in axes if before[i] > 1]
    return {places[one] for one in sought} if all(one in places for one in sought) else None
