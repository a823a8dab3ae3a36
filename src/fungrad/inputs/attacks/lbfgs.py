"""Szegedy's attack: a box-constrained L-BFGS for every example, and a search for the price."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fungrad.inputs.attacks import losses
from fungrad.inputs.attacks.boundaries import by_distance
from fungrad.inputs.attacks.criteria import Targeted
from fungrad.inputs.attacks.method import MinimumNormMethod
from fungrad.inputs.attacks.problem import Problem
from fungrad.inputs.attacks.refinement import closer, none_yet, pulled_in
from fungrad.inputs.constraints import Room, lengths
from fungrad.losses import binary_cross_entropy, cross_entropy
from fungrad.transforms import grad

BACKTRACKS, ARMIJO = 12, 1e-4

Cost = Callable[[jax.Array], jax.Array]  # δ [N, D] -> F [N]


@dataclass(frozen=True)
class LBFGS(MinimumNormMethod):
    """The first attack on neural networks: the shortest change that a line search over c finds.

        min_δ c ‖δ‖₂² + J(x + δ, t) in the box,        c as large as the class t allows

    by L-BFGS with projected steps, for all examples side by side, each with a curvature and a step
    length of its own. J is the cross-entropy of the target t; of a class t against the label y it
    is −log σ(z_t − z_y), that of these two, so that no third class bends the path. `Misclassified`
    tries the classes whose boundaries seem nearest from x. c is multiplied or divided by 10
    until both a price that is too high and one that is not are known, and then halved between them
    on a logarithmic scale. The shortest δ is pulled back towards x in the end.

    Attributes:
        norm: 2.
        steps: L-BFGS steps for each price.
        search_steps: how many prices are tried.
        targets: how many classes `Misclassified` tries.
        memory: pairs of steps and changes of the gradient that the curvature is made of.

    >>> LBFGS().memory
    5

    Source: [szegedy2014]; [liu1989].
    """

    norm: float = 2
    steps: int = 20
    search_steps: int = 10
    targets: int = 2
    memory: int = 5

    norms: ClassVar[tuple[float, ...]] = (2,)
    counts: ClassVar[tuple[str, ...]] = ("steps", "search_steps", "targets", "memory")

    def find(self, problem: Problem) -> jax.Array:
        """δ [N, D]."""
        rivals, _ = by_distance(problem, 2, self.targets)

        def run(number, best):
            gradient, value, _ = problem.gradient(
                jnp.zeros_like(problem.x), losses.towards(rivals[number])
            )
            # On a straight path the boundary, where σ = ½, is the answer to this price.
            slope = lengths(gradient, 2) ** 2
            price = slope / (4 * jnp.maximum(jnp.abs(value), jnp.finfo(slope.dtype).eps))

            def search(_, state):
                low, price, high, best = state
                cost = _cost(problem, rivals[number], price)
                delta = minimized(cost, problem.room, price, self.steps, self.memory)
                found = problem.margin(delta) > 0
                best = closer(delta, found, best, 2)
                low, high = jnp.where(found, price, low), jnp.where(found, high, price)
                between = jnp.where(low > 0, jnp.sqrt(low) * jnp.sqrt(high), high / 10)
                return low, jnp.where(jnp.isfinite(high), between, 10 * low), high, best

            price = jnp.clip(price, 1e-12, 1e12)
            start = 0 * price, price, jnp.full_like(price, jnp.inf), best
            return lax.fori_loop(0, self.search_steps, search, start)[3]

        best = lax.fori_loop(0, len(rivals), run, none_yet(problem))
        return pulled_in(problem, best[1])


def _cost(problem: Problem, rivals: jax.Array, price: jax.Array) -> Cost:
    """F(δ) = c ‖δ‖² + J(x + δ, t)"""

    def cost(delta):
        z = problem.logits(problem.x + delta)
        if isinstance(problem.criterion, Targeted):
            surprise = cross_entropy(z, problem.criterion.labels)
        else:
            lead = losses.towards(rivals)(problem.criterion, z)
            surprise = binary_cross_entropy(lead, jnp.ones_like(lead))
        return price * jnp.sum(delta * delta, axis=-1) + surprise

    return cost


# --- projected L-BFGS -----------------------------------------------------------------------------


class Pairs(NamedTuple):
    """The last steps s and changes of the gradient y, each [M, N, D], newest last; ρ = 1 / s·y."""

    s: jax.Array
    y: jax.Array
    rho: jax.Array  # 0 where a pair is missing


def minimized(cost: Cost, room: Room, curvature: jax.Array, steps: int, memory: int) -> jax.Array:
    """argmin_δ F(δ) in the box, from δ = 0.

    Entries at a bound that the gradient pushes against are held; d = −H g on the others, H by the
    two-loop recursion; δ ← clip(δ + t d) with t = 1, ½, ¼, ... until F falls as it should.

    Args:
        cost: F [N] of δ [N, D], one for each example.
        room: the box.
        curvature: half the second derivative that F has at least, [N]: H = 1 / 2c at first.
        steps: how many.
        memory: pairs that are kept.
    """

    def gradient_at(delta):
        def total(delta):
            each = cost(delta)
            return jnp.sum(each), each

        return grad(total, has_aux=True)(delta)

    def step(_, state):
        delta, g, value, pairs = state
        held = ((delta <= room.below) & (g > 0)) | ((delta >= room.above) & (g < 0))
        free = jnp.where(held, 0, g)
        d = jnp.where(held, 0, -_times_inverse_hessian(free, pairs, curvature))
        descends = jnp.sum(d * free, axis=-1, keepdims=True) < 0
        d = jnp.where(descends, d, -free / (2 * curvature[:, None]))
        moved = _searched(cost, room, delta, d, g, value)
        next_g, next_value = gradient_at(moved)
        return moved, next_g, next_value, _remembered(pairs, moved - delta, next_g - g)

    delta = jnp.zeros_like(room.below)
    g, value = gradient_at(delta)
    empty = jnp.zeros((memory, *delta.shape), delta.dtype)
    pairs = Pairs(empty, empty, jnp.zeros((memory, len(delta)), delta.dtype))
    return lax.fori_loop(0, steps, step, (delta, g, value, pairs))[0]


def _searched(cost: Cost, room: Room, delta, d, g, value) -> jax.Array:
    """clip(δ + t d) with the first t that lowers F enough; δ where none does."""

    def lowered(t):
        candidate = room.clip(delta + t[:, None] * d)
        promised = ARMIJO * jnp.sum(g * (candidate - delta), axis=-1)
        return cost(candidate) <= value + promised

    def go_on(state):
        number, _, done = state
        return (number < BACKTRACKS) & ~jnp.all(done)

    def halve(state):
        number, t, done = state
        t = jnp.where(done, t, t / 2)
        return number + 1, t, done | lowered(t)

    ones = jnp.ones_like(value)
    _, t, done = lax.while_loop(go_on, halve, (0, ones, lowered(ones)))
    return jnp.where(done[:, None], room.clip(delta + t[:, None] * d), delta)


def _times_inverse_hessian(g: jax.Array, pairs: Pairs, curvature: jax.Array) -> jax.Array:
    """H g [N, D] by the two-loop recursion."""

    def first(q, pair):
        s, y, rho = pair
        a = rho * jnp.sum(s * q, axis=-1)
        return q - a[:, None] * y, a

    q, a = lax.scan(first, g, pairs, reverse=True)
    square = jnp.sum(pairs.y[-1] ** 2, axis=-1)
    known = (pairs.rho[-1] > 0) & (square > 0)
    scale = 1 / (jnp.where(known, pairs.rho[-1] * square, 1))
    q = q * jnp.where(known, scale, 1 / (2 * curvature))[:, None]

    def second(q, pair):
        s, y, rho, a = pair
        return q + (a - rho * jnp.sum(y * q, axis=-1))[:, None] * s, None

    return lax.scan(second, q, (*pairs, a))[0]


def _remembered(pairs: Pairs, s: jax.Array, y: jax.Array) -> Pairs:
    """With the newest pair, unless its curvature is not positive; then with an empty one."""
    product = jnp.sum(s * y, axis=-1)
    good = product > 1e-10 * jnp.sum(y * y, axis=-1)
    rho = jnp.where(good, 1 / jnp.where(good, product, 1), 0)
    pushed = zip(pairs, (s, y, rho), strict=True)
    return Pairs(*(jnp.concatenate([old[1:], new[None]]) for old, new in pushed))
