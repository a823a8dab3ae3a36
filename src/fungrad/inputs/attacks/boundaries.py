"""Methods that take the boundary for a hyperplane, and go to the nearest point of that.

Near x + δ a margin is m + w · (δ' − δ), with w its gradient; it is 0 on a hyperplane, and the
nearest point of it inside the box is known exactly (`constraints.nearest`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from fungrad.inputs.attacks import losses
from fungrad.inputs.attacks.criteria import Targeted, logit
from fungrad.inputs.attacks.method import MinimumNormMethod
from fungrad.inputs.attacks.problem import Problem
from fungrad.inputs.attacks.refinement import closer, none_yet, pulled_in
from fungrad.inputs.constraints import Room, lengths, nearest, random
from fungrad.transforms import vjp

OVERSHOOT = 0.02


@dataclass(frozen=True)
class DeepFool(MinimumNormMethod):
    """Steps to the nearest of the hyperplanes that the boundaries seem to be:

        δ ← δ + 1.02 r_t,        r_t = argmin ‖r‖_p with m_t + w_t · r ≥ 0 in the box
        m_t = z_t − z_y,  w_t = ∂m_t/∂x,  t the class with the smallest ‖r_t‖_p

    Examples that have crossed stay where they are; in the end each is pulled back towards x, as
    near to the boundary as it goes. Towards a target the margin over the strongest other class
    takes the place of m_t. For a linear model one step is exact, in the box.

    Attributes:
        norm: 1, 2 or ∞.
        steps: the most steps.
        candidates: how many other classes are looked at, those with the largest logits at x.

    >>> DeepFool(norm=float("inf")).steps
    50

    Source: [moosavi2016].
    """

    norm: float = 2
    steps: int = 50
    candidates: int = 10

    counts: ClassVar[tuple[str, ...]] = ("steps", "candidates")

    def find(self, problem: Problem) -> jax.Array:
        """δ [N, D]."""
        rivals = problem.rivals(self.candidates)

        def go_on(state):
            step, _, margin = state
            return (step < self.steps) & jnp.any(margin <= 0)

        def move(state):
            step, delta, margin = state
            r = shortest_way(problem, delta, rivals, self.norm)
            r = jnp.where((margin <= 0)[:, None], (1 + OVERSHOOT) * r, 0)
            delta = problem.room.clip(delta + r)
            return step + 1, delta, problem.margin(delta)

        start = jnp.zeros_like(problem.x)
        _, delta, _ = lax.while_loop(go_on, move, (0, start, problem.margin(start)))
        return pulled_in(problem, delta)


def shortest_way(problem: Problem, delta: jax.Array, rivals: jax.Array, norm: float) -> jax.Array:
    """r [N, D], from x + δ to the nearest of the hyperplanes in which the rivals [T, N] draw."""

    def nearer(best, each):
        length, r = each
        wins = length < best[0]
        return (jnp.where(wins, length, best[0]), jnp.where(wins[:, None], r, best[1])), None

    return lax.scan(nearer, none_yet(problem), _ways(problem, delta, rivals, norm))[0][1]


def by_distance(
    problem: Problem, norm: float, count: int, candidates: int = 10
) -> tuple[jax.Array, jax.Array]:
    """The classes [T, N] whose boundaries seem nearest from x, the nearest first; T ≤ count.

    With them how far the nearest one seems, [N]: no farther than the box is wide.
    """
    rivals = problem.rivals(candidates)
    distances, _ = _ways(problem, jnp.zeros_like(problem.x), rivals, norm)
    order = jnp.argsort(distances, axis=0)[:count]
    room = problem.room
    most = lengths(jnp.maximum(room.above, -room.below), norm)
    return jnp.take_along_axis(rivals, order, axis=0), jnp.minimum(distances.min(axis=0), most)


def _ways(problem: Problem, delta: jax.Array, rivals: jax.Array, norm: float):
    """‖r‖_p [T, N] and r [T, N, D] to the hyperplane of each rival."""
    margins, pull = vjp(lambda delta: _margins(problem, delta, rivals), delta)
    rows = jnp.eye(len(margins), dtype=margins.dtype)[:, :, None]
    gradients = jax.vmap(lambda row: pull(jnp.broadcast_to(row, margins.shape))[0])(rows)
    room = problem.room.after(delta)

    def way(_, each):
        margin, w = each
        r = nearest(w, -margin, norm, room)
        # Where the box is too small for this boundary, it is nobody's nearest one.
        reaches = jnp.sum(w * r, axis=-1) >= -margin * (1 - 1e-3)
        length = jnp.where(reaches, lengths(r, norm), jnp.finfo(r.dtype).max)
        return None, (length, r)

    return lax.scan(way, None, (margins, gradients))[1]


def _margins(problem: Problem, delta: jax.Array, rivals: jax.Array) -> jax.Array:
    """m_t [T, N] of each rival; the criterion's own where there is one aim."""
    z = problem.logits(problem.x + delta)
    if isinstance(problem.criterion, Targeted):
        return problem.criterion.margin(z)[None]
    label = logit(z, problem.criterion.labels)
    return jnp.stack([logit(z, rival) for rival in rivals]) - label


