"""Layers of features [..., n]: the linear layer, the bias trick, dropout."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from fungrad._arguments import describe, has_shape, inexact, known


def linear(x, W, b=None):
    """z = W x + b        ∂z/∂x = W        ∂z/∂W = I ⊗ xᵀ        ∂z/∂b = I

    Args:
        x: [..., n].
        W: [m, n], one row per output.
        b: [m], or None for no bias.

    Returns:
        z: [..., m].

    Raises:
        TypeError: an integer x or W.
        ValueError: W is no matrix, its n is not that of x, or b is not [m].

    >>> W, b = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), jnp.array([0.0, 0.0, 1.0])
    >>> linear(jnp.array([1.0, -1.0]), W, b).tolist()
    [-1.0, -1.0, 0.0]

    Source: [bishop2006], section 3.1.
    """
    x, W = inexact("x", x), inexact("W", W)
    if W.ndim != 2 or x.shape[-1:] != W.shape[1:]:
        raise ValueError(
            f"W must be [m, n] with n the last axis of x, got W {describe(W)} and x {describe(x)}"
        )
    z = jnp.tensordot(x, W, axes=((-1,), (1,)))
    if b is None:
        return z
    b = inexact("b", b)
    has_shape("b", b, W.shape[:1], "(one bias per row of W)")
    return z + b


# ---------------------------------------------------------------------------- the bias trick


def prepend_one(x):
    """x* = [1, x], so that one matrix holds weights and biases: W* x* = W x + b, W* = [b, W].

    Args:
        x: [..., n].

    Returns:
        x*: [..., 1 + n].

    Raises:
        TypeError: an integer x.
        ValueError: x is a scalar.

    >>> prepend_one(jnp.array([5.0, 6.0])).tolist()
    [1.0, 5.0, 6.0]

    Source: [bishop2006], section 3.1.
    """
    x = inexact("x", x)
    if x.ndim == 0:
        raise ValueError("x must be [..., n], got a scalar; give it an axis with x[None]")
    unpadded = ((0, 0, 0),) * (x.ndim - 1)
    return lax.pad(x, jnp.ones((), x.dtype), (*unpadded, (1, 0, 0)))


def absorb_bias(W, b):
    """W* = [b, W], the matrix for which W* [1, x] = W x + b (see `prepend_one`).

    Args:
        W: [m, n].
        b: [m].

    Returns:
        W*: [m, 1 + n].

    Raises:
        ValueError: W is no matrix, or b is not [m].

    >>> absorb_bias(jnp.array([[1.0, 2.0]]), jnp.array([7.0])).tolist()
    [[7.0, 1.0, 2.0]]

    Source: [bishop2006], section 3.1.
    """
    W, b = inexact("W", W), inexact("b", b)
    if W.ndim != 2:
        raise ValueError(f"W must be [m, n], got {describe(W)}")
    has_shape("b", b, W.shape[:1], "(one bias per row of W)")
    return jnp.concatenate([b[:, None], W], axis=1)


# ---------------------------------------------------------------------------- dropout


def dropout(x, key=None, *, rate=0.5, deterministic=False):
    """z = m x / (1 − rate), m_i = 0 with probability rate, else 1        ∂z/∂x = diag(m/(1−rate))

    The division keeps the mean: E z = x. With `deterministic=True`, at test time, z = x.

    Args:
        x: [...].
        key: a random key; needed unless deterministic.
        rate: the probability of dropping an entry, in [0, 1).
        deterministic: keep everything.

    Returns:
        z: like x.

    Raises:
        TypeError: an integer x.
        ValueError: no key, or a rate outside [0, 1).

    >>> z = dropout(jnp.ones(1000), jax.random.key(0), rate=0.2)
    >>> sorted(set(z.tolist())), bool(abs(z.mean() - 1) < 0.05)
    ([0.0, 1.25], True)

    Source: [srivastava2014].
    """
    x = inexact("x", x)
    if known(rate) and not 0 <= rate < 1:
        raise ValueError(f"rate must be in [0, 1), got {rate}")
    if deterministic:
        return x
    if key is None:
        raise ValueError("key is needed to drop at random; give one, or deterministic=True")
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return lax.select(kept, x / (1 - rate), jnp.zeros_like(x))
