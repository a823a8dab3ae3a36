"""Differences: slopes of a function by its values alone, at steps that its format allows.

Along a direction v, with δ(h) = f(x + h v) − f(x − h v), the residual of a gradient G is

    r(h) = (Re g · δ(h) − Re G · (x₊ − x₋)) / 2h = c h² + O(h⁴)    if G = g · J

where x₊ and x₋ are the points as rounded. It is taken at a chain of steps, each a quarter of the
last, so that r'(h) = (16 r(h/4) − r(h)) / 15 = O(h⁴), and where three r' in a row agree best, their
spread, with the rounding error of δ, bounds the error of the slope [ridders1982].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from fungrad.check.arrays import (
    Arrays,
    eps_of,
    flattened,
    folded,
    inner,
    parts,
    random_like,
    scaled,
    widest,
)
from fungrad.check.cases import Case

LARGEST = 2.0**-4  # the first step, relative to the size of an argument
PROJECTIONS = 3  # random directions
_CHUNK = 2**22  # how many numbers are moved at once


class Slope(NamedTuple):
    """A slope by a gradient, the same by differences, and the error that these may have."""

    got: Any
    want: Any
    error: Any


class Sides(NamedTuple):
    """The slopes to the left and right, summed over outputs as an interval, and their error."""

    low: Any
    high: Any
    error: Any


def chain(arrays: Arrays) -> np.ndarray:
    """The steps, from large to small: the narrower the format, the fewer."""
    eps = max((eps_of(x) for x in arrays), default=1.0)
    count = 9 if eps < 1e-12 else 7 if eps < 1e-5 else 5
    return LARGEST * 4.0 ** -np.arange(count)


def scales(points: Arrays) -> list[Any]:
    """The size of each argument: that of its largest finite entry, 1 if all are zero."""
    found = []
    for x in points:
        finite = jnp.where(jnp.isfinite(x), jnp.abs(widest(x)), 0.0)
        largest = jnp.max(finite, initial=0.0)
        found.append(jnp.where(largest > 0, largest, 1.0))
    return found


def direction(points: Arrays, which: Any) -> list[Any]:
    """A direction: a random one for the first numbers, then one part of one entry after another."""
    wide = [widest(jnp.asarray(x)) for x in points]
    some = [flattened(random_like(wide, seed)) for seed in range(PROJECTIONS)]
    total = sum(map(parts, points))
    entry = (jnp.arange(total) == which - PROJECTIONS).astype(some[0].dtype)
    return folded(jnp.where(which < PROJECTIONS, jnp.stack(some)[which], entry), wide)


def slope(case: Case, g: Arrays, points: Arrays, gradients: Arrays, v: Arrays) -> Slope:
    """The slope of Re g · f along v, by the gradients and by differences."""
    v = [scaled(d, s) for d, s in zip(v, scales(points), strict=True)]
    steps = chain([*points, *g])
    moved, outputs = _along(case, points, v, np.stack([steps, -steps], 1))

    def residual(h, xs, zs):
        change = [_change(z[0], z[1]) for z in zs]
        displaced = [widest(x[0]) - widest(x[1]) for x in xs]
        noise = sum(
            (
                eps_of(z) * jnp.sum(jnp.abs(c) * jnp.where(d != 0, _size(z[0]) + _size(z[1]), 0.0))
                for c, z, d in zip(map(widest, g), zs, change, strict=True)
            ),
            jnp.zeros(()),
        )
        return (inner(g, change) - inner(gradients, displaced)) / (2 * h), noise / (2 * h)

    r, noise = jax.vmap(residual)(jnp.asarray(steps, float), moved, outputs)
    better = (16 * r[1:] - r[:-1]) / 15
    first, second, third = better[:-2], better[1:-1], better[2:]
    error = 2 * jnp.maximum(abs(first - second), abs(second - third)) + 2 * noise[2:-1]
    best = jnp.argmin(jnp.where(jnp.isfinite(error), error, jnp.inf))
    got = inner(gradients, v)
    finite = jnp.isfinite(error[best]) & jnp.isfinite(got)
    value = jnp.where(finite, second[best], 0.0)
    unit_roundoff = jnp.finfo(error.dtype).eps * jnp.abs(got)
    return Slope(got, got + value, jnp.where(finite, error[best] + unit_roundoff, jnp.inf))


def sides(case: Case, g: Arrays, points: Arrays, v: Arrays) -> Sides:
    """The one-sided slopes of Re g · f along v.

    F(h) = (f(x + h v) − f(x)) / h has an error c h + d h² + …, of which the chain of steps removes
    the first two terms. For each output the gradient may be anything between both of its slopes.
    """
    v = [scaled(d, s) for d, s in zip(v, scales(points), strict=True)]
    steps = chain([*points, *g])
    _, outputs = _along(case, points, v, np.stack([steps, 0 * steps, -steps], 1))
    h = jnp.asarray(steps, float)

    def slopes(entry, z, after, before):
        change = jnp.real(_change(z[:, after], z[:, before]) * widest(entry))
        f = change.reshape(len(steps), -1) / h[:, None]
        f = (4 * f[1:] - f[:-1]) / 3
        return (16 * f[1:] - f[:-1]) / 15

    low = high = jnp.zeros(len(steps) - 2)
    noise = jnp.zeros(len(steps))
    for entry, z in zip(g, outputs, strict=True):
        right, left = slopes(entry, z, 0, 1), slopes(entry, z, 1, 2)
        low += jnp.sum(jnp.minimum(right, left), 1)
        high += jnp.sum(jnp.maximum(right, left), 1)
        moved = _change(z[:, 0], z[:, 2]) != 0
        size = jnp.abs(widest(entry)) * jnp.where(moved, _size(z[:, 0]) + _size(z[:, 1]), 0.0)
        noise += eps_of(z) * jnp.sum(size.reshape(len(steps), -1), 1) / h
    differing = jnp.abs(low[1:] - low[:-1]) + jnp.abs(high[1:] - high[:-1])
    error = 2 * differing + 4 * noise[2:-1]
    best = jnp.argmin(jnp.where(jnp.isfinite(error), error, jnp.inf))
    return Sides(low[best], high[best], jnp.where(jnp.isfinite(error[best]), error[best], jnp.inf))


def _along(case: Case, points: Arrays, v: Arrays, steps: np.ndarray) -> Any:
    """Points and outputs at x + h v for every h of `steps`, a matrix."""

    def at(h):
        moved = [
            (widest(x) + scaled(d, h)).astype(x.dtype) if x.size else x
            for x, d in zip(points, v, strict=True)
        ]
        return moved, case.function(*moved)

    found = lax.map(at, jnp.asarray(steps.ravel(), float))
    return jax.tree.map(lambda x: x.reshape(*steps.shape, *x.shape[1:]), found)


def _change(after: Any, before: Any) -> Any:
    """The difference, zero where both are the same infinity or no number."""
    after, before = widest(after), widest(before)
    same = (after == before) | (jnp.isnan(after) & jnp.isnan(before))
    return jnp.where(same, jnp.zeros_like(after), after - before)


def _size(z: Any) -> Any:
    size = jnp.abs(widest(z))
    return jnp.where(jnp.isfinite(size), size, 0.0)


def for_entries(function: Callable[[Any], Any], entries: Any, size: int) -> Any:
    """`function` of each entry, as many at once as memory and the function allow."""
    batch = max(1, min(len(entries), _CHUNK // max(1, 20 * size)))
    try:
        jax.eval_shape(jax.vmap(function), entries[:batch])
    except Exception:  # of any type: a callback need not be made for batches
        batch = 1
    return lax.map(function, entries, batch_size=batch) if batch > 1 else lax.map(function, entries)
