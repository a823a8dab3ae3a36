"""Gradient norms along a program, and whether they vanish or explode on the way back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fungrad.graph import Node
from fungrad.inspect.diagnosis.calls import Call, CustomJVP
from fungrad.inspect.diagnosis.loops import Loop
from fungrad.inspect.diagnosis.record import Frame
from fungrad.inspect.diagnosis.report import Norm
from fungrad.inspect.diagnosis.values import Value, is_inexact

FACTOR = 1e4
"""Norms that differ by more than this factor between two ends of a program are worth a word."""


def norm_of(array: Any) -> float:
    """The root of the sum of squares, in double precision."""
    x = np.asarray(array)
    wide = x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)
    return float(np.linalg.norm(wide.ravel()))


def layers_of(frame: Frame) -> tuple[Norm, ...]:
    """The norm of the gradient at the last value of each scope, or of each line without one."""
    rows: dict[str, Norm] = {}
    for name, value in _gradients(frame):
        rows.pop(name, None)  # the last value of a layer is its output
        rows[name] = Norm(name, norm_of(value.array), int(np.size(value.array)))
    return tuple(rows.values())


def _gradients(frame: Frame) -> Iterator[tuple[str, Value]]:
    for node, part in zip(frame.level.nodes, frame.parts, strict=True):
        if isinstance(part, Loop) and part.left:
            yield from _of_loop(part)
        elif isinstance(part, Call) and not isinstance(part, CustomJVP):
            yield from _gradients(part.entered)
        else:
            for variable in node.equation.outvars:
                g = frame.gradients.get(variable)
                if g is not None and is_inexact(g.array):
                    yield _layer(node), g


def _of_loop(loop: Loop) -> Iterator[tuple[str, Value]]:
    """The gradients at what a loop carries out of its first and out of its last iteration."""
    steps = sorted({0, len(loop.arriving) - 1})
    for step in steps:
        arriving = [g for g in loop.arriving[step][: loop.m] if g is not None]
        floats = [g for g in arriving if is_inexact(g.array)]
        if floats:
            name = f"{_layer(loop.node)}, iteration {loop.index(step)}"
            flat = jnp.concatenate([jnp.ravel(g.array).astype(jnp.float32) for g in floats])
            yield name, Value(flat)


def _layer(node: Node) -> str:
    if node.scope:
        return node.scope
    return f"{node.function}, {os.path.basename(node.file)}:{node.line}"


def word_on(layers: Sequence[Norm]) -> str:
    """A remark on how the norms, divided by the root of the sizes, go from the end to the start."""
    known = [norm for norm in layers if norm.size and np.isfinite(norm.norm)]
    each = [norm.norm / np.sqrt(norm.size) for norm in known]
    if len(each) < 2 or not each[-1] or not each[0]:
        return "too few layers to say whether gradients vanish or explode"
    ratio = each[0] / each[-1]
    if ratio < 1 / FACTOR:
        return (
            f"gradients vanish on the way back: an entry's is {ratio:.1e} times as large at the "
            "beginning as at the end; residual connections, normalisation or another "
            "initialisation keep them up"
        )
    if ratio > FACTOR:
        return (
            f"gradients explode on the way back: an entry's is {ratio:.1e} times as large at the "
            "beginning as at the end; clip their norm, normalise, or initialise smaller"
        )
    return "gradients neither vanish nor explode on the way back"
