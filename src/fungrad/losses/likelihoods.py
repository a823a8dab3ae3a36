"""Losses of probabilities: what is minimised is −log p(truth), without losing float32's digits."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from fungrad._arguments import floating, values_pass, widened
from fungrad.custom import custom
from fungrad.losses._shapes import is_largest, matching, per_class, rows

# ---------------------------------------------------------------------------- cross-entropy
#
# Let k be the largest logit's class. Every term below is ≥ 0, so nothing cancels:
#
#     −log p_j = (z_k − z_j) + log(1 + Σ_{i≠k} exp(z_i − z_k))                      [blanchard2021]
#
# The gradient of J = −Σ_j t_j log p_j is ∂J/∂z_j = p_j Σ_i t_i − t_j. For a confident, correct
# prediction that is p_y − 1, and float32 has no digits left: from a margin of about 17 on it
# is 0. The remedy is to write the 1 as Σ_i p_i, and to let the two terms p_j t_j cancel here:
#
#     ∂J/∂z_j = p_j Σ_i t_i − t_j Σ_i p_i = p_j Σ_{i≠j} t_i − t_j Σ_{i≠j} p_i
#
# For the one-hot row of label y: ∂J/∂z_y = −Σ_{i≠y} p_i, and ∂J/∂z_j = p_j for the others.


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

    >>> bool(jnp.allclose(cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])), 1.386294))
    True
    >>> g = jax.grad(cross_entropy)(jnp.array([20.0, 0.0]), 0)
    >>> bool(jnp.allclose(g, jnp.array([-2.061154e-9, 2.061154e-9]), rtol=1e-6, atol=0))
    True

    Source: [bishop2006], section 4.3.4; [blanchard2021].
    """
    logits = per_class("logits", logits)
    z = widened(logits)
    return _exact_cross_entropy(z, rows(labels, z, "logits")).astype(logits.dtype)


def _cross_entropy_rule(g, out, z, t):
    """∂J/∂z_j = p_j Σ_{i≠j} t_i − t_j Σ_{i≠j} p_i        ∂J/∂t_j = −log p_j"""
    g, p = g[..., None], jax.nn.softmax(z)
    return g * (p * _sum_of_others(t) - t * _sum_of_others(p)), g * _surprise(z)


@partial(custom, rule=_cross_entropy_rule)
def _exact_cross_entropy(z, t):
    return jnp.sum(lax.select(t == 0, jnp.zeros_like(t), t * _surprise(z)), axis=-1)


def _surprise(z):
    """−log p_j = (z_k − z_j) + log1p Σ_{i≠k} exp(z_i − z_k), k the largest."""
    largest, zero = is_largest(z), jnp.zeros_like(z)
    top = jnp.sum(lax.select(largest, z, zero), axis=-1, keepdims=True)
    rest = jnp.sum(lax.select(largest, zero, jnp.exp(z - top)), axis=-1, keepdims=True)
    return (top - z) + jnp.log1p(rest)


def _sum_of_others(p):
    """Σ_{i≠j} p_i of each j; Σ_i p_i − p_j is accurate for all but the largest p_j."""
    largest = is_largest(p)
    rest = jnp.sum(lax.select(largest, jnp.zeros_like(p), p), axis=-1, keepdims=True)
    total = jnp.sum(p, axis=-1, keepdims=True)
    return lax.select(largest, jnp.broadcast_to(rest, p.shape), total - p)


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
    return _exact_binary_cross_entropy(z, y).astype(logit.dtype)


def _binary_cross_entropy_rule(g, out, z, y):
    """∂J/∂z = (1 − y) σ(z) − y σ(−z)        ∂J/∂y = −z"""
    # With e = exp(−|z|): σ(|z|) = 1 / (1 + e) and σ(−|z|) = e / (1 + e). |z| by a select, whose
    # derivative at 0 is 1 and not 0, so that the second derivative there is ¼.
    positive = z >= 0
    e = jnp.exp(-lax.select(positive, z, -z))
    return g * lax.select(positive, (1 - y) - y * e, (1 - y) * e - y) / (1 + e), g * -z


@partial(custom, rule=_binary_cross_entropy_rule)
def _exact_binary_cross_entropy(z, y):
    # −log σ(±z) = max(0, ∓z) + log1p(exp(−|z|)); the last term's weights y and 1 − y add to 1.
    wrong = y * jnp.maximum(-z, 0) + (1 - y) * jnp.maximum(z, 0)
    return wrong + jnp.log1p(jnp.exp(-jnp.abs(z)))


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
