"""What a method sees: flat examples, a differentiable model of them, and the criterion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from fungrad.inputs.attacks import losses
from fungrad.inputs.attacks.criteria import Misclassified, Targeted, others
from fungrad.inputs.attacks.losses import Loss
from fungrad.inputs.constraints import Room, settled
from fungrad.transforms import grad


@dataclass(frozen=True)
class Problem:
    """N examples to attack, as arrays of at least float32.

    Attributes:
        logits: x[N, D] -> z[N, C], as fast as JAX's settings allow.
        precise: the same at the highest precision of matrix products.
        x: the clean examples, [N, D].
        criterion: with the labels of these examples.
        bounds: (low, high).
        keys: one random key per example, so that none depends on its neighbours.
        shape, dtype: of one example, as it was given and will be handed back.
    """

    logits: Callable[[jax.Array], jax.Array]
    precise: Callable[[jax.Array], jax.Array]
    x: jax.Array
    criterion: Misclassified
    bounds: tuple[float, float]
    keys: jax.Array
    shape: tuple[int, ...]
    dtype: jnp.dtype

    @property
    def room(self) -> Room:
        return Room.of(self.x, self.bounds)

    @property
    def width(self) -> float:
        """high − low, the unit of step sizes; 1 where the box has no end."""
        low, high = self.bounds
        return high - low if high - low < float("inf") else 1.0

    def gradient(
        self, delta: jax.Array, loss: Loss = losses.cross_entropy
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """∂L/∂δ [N, D], the losses L [N], and the margins [N] at x + δ."""

        def total(delta):
            z = self.logits(self.x + delta)
            each = loss(self.criterion, z)
            return jnp.sum(each), (each, self.criterion.margin(z))

        gradient, (each, margins) = grad(total, has_aux=True)(delta)
        return gradient, each, margins

    def margin(self, delta: jax.Array) -> jax.Array:
        """The margins at x + δ, [N]."""
        return self.criterion.margin(self.logits(self.x + delta))

    def rivals(self, count: int) -> jax.Array:
        """The classes with the largest logits at x, but for the criterion's label: [count', N].

        There are C − 1 at most; under `Targeted`, which has one aim, one.
        """
        z = self.logits(self.x)
        count = 1 if isinstance(self.criterion, Targeted) else min(count, z.shape[-1] - 1)
        return lax.top_k(others(z, self.criterion.labels), count)[1].T.astype(jnp.int32)

    def outcome(self, delta: jax.Array, norm: float, epsilon: jax.Array | None) -> jax.Array:
        """x + δ [N, D], as it is handed back."""
        return settled(self.x, delta, norm, epsilon, self.bounds, self.dtype)

    def draw(self, number) -> jax.Array:
        """Fresh keys [N], others for every number."""
        return jax.vmap(lambda key: jax.random.fold_in(key, number))(self.keys)


def better(margin: jax.Array, delta: jax.Array, best: tuple[jax.Array, jax.Array]):
    """Row by row the change with the larger margin: (margin, δ)."""
    wins = margin > best[0]
    return jnp.where(wins, margin, best[0]), jnp.where(wins[:, None], delta, best[1])


def nothing(problem: Problem) -> tuple[jax.Array, jax.Array]:
    """A change to be better than: (−∞, 0)."""
    return jnp.full_like(problem.x[:, 0], -jnp.inf), jnp.zeros_like(problem.x)
