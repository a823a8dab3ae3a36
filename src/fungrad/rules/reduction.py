"""Reductions, cumulative operations, and sliding windows: the ways to make fewer numbers of many.

A sum hands g to everything it added; an extremum hands g to the winner; a product hands each
factor g times the product of the others.
"""

from __future__ import annotations

import math
from functools import partial

import jax
from jax import lax

from fungrad import _jax
from fungrad.rulebook import no_gradient, rule
from fungrad.rules.contraction import padding_between

_SPLIT = "ties: the winners share the gradient equally"
_PAIRWISE = "ties: 1/2 each, in every maximum of two that the parallel scan computes"
_FIRST = "ties: all to the first winner of the window"


def _over(primitive, *axes):
    return partial(getattr(lax, primitive), axes=axes)


def _back(a, like, axes):
    """Give a reduced array its lost axes back, repeated to the shape of `like`."""
    kept = [axis for axis in range(like.ndim) if axis not in axes]
    place = _jax.gradient_sharding(like)
    return lax.broadcast_in_dim(a, like.shape, kept, out_sharding=place)


# --- reductions ----------------------------------------------------------------------------------


@rule(
    "reduce_sum",
    example=lambda draw: [
        (_over("reduce_sum", 0), draw.uniform(3)),
        (_over("reduce_sum", 0, 2), draw.complex(2, 3, 2)),
    ],
)
def reduce_sum(g, z, x, *, axes, **_):
    """z = Σᵢ xᵢ        ∂z/∂x = 1ᵀ"""
    return _back(g, x, axes)


def _to_the_winners(g, z, x, *, axes, **_):
    winners = lax.convert_element_type(x == _back(z, x, axes), g.dtype)
    return winners * _back(g / lax.reduce_sum(winners, axes), x, axes)


@rule(
    "reduce_max",
    example=lambda draw: [
        (_over("reduce_max", 0), draw.uniform(4)),
        (_over("reduce_max", 0, 2), draw.uniform(2, 3, 2)),
        draw.kink(_over("reduce_max", 0), draw.values(1, 1, 1)),
    ],
    kink=_SPLIT,
)
def reduce_max(g, z, x, **params):
    """z = max x        ∂z/∂x = [x = z]ᵀ / |{i: xᵢ = z}|"""
    return _to_the_winners(g, z, x, **params)


@rule(
    "reduce_min",
    example=lambda draw: [
        (_over("reduce_min", 0), draw.uniform(4)),
        (_over("reduce_min", 0, 2), draw.uniform(2, 3, 2)),
        draw.kink(_over("reduce_min", 0), draw.values(1, 1, 1)),
    ],
    kink=_SPLIT,
)
def reduce_min(g, z, x, **params):
    """z = min x        ∂z/∂x = [x = z]ᵀ / |{i: xᵢ = z}|"""
    return _to_the_winners(g, z, x, **params)


@rule(
    "reduce_prod",
    example=lambda draw: [
        (_over("reduce_prod", 0), draw.uniform(4)),
        (_over("reduce_prod", 0, 2), draw.complex(2, 3, 2)),
        (_over("reduce_prod", 0), draw.uniform(4).at[1].set(0.0)),
        (_over("reduce_prod", 0), draw.uniform(4).at[1:3].set(0.0)),
    ],
)
def reduce_prod(g, z, x, *, axes, **_):
    """z = Πᵢ xᵢ        ∂z/∂xᵢ = Π_{j≠i} xⱼ"""
    # z/xᵢ would be wrong where xᵢ = 0. The product of the others needs no division: see below.
    # With several axes, the others are the others along the first axis, times, along the next
    # axis, the other products over the first.
    others = _back(g, x, axes)
    for axis in axes:
        others = others * _products_of_others(x, axis)
        x = lax.expand_dims(lax.reduce_prod(x, [axis]), [axis])
    return others


