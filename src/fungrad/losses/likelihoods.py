"""Losses of probabilities: what is minimised is −log p(truth), in all of float32's digits."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from fungrad._arguments import floating, values_pass, widened
from fungrad.losses import _written
from fungrad.losses._shapes import matching, per_class, rows


def cross_entropy(logits, labels):
    """J = −Σ_j t_j log p_j, or −log p_y        ∂J/∂z_j = p_j Σ_{i≠j} t_i − t_j Σ_{i≠j} p_i

    Loss and gradient keep float32's accuracy for any margin: the written VJP never forms p_y − 1.

    Args:
        logits: z [..., C], any real numbers.
        labels: y [...], integers in [0, C); or one-hot or soft rows t [..., C], not negative.

    Returns:
        J: [...], one loss per example.

    Raises:
        TypeError: the logits are not floating-point, or the labels [...] no integers.
        ValueError: the shapes do not match, a label is out of range or a row negative.

    >>> import jax
    >>> bool(jnp.allclose(cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])), 1.386294))
    True
    >>> g = jax.grad(cross_entropy)(jnp.array([20.0, 0.0]), 0)
    >>> bool(jnp.allclose(g, jnp.array([-2.061154e-9, 2.061154e-9]), rtol=1e-6, atol=0))
    True

    Source: [bishop2006], section 4.3.4; [blanchard2021].
    """
    logits = per_class("logits", logits)
    z = widened(logits)
    one_hot = np.shape(labels) != z.shape
    loss = _written.cross_entropy_of_label if one_hot else _written.cross_entropy_of_row
    return loss(z, rows(labels, z, "logits")).astype(logits.dtype)


def binary_cross_entropy(logit, y):
    """J = −y log σ(z) − (1 − y) log σ(−z)        ∂J/∂z = (1 − y) σ(z) − y σ(−z)

    Loss and gradient keep float32's accuracy for any logit, as those of `cross_entropy` do: the
    form σ(z) − y of the gradient would lose it.

    Args:
        logit: z [...], any real numbers; p(class 1) = σ(z).
        y: [...], the labels 0 and 1, or probabilities between them.

    Returns:
        J: [...], one loss per element.

    Raises:
        TypeError: the logit is not floating-point.
        ValueError: the shapes differ, or a label is outside [0, 1].

    >>> import jax
    >>> bool(jnp.allclose(binary_cross_entropy(jnp.array([0.0, 2.0]), jnp.array([1, 0])),
    ...                   jnp.array([0.693147, 2.126928])))
    True
    >>> g = jax.grad(binary_cross_entropy)(20.0, 1)
    >>> bool(jnp.allclose(g, -2.061154e-9, rtol=1e-6, atol=0))
    True

    Source: [bishop2006], section 4.3.2.
    """
    values_pass("y", y, lambda y: (y >= 0) & (y <= 1), "in [0, 1]")
    logit = floating("logit", logit)
    z, y = matching("logit", widened(logit), "y", y)
    return _written.binary_cross_entropy(z, y).astype(logit.dtype)


def kl_divergence(p, q):
    """J = Σ_j p_j log(p_j / q_j)        ∂J/∂q_j = −p_j / q_j        ∂J/∂p_j = log(p_j / q_j) + 1

    Terms with p_j = 0 are 0, and so is their gradient. For q = softmax(z) the gradient of z is that
    of `cross_entropy(z, p)`, which is the accurate way to compute it.

    Args:
        p: [..., C], probabilities: the truth.
        q: [..., C], probabilities: the prediction.

    Returns:
        J: [...], one loss per example; infinite where q_j = 0 < p_j.

    Raises:
        TypeError: p or q is not floating-point.
        ValueError: the shapes differ, or an entry is outside [0, 1].

    >>> bool(jnp.allclose(kl_divergence(jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])), 0.693147))
    True

    Source: [kullback1951].
    """
    for name, x in (("p", p), ("q", q)):
        values_pass(name, x, lambda x: (x >= 0) & (x <= 1), "probabilities in [0, 1]")
    q, p = matching("q", per_class("q", q), "p", floating("p", p))
    possible = p > 0
    log_ratio = jnp.log(lax.select(possible, p, jnp.ones_like(p))) - jnp.log(
        lax.select(possible, q, jnp.ones_like(q))
    )
    return jnp.sum(p * log_ratio, axis=-1)
