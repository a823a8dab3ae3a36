"""What attacks climb: one number per example, larger the nearer the criterion is to holding.

Letters: z[N, C] are the logits, y the criterion's label, π the order of the logits, z_π1 the
largest. A criterion's sign is +1 where the label is to lose (Misclassified) and −1 where it is to
win (Targeted). All are functions (criterion, z) -> [N].
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from fungrad.inputs.attacks.criteria import Misclassified, Targeted, is_label, logit, others
from fungrad.losses import cross_entropy as cross_entropy_of

Loss = Callable[[Misclassified, jax.Array], jax.Array]


def cross_entropy(criterion: Misclassified, z: jax.Array) -> jax.Array:
    """±(L + log 2), L = log (1 − p_y) / p_y, with the direction of the gradient of J = −log p_y

        ∂J/∂z = (1 − p_y) (q − e_y),        q_j = p_j / (1 − p_y) for j ≠ y, and 0 for y

    The factor 1 − p_y is below float32's smallest number from a margin of about 100 on; then J and
    its gradient are zero, and the model seems robust where it is only sure. Raising z_y by a
    constant changes that factor alone. So J is taken of the logits whose label is brought to
    p_y = ½, and what it was raised by is added to the loss: ∂/∂z = ½ (q − e_y) at any margin.
    """
    y = criterion.labels
    level = lax.stop_gradient(jax.nn.logsumexp(others(z, y), axis=-1) - logit(z, y))
    even = jnp.where(is_label(z, y), z + level[:, None], z)
    return criterion.sign * (cross_entropy_of(even, y) + level)


def margin(criterion: Misclassified, z: jax.Array) -> jax.Array:
    """m, positive where the criterion holds"""
    return criterion.margin(z)


def logits_ratio(criterion: Misclassified, z: jax.Array) -> jax.Array:
    """Misclassified: −(z_y − max_{j≠y} z_j) / (z_π1 − z_π3)

    The difference of logits ratio does not change when the logits are scaled or shifted. For a
    target t it is (z_t − max_{j≠t} z_j) / (z_π1 − z_π3). With two classes z_π3 is z_π2.

    Source: [croce2020], section 4.2.
    """
    top = lax.top_k(z, min(3, z.shape[-1]))[0]
    return criterion.margin(z) / _positive(top[:, 0] - top[:, -1])


def targeted_logits_ratio(rivals: jax.Array) -> Loss:
    """−(z_y − z_t) / (z_π1 − (z_π3 + z_π4) / 2): from the label y to the rival t

    With fewer than four classes the least of the logits takes the place of those that lack.
    Under `Targeted` the numerator is the margin.

    Source: [croce2020], section 4.3.
    """

    def loss(criterion: Misclassified, z: jax.Array) -> jax.Array:
        top = lax.top_k(z, min(4, z.shape[-1]))[0]
        low = (top[:, min(2, top.shape[1] - 1)] + top[:, -1]) / 2
        return towards(rivals)(criterion, z) / _positive(top[:, 0] - low)

    return loss


def towards(rivals: jax.Array) -> Loss:
    """z_t − z_y for the rival t of the label y; under `Targeted`, which has one aim, the margin"""

    def loss(criterion: Misclassified, z: jax.Array) -> jax.Array:
        if isinstance(criterion, Targeted):
            return criterion.margin(z)
        return logit(z, rivals) - logit(z, criterion.labels)

    return loss


def in_turn(first: Loss, rivals: jax.Array, number: jax.Array) -> Loss:
    """The first loss in run 0, and in run r that towards the r-th of the rivals [T, N]"""

    def loss(criterion: Misclassified, z: jax.Array) -> jax.Array:
        aimed = towards(rivals[jnp.maximum(number - 1, 0)])(criterion, z)
        return jnp.where(number == 0, first(criterion, z), aimed)

    return loss


def _positive(difference: jax.Array) -> jax.Array:
    """The difference, kept off 0, where all logits are equal."""
    return jnp.maximum(difference, jnp.finfo(difference.dtype).tiny ** 0.5)
