"""The losses whose VJP is written: cross-entropies that keep their digits, and the error rate.

In a graph their nodes bear the names of the functions here.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from fungrad.custom import custom
from fungrad.losses._shapes import is_largest

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
# For the one-hot row of a label y that is ∂J/∂z_y = −Σ_{i≠y} p_i, and ∂J/∂z_j = p_j for the others.


def _label_rule(g, out, z, t):
    """∂J/∂z_y = −Σ_{i≠y} p_i        ∂J/∂z_j = p_j for j ≠ y, where the one-hot t is 0"""
    others = (1 - t) * jax.nn.softmax(z)
    return g[..., None] * (others - t * jnp.sum(others, axis=-1, keepdims=True)), None


def _row_rule(g, out, z, t):
    """∂J/∂z_j = p_j Σ_{i≠j} t_i − t_j Σ_{i≠j} p_i        ∂J/∂t_j = −log p_j"""
    g, p = g[..., None], jax.nn.softmax(z)
    return g * (p * _sum_of_others(t) - t * _sum_of_others(p)), g * _surprise(z)


def cross_entropy(z, t):
    """J = −Σ_j t_j log p_j, 0 where t_j = 0."""
    return jnp.sum(lax.select(t == 0, jnp.zeros_like(t), t * _surprise(z)), axis=-1)


cross_entropy_of_label = custom(cross_entropy, _label_rule)
cross_entropy_of_row = custom(cross_entropy, _row_rule)


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


# ---------------------------------------------------------------------------- two classes


def _binary_rule(g, out, z, y):
    """∂J/∂z = (1 − y) σ(z) − y σ(−z)        ∂J/∂y = −z"""
    # With e = exp(−|z|): σ(|z|) = 1 / (1 + e) and σ(−|z|) = e / (1 + e). |z| by a select, whose
    # derivative at 0 is 1 and not 0, so that the second derivative there is ¼.
    positive = z >= 0
    e = jnp.exp(-lax.select(positive, z, -z))
    return g * lax.select(positive, (1 - y) - y * e, (1 - y) * e - y) / (1 + e), g * -z


@partial(custom, rule=_binary_rule)
def binary_cross_entropy(z, y):
    """J = −y log σ(z) − (1 − y) log σ(−z)"""
    # −log σ(±z) = max(0, ∓z) + log1p(exp(−|z|)); the last term's weights y and 1 − y add to 1.
    wrong = y * jnp.maximum(-z, 0) + (1 - y) * jnp.maximum(z, 0)
    return wrong + jnp.log1p(jnp.exp(-jnp.abs(z)))


# ---------------------------------------------------------------------------- the error rate


def _zero_one_rule(g, out, z, t):
    """∂J/∂z = 0 but where it jumps, and there it has none"""
    raise TypeError(
        "zero_one is piecewise constant and has no useful gradient: minimise cross_entropy or "
        "multiclass_svm instead. To report it beside a loss, give it jax.lax.stop_gradient(scores)."
    )


@partial(custom, rule=_zero_one_rule)
def zero_one(z, t):
    """J = 1 − t_k, k = argmax z"""
    return 1 - jnp.sum(lax.select(is_largest(z), t, jnp.zeros_like(t)), axis=-1)