@dataclass(frozen=True)
class FAB(MinimumNormMethod):
    """Fast adaptive boundary: steps to the hyperplane, drawn back towards x.

        δ ← (1 − α) (δ + η d) + α η d₀,        α = min(‖d‖ / (‖d‖ + ‖d₀‖), 0.1),  η = 1.05

    d leads from x + δ to the nearest point of the hyperplane of the rival t, d₀ from x to the
    nearest point of the same. Where the criterion holds, δ is kept if it is shorter than those
    before, and shrunk to 0.9 δ. One run for each of the likeliest other classes.

    Attributes:
        norm: 1, 2 or ∞.
        steps: gradients of each run.
        restarts: runs for each target; the second and later ones begin at a random change, half
            as long as the shortest one found.
        targets: how many other classes are aimed at.

    >>> FAB(norm=2, targets=3)
    FAB(norm=2, steps=100, restarts=1, targets=3)

    Source: [croce2020fab].
    """

    norm: float = 2
    steps: int = 100
    restarts: int = 1
    targets: int = 9

    counts: ClassVar[tuple[str, ...]] = ("steps", "restarts", "targets")

    def find(self, problem: Problem) -> jax.Array:
        """δ [N, D]."""
        rivals, room = problem.rivals(self.targets), problem.room

        def run(number, best):
            loss = losses.towards(rivals[number // self.restarts])

            def move(_, state):
                delta, best = state
                w, m, _ = problem.gradient(delta, loss)
                d = _onto(w, -m, self.norm, room.after(delta))
                d0 = _onto(w, jnp.sum(w * delta, axis=-1) - m, self.norm, room)
                a, a0 = lengths(d, self.norm), lengths(d0, self.norm)
                share = jnp.minimum(a / jnp.maximum(a + a0, jnp.finfo(a.dtype).tiny), 0.1)[:, None]
                delta = room.clip((1 - share) * (delta + 1.05 * d) + share * 1.05 * d0)
                wins = problem.margin(delta) > 0
                best = closer(delta, wins, best, self.norm)
                return jnp.where(wins[:, None], 0.9 * delta, delta), best

            start = random(problem.draw(number), self.norm, jnp.minimum(best[0], 1e30) / 2, room)
            start = jnp.where(number % self.restarts == 0, 0, start)
            return lax.fori_loop(0, self.steps, move, (start, best))[1]

        best = lax.fori_loop(0, len(rivals) * self.restarts, run, none_yet(problem))
        return pulled_in(problem, best[1])


def _onto(w: jax.Array, gain: jax.Array, norm: float, room: Room) -> jax.Array:
    """The shortest change by which w · δ grows by c, or falls if c is negative."""
    return nearest(jnp.where(gain[:, None] < 0, -w, w), jnp.abs(gain), norm, room)
