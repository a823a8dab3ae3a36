"""Differences: slopes of a function by its values alone, at steps that its format allows.

Along a direction v, with δ(h) = f(x + h v) − f(x − h v), the residual of a gradient G is

    r(h) = (Re g · δ(h) − Re G · (x₊ − x₋)) / 2h = c h² + O(h⁴)    if G = g · J

where x₊ and x₋ are the points as rounded. It is taken at a chain of steps, each a quarter of the
last, so that r'(h) = (16 r(h/4) − r(h)) / 15 = O(h⁴), and where three r' in a row agree best, their
spread, with the rounding error of δ, bounds the error of the slope [ridders1982].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from fungrad.check.arrays import (
    Arrays,
    eps_of,
    flattened,
    inner,
    is_complex,
    magnitudes,
    parts,
    random_like,
    scaled,
    widest,
)
from fungrad.check.cases import Case
from fungrad.check.programs import held

LARGEST = 2.0**-4  # the first step, relative to the size of an argument
PROJECTIONS = 3  # random directions
COARSE = 1e-2  # an error of slopes, relative to them, above which they say nothing
_SCATTERS = 8  # three slopes scatter by less than their errors; so many times that is their error
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


def directions(points: Arrays, which: Any) -> list[Any]:
    """Directions, along a leading axis: random ones for the first numbers of `which`.

    The numbers after those stand for one part of one entry after another.
    """
    wide = [widest(jnp.asarray(x)) for x in points]
    with jax.ensure_compile_time_eval():
        some = [random_like(wide, seed) for seed in range(PROJECTIONS)]
        some[0] = magnitudes(some[0])  # a gradient given twice, to each side of a tie, shows there
        some = np.stack([flattened(x) for x in some])
    xp: Any = np if isinstance(which, np.ndarray) else jnp  # constants need not be compiled
    entries = xp.arange(some.shape[1]) == which[:, None] - PROJECTIONS
    random = xp.asarray(some)[xp.minimum(which, PROJECTIONS - 1)]
    rows = xp.where(which[:, None] < PROJECTIONS, random, entries.astype(some.dtype))
    ends = np.cumsum([parts(x) for x in wide])[:-1]

    def fold(piece, x):
        if not is_complex(x):
            return piece.reshape(len(rows), *x.shape)
        piece = piece.reshape(len(rows), 2, *x.shape)
        return piece[:, 0] + 1j * piece[:, 1]

    pieces = zip(xp.split(rows, ends, axis=1), wide, scales(points), strict=True)
    return [scaled(jnp.asarray(fold(piece, x)), size) for piece, x, size in pieces]


def finite_of(gradients: Arrays) -> tuple[list[Any], list[Any]]:
    """The gradients with zeros for what is no finite number, and where they are finite."""
    is_finite = [jnp.isfinite(x) for x in gradients]
    pairs = zip(gradients, is_finite, strict=True)
    return [jnp.where(known, x, jnp.zeros_like(x)) for x, known in pairs], is_finite


def without(v: Arrays, is_finite: Arrays, which: Any) -> tuple[list[Any], Any]:
    """Directions, random ones leaving the entries alone whose gradients are no finite numbers.

    And which of the others go along such an entry.
    """
    random = jnp.asarray(which) < PROJECTIONS

    def kept(d, known):
        dropped = random.reshape(-1, *[1] * known.ndim) & ~known
        return jnp.where(dropped, jnp.zeros_like(d), d)

    v = [kept(d, known) for d, known in zip(v, is_finite, strict=True)]
    pairs = zip(v, is_finite, strict=True)
    lost = [jnp.any((d != 0) & ~known, axis=tuple(range(1, d.ndim))) for d, known in pairs]
    return v, jnp.any(jnp.stack(lost), axis=0)


def slopes(case: Case, g: Arrays, points: Arrays, gradients: Arrays, which: np.ndarray) -> Slope:
    """The slopes of Re g · f along directions, by the gradients and by differences."""
    steps = chain([*points, *g])
    near = _nearby(steps, case.eps <= max(map(eps_of, points)))

    finite, is_finite = finite_of(gradients)

    def along(which):
        v, lost = without(directions(points, which), is_finite, which)
        taken = np.concatenate([steps, near])
        moved, outputs = _along(case, points, v, np.stack([taken, -taken], 1))
        change = [_change(z[:, :, 0], z[:, :, 1]) for z in outputs]
        displaced = [widest(x[:, :, 0]) - widest(x[:, :, 1]) for x in moved]
        h = jnp.asarray(taken, float)
        r = (_inner(g, change) - _inner(finite, displaced)) / (2 * h)
        noise = sum(_noise(*each) for each in zip(g, outputs, change, strict=True)) / (2 * h)
        r, close, noise = r[:, : len(steps)], r[:, len(steps) :], noise[:, : len(steps)]
        better = (16 * r[:, 1:] - r[:, :-1]) / 15
        first, second, third = better[:, :-2], better[:, 1:-1], better[:, 2:]
        error = 2 * jnp.maximum(abs(first - second), abs(second - third)) + 2 * noise[:, 2:-1]
        value, error = _best(jnp.maximum(error, _departure(close, second)), second)
        got = jax.vmap(lambda d: inner(finite, d))(v)
        # That a gradient is no number is a fault where the slope is one beyond doubt.
        is_clear = (error <= COARSE * jnp.abs(value)) & (case.reference is None)
        is_known = jnp.isfinite(error) & (~lost | is_clear)
        error = jnp.where(is_known, error + jnp.finfo(h.dtype).eps * jnp.abs(got), jnp.inf)
        want = got + jnp.where(is_known, value, 0.0)
        return Slope(jnp.where(lost & is_clear, jnp.nan, got), want, error)

    return _in_chunks(along, which, case, len(steps))


def sides(case: Case, g: Arrays, points: Arrays, which: np.ndarray) -> Sides:
    """The one-sided slopes of Re g · f along directions.

    F(h) = (f(x + h v) − f(x)) / h has an error c h + d h² + …, of which the chain of steps removes
    the first two terms. For each output the gradient may be anything between both of its slopes.
    """
    steps = chain([*points, *g])
    h = jnp.asarray(steps, float)

    def refined(entry, change):
        f = jnp.real(change * widest(entry))
        f = f.reshape(*f.shape[:2], -1) / h[:, None]
        f = (4 * f[:, 1:] - f[:, :-1]) / 3
        return (16 * f[:, 1:] - f[:, :-1]) / 15

    def along(which):
        v = directions(points, which)
        _, outputs = _along(case, points, v, np.stack([steps, 0 * steps, -steps], 1))
        low = high = noise = jnp.zeros(())
        for entry, z in zip(g, outputs, strict=True):
            right = refined(entry, _change(z[:, :, 0], z[:, :, 1]))
            left = refined(entry, _change(z[:, :, 1], z[:, :, 2]))
            low += jnp.sum(jnp.minimum(right, left), 2)
            high += jnp.sum(jnp.maximum(right, left), 2)
            noise += _noise(entry, z, _change(z[:, :, 0], z[:, :, 2])) / h
        differing = sum(abs(x[:, 1:] - x[:, :-1]) for x in (low, high))
        error = 2 * differing + 4 * noise[:, 2:-1]
        low, _ = _best(error, low[:, 1:])
        high, error = _best(error, high[:, 1:])
        return Sides(low, high, error)

    return _in_chunks(along, which, case, len(steps))


def _in_chunks(along: Any, which: np.ndarray, case: Case, steps: int) -> Any:
    """`along` of the numbers of directions, as many at once as memory allows."""
    numbers = sum(map(parts, [*case.points, *case.g]))
    batch = max(1, min(len(which), _CHUNK // max(1, 2 * steps * numbers)))
    if batch == len(which):
        return along(which)
    chunks = np.resize(which, (-(-len(which) // batch), batch))
    found = lax.map(along, chunks)
    return jax.tree.map(lambda x: x.reshape(-1)[: len(which)], found)


def _along(case: Case, points: Arrays, v: Arrays, steps: np.ndarray) -> Any:
    """Points and outputs at x + h v for every v and every h of `steps`, a matrix."""
    count = len(v[0])

    def move(x, d):
        h = jnp.asarray(steps, float).reshape(1, *steps.shape, *[1] * x.ndim)
        return (widest(x) + h.astype(d.dtype) * d[:, None, None]).astype(x.dtype)

    moved = [move(jnp.asarray(x), d) for x, d in zip(points, v, strict=True)]
    one_by_one = [x.reshape(count * steps.size, *x.shape[3:]) for x in moved]
    function = held(case.function, points) if case.stops else case.function
    try:
        outputs = jax.vmap(function)(*one_by_one)
    except Exception:  # of any type: a callback need not be made for batches
        outputs = lax.map(lambda x: function(*x), one_by_one)
    return moved, [z.reshape(count, *steps.shape, *z.shape[1:]) for z in outputs]


def _nearby(steps: np.ndarray, is_smooth: bool) -> np.ndarray:
    """Steps much smaller than those of the chain, where the formats within have such."""
    smaller = {9: 4.0**-7, 7: 4.0**-2}.get(len(steps))
    if smaller is None or not is_smooth:
        return steps[:0]
    return steps[-1] * smaller * np.array([1.0, 0.9, 0.8])


def _departure(close: Any, values: Any) -> Any:
    """Twice how far slopes by the smallest steps are from others, if that is beyond their scatter.

    Near a pole, as where a matrix is nearly singular, or where one entry is much smaller than
    another, all steps of the chain may be too large, and agree on a slope that is none.
    """
    if not close.shape[1]:
        return jnp.zeros_like(values)
    low, high = (each(close, axis=1, keepdims=True) for each in (jnp.min, jnp.max))
    middle, scatter = (low + high) / 2, high - low
    away = abs(values - middle)
    return jnp.where(jnp.isfinite(away) & (away > _SCATTERS * scatter), 2 * away, 0.0)


def _best(error: Any, values: Any) -> Any:
    """Of each row the value with the smallest error, and that error; infinite if all are."""
    error = jnp.where(jnp.isfinite(error) & jnp.isfinite(values), error, jnp.inf)
    is_best = jnp.arange(error.shape[1]) == jnp.argmin(error, axis=1)[:, None]
    return tuple(jnp.sum(jnp.where(is_best, x, 0.0), axis=1) for x in (values, error))


def _inner(g: Arrays, change: Arrays) -> Any:
    """Re Σ g δ over all but the leading two axes."""
    pairs = zip(g, change, strict=True)
    return sum(_sum(jnp.real(widest(a) * widest(b))) for a, b in pairs)


def _sum(x: Any) -> Any:
    return jnp.sum(x.reshape(*x.shape[:2], -1), 2)


def _noise(g: Any, z: Any, change: Any) -> Any:
    """How far rounded outputs may move Re Σ g δ; those that did not move are taken as exact."""
    size = [
        jnp.where(jnp.isfinite(x), jnp.abs(x), 0.0)
        for x in (widest(z[:, :, 0]), widest(z[:, :, 1]))
    ]
    moved = jnp.where(change != 0, size[0] + size[1], 0.0)
    return eps_of(z) * _sum(jnp.abs(widest(g)) * moved)


def _change(after: Any, before: Any) -> Any:
    """The difference, zero where both are the same infinity or no number."""
    after, before = widest(after), widest(before)
    same = (after == before) | (jnp.isnan(after) & jnp.isnan(before))
    return jnp.where(same, jnp.zeros_like(after), after - before)
