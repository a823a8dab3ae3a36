"""Balls and boxes: changes δ with ‖δ‖_p ≤ ε and low ≤ x + δ ≤ high.

Letters: x[N, D] are N flat examples, δ[N, D] their changes, ε[N] or a scalar the size of the ball,
p = 1, 2 or ∞ the norm. `Room` is what the box leaves to δ: below ≤ δ ≤ above, with
below ≤ 0 ≤ above because x lies in the box. For a direction d, r_i ≥ 0 is the room of entry i on
the side that d_i points to.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

INFINITY = float("inf")
NORMS = (1, 2, INFINITY)

ROUNDS = 40  # more than any filling needs: each round adds entries to those that are at the bounds


class Room(NamedTuple):
    """What the box leaves to a change: below ≤ δ ≤ above, each [N, D]."""

    below: jax.Array
    above: jax.Array

    @classmethod
    def of(cls, x: jax.Array, bounds: tuple[float, float]) -> Room:
        """low − x and high − x."""
        low, high = (jnp.asarray(bound, x.dtype) for bound in bounds)
        return cls(low - x, high - x)

    def clip(self, delta: jax.Array) -> jax.Array:
        """δ, brought into the room entry by entry."""
        return jnp.clip(delta, self.below, self.above)

    def towards(self, direction: jax.Array) -> jax.Array:
        """r: how far each entry can move along the sign of the direction; 0 where that is 0."""
        there = jnp.where(direction < 0, -self.below, self.above)
        return jnp.where(direction == 0, 0, jnp.maximum(there, 0))

    def after(self, delta: jax.Array) -> Room:
        """What is left when δ is spent."""
        return Room(self.below - delta, self.above - delta)


def lengths(delta: jax.Array, norm: float) -> jax.Array:
    """‖δ_n‖_p of each row, [N]."""
    size = jnp.abs(delta)
    if norm == INFINITY:
        return jnp.max(size, axis=-1)
    return jnp.sum(size, axis=-1) if norm == 1 else jnp.sqrt(jnp.sum(size * size, axis=-1))


def unit(direction: jax.Array, norm: float = 2) -> jax.Array:
    """d / ‖d‖_p row by row; what is not finite counts as 0, and a row of zeros stays one."""
    direction = jnp.where(jnp.isfinite(direction), direction, 0)
    largest = jnp.max(jnp.abs(direction), axis=-1, keepdims=True)
    scaled = direction / jnp.where(largest > 0, largest, 1)  # the squares of tiny entries vanish
    return scaled / jnp.where(largest > 0, lengths(scaled, norm)[:, None], 1)


def signs(direction: jax.Array) -> jax.Array:
    """−1, 0 or 1; NaN counts as 0."""
    return (direction > 0).astype(direction.dtype) - (direction < 0).astype(direction.dtype)


# --- filling up to the bounds ---------------------------------------------------------------------
#
# With p = 2 and p = ∞ the answers below have the form δ = sign(d) · min(s a, r), where a = |d| for
# p = 2, a = 1 for p = ∞, and s ≥ 0 is the one unknown. Given the entries F that are not at their
# bound, s has a closed form; given s, F is known. The iteration between the two starts at s = 0
# with nearly all entries free; s only grows and entries only leave F, so it ends after finitely
# many rounds, usually five, and every s on the way is below the answer.


def _filled(a: jax.Array, r: jax.Array, solve) -> jax.Array:
    """The fixed point s[N, 1] of s = solve(F(s)), F(s) = {s a < r}, from below."""

    def enlarge(state):
        step, s, _ = state
        larger = jnp.maximum(solve(s * a < r), s)
        return step + 1, larger, jnp.any(larger > s)

    start = jnp.zeros_like(a[:, :1])
    begin = (0, start, jnp.asarray(True))
    return lax.while_loop(lambda state: state[2] & (state[0] < ROUNDS), enlarge, begin)[1]


def _quotient(top: jax.Array, bottom: jax.Array) -> jax.Array:
    """top / bottom, and a number that fills every entry where nothing is free."""
    most = jnp.asarray(jnp.finfo(top.dtype).max ** 0.25, top.dtype)
    free = bottom > 0
    return jnp.where(free, jnp.minimum(jnp.maximum(top, 0) / jnp.where(free, bottom, 1), most), 0)


def _to_size(a: jax.Array, r: jax.Array, size: jax.Array) -> jax.Array:
    """s with ‖min(s a, r)‖₂ = ε: s = √((ε² − Σ_{i∉F} r_i²) / Σ_{i∈F} a_i²)."""

    def solve(free):
        spent = jnp.sum(jnp.where(free, 0, r * r), axis=-1, keepdims=True)
        square = jnp.sum(jnp.where(free, a * a, 0), axis=-1, keepdims=True)
        return jnp.sqrt(_quotient(size * size - spent, square))

    return _filled(a, r, solve)


def _to_gain(a: jax.Array, r: jax.Array, w: jax.Array, gain: jax.Array) -> jax.Array:
    """s with Σ_i w_i min(s a_i, r_i) = c: s = (c − Σ_{i∉F} w_i r_i) / Σ_{i∈F} w_i a_i."""

    def solve(free):
        got = jnp.sum(jnp.where(free, 0, w * r), axis=-1, keepdims=True)
        return _quotient(gain - got, jnp.sum(jnp.where(free, w * a, 0), axis=-1, keepdims=True))

    return _filled(a, r, solve)


def _greedily(w: jax.Array, r: jax.Array, limit: jax.Array, cost: jax.Array) -> jax.Array:
    """The amounts m ≤ r, largest w first, with Σ cost_i m_i = limit: the fractional knapsack."""
    order = jnp.argsort(-w, axis=-1)
    r, cost = (jnp.take_along_axis(each, order, axis=-1) for each in (r, cost))
    r = jnp.minimum(r, limit / jnp.where(cost > 0, cost, 1))  # the box may have no end
    spent = jnp.cumsum(cost * r, axis=-1) - cost * r
    amount = jnp.clip((limit - spent) / jnp.where(cost > 0, cost, 1), 0, r)
    amount = jnp.where(cost > 0, amount, 0)
    return jnp.take_along_axis(amount, jnp.argsort(order, axis=-1), axis=-1)


# --- linear functions -----------------------------------------------------------------------------


def farthest(w: jax.Array, norm: float, epsilon: jax.Array, room: Room) -> jax.Array:
    """argmax_δ w·δ with ‖δ‖_p ≤ ε in the box, exactly.

    p = ∞: δ = sign(w) min(ε, r)        p = 2: δ = sign(w) min(s |w|, r), s fills the ball
    p = 1: the entries with the largest |w_i| to their bounds, until ε is spent
    """
    w = unit(w, INFINITY)
    a, r, size = jnp.abs(w), room.towards(w), _column(epsilon, w)
    if norm == INFINITY:
        amount = jnp.minimum(size, r)
    elif norm == 2:
        amount = jnp.minimum(_to_size(a, r, size) * a, r)
    else:
        amount = _greedily(a, r, size, jnp.ones_like(a))
    return jnp.sign(w) * amount


def nearest(w: jax.Array, gain: jax.Array, norm: float, room: Room) -> jax.Array:
    """argmin_δ ‖δ‖_p with w·δ ≥ c in the box, exactly; the whole room where that is not enough.

        p = ∞: δ = sign(w) min(s, r)        p = 2: δ = sign(w) min(s |w|, r), s reaches c
        p = 1: the entries with the largest |w_i| to their bounds, until c is reached

    Args:
        w: [N, D].
        gain: c [N]; where it is not positive δ = 0.
        norm: 1, 2 or ∞.
        room: the box.
    """
    largest = jnp.max(jnp.abs(w), axis=-1, keepdims=True)
    scale = jnp.where(largest > 0, largest, 1)
    a, r, c = jnp.abs(w) / scale, room.towards(w), jnp.maximum(gain[:, None] / scale, 0)
    if norm == 1:
        amount = _greedily(a, r, c, a)
    else:
        shape = a if norm == 2 else jnp.ones_like(a)
        amount = jnp.minimum(_to_gain(shape, r, a, c) * shape, r)
    reached = jnp.sum(a * r, axis=-1, keepdims=True) > c
    return jnp.sign(w) * jnp.where(reached, amount, r)


def _column(epsilon: jax.Array, like: jax.Array) -> jax.Array:
    """ε as [N, 1]."""
    epsilon = jnp.asarray(epsilon, like.dtype)
    return jnp.broadcast_to(epsilon, like.shape[:1])[:, None]


# --- projections ----------------------------------------------------------------------------------


def project(delta: jax.Array, norm: float, epsilon: jax.Array, room: Room) -> jax.Array:
    """argmin_z ‖z − δ‖₂ with ‖z‖_p ≤ ε in the box: exactly, onto the intersection.

    p = ∞: z = clip(δ, ±ε)        p = 2: z = sign(δ) min(s |δ|, r), s ≤ 1
    p = 1: z = sign(δ) clip(|δ| − λ, 0, r), λ ≥ 0, found by bisection [croce2021]
    """
    size = _column(epsilon, delta)
    if norm == INFINITY:
        return jnp.clip(delta, jnp.maximum(-size, room.below), jnp.minimum(size, room.above))
    a, r = jnp.abs(delta), room.towards(delta)
    if norm == 2:
        amount = jnp.minimum(jnp.minimum(_to_size(a, r, size), 1) * a, r)
    else:
        amount = jnp.clip(a - _threshold(a, r, size), 0, r)
    return jnp.sign(delta) * amount


def _threshold(a: jax.Array, r: jax.Array, size: jax.Array) -> jax.Array:
    """λ ≥ 0 with Σ_i clip(a_i − λ, 0, r_i) = ε, and 0 where the sum is smaller even so.

    Twenty halvings leave few entries in doubt; then the line through the two ends is all but
    exact, and rounding does the rest.
    """

    def total(threshold):
        return jnp.sum(jnp.clip(a - threshold, 0, r), axis=-1, keepdims=True)

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        large = total(middle) > size
        return jnp.where(large, middle, low), jnp.where(large, high, middle)

    ends = jnp.zeros_like(size), jnp.max(a, axis=-1, keepdims=True)
    low, high = lax.fori_loop(0, 20, halve, ends)
    above, below = total(low), total(high)
    share = jnp.where(above > below, (above - size) / jnp.where(above > below, above - below, 1), 0)
    return jnp.where(above > size, low + jnp.clip(share, 0, 1) * (high - low), 0)


# --- random points --------------------------------------------------------------------------------


def random(keys: jax.Array, norm: float, epsilon: jax.Array, room: Room) -> jax.Array:
    """A random point of each ball, uniform in it, and then projected onto the box."""
    entries = room.below.shape[1]
    size = _column(epsilon, room.below)

    def draw(key):
        shape_key, radius_key = jax.random.split(key)
        if norm == INFINITY:
            return jax.random.uniform(shape_key, (entries,), size.dtype, -1, 1)
        sample = jax.random.normal if norm == 2 else jax.random.laplace
        direction = sample(shape_key, (entries,), size.dtype)
        radius = jax.random.uniform(radius_key, (), size.dtype) ** (1 / entries)
        return radius * direction / lengths(direction[None], norm)

    return project(size * jax.vmap(draw)(keys), norm, epsilon, room)


# --- the last step --------------------------------------------------------------------------------


def settled(
    x: jax.Array,
    delta: jax.Array,
    norm: float,
    epsilon: jax.Array | None,
    bounds: tuple[float, float],
    dtype,
) -> jax.Array:
    """x + δ in the dtype that is handed back, without leaving the ball or the box by rounding.

    δ is shrunk into the ball, by a hair more than its norm's rounding error; then each entry of
    x + δ is rounded towards x, so that no entry is farther from x than δ says.
    """
    if epsilon is not None:
        size, length = _column(epsilon, delta), lengths(delta, norm)[:, None]
        hair = 1 - (0 if norm == INFINITY else 4 * jnp.finfo(delta.dtype).eps)
        shrink = jnp.where(length > size * hair, size * hair / jnp.where(length > 0, length, 1), 1)
        delta = jnp.clip(delta * shrink, -size, size)
    exact = x + delta
    rounded = _rounded(exact, dtype)
    too_far = jnp.abs(rounded.astype(x.dtype) - x) > jnp.abs(delta)
    start = x.astype(dtype)
    nearer = jnp.where(too_far, lax.nextafter(rounded, start), rounded)
    low, high = (jnp.asarray(bound, dtype) for bound in bounds)
    return jnp.where(delta == 0, start, jnp.clip(nearer, low, high))


def _rounded(x: jax.Array, dtype) -> jax.Array:
    """x in the dtype, with its rounding: compilers may skip a conversion there and back."""
    form = jnp.finfo(dtype)
    return lax.reduce_precision(x, form.nexp, form.nmant).astype(dtype)
