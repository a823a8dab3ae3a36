"""Many classes from binary units: one against all others, and each against each other.

A unit is a logistic one, p = σ(w·x + b). Its boundary is the hyperplane w·x + b = 0, and the
signed distance of x to it is (w·x + b) / ‖w‖, positive on the side that w points to.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fungrad._arguments import describe
from fungrad.descent.minimize import minimize
from fungrad.descent.result import Descent
from fungrad.losses import binary_cross_entropy


@dataclass(frozen=True, repr=False)
class Units:
    """Trained binary units.

    Attributes:
        W: the weights, [units × n].
        b: the biases, [units].
        descent: how the training went.
    """

    W: jax.Array
    b: jax.Array
    descent: Descent

    def distances(self, x: Any) -> jax.Array:
        """The signed distances of x[..., n] to the units' boundaries, [..., units]."""
        x = jnp.asarray(x, self.W.dtype)
        return (x @ self.W.T + self.b) / jnp.linalg.norm(self.W, axis=1)


class OneVsRest(Units):
    """k units; unit j tells class j from all others."""

    def predict(self, x: Any) -> jax.Array:
        """The class with the greatest signed distance, integers [...] for x[..., n]."""
        return jnp.argmax(self.distances(x), axis=-1)


class OneVsOne(Units):
    """k(k − 1)/2 units; the unit of i < j is positive for class i and negative for class j."""

    @property
    def classes(self) -> int:
        """k, from the number of units u = k(k − 1)/2."""
        return (1 + round((1 + 8 * len(self.b)) ** 0.5)) // 2

    def votes(self, x: Any) -> jax.Array:
        """How many of its k − 1 duels each class wins, integers [..., k]."""
        winner = jnp.where(self.distances(x) > 0, *_pairs(self.classes))
        return jax.nn.one_hot(winner, self.classes, dtype=jnp.int32).sum(axis=-2)

    def predict(self, x: Any) -> jax.Array:
        """The class with the most votes; among equals that with the greatest sum of distances."""
        votes = self.votes(x)
        best = votes == votes.max(axis=-1, keepdims=True)
        distances = self.distances(x)
        first, second = _pairs(self.classes)
        zeros = jnp.zeros((*distances.shape[:-1], self.classes), distances.dtype)
        sums = zeros.at[..., first].add(distances).at[..., second].add(-distances)
        return jnp.argmax(jnp.where(best, sums, -jnp.inf), axis=-1)


def one_vs_rest(x: Any, labels: Any, *, penalty: float = 0.0, **descent: Any) -> OneVsRest:
    """Trains k logistic units, one for each class against all others.

        J = Σ_j mean over n of  BCE(w_j·x_n + b_j, 1 if y_n = j else 0)  + λ ‖w_j‖²

    The units share no parameters, so this one cost trains each as if it were alone.

    Args:
        x: the examples, [N × n].
        labels: the classes, integers 0, ..., k − 1, [N]; each has to occur.
        penalty: λ. Separable classes have no best unit without it: longer w is always better.
        **descent: the arguments of `minimize`: optimizer, steps or epochs, batch_size, key, ...

    Raises:
        TypeError, ValueError: if x or the labels are not as above, and what `minimize` raises.

    >>> import fungrad as fg, jax.numpy as jnp
    >>> x, y = jnp.array([[0.0, 3.0], [0.0, -3.0], [5.0, 0.0]]), jnp.array([0, 1, 2])
    >>> units = fg.descent.one_vs_rest(
    ...     x, y, penalty=1e-3, optimizer=fg.descent.newton_cg(), steps=20
    ... )
    >>> units.predict(x).tolist()
    [0, 1, 2]
    """
    x, labels, classes = _checked(x, labels)

    def target(labels: jax.Array) -> jax.Array:
        return labels[:, None] == jnp.arange(classes, dtype=jnp.int32)

    return OneVsRest(*_trained(x, labels, classes, target, lambda labels: 1.0, penalty, descent))


def one_vs_one(x: Any, labels: Any, *, penalty: float = 0.0, **descent: Any) -> OneVsOne:
    """Trains k(k − 1)/2 logistic units, one for each pair of classes i < j.

        J = Σ_{i<j} mean over n with y_n ∈ {i, j} of  BCE(w_ij·x_n + b_ij, 1 if y_n = i else 0)
            + λ ‖w_ij‖²

    Each unit sees the examples of its two classes alone. Arguments and errors are those of
    `one_vs_rest`.

    >>> import fungrad as fg, jax.numpy as jnp
    >>> x, y = jnp.array([[0.0, 3.0], [0.0, -3.0], [5.0, 0.0]]), jnp.array([0, 1, 2])
    >>> units = fg.descent.one_vs_one(
    ...     x, y, penalty=1e-3, optimizer=fg.descent.newton_cg(), steps=20
    ... )
    >>> units.W.shape, units.predict(x).tolist()
    ((3, 2), [0, 1, 2])
    """
    x, labels, classes = _checked(x, labels)
    first, second = _pairs(classes)
    counts = np.bincount(np.asarray(labels), minlength=classes)
    # The mean over the pair's examples, as a weighted mean over all of them, so that it stays
    # an unbiased estimate in a mini-batch.
    scale = jnp.asarray(len(labels) / (counts[first] + counts[second]), x.dtype)

    def target(labels: jax.Array) -> jax.Array:
        return labels[:, None] == first

    def weight(labels: jax.Array) -> jax.Array:
        return jnp.where(target(labels) | (labels[:, None] == second), scale, 0.0)

    return OneVsOne(*_trained(x, labels, len(first), target, weight, penalty, descent))


def _trained(
    x: jax.Array,
    labels: jax.Array,
    units: int,
    target: Callable[[jax.Array], jax.Array],
    weight: Callable[[jax.Array], Any],
    penalty: float,
    descent: dict[str, Any],
) -> tuple[jax.Array, jax.Array, Descent]:
    """(W, b, descent) of units trained side by side: labels[N] -> targets, weights [N, units]."""

    def cost(params: Any, batch: Any) -> jax.Array:
        W, b = params
        x, labels = batch
        losses = binary_cross_entropy(x @ W.T + b, target(labels).astype(x.dtype))
        return (weight(labels) * losses).mean(axis=0).sum() + penalty * jnp.sum(W**2)

    start = jnp.zeros((units, x.shape[1]), x.dtype), jnp.zeros(units, x.dtype)
    found = minimize(cost, start, (x, labels), **descent)
    W, b = found.params
    return W, b, found


def _pairs(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The classes i < j of the k(k − 1)/2 pairs: all i, all j."""
    first, second = zip(*itertools.combinations(range(classes), 2), strict=True)
    return np.array(first, np.int32), np.array(second, np.int32)


def _checked(x: Any, labels: Any) -> tuple[jax.Array, jax.Array, int]:
    x, labels = jnp.asarray(x), jnp.asarray(labels)
    if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"x must be floating-point examples [N, n], got {describe(x)}")
    if labels.shape != x.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"labels must be integers [{len(x)}], one per example, got {describe(labels)}"
        )
    given = np.unique(np.asarray(labels))
    if len(given) < 2 or not np.array_equal(given, np.arange(len(given))):
        raise ValueError(
            "labels must be 0, ..., k - 1 with every class present and k at least 2, "
            f"got the classes {given.tolist()}"
        )
    return x, labels.astype(jnp.int32), len(given)
