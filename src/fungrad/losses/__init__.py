"""Losses: how far a prediction is from the truth, one number per example; the caller reduces.

    loss(prediction, truth)

The prediction must be floating-point and decides the dtype of the result; the truth is converted
to it. Nothing is broadcast: shapes that do not match are a `ValueError`, for [N] against [N, 1]
gives N² numbers that look like a loss. Labels that are out of range are a `ValueError` where their
values are known; inside `jax.jit` they are not, and such an example's loss is NaN.

Letters: z = logits or scores [..., C] of C classes, y the label, t its one-hot or soft row,
p = softmax(z), σ the logistic function.
"""

from fungrad.losses.likelihoods import binary_cross_entropy, cross_entropy, kl_divergence
from fungrad.losses.margins import hinge, multiclass_svm, zero_one
from fungrad.losses.regression import absolute_error, huber, l2_penalty, squared_error

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