def _products_of_others(x, axis):
    """Π_{j≠i} xⱼ in the place of xᵢ."""
    # Multiply the first half of the factors with the second. The others of a factor are its partner
    # and all other pairs, whose product is found in the same way: 3n products in log₂ n levels.
    n = x.shape[axis]
    if n < 2:
        return lax.full_like(x, 1)
    half = (n + 1) // 2
    part = partial(lax.slice_in_dim, axis=axis)
    first, middle, second = part(x, 0, n - half), part(x, n - half, half), part(x, half, n)
    others = _products_of_others(lax.concatenate([first * second, middle], axis), axis)
    of_pairs, of_middle = part(others, 0, n - half), part(others, n - half, half)
    return lax.concatenate([of_pairs * second, of_middle, of_pairs * first], axis)


_POSITION = "a position is an integer; it stays the same under small changes of the input"
_BITS = "the inputs are booleans or integers, which have no gradient"

argmax = no_gradient(
    "argmax",
    reason=_POSITION,
    example=lambda draw: (partial(lax.argmax, axis=1, index_dtype="int32"), draw.uniform(2, 3)),
)
argmin = no_gradient(
    "argmin",
    reason=_POSITION,
    example=lambda draw: (partial(lax.argmin, axis=1, index_dtype="int32"), draw.uniform(2, 3)),
)
reduce_and = no_gradient(
    "reduce_and", reason=_BITS, example=lambda draw: (_over("reduce_and", 0), draw.boolean(3))
)
reduce_or = no_gradient(
    "reduce_or", reason=_BITS, example=lambda draw: (_over("reduce_or", 0), draw.boolean(3))
)
reduce_xor = no_gradient(
    "reduce_xor", reason=_BITS, example=lambda draw: (_over("reduce_xor", 0), draw.integers(3))
)


# --- cumulative operations -----------------------------------------------------------------------
#
# zⱼ = f(zⱼ₋₁, xⱼ). Let hⱼ be the gradient that arrives at zⱼ by itself (gⱼ) and by way of zⱼ₊₁:
#     hⱼ = gⱼ + hⱼ₊₁ ∂zⱼ₊₁/∂zⱼ        ∂L/∂xⱼ = hⱼ ∂zⱼ/∂xⱼ
# a linear recurrence in the other direction, which a parallel scan solves [blelloch1990].
# "Next" and "before" below follow the direction of the operation, `reverse` included.


def recurrence(b, a, axis, reverse=False):
    """hⱼ = bⱼ + aⱼ hⱼ₋₁ along an axis, in logarithmic depth: two steps compose to one."""

    def compose(first, second):
        (a, b), (c, d) = first, second
        return c * a, c * b + d

    return lax.associative_scan(compose, (a, b), axis=axis, reverse=reverse)[1]


def shift(x, by, axis, fill, reverse=False):
    """xⱼ₋₁ (by = 1) or xⱼ₊₁ (by = −1) in the place of xⱼ; `fill` enters at the end."""
    by = -by if reverse else by
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (by, -by, 0)
    return lax.pad(x, x.dtype.type(fill), config)


def _along(primitive, *, kink=False):
    def examples(draw):
        function = getattr(lax, primitive)
        yield partial(function, axis=0), draw.uniform(5)
        yield partial(function, axis=1, reverse=True), draw.uniform(2, 4)
        if kink:
            yield draw.kink(partial(function, axis=0), draw.values(1, 1, 2, 1, 2))

    return lambda draw: list(examples(draw))


@rule("cumsum", example=_along("cumsum"))
def cumsum(g, z, x, *, axis, reverse, **_):
    """zⱼ = Σ_{i≤j} xᵢ        ∂zⱼ/∂xᵢ = [i ≤ j]"""
    return lax.cumsum(g, axis, reverse=not reverse)


@rule("cumprod", example=_along("cumprod"))
def cumprod(g, z, x, *, axis, reverse, **_):
    """zⱼ = zⱼ₋₁ xⱼ        ∂zⱼ/∂zⱼ₋₁ = xⱼ, ∂zⱼ/∂xⱼ = zⱼ₋₁"""
    h = recurrence(g, shift(x, -1, axis, 0, reverse), axis, not reverse)
    return h * shift(z, 1, axis, 1, reverse)


