"""What the losses share: predictions and labels of shapes that match, and labels as rows."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from fungrad._arguments import describe, floating, integer, known, same_shape, values_pass


def matching(name, prediction, other, y):
    """Prediction and truth of one shape, in the dtype of the prediction."""
    prediction, y = floating(name, prediction), jnp.asarray(y)
    same_shape(name, prediction, other, y)
    return prediction, y.astype(prediction.dtype)


def per_class(name, scores):
    """Scores [..., C] of at least one class."""
    scores = floating(name, scores)
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ValueError(f"{name} must be [..., C], one per class, got {describe(scores)}")
    return scores


def rows(labels, scores, name):
    """Labels as rows like the scores: one-hot for an integer, NaN for one that is out of range."""
    classes, shape = scores.shape[-1], np.shape(labels)
    if shape == scores.shape:
        values_pass("labels", labels, lambda t: t >= 0, "rows of non-negative weights")
        return jnp.asarray(labels).astype(scores.dtype)
    if shape != scores.shape[:-1]:
        raise ValueError(
            f"labels must be integers of shape {list(scores.shape[:-1])} or rows of shape "
            f"{list(scores.shape)} to match {name} {describe(scores)}, got {describe(labels)}"
        )
    y = integer("labels", labels).astype(int)[..., None]
    values_pass("labels", labels, lambda y: (y >= 0) & (y < classes), f"in [0, {classes})")
    row = (lax.broadcasted_iota(y.dtype, scores.shape, scores.ndim - 1) == y).astype(scores.dtype)
    return row if known(labels) else jnp.where((y >= 0) & (y < classes), row, jnp.nan)


def is_largest(z):
    """Which entry of each row is the largest, the first of equal ones."""
    k = lax.argmax(z, z.ndim - 1, jnp.int32)
    return lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1) == k[..., None]
