"""What stands at a node instead of its value: arrays, or what a function makes of the value."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax import lax
from jax import numpy as jnp

from fungrad import _jax, editing, formats
from fungrad.graph import Node


def change(node: Node, replacement: Any) -> Any:
    """`(outputs, slices, iteration) -> outputs` of a node, with the `slices` that it is to get.

    `counts` says whether it asks for the iteration.
    """
    return (_Computed if callable(replacement) else _Inserted)(node, replacement)


def bare(outputs: Sequence[Any]) -> Any:
    """One output comes bare, several as a tuple."""
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


class _Inserted:
    """Arrays that stand at a node: `slices` if each iteration has its own, else `fixed`."""

    counts = False

    def __init__(self, node: Node, replacement: Any):
        steps = editing.steps_around(node)
        given = _outputs(node, replacement)
        stacked = [_is_stacked(np.shape(x), steps, t.shape) for x, t in given]
        fitted = [
            _fitted(node, x, editing.stacked_type(t, np.shape(x)[: len(steps)]) if s else t, steps)
            for (x, t), s in zip(given, stacked, strict=True)
        ]
        self.stacked = stacked
        self.slices = [x for x, s in zip(fitted, stacked, strict=True) if s]
        self.fixed = [x for x, s in zip(fitted, stacked, strict=True) if not s]

    def __call__(self, outputs, slices, iteration):
        slices, fixed = iter(slices), iter(self.fixed)
        pairs = zip(self.stacked, outputs, strict=True)
        return [next(slices, own) if s else next(fixed) for s, own in pairs]


def _is_stacked(shape: tuple[int, ...], steps: tuple[Any, ...], each: tuple[int, ...]) -> bool:
    """Whether a shape is that of one array per iteration; a while loop is as long as one likes."""
    lengths = shape[: len(steps)]
    fit = all(n in (m, None) for m, n in zip(lengths, steps, strict=False))
    return bool(steps) and fit and shape[len(steps) :] == each and len(shape) > len(each)


class _Computed:
    """A function of the value at a node."""

    slices = ()

    def __init__(self, node: Node, function: Callable[..., Any]):
        self.node, self.function = node, function
        self.counts = "iteration" in _parameters(function)

    def __call__(self, outputs, slices, iteration):
        if self.counts:
            answer = self.function(bare(outputs), iteration=bare(iteration))
        else:
            answer = self.function(bare(outputs))
        return [_fitted(self.node, x, t, ()) for x, t in _outputs(self.node, answer)]


def _parameters(function: Callable[..., Any]) -> Any:
    try:
        return inspect.signature(function).parameters
    except ValueError:  # a ufunc, or another function that is not written in Python
        return ()


def _outputs(node: Node, given: Any) -> list[tuple[Any, Any]]:
    """What is given for each output of a node, with the output's type."""
    types = [v.aval for v in node.equation.outvars]
    entries = [given] if len(types) == 1 else given
    if not isinstance(entries, list | tuple) or len(entries) != len(types):
        raise ValueError(
            f"node {node.label!r} has {len(types)} outputs; give a tuple of as many, got {given!r}"
        )
    return list(zip(entries, types, strict=True))


def _fitted(node: Node, x: Any, aval: Any, steps: tuple[Any, ...]) -> Any:
    """`x` as an array of a node's type, if it has its shape and is of its kind of numbers."""
    if np.shape(x) != aval.shape:
        due = f"{list(aval.shape)}"
        if steps:
            lengths = ", ".join(str(n or "steps") for n in (*steps, *aval.shape))
            due += f", or [{lengths}] for one per iteration"
        raise ValueError(
            f"the value for node {node.label!r} has shape {list(np.shape(x))}; expected {due}"
        )
    try:
        x = formats.as_array(_jax.argument(x))
    except TypeError as error:
        raise TypeError(
            f"what replaces node {node.label!r} must be an array or a function, got {x!r}"
        ) from error
    if x.dtype != aval.dtype and not jnp.can_cast(x.dtype, aval.dtype, "same_kind"):
        raise TypeError(f"the value for node {node.label!r} is of {x.dtype}; expected {aval.dtype}")
    return x if x.dtype == aval.dtype else lax.convert_element_type(x, aval.dtype)