@rule("cumlogsumexp", example=_along("cumlogsumexp"))
def cumlogsumexp(g, z, x, *, axis, reverse, **_):
    """zⱼ = log(exp zⱼ₋₁ + exp xⱼ)        ∂zⱼ/∂zⱼ₋₁ = exp(zⱼ₋₁ − zⱼ), ∂zⱼ/∂xⱼ = exp(xⱼ − zⱼ)"""
    # z never decreases, so no exponential overflows. Where zⱼ = −∞ all before it is −∞ too, and
    # both derivatives are exp(−∞) = 0.
    finite = lax.select(z == -math.inf, lax.full_like(z, 0), z)
    a = lax.exp(z - shift(finite, -1, axis, math.inf, reverse))
    h = recurrence(g, a, axis, not reverse)
    return h * lax.exp(x - finite)


def _through_the_scan(g, x, choose, axis, reverse):
    """g · ∂z/∂x for a parallel scan of pairwise extrema: the transpose of the scan of tangents."""

    def pair(first, second):
        (x, dx), (y, dy) = first, second
        z = choose(x, y)
        x_wins, y_wins = (lax.convert_element_type(w == z, g.dtype) for w in (x, y))
        return z, x_wins * dx / (1 + y_wins) + y_wins * dy / (1 + x_wins)

    def push(dx):
        return lax.associative_scan(pair, (x, dx), axis=axis, reverse=reverse)[1]

    return jax.linear_transpose(push, g)(g)[0]


@rule("cummax", example=_along("cummax", kink=True), kink=_PAIRWISE)
def cummax(g, z, x, *, axis, reverse, **_):
    """zⱼ = max(zⱼ₋₁, xⱼ)        ∂zⱼ/∂xᵢ = [xᵢ = zⱼ, i ≤ j]"""
    return _through_the_scan(g, x, lax.max, axis, reverse)


@rule("cummin", example=_along("cummin", kink=True), kink=_PAIRWISE)
def cummin(g, z, x, *, axis, reverse, **_):
    """zⱼ = min(zⱼ₋₁, xⱼ)        ∂zⱼ/∂xᵢ = [xᵢ = zⱼ, i ≤ j]"""
    return _through_the_scan(g, x, lax.min, axis, reverse)


# --- windows -------------------------------------------------------------------------------------
#
# Along one axis, window t covers the positions st + rk (k < K) of the input, whose entries stand d
# apart after a padding p:  di + p = st + rk, as in a convolution (see contraction.py).


def _windows(shape, strides=None, padding=None, base_dilation=None, window_dilation=None):
    """The parameters of the window primitives, for the examples."""
    ones = (1,) * len(shape)
    return {
        "window_dimensions": shape,
        "window_strides": strides or ones,
        "padding": padding or ((0, 0),) * len(shape),
        "base_dilation": base_dilation or ones,
        "window_dilation": window_dilation or ones,
    }


def _pooling(primitive, *, kink=False):
    def examples(draw):
        pool = getattr(lax, primitive).bind
        yield partial(pool, **_windows((3,))), draw.uniform(6)
        yield partial(pool, **_windows((2, 3), (2, 1), ((1, 0), (1, 1)))), draw.uniform(4, 5)
        yield partial(pool, **_windows((3,), (2,), ((1, 2),), (2,))), draw.uniform(6)
        if kink:
            yield draw.kink(partial(pool, **_windows((3,), (2,))), draw.values(1, 1, 1, 2, 2))
        else:
            yield partial(pool, **_windows((2,), (2,), ((1, -1),), (2,), (3,))), draw.complex(6)

    return lambda draw: list(examples(draw))


@rule("reduce_window_sum", example=_pooling("reduce_window_sum_p"))
def reduce_window_sum(
    g, z, x, *, window_dimensions, window_strides, padding, base_dilation, window_dilation, **_
):
    """zₜ = Σ xᵢ over the window t        ∂zₜ/∂xᵢ = 1 where di + p = st + rk, else 0"""
    # With k' = K − 1 − k this reads st + p' = di + rk', where p' = r(K − 1) − p: a window sum of g,
    # whose entries stand s apart, with stride d.
    s, d, r = window_strides, base_dilation, window_dilation
    axes = zip(r, window_dimensions, padding, strict=True)
    low = [r * (k - 1) - below for r, k, (below, _) in axes]
    return lax.reduce_window_sum_p.bind(
        g,
        window_dimensions=window_dimensions,
        window_strides=d,
        padding=padding_between(low, x.shape, d, window_dimensions, r, g.shape, s),
        base_dilation=s,
        window_dilation=r,
    )


