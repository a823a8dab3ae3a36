"""Losses of real values, and the penalty on weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from fungrad._arguments import floating, known, widened
from fungrad.losses._shapes import matching


def squared_error(prediction, y):
    """J = (prediction − y)²        ∂J/∂prediction = 2 (prediction − y)

    Args:
        prediction: [...].
        y: [...], the truth.

    Returns:
        J: [...], one loss per element.

    Raises:
        TypeError: the prediction is not floating-point.
        ValueError: the shapes differ.

    >>> squared_error(jnp.array([1.0, 2.0]), jnp.array([3.0, 2.0])).tolist()
    [4.0, 0.0]

    Source: [bishop2006], section 3.1.
    """
    prediction, y = matching("prediction", prediction, "y", y)
    return jnp.square(prediction - y)


def absolute_error(prediction, y):
    """J = |prediction − y|        ∂J/∂prediction = ±1, the sign of prediction − y; +1 at the kink.

    Args, Returns, Raises: those of `squared_error`.

    >>> absolute_error(jnp.array([1.0, 2.0]), jnp.array([3.0, 2.0])).tolist()
    [2.0, 0.0]

    Source: [bishop2006], section 1.5.5.
    """
    prediction, y = matching("prediction", prediction, "y", y)
    return jnp.abs(prediction - y)


def huber(prediction, y, *, delta=1.0):
    """J = ½ r² where |r| ≤ δ, else δ (|r| − ½ δ), r = prediction − y        ∂J/∂r = clip(r, ±δ)

    Args:
        prediction: [...].
        y: [...], the truth.
        delta: δ > 0, from where on the loss grows linearly.

    Returns:
        J: [...], one loss per element.

    Raises:
        TypeError: the prediction is not floating-point.
        ValueError: the shapes differ, or δ is not positive.

    >>> huber(jnp.array([0.5, 3.0]), jnp.zeros(2)).tolist()
    [0.125, 2.5]

    Source: [huber1964].
    """
    if known(delta) and not delta > 0:
        raise ValueError(f"delta must be positive, got {delta}")
    prediction, y = matching("prediction", prediction, "y", y)
    r = prediction - y
    size = jnp.abs(r)
    return lax.select(size <= delta, 0.5 * jnp.square(r), delta * (size - 0.5 * delta))


# ---------------------------------------------------------------------------- regularisers


def l2_penalty(params):
    """R = Σ w² over every entry of every array        ∂R/∂w = 2 w

    Add it with its weight: J + λ R. To spare biases, give it the matrices alone.

    Args:
        params: arrays in any pytree.

    Returns:
        R: a scalar, in at least float32.

    Raises:
        TypeError: an array that is not floating-point.

    >>> l2_penalty({"W": jnp.array([[1.0, 2.0]]), "b": jnp.array([3.0])}).item()
    14.0

    Source: [hoerl1970].
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    arrays = [floating(f"params{jax.tree_util.keystr(path)}", leaf) for path, leaf in leaves]
    return sum(jnp.sum(jnp.square(widened(x))) for x in arrays)
