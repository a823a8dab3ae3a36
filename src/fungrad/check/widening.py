"""Programs in float64, whatever formats they ask for: what they say but for rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fungrad import _jax
from fungrad.check.arrays import is_complex, is_float, widest
from fungrad.check.programs import Hand


def widened(graph: Any, inputs: Sequence[Any]) -> list[Any]:
    """The outputs of a program with every float of it in float64, where that can be.

    An operation that exists only in the format that it has, such as a cast of bits, is given it.
    """
    with jax.enable_x64(True):
        return Hand(_bind, constant=_wide).outputs(graph, list(map(_wide, inputs)))


def _bind(equation: Any, arguments: Sequence[Any]) -> list[Any]:
    if equation.primitive.name == "reduce_precision":
        return list(arguments)
    params = {name: _wide_format(value) for name, value in equation.params.items()}
    due = [_wide_format(v.aval.dtype) for v in equation.outvars]
    primitive = equation.primitive
    try:
        found = primitive.bind(*arguments, **primitive.get_bind_params(params))
        outputs = list(found) if primitive.multiple_results else [found]
        if [z.dtype for z in outputs] == due:
            return outputs
    except Exception:  # of any type: JAX has it in some formats only
        pass
    own = [
        x.astype(v.aval.dtype) if is_float(x) else x
        for x, v in zip(arguments, equation.invars, strict=True)
    ]
    return list(map(_wide, _jax.bind(equation, own)))


def _wide(x: Any) -> Any:
    x = _jax.canonical(x)
    return widest(x) if is_float(x) else x


def _wide_format(value: Any) -> Any:
    """A dtype in its widest form, if it is that of floats; anything else as it is."""
    if not isinstance(value, np.dtype) or not is_float(np.empty(0, value)):
        return value
    return np.dtype(complex if is_complex(np.empty(0, value)) else float)
