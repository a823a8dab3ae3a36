"""Losses: how far a prediction is from the truth, one number per example; the caller reduces.

    loss(prediction, truth)

The prediction must be floating-point and decides the dtype of the result; the truth is converted
to it. Nothing is broadcast: shapes that do not match are a `ValueError`, for [N] against [N, 1]
gives N² numbers that look like a loss. Labels that are out of range are a `ValueError` where their
values are known; inside `jax.jit` they are not, and such an example's loss is NaN.

Letters: z = logits or scores [..., C] of C classes, y the label, t its one-hot or soft row,
p = softmax(z), σ the logistic function.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from fungrad._arguments import (
    describe,
    floating,
    integer,
    known,
    same_shape,
    values_pass,
    widened,
)
from fungrad.custom import custom

__all__ = [
    "absolute_error",
    "binary_cross_entropy",
    "cross_entropy",
    "hinge",
    "huber",
    "kl_divergence",
    "l2_penalty",
    "multiclass_svm",
    "squared_error",
    "zero_one",
]

# ---------------------------------------------------------------------------- regression


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
    prediction, y = _matching("prediction", prediction, "y", y)
    return jnp.square(prediction - y)


def absolute_error(prediction, y):
    """J = |prediction − y|        ∂J/∂prediction = sign(prediction − y), so 0 at the kink.

    Args, Returns, Raises: those of `squared_error`.

    >>> absolute_error(jnp.array([1.0, 2.0]), jnp.array([3.0, 2.0])).tolist()
    [2.0, 0.0]

    Source: [bishop2006], section 1.5.5.
    """
    prediction, y = _matching("prediction", prediction, "y", y)
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
    prediction, y = _matching("prediction", prediction, "y", y)
    r = prediction - y
    size = jnp.abs(r)
    return lax.select(size <= delta, 0.5 * jnp.square(r), delta * (size - 0.5 * delta))


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

    >>> cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])).round(3).tolist()[0] < 1.387
    True
    >>> g = jax.grad(cross_entropy)(jnp.array([20.0, 0.0]), 0)
    >>> bool(jnp.allclose(g, jnp.array([-2.061154e-9, 2.061154e-9]), rtol=1e-6, atol=0))
    True

    Source: [bishop2006], section 4.3.4; [blanchard2021].
    """
    logits = _scores("logits", logits)
    z = widened(logits)
    return _exact_cross_entropy(z, _rows(labels, z, "logits")).astype(logits.dtype)


def _cross_entropy_rule(g, out, z, t):
    """∂J/∂z_j = p_j Σ_{i≠j} t_i − t_j Σ_{i≠j} p_i        ∂J/∂t_j = −log p_j"""
    g, p = g[..., None], jax.nn.softmax(z)
    return g * (p * _sum_of_others(t) - t * _sum_of_others(p)), g * _surprise(z)


@partial(custom, rule=_cross_entropy_rule)
def _exact_cross_entropy(z, t):
    return jnp.sum(lax.select(t == 0, jnp.zeros_like(t), t * _surprise(z)), axis=-1)


def _surprise(z):
    """−log p_j = (z_k − z_j) + log1p Σ_{i≠k} exp(z_i − z_k), k the largest."""
    largest, zero = _is_largest(z), jnp.zeros_like(z)
    top = jnp.sum(lax.select(largest, z, zero), axis=-1, keepdims=True)
    rest = jnp.sum(lax.select(largest, zero, jnp.exp(z - top)), axis=-1, keepdims=True)
    return (top - z) + jnp.log1p(rest)


def _sum_of_others(p):
    """Σ_{i≠j} p_i of each j; Σ_i p_i − p_j is accurate for all but the largest p_j."""
    largest = _is_largest(p)
    rest = jnp.sum(lax.select(largest, jnp.zeros_like(p), p), axis=-1, keepdims=True)
    total = jnp.sum(p, axis=-1, keepdims=True)
    return lax.select(largest, jnp.broadcast_to(rest, p.shape), total - p)


def _is_largest(z):
    k = lax.argmax(z, z.ndim - 1, jnp.int32)
    return lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1) == k[..., None]


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
    logit, y = _matching("logit", logit, "y", y)
    values_pass("y", y, lambda y: (y >= 0) & (y <= 1), "in [0, 1]")
    return _exact_binary_cross_entropy(widened(logit), widened(y)).astype(logit.dtype)


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
    q, p = _matching("q", _scores("q", q), "p", floating("p", p))
    for name, x in (("p", p), ("q", q)):
        values_pass(name, x, lambda x: (x >= 0) & (x <= 1), "a probability in [0, 1]")
    possible = p > 0
    log_ratio = jnp.log(lax.select(possible, p, jnp.ones_like(p))) - jnp.log(
        lax.select(possible, q, jnp.ones_like(q))
    )
    return jnp.sum(p * log_ratio, axis=-1)


# ---------------------------------------------------------------------------- margins


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
    scores = _scores("scores", scores)
    t = _rows(labels, scores, "scores")
    values_pass("labels", t, lambda t: (t == 0) | (t == 1), "integers, or one-hot rows")
    values_pass("labels", t.sum(-1), lambda ones: ones == 1, "integers, or one-hot rows")
    margin = scores - jnp.sum(t * scores, axis=-1, keepdims=True) + 1
    return jnp.sum((1 - t) * jnp.maximum(margin, 0), axis=-1)


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
    score, y = _matching("score", score, "y", y)
    values_pass("y", y, lambda y: (y == 1) | (y == -1), "-1 or +1")
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
    scores = _scores("scores", scores)
    return _refusing_zero_one(scores, _rows(labels, scores, "scores"))


def _zero_one_rule(g, out, z, t):
    """∂J/∂z = 0 but where it jumps, and there it has none"""
    raise TypeError(
        "zero_one is piecewise constant and has no useful gradient: minimise cross_entropy or "
        "multiclass_svm instead. To report it beside a loss, give it jax.lax.stop_gradient(scores)."
    )


@partial(custom, rule=_zero_one_rule)
def _refusing_zero_one(z, t):
    return 1 - jnp.sum(lax.select(_is_largest(z), t, jnp.zeros_like(t)), axis=-1)


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


# ---------------------------------------------------------------------------- arguments


def _matching(name, prediction, other, y):
    prediction, y = floating(name, prediction), jnp.asarray(y)
    same_shape(name, prediction, other, y)
    return prediction, y.astype(prediction.dtype)


def _scores(name, scores):
    scores = floating(name, scores)
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ValueError(f"{name} must be [..., C], one per class, got {describe(scores)}")
    return scores


def _rows(labels, scores, name):
    """Labels as rows like the scores: one-hot for an integer, NaN for one that is out of range."""
    labels, classes = jnp.asarray(labels), scores.shape[-1]
    if labels.shape == scores.shape:
        values_pass("labels", labels, lambda t: t >= 0, "rows of non-negative weights")
        return labels.astype(scores.dtype)
    if labels.shape != scores.shape[:-1]:
        raise ValueError(
            f"labels must be integers of shape {list(scores.shape[:-1])} or rows of shape "
            f"{list(scores.shape)} to match {name} {describe(scores)}, got {describe(labels)}"
        )
    y = integer("labels", labels)
    values_pass("labels", y, lambda y: (y >= 0) & (y < classes), f"in [0, {classes})")
    y = y.astype(jnp.promote_types(y.dtype, jnp.int32))[..., None]
    row = (lax.broadcasted_iota(y.dtype, scores.shape, scores.ndim - 1) == y).astype(scores.dtype)
    return row if known(y) else jnp.where((y >= 0) & (y < classes), row, jnp.nan)