@rule("reduce_window_max", example=_pooling("reduce_window_max_p", kink=True), kink=_FIRST)
def reduce_window_max(g, z, x, **params):
    """zₜ = max xᵢ over the window t        ∂zₜ/∂xᵢ = 1 at the window's first maximum, else 0"""
    return _to_the_first_winner(g, x, lax.ge_p, **params)


@rule("reduce_window_min", example=_pooling("reduce_window_min_p", kink=True), kink=_FIRST)
def reduce_window_min(g, z, x, **params):
    """zₜ = min xᵢ over the window t        ∂zₜ/∂xᵢ = 1 at the window's first minimum, else 0"""
    return _to_the_first_winner(g, x, lax.le_p, **params)


def _to_the_first_winner(g, x, select_prim, *, base_dilation, window_dilation, **window):
    loser = -math.inf if select_prim is lax.ge_p else math.inf
    if any(step != 1 for step in window_dilation) or min(sum(window["padding"], (0,))) < 0:
        dilations = {"base_dilation": base_dilation, "window_dilation": window_dilation}
        return _to_positions(g, x, select_prim, loser, **window, **dilations)
    scatter = partial(lax.select_and_scatter_add_p.bind, g, select_prim=select_prim, **window)
    if all(step == 1 for step in base_dilation):
        return scatter(x)
    dilated = lax.pad(x, x.dtype.type(loser), [(0, 0, step - 1) for step in base_dilation])
    return lax.slice(scatter(dilated), [0] * x.ndim, dilated.shape, base_dilation)


def _to_positions(g, x, select_prim, loser, *, window_dimensions, window_strides, **window):
    """The same by the winners' positions: select_and_scatter neither dilates windows nor crops."""

    def first(a, b):
        a_wins = select_prim.bind(a[0], b[0])
        return tuple(lax.select(a_wins, a_, b_) for a_, b_ in zip(a, b, strict=True))

    numbers = lax.reshape(lax.iota("int32", x.size), x.shape)
    start = x.dtype.type(loser), numbers.dtype.type(-1)
    pairs = lax.stop_gradient(x), numbers
    _, winners = lax.reduce_window(pairs, start, first, window_dimensions, window_strides, **window)
    axes = lax.ScatterDimensionNumbers((), (0,), (0,))
    flat = lax.full((x.size,), 0, g.dtype)
    result = lax.scatter_add(flat, lax.expand_dims(winners, [g.ndim]), g, axes, mode="drop")
    return lax.reshape(result, x.shape)


@rule(
    "select_and_scatter_add",
    example=lambda draw: (
        partial(
            lax.select_and_scatter_add_p.bind,
            select_prim=lax.ge_p,
            window_dimensions=(3,),
            window_strides=(2,),
            padding=((1, 1),),
        ),
        draw.uniform(3),
        draw.uniform(5),
    ),
)
def select_and_scatter_add(g, out, source, x, **params):
    """out = source W, W[t,i] = [xᵢ wins in the window t]        ∂out/∂source = Wᵀ"""
    ones = (1,) * x.ndim
    params = params | {"base_dilation": ones, "window_dilation": ones}
    return lambda: lax.select_and_gather_add_p.bind(g, x, **params), None


@rule(
    "select_and_gather_add",
    example=lambda draw: (
        partial(
            lax.select_and_gather_add_p.bind,
            select_prim=lax.ge_p,
            **_windows((3,), (2,), ((1, 1),)),
        ),
        draw.uniform(6),
        draw.uniform(6),
    ),
)
def select_and_gather_add(g, out, t, x, **params):
    """out = W t, W[t,i] = [xᵢ wins in the window t]        ∂out/∂t = W"""
    return lambda: _to_the_first_winner(g, x, **params), None
