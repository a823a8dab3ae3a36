"""What an attack wants of the logits z[N, C]: another class than y, or one class t.

The margin m[N] says how far the wish is fulfilled: it holds where m > 0, and on a tie where the
first of the largest logits decides in its favour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Misclassified:
    """Any class but the labels:        m = max_{j≠y} z_j − z_y

    Attributes:
        labels: y [N], integers in [0, C).

    >>> import jax.numpy as jnp
    >>> Misclassified(jnp.array([0, 1])).margin(jnp.array([[3.0, 1.0], [3.0, 1.0]])).tolist()
    [-2.0, 2.0]
    """

    labels: Any

    wish = "another class"
    sign = 1  # the loss of the labels is to grow

    def margin(self, z: jax.Array) -> jax.Array:
        """m [N] of the logits."""
        return -lead(z, self.labels)

    def holds(self, z: jax.Array) -> jax.Array:
        """Whether the largest logit is not the label's, [N]."""
        return lax.argmax(z, 1, jnp.int32) != self.labels


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Targeted(Misclassified):
    """The classes that the labels name:        m = z_t − max_{j≠t} z_j

    Attributes:
        labels: t [N], integers in [0, C): the classes to reach.

    >>> import jax.numpy as jnp
    >>> Targeted(jnp.array([0, 1])).margin(jnp.array([[3.0, 1.0], [3.0, 1.0]])).tolist()
    [2.0, -2.0]
    """

    wish = "the target class"
    sign = -1  # the loss of the labels is to fall

    def margin(self, z: jax.Array) -> jax.Array:
        """m [N] of the logits."""
        return lead(z, self.labels)

    def holds(self, z: jax.Array) -> jax.Array:
        """Whether the largest logit is the target's, [N]."""
        return lax.argmax(z, 1, jnp.int32) == self.labels


def logit(z: jax.Array, labels: jax.Array) -> jax.Array:
    """z_y [N]."""
    return jnp.sum(jnp.where(is_label(z, labels), z, 0), axis=-1)


def others(z: jax.Array, labels: jax.Array) -> jax.Array:
    """The logits with −∞ at the label, [N, C]."""
    return jnp.where(is_label(z, labels), -jnp.inf, z)


def lead(z: jax.Array, labels: jax.Array) -> jax.Array:
    """z_y − max_{j≠y} z_j, [N]."""
    return logit(z, labels) - jnp.max(others(z, labels), axis=-1)


def is_label(z: jax.Array, labels: jax.Array) -> jax.Array:
    """Which logit is the label's, [N, C]."""
    return jnp.arange(z.shape[-1], dtype=labels.dtype) == labels[:, None]
