"""Minimum-norm methods that pay for the length of the change, and search for the price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jax import lax

from fungrad.inputs.attacks import losses
from fungrad.inputs.attacks.boundaries import by_distance
from fungrad.inputs.attacks.criteria import Targeted
from fungrad.inputs.attacks.method import MinimumNormMethod
from fungrad.inputs.attacks.problem import Problem
from fungrad.inputs.attacks.refinement import closer, none_yet, pulled_in
from fungrad.inputs.constraints import lengths


@dataclass(frozen=True)
class CarliniWagner(MinimumNormMethod):
    """The shortest change for which the margin is worth its price:

        min_δ ‖δ‖₂² + c max(−m(x + δ), −κ) in the box

    by Adam, for each of several prices c: a price that is too low finds nothing and is raised
    tenfold, or to the (geometric) middle once a higher one is known to do; one that is high enough
    is lowered. Of the paper's three ways to keep the box, the changes are projected onto it after
    every step: the tanh of the other well-known one has no gradient where x is at a bound. Adam's
    step falls to 0 along a cosine, and the shortest δ is pulled back towards x in the end unless
    a confidence is asked for.

    Attributes:
        norm: 2.
        steps: how many gradients are taken for each price.
        search_steps: how many prices are tried in each run.
        restarts: how many runs there are; the second goes for the class whose boundary seems
            nearest from x, by the gradients there, the third for the next one.
        step_size: Adam's first step, in units of the distance that the first gradient suggests.
        confidence: κ ≥ 0, the margin to reach.

    >>> CarliniWagner(confidence=1.0).search_steps
    9

    Source: [carlini2017].
    """

    norm: float = 2
    steps: int = 200
    search_steps: int = 9
    restarts: int = 2
    step_size: float = 0.1
    confidence: float = 0.0

    norms: ClassVar[tuple[float, ...]] = (2,)
    counts: ClassVar[tuple[str, ...]] = ("steps", "search_steps", "restarts")
    positive: ClassVar[tuple[str, ...]] = ("step_size",)

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.confidence < float("inf"):
            raise ValueError(
                f"confidence must be at least 0 for CarliniWagner, got {self.confidence!r}"
            )

    def find(self, problem: Problem) -> jax.Array:
        """δ [N, D]."""
        rivals, distance = by_distance(problem, 2, max(self.restarts - 1, 1))
        one_aim = isinstance(problem.criterion, Targeted)
        runs = 1 if one_aim else min(self.restarts, 1 + len(rivals))
        rate = self.step_size * jnp.where(distance > 0, distance, problem.width)

        def run(number, best):
            loss = losses.in_turn(losses.margin, rivals, number)
            gradient, value, _ = problem.gradient(jnp.zeros_like(problem.x), loss)
            slope, want = lengths(gradient, 2), jnp.maximum(self.confidence - value, 0)
            # For a linear margin min ‖δ‖² + c (κ − m) reaches the boundary from this c on.
            critical = 2 * want / jnp.maximum(slope * slope, jnp.finfo(slope.dtype).tiny)

            def search(_, state):
                low, price, high, best = state
                found, best = self._descend(problem, loss, price, rate, best)
                low, high = jnp.where(found, low, price), jnp.where(found, price, high)
                middle = jnp.where(low > 0, jnp.sqrt(low) * jnp.sqrt(high), high / 10)
                return low, jnp.where(jnp.isfinite(high), middle, 10 * low), high, best

            price = jnp.clip(2 * critical, 1e-10, 1e10)
            start = 0 * price, price, jnp.full_like(price, jnp.inf), best
            return lax.fori_loop(0, self.search_steps, search, start)[3]

        best = lax.fori_loop(0, runs, run, none_yet(problem))
        return best[1] if self.confidence else pulled_in(problem, best[1])

    def _descend(self, problem: Problem, loss, price, rate, best) -> tuple[jax.Array, Any]:
        """Adam at one price: whether the criterion came to hold [N], and the shortest δ."""
        adam = optax.scale_by_adam()

        def move(step, state):
            delta, memory, found, best = state
            gradient, value, margin = problem.gradient(delta, loss)
            wins = margin > self.confidence
            best = closer(delta, wins, best, 2)
            pays = (value < self.confidence)[:, None]
            total = 2 * delta - jnp.where(pays, price[:, None] * gradient, 0)
            total = total / rate[:, None]  # what Adam adds to its denominator is small against it
            with jax.numpy_dtype_promotion("standard"):  # optax mixes formats
                update, memory = adam.update(total, memory)
            share = (1 + jnp.cos(jnp.pi * step / self.steps)) / 2
            stride = (rate * share.astype(rate.dtype))[:, None]
            return problem.room.clip(delta - stride * update), memory, found | wins, best

        zero = jnp.zeros_like(problem.x)
        start = zero, adam.init(zero), jnp.zeros(price.shape, bool), best
        delta, _, found, best = lax.fori_loop(0, self.steps, move, start)
        wins = problem.margin(delta) > self.confidence
        return found | wins, closer(delta, wins, best, 2)
