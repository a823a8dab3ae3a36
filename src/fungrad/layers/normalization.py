"""Normalisations: z = γ x̂ + β, x̂ = (x − μ) / √(σ² + ε); they differ in what μ and σ² average over.

For one group of N entries that share their μ and σ², written as rows x and x̂:

    ∂x̂/∂x = (I − 1ᵀ1/N − x̂ᵀx̂/N) / √(σ² + ε)

so a gradient loses its mean on the way back and, but for ε, its component along x̂.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fungrad._arguments import describe, floating, has_shape, widened


class Statistics(NamedTuple):
    """The running statistics of a `batch_norm`: its state.

    Attributes:
        mean: [C].
        variance: [C].
    """

    mean: jax.Array
    variance: jax.Array


def initial_statistics(channels, dtype=float):
    """The state of a `batch_norm` that has seen no batch: mean 0, variance 1.

    >>> initial_statistics(2).variance.tolist()
    [1.0, 1.0]
    """
    return Statistics(jnp.zeros(channels, dtype), jnp.ones(channels, dtype))


def layer_norm(x, scale=None, shift=None, *, epsilon=1e-5):
    """z = γ (x − μ) / √(σ² + ε) + β, with μ, σ² of the n features of each example.

    Args:
        x: [..., n].
        scale: γ [n], or None for 1.
        shift: β [n], or None for 0.
        epsilon: ε.

    Returns:
        z: like x.

    Raises:
        TypeError: an integer x.
        ValueError: a scalar x, or parameters that are not [n].

    >>> bool(jnp.allclose(layer_norm(jnp.array([1.0, 3.0]), epsilon=0.0), jnp.array([-1.0, 1.0])))
    True

    Source: [ba2016].
    """
    x = _with_features(x)
    return _affine(_normalise(x, -1, epsilon), scale, shift)


def group_norm(x, scale=None, shift=None, *, groups, spatial=2, epsilon=1e-5):
    """z = γ (x − μ) / √(σ² + ε) + β, with μ, σ² of each example's groups of channels.

    One group is averaged over all positions. `groups=1` is a layer norm over the whole image,
    `groups=C` is instance norm.

    Args:
        x: [..., H, W, C]; with `spatial=1` [..., T, C], with `spatial=0` [..., C].
        scale: γ [C], or None for 1.
        shift: β [C], or None for 0.
        groups: the number of groups; it divides C.
        spatial: how many axes before the channels are positions.
        epsilon: ε.

    Returns:
        z: like x.

    Raises:
        TypeError: an integer x.
        ValueError: too few axes, groups that do not divide C, or parameters that are not [C].

    >>> x = jnp.array([1.0, 3.0, 10.0, 30.0]).reshape(1, 1, 4)
    >>> bool(jnp.allclose(group_norm(x, groups=2, epsilon=0.0), jnp.array([-1.0, 1.0, -1.0, 1.0])))
    True

    Source: [wu2018].
    """
    x = _with_features(x)
    channels = x.shape[-1]
    if x.ndim <= spatial:
        raise ValueError(f"x must have {spatial} axes before its channels, got {describe(x)}")
    if groups < 1 or channels % groups:
        raise ValueError(f"groups must divide the {channels} channels of x, got groups={groups}")
    grouped = x.reshape(*x.shape[:-1], groups, channels // groups)
    positions = range(x.ndim - 1 - spatial, x.ndim - 1)
    return _affine(_normalise(grouped, (*positions, -1), epsilon).reshape(x.shape), scale, shift)


def batch_norm(x, scale, shift, state, *, train, momentum=0.9, epsilon=1e-5):
    """z = γ (x − μ) / √(σ² + ε) + β, with μ, σ² of each channel over the whole batch.

    In training μ and σ² are the batch's own, and the gradient flows through them; the state is
    drawn towards them, s ← momentum · s + (1 − momentum) · batch, with the unbiased variance
    σ² N / (N − 1). At test time (`train=False`) they are the state's, and the state stays.

    Args:
        x: [..., C]; every axis but the last is averaged over.
        scale: γ [C], or None for 1.
        shift: β [C], or None for 0.
        state: `Statistics`, see `initial_statistics`.
        train: which of the two.
        momentum: how much of the old state remains.
        epsilon: ε.

    Returns:
        (z, state): z like x, and the next state.

    Raises:
        TypeError: an integer x.
        ValueError: parameters or state that are not [C], or training on a single example, whose
            variance is undefined.

    >>> x, state = jnp.array([[1.0], [3.0]]), initial_statistics(1)
    >>> z, state = batch_norm(x, None, None, state, train=True, momentum=0.5, epsilon=0.0)
    >>> z.tolist(), state.mean.tolist(), state.variance.tolist()
    ([[-1.0], [1.0]], [1.0], [1.5])

    Source: [ioffe2015].
    """
    x = _with_features(x)
    state = Statistics(*state)
    for name, value in zip(Statistics._fields, state, strict=True):
        has_shape(f"state.{name}", value, x.shape[-1:], "(one number per channel of x)")
    if not train:
        wide = widened(x)
        mean, variance = (value.astype(wide.dtype) for value in state)
        normal = (wide - mean) * lax.rsqrt(variance + epsilon)
        return _affine(normal.astype(x.dtype), scale, shift), state
    count = x.size // x.shape[-1]
    if count < 2:
        raise ValueError(f"x must hold at least two examples to train on, got {describe(x)}")
    centred, mean, variance = _moments(x, tuple(range(x.ndim - 1)))
    normal = (centred * lax.rsqrt(variance + epsilon)).astype(x.dtype)
    batch = Statistics(mean.reshape(-1), variance.reshape(-1) * (count / (count - 1)))
    next_state = jax.tree.map(
        lambda old, new: momentum * old + (1 - momentum) * new.astype(old.dtype), state, batch
    )
    return _affine(normal, scale, shift), next_state


# ---------------------------------------------------------------------------- shared


def _with_features(x):
    x = floating("x", x)
    if x.ndim == 0:
        raise ValueError("x must be [..., n], got a scalar; give it an axis with x[None]")
    return x


def _moments(x, axes):
    """x − μ, μ and σ² over the axes, which stay with size 1."""
    x = widened(x)
    mean = x.mean(axes, keepdims=True)
    centred = x - mean
    return centred, mean, jnp.square(centred).mean(axes, keepdims=True)


def _normalise(x, axes, epsilon):
    centred, _, variance = _moments(x, axes)
    return (centred * lax.rsqrt(variance + epsilon)).astype(x.dtype)


def _affine(x, scale, shift):
    for name, parameter in (("scale", scale), ("shift", shift)):
        if parameter is not None:
            has_shape(name, floating(name, parameter), x.shape[-1:], "(the last axis of x)")
    x = x if scale is None else x * scale
    return x if shift is None else x + shift
