"""Folds: reductions by any operation, over axes or over windows.

    z = e ∘ x₁ ∘ x₂ ∘ … ∘ xₙ

As ∘ is associative and commutative, the entries may be combined in any order: in a tree, each level
of which combines the first half with the second. So a fold is a graph of few operations on whole
arrays, and the passes differentiate it as any graph [blelloch1990]. One operation may combine
several operands at once, as in an argmax; then x, e and z stand for tuples.
"""

from __future__ import annotations

import math
from functools import partial

import jax
from jax import lax

from fungrad import _jax, passes
from fungrad.rulebook import CallRule
from fungrad.rules.calls import halves_of

# --- As graphs of arrays ---------------------------------------------------------------------


def _fold_axes(combine, operands, initial, *, dimensions, **_):
    """Over axes: they become one, the first."""
    shape = operands[0].shape
    kept = [axis for axis in range(len(shape)) if axis not in dimensions]
    size = math.prod(shape[axis] for axis in dimensions)
    order, rest = [*dimensions, *kept], [shape[axis] for axis in kept]
    rows = [lax.reshape(lax.transpose(x, order), [size, *rest]) for x in operands]
    return _with(combine, initial, _fold(combine, rows) if size else None, rest)


def _fold_windows(combine, operands, initial, **window):
    """Over windows: axis by axis, after the padding with e."""
    sizes = zip(window["padding"], window["base_dilation"], strict=True)
    padding = [(low, high, step - 1) for (low, high), step in sizes]
    z = [lax.pad(x, e, padding) for x, e in zip(operands, initial, strict=True)]
    names = "window_dimensions", "window_strides", "window_dilation"
    for axis, (length, stride, step) in enumerate(zip(*(window[k] for k in names), strict=True)):
        windows = (z[0].shape[axis] - step * (length - 1) - 1) // stride + 1
        span = max(stride * (windows - 1) + 1, 0)
        starts = range(0, step * length, step) if span else [0] * length
        entry = partial(lax.slice_in_dim, stride=stride, axis=axis)
        z = _fold(combine, [lax.stack([entry(x, i, i + span) for i in starts]) for x in z])
    return _with(combine, initial, z, z[0].shape)


def _fold(combine, rows):
    """x₁ ∘ … ∘ xₙ, where x₁, x₂, … are the rows."""
    while (n := rows[0].shape[0]) > 1:
        half = (n + 1) // 2
        pairs = _entrywise(combine, [x[: n - half] for x in rows], [x[half:] for x in rows])
        middle = [x[n - half : half] for x in rows]  # without a partner, if n is odd
        rows = [lax.concatenate(parts, 0) for parts in zip(pairs, middle, strict=True)]
    return [lax.squeeze(x, [0]) for x in rows]


def _with(combine, initial, z, shape):
    """e ∘ z, or e if there is no z."""
    initial = [lax.broadcast(e, shape) for e in initial]
    return initial if z is None else _entrywise(combine, initial, z)


def _entrywise(combine, a, b):
    for _ in range(a[0].ndim):
        combine = jax.vmap(combine)
    return combine(*a, *b)


# --- Rules -----------------------------------------------------------------------------------


def _graph(fold, equation):
    """The graph of the equation's operands, then its initial values -> its outputs."""
    n = len(equation.outvars)
    operation = _jax.subgraphs(equation)[0]

    def combine(*ab):
        return _jax.evaluate(operation, ab)

    def program(*values):
        return fold(combine, values[:n], values[n:], **equation.params)

    return _jax.trace(program, [v.aval for v in equation.invars])


def _activity(fold, equation, active, settings):
    return passes.activity(_graph(fold, equation), tuple(active), settings)


def _split_axes(equation, active, wanted, settings):
    """z = e ∘ x₁ ∘ … ∘ xₙ        ∂z/∂x by the passes over the tree of combinations"""
    return halves_of(_graph(_fold_axes, equation), active, wanted, settings)


def _split_windows(equation, active, wanted, settings):
    """zₜ = e ∘ the xᵢ in the window t        ∂z/∂x by the passes over the trees of the windows"""
    return halves_of(_graph(_fold_windows, equation), active, wanted, settings)


def _axes_examples(draw):
    def log_add(a, b):
        return lax.log(lax.exp(a) + lax.exp(b))

    def first_largest(a, b):
        wins = (a[0] > b[0]) | ((a[0] == b[0]) & (a[1] < b[1]))
        return tuple(lax.select(wins, x, y) for x, y in zip(a, b, strict=True))

    def of(start, x):
        return lax.convert_element_type(start, x.dtype)

    yield lambda x: lax.reduce(x, of(-math.inf, x), log_add, (0, 2)), draw.uniform(3, 2, 2)
    yield (
        lambda x, y: lax.reduce((x, y), (of(-math.inf, x), of(9.0, y)), first_largest, (1,)),
        *draw.uniform(2, 2, 5),
    )


reduce = CallRule(
    "reduce",
    _split_axes,
    partial(_activity, _fold_axes),
    example=lambda draw: list(_axes_examples(draw)),
)

# JAX has no reverse mode for it: tests/rules/test_folding.py compares with its forward mode.
reduce_window = CallRule("reduce_window", _split_windows, partial(_activity, _fold_windows))
