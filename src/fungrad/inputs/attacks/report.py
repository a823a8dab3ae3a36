"""What attacks found: arrays to assert on, and tables to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fungrad._arguments import known
from fungrad.inspect.tables import in_columns, in_markdown


class Table:
    """Something that prints as a table, in a notebook too."""

    def rows(self) -> list[Sequence[str]]:
        """The lines of the table, its head first."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n".join(in_columns(self.rows()))

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        return "\n".join(in_markdown(self.rows()))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False, eq=False)
class Attack(Table):
    """The outcome of an attack on N examples with K sizes of the ball (1 where one was given).

    Attributes:
        x: [K, N, ...], inside the balls and the bounds, of the dtype that was given.
        success: [K, N], whether the criterion holds at x, at the highest precision.
        distance: [K, N], ‖x − clean‖_p in the method's norm.
        epsilons: [K], or None where none were given.
        method: the method.
    """

    x: jax.Array
    success: jax.Array
    distance: jax.Array
    epsilons: jax.Array | None
    method: Any = field(metadata={"static": True})

    @property
    def robust_accuracy(self) -> jax.Array:
        """The share of the examples with which the attack did not succeed, [K]."""
        return 1 - jnp.mean(self.success, axis=1)

    def rows(self) -> list[Sequence[str]]:
        """A line for each ε."""
        if not known(self.success):
            return [("attack", str(self.method))]
        sizes = ["any"] if self.epsilons is None else [f"{e:.4g}" for e in self.epsilons]
        lines: list[Sequence[str]] = [("ε", "robust accuracy", "median distance of successes")]
        for size, accuracy, success, distance in zip(
            sizes, self.robust_accuracy, self.success, self.distance, strict=True
        ):
            median = f"{np.median(distance[success]):.4g}" if success.any() else "none"
            lines.append((size, f"{accuracy:.4f}", median))
        return lines


@dataclass(frozen=True, repr=False, eq=False)
class Exact(Table):
    """The exact distances of N examples to the nearest other class of a linear classifier.

    Attributes:
        distance: [N] in float64, 0 where the example is misclassified, ∞ where nothing in the box
            is.
        target: [N], the class that is reached.
        x: [N, ...], where: on the boundary, to rounding.
        norm: 1, 2 or ∞.
    """

    distance: np.ndarray
    target: np.ndarray
    x: jax.Array
    norm: float

    def robust_accuracy(self, epsilons: Any) -> np.ndarray:
        """The share of the examples that no change of at most ε moves to another class, [K]."""
        sizes = np.atleast_1d(np.asarray(epsilons, np.float64))
        return np.mean(self.distance > sizes[:, None], axis=1)

    def rows(self) -> list[Sequence[str]]:
        """The quartiles."""
        lines: list[Sequence[str]] = [("share", f"within this distance (p = {self.norm:g})")]
        for share in (0.25, 0.5, 0.75):
            at = np.quantile(self.distance, share, method="inverted_cdf")
            lines.append((f"{share:.2f}", f"{at:.4g}"))
        return lines


@dataclass(frozen=True, repr=False, eq=False)
class RobustAccuracy(Table):
    """Robust accuracies of a model against several attacks.

    Attributes:
        epsilons: [K].
        clean: the accuracy on x itself.
        attacks: the outcome of each attack, by the method's name.
    """

    epsilons: np.ndarray
    clean: float
    attacks: dict[str, Attack]

    @property
    def worst(self) -> np.ndarray:
        """The share of the examples that no attack broke, [K]."""
        broken = [np.asarray(attack.success) for attack in self.attacks.values()]
        return 1 - np.mean(np.any(broken, axis=0), axis=1)

    def rows(self) -> list[Sequence[str]]:
        """A line for each attack, and one for all of them together."""
        head = ("attack", "clean", *(f"ε = {size:.4g}" for size in self.epsilons))
        lines: list[Sequence[str]] = [head]
        for name, attack in self.attacks.items():
            lines.append((name, f"{self.clean:.4f}", *_written(attack.robust_accuracy)))
        if len(self.attacks) > 1:
            lines.append(("all of them", f"{self.clean:.4f}", *_written(self.worst)))
        return lines


def _written(accuracies: Any) -> list[str]:
    return [f"{accuracy:.4f}" for accuracy in np.asarray(accuracies)]
