"""Losses of scores: by how much the true class must win, and whether it does."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from fungrad._arguments import values_pass
from fungrad.losses import _written
from fungrad.losses._shapes import matching, per_class, rows


def multiclass_svm(scores, labels):
    """J = Σ_{j≠y} max(0, z_j − z_y + 1)        ∂J/∂z_j = 1[z_j − z_y + 1 > 0], ∂J/∂z_y = −Σ_j of it

    At the kink, a margin of exactly 1, the gradient is half: `max` splits ties.

    Args:
        scores: z [..., C].
        labels: y [...], integers in [0, C); or one-hot rows [..., C].

    Returns:
        J: [...], one loss per example.

    Raises:
        TypeError: the scores are not floating-point, or the labels [...] no integers.
        ValueError: the shapes do not match, a label is out of range or a row not one-hot.

    >>> multiclass_svm(jnp.array([3.0, 2.5, 0.0]), 0).tolist()
    0.5

    Source: [weston1999].
    """
    scores = per_class("scores", scores)
    t = rows(labels, scores, "scores")
    if np.shape(labels) == scores.shape:
        values_pass(
            "labels",
            labels,
            lambda t: ((t == 0) | (t == 1)) & (t.sum(-1, keepdims=True) == 1),
            "integers, or one-hot rows",
        )
    own = jnp.sum(lax.select(t == 0, jnp.zeros_like(t), t * scores), axis=-1, keepdims=True)
    return jnp.sum((1 - t) * jnp.maximum(scores - own + 1, 0), axis=-1)


def hinge(score, y):
    """J = max(0, 1 − y z)        ∂J/∂z = −y where y z < 1, 0 where y z > 1, −½ y at the kink.

    Args:
        score: z [...]; its sign is the decision.
        y: [...], the labels −1 and +1.

    Returns:
        J: [...], one loss per element.

    Raises:
        TypeError: the score is not floating-point.
        ValueError: the shapes differ, or a label is neither −1 nor +1.

    >>> hinge(jnp.array([0.5, -2.0, 3.0]), jnp.array([1, 1, 1])).tolist()
    [0.5, 3.0, 0.0]

    Source: [cortes1995].
    """
    values_pass("y", y, lambda y: (y == 1) | (y == -1), "-1 or +1")
    score, y = matching("score", score, "y", y)
    return jnp.maximum(1 - y * score, 0)


# ---------------------------------------------------------------------------- the error rate


def zero_one(scores, labels):
    """J = 1 − t_k, k = argmax z, whose mean is the error rate.        It has no useful gradient.

    For a label y, J = 1[k ≠ y]. It is piecewise constant: the gradient is 0 wherever there is one,
    and says nothing about the way to fewer errors. So J refuses to be differentiated, where a zero
    would stop a training silently.

    Args:
        scores: z [..., C].
        labels: y [...], integers in [0, C); or one-hot or soft rows t [..., C].

    Returns:
        J: [...], one loss per example: 0 or 1, or the probability of an error by a soft row.

    Raises:
        TypeError: it is differentiated; the scores are not floating-point, or the labels [...]
            no integers.
        ValueError: the shapes do not match, or a label is out of range.

    >>> zero_one(jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.array([0, 0])).tolist()
    [1.0, 0.0]

    Source: [bishop2006], section 1.5.1.
    """
    scores = per_class("scores", scores)
    return _written.zero_one(scores, rows(labels, scores, "scores"))
