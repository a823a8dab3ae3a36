"""Gradient signs in one step, and projected gradient ascent in many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from fungrad.inputs.attacks import losses
from fungrad.inputs.attacks.method import BallMethod
from fungrad.inputs.attacks.problem import Problem, better, nothing
from fungrad.inputs.constraints import INFINITY, farthest, project, random, signs, unit


@dataclass(frozen=True)
class FGSM(BallMethod):
    """One step to the end of the ball:        δ = argmax_δ g · δ, ‖δ‖_p ≤ ε in the box

    g is the gradient of the cross-entropy at x (towards a target: of minus the target's). For
    p = ∞ this is the sign of the gradient, δ = ε sign(g) clipped to the box; for p = 2 and p = 1 it
    is the same idea for these balls, the exact maximum of the linear function g · δ.

    Attributes:
        norm: 1, 2 or ∞.

    >>> FGSM(norm=2)
    FGSM(norm=2)

    Source: [goodfellow2015].
    """

    def find(self, problem: Problem, epsilon: jax.Array) -> jax.Array:
        """δ [N, D]."""
        gradient, _, _ = problem.gradient(jnp.zeros_like(problem.x))
        return farthest(gradient, self.norm, epsilon, problem.room)


@dataclass(frozen=True)
class PGD(BallMethod):
    """Steps along the gradient, each projected onto what ball and box share:

        δ ← P(δ + η_k d),        d = sign(g) for p = ∞, g / ‖g‖₂ for p = 2 and p = 1
        η_k = η ε (1 − k / steps)

    P is the exact projection [croce2021]. For p = 1 it sets all but a few entries to zero, and the
    steps may be dense. They begin large, so that entries come and go, and end small. Each restart
    begins at a random point; of all iterates the one with the largest margin is kept. Restarts take
    turns with the loss: the first climbs the cross-entropy, which heeds all classes, the second the
    margin, which heeds the nearest one, and so on.

    Attributes:
        norm: 1, 2 or ∞.
        steps: how many gradients each restart takes.
        restarts: how many ascents there are.
        step_size: η, the first step in units of ε.

    >>> PGD(norm=1, restarts=5)
    PGD(norm=1, steps=40, restarts=5, step_size=1.0)

    Source: [madry2018].
    """

    steps: int = 40
    restarts: int = 1
    step_size: float = 1.0

    positive: ClassVar[tuple[str, ...]] = ("step_size",)

    def find(self, problem: Problem, epsilon: jax.Array) -> jax.Array:
        """δ [N, D], of all iterates the one with the largest margin."""
        room = problem.room

        def ascend(number, best):
            def climb(step, state):
                delta, best = state
                gradient, _, margin = problem.gradient(delta, loss)
                rate = epsilon * self.step_size * (1 - step / self.steps).astype(epsilon.dtype)
                moved = delta + rate * steepest(gradient, self.norm)
                return project(moved, self.norm, epsilon, room), better(margin, delta, best)

            loss = _taking_turns(number) if self.restarts > 1 else losses.cross_entropy
            start = random(problem.draw(number), self.norm, epsilon, room)
            delta, best = lax.fori_loop(0, self.steps, climb, (start, best))
            return better(problem.margin(delta), delta, best)

        return lax.fori_loop(0, self.restarts, ascend, nothing(problem))[1]


def _taking_turns(number: jax.Array) -> losses.Loss:
    """Cross-entropy and margin in turns."""

    def loss(criterion, z):
        entropy, margin = losses.cross_entropy(criterion, z), losses.margin(criterion, z)
        return jnp.where(number % 2 == 0, entropy, margin)

    return loss


def steepest(gradient: jax.Array, norm: float) -> jax.Array:
    """The direction of a step: sign(g) for p = ∞, and g / ‖g‖₂ otherwise."""
    return signs(gradient) if norm == INFINITY else unit(gradient)
