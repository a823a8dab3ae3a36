"""Gradients in another format than their values.

The author of a `custom_vjp` function may return a gradient in another format than the argument's:
float32 for bfloat16, or bfloat16 for float8. It is not rounded on its way to the arguments: each
rule that it meets works in its format, as if the values had it, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax import lax
from jax import numpy as jnp

from fungrad import _jax


def as_array(value: Any) -> Any:
    """A Python scalar as an array, weakly typed as scalars are; an array as it is."""
    return jnp.asarray(value) if isinstance(value, int | float | complex) else value


def foreign(variables: Sequence[Any], g: Sequence[Any]) -> tuple[Any, Any] | None:
    """The formats of a value and of its gradient, if there is a pair of which they differ."""
    for variable, entry in zip(variables, g, strict=True):
        if entry is not None and entry.dtype != variable.aval.dtype:
            due = _jax.gradient_type(variable.aval).dtype
            return None if entry.dtype == due else (variable.aval.dtype, entry.dtype)
    return None


def moved(values: Sequence[Any], old: Any, new: Any) -> list[Any]:
    """The values, those of one format in another one."""
    return [_in_format(x, new) if x.dtype == old else x for x in values]


def due(variables: Sequence[Any], g: Sequence[Any]) -> list[Any]:
    """The gradients, each in the format that is due at its variable."""
    return [
        None if entry is None else _in_format(entry, _jax.gradient_type(variable.aval).dtype)
        for variable, entry in zip(variables, g, strict=True)
    ]


def _in_format(x: Any, dtype: Any) -> Any:
    if x.dtype == dtype:  # and weakly typed, maybe
        return x
    if isinstance(x, _jax.Unknown):
        return _jax.Unknown(x.aval.update(dtype=dtype, weak_type=False))
    return lax.convert_element_type(x, dtype)


def add(g: Any, h: Any, own: Any) -> Any:
    """g + h, in the foreign format if one is in its value's own."""
    if g.dtype != h.dtype:
        g, h = moved((g, h), own, h.dtype if g.dtype == own else g.dtype)
    return _jax.add(g, h)
