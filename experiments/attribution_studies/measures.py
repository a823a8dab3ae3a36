"""How good is a map? By what the model says when the map's pixels go or come, and by chance."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from experiments.attribution_studies.methods import Model


class Curves(NamedTuple):
    """The mean probability of the class asked for, against the share of the pixels.

    Attributes:
        shares: [S] from 0 to 1.
        deletion: [S], the share of the pixels taken away, those first that count most.
        insertion: [S], the share put back into a grey image, in the same order.
    """

    shares: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def areas(self) -> dict[str, float]:
        """Under the curves: low is good for deletion, high for insertion."""
        return {
            name: float(np.trapezoid(getattr(self, name), self.shares))
            for name in ("deletion", "insertion")
        }


def curves(
    model: Model, x: jax.Array, labels: jax.Array, found: jax.Array, *, steps: int = 20
) -> Curves:
    """Insertion and deletion [petsiuk2018] by the order of a map m[N, H, W]; grey is 0.5."""
    size = found[0].size
    # Each pixel's place in the order, 0 for the one that counts most.
    order = jnp.argsort(jnp.argsort(-found.reshape(len(found), size), axis=1), axis=1)
    places = order.reshape(*found.shape, 1)

    shares = np.linspace(0, 1, steps + 1)
    counts = jnp.asarray(np.round(shares * size), int)
    deletion, insertion = np.asarray(_probabilities(model, x, labels, places, counts)).T
    return Curves(shares, deletion, insertion)


@partial(jax.jit, static_argnums=0)
def _probabilities(
    model: Model, x: jax.Array, labels: jax.Array, places: jax.Array, counts: jax.Array
) -> jax.Array:
    """[S, 2]: with the first `counts` pixels taken away, and with them alone."""

    def probability(kept: jax.Array) -> jax.Array:
        scores = model(jnp.where(kept, x, 0.5))
        chosen = jnp.take_along_axis(jax.nn.softmax(scores), labels[:, None], axis=1)
        return chosen.mean()

    def at(count: jax.Array) -> jax.Array:
        return jnp.stack([probability(places >= count), probability(places < count)])

    return jax.lax.map(at, counts)


def similarity(one: Any, other: Any) -> float:
    """Spearman's rank correlation of |m| of two maps [N, H, W], the mean over the images."""
    pairs = zip(np.abs(np.asarray(one)), np.abs(np.asarray(other)), strict=True)
    ranks = [stats.spearmanr(a.ravel(), b.ravel()).statistic for a, b in pairs if np.ptp(b) > 0]
    return float(np.mean(ranks)) if ranks else 0.0


def share_inside(found: jax.Array, inside: jax.Array) -> float:
    """The share of what is positive in m[N, H, W] that lies where `inside` is true."""
    positive = jnp.maximum(found, 0)
    total = positive.sum(axis=(1, 2))
    within = jnp.where(inside, positive, 0).sum(axis=(1, 2))
    return float((within / jnp.maximum(total, 1e-12)).mean())


def randomized(params: Any, layers: int, key: jax.Array) -> Any:
    """Parameters whose last `layers` leaves of weights are shuffled, so their sizes are kept.

    Biases stay: they are few, and a shuffled one is much like another.
    """
    leaves, structure = jax.tree.flatten(params)
    weights = [index for index, leaf in enumerate(leaves) if leaf.ndim > 1]
    for index in weights[len(weights) - layers :]:
        shuffled = jax.random.permutation(jax.random.fold_in(key, index), leaves[index].ravel())
        leaves[index] = shuffled.reshape(leaves[index].shape)
    return jax.tree.unflatten(structure, leaves)


def count_of_layers(params: Any) -> int:
    return sum(leaf.ndim > 1 for leaf in jax.tree.leaves(params))
