"""Minimum-norm methods that walk on balls whose size follows the boundary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from fungrad.inputs.attacks import losses
from fungrad.inputs.attacks.boundaries import by_distance
from fungrad.inputs.attacks.criteria import Targeted
from fungrad.inputs.attacks.descent import steepest
from fungrad.inputs.attacks.method import MinimumNormMethod
from fungrad.inputs.attacks.problem import Problem
from fungrad.inputs.attacks.refinement import closer, none_yet, pulled_in
from fungrad.inputs.constraints import INFINITY, Room, lengths, project, unit


@dataclass(frozen=True)
class Shrinking(MinimumNormMethod):
    """Steps in balls whose size ε follows the boundary: what `DDN` and `FMN` share.

    Both take steps in units of the ball, so that nothing depends on the scale of x.

    Attributes:
        norm: 1, 2 or ∞.
        steps: how many gradients each run takes.
        restarts: how many runs there are; the second goes for the class whose boundary seems
            nearest from x, by the gradients there, the third for the next one.
        step_size: α at the beginning.
        gamma: γ at the beginning.
    """

    norm: float = 2
    steps: int = 200
    restarts: int = 2
    step_size: float = 1.0
    gamma: float = 0.05

    positive: ClassVar[tuple[str, ...]] = ("step_size", "gamma")

    def find(self, problem: Problem) -> jax.Array:
        """δ [N, D]."""
        rivals, distance = by_distance(problem, self.norm, max(self.restarts - 1, 1))
        one_aim = isinstance(problem.criterion, Targeted)
        runs = 1 if one_aim else min(self.restarts, 1 + len(rivals))

        def run(number, shortest):
            loss = losses.in_turn(self.first_loss, rivals, number)

            def move(step, state):
                delta, size, best = state
                gradient, value, margin = problem.gradient(delta, loss)
                wins = margin > 0
                best = closer(delta, wins, best, self.norm)
                share = 0.01 + 0.99 * (1 + jnp.cos(jnp.pi * step / self.steps)) / 2
                share = share.astype(size.dtype)
                suggested = _suggested(delta, gradient, value, self.norm)
                size = self.resized(size, wins, best[0], self.gamma * share, suggested)
                stride = self.step_size * share * size
                moved = delta + stride[:, None] * steepest(gradient, self.norm)
                return self.onto(moved, size, problem.room), size, best

            start = jnp.zeros_like(problem.x), distance, none_yet(problem)
            delta, _, best = lax.fori_loop(0, self.steps, move, start)
            best = closer(delta, problem.margin(delta) > 0, best, self.norm)
            return closer(best[1], jnp.isfinite(best[0]), shortest, self.norm)

        return pulled_in(problem, lax.fori_loop(0, runs, run, none_yet(problem))[1])

    first_loss: ClassVar[Any]

    def resized(self, size, wins, shortest, gamma, suggested) -> jax.Array:
        """ε [N] of the next ball."""
        raise NotImplementedError

    def onto(self, delta: jax.Array, size: jax.Array, room: Room) -> jax.Array:
        """δ brought onto the ball, in the box."""
        raise NotImplementedError


def _suggested(delta: jax.Array, gradient: jax.Array, margin: jax.Array, norm: float) -> jax.Array:
    """‖δ‖_p + |m| / ‖∂m/∂δ‖_q [N], 1/p + 1/q = 1: the boundary, if it is straight."""
    slope = lengths(gradient, {1: INFINITY, 2: 2, INFINITY: 1}[norm])
    straight = jnp.abs(margin) / jnp.maximum(slope, jnp.finfo(slope.dtype).tiny)
    return lengths(delta, norm) + jnp.where(slope > 0, straight, 0)


@dataclass(frozen=True)
class DDN(Shrinking):
    """Direction and norm, decoupled: steps along the gradient on a sphere whose radius adapts.

        ε ← (1 − γ) ε where the criterion holds, (1 + γ) ε where not
        δ ← ε (δ + α ε d) / ‖δ + α ε d‖₂, clipped to the box,        d = g / ‖g‖₂

    g is the gradient of the cross-entropy, in later runs of the margin over one class. α and γ
    fall to a hundredth along a cosine; ε begins at the distance that the gradients at x suggest.
    In the end the shortest δ is pulled back towards x, as near to the boundary as it goes.

    Attributes:
        norm: 2.
        steps: how many gradients each run takes.
        restarts: how many runs there are; the second goes for the class whose boundary seems
            nearest from x, by the gradients there, the third for the next one.
        step_size: α at the beginning.
        gamma: γ at the beginning.

    >>> DDN().steps
    200

    Source: [rony2019].
    """

    norms: ClassVar[tuple[float, ...]] = (2,)
    first_loss: ClassVar[Any] = staticmethod(losses.cross_entropy)

    def resized(self, size, wins, shortest, gamma, suggested) -> jax.Array:
        """(1 ∓ γ) ε"""
        return size * jnp.where(wins, 1 - gamma, 1 + gamma)

    def onto(self, delta: jax.Array, size: jax.Array, room: Room) -> jax.Array:
        """On the sphere, then clipped."""
        return room.clip(size[:, None] * unit(delta))


@dataclass(frozen=True)
class FMN(Shrinking):
    """Fast minimum-norm: steps along the gradient in a ball whose size follows the boundary.

        ε ← min((1 − γ) ε, ‖δ*‖_p) where the criterion holds, δ* the shortest such change so far,
        ε ← (1 + γ) ε where it does not, but has before,
        ε ← (1 + γ) (‖δ‖_p + |m| / ‖g‖_q), the straight boundary, where it never has;
        δ ← P_ε(δ + α ε d),        d = g / ‖g‖₂, for p = ∞ sign(g)

    g is the gradient of the margin m, in later runs of that over one class, q the dual norm of p,
    and P_ε the exact projection onto ball and box. α and γ fall to a hundredth along a cosine.
    In the end the shortest δ is pulled back towards x, as near to the boundary as it goes.

    Attributes:
        norm: 1, 2 or ∞.
        steps: how many gradients each run takes.
        restarts: how many runs there are; the second goes for the class whose boundary seems
            nearest from x, by the gradients there, the third for the next one.
        step_size: α at the beginning.
        gamma: γ at the beginning.

    >>> FMN(norm=1).norm
    1

    Source: [pintor2021].
    """

    first_loss: ClassVar[Any] = staticmethod(losses.margin)

    def resized(self, size, wins, shortest, gamma, suggested) -> jax.Array:
        """As above."""
        not_yet = jnp.where(jnp.isfinite(shortest), size, suggested)
        return jnp.where(wins, jnp.minimum((1 - gamma) * size, shortest), (1 + gamma) * not_yet)

    def onto(self, delta: jax.Array, size: jax.Array, room: Room) -> jax.Array:
        """In the ball and the box."""
        return project(delta, self.norm, size, room)
