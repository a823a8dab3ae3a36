"""Activations: functions of one array, elementwise but for the two softmaxes.

Every one raises `TypeError` for an array that is not floating-point (`tanh` and `sigmoid` take
complex arrays too), and keeps shape and dtype.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from fungrad._arguments import floating, inexact


def identity(x):
    """z = x, the activation of a linear layer.        ∂z/∂x = I

    >>> identity(jnp.array([-1.0, 2.0])).tolist()
    [-1.0, 2.0]
    """
    return inexact("x", x)


# ---------------------------------------------------------------------------- with a kink


def relu(x):
    """z = max(0, x)        ∂z/∂x = diag(1[x > 0]), so 0 at the kink.

    >>> relu(jnp.array([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 2.0]

    Source: [nair2010].
    """
    return jax.nn.relu(floating("x", x))


def leaky_relu(x, *, slope=0.01):
    """z = x where x ≥ 0, else slope · x        ∂z/∂x = diag(1 where x ≥ 0, else slope)

    Args:
        x: [...].
        slope: the slope left of zero.

    >>> leaky_relu(jnp.array([-2.0, 3.0]), slope=0.5).tolist()
    [-1.0, 3.0]

    Source: [maas2013].
    """
    x = floating("x", x)
    return lax.select(x >= 0, x, slope * x)


def step(x):
    """z = 1[x > 0], the threshold unit: 0 at 0.        ∂z/∂x = 0 everywhere

    The gradient is zero on both sides and the jump has none, so nothing before a step is trained
    by its gradient. Train with `sigmoid` in its place, or run under another rule.

    >>> step(jnp.array([-1.0, 0.0, 0.5])).tolist()
    [0.0, 0.0, 1.0]
    >>> jax.grad(step)(0.5).item()
    0.0

    Source: [mcculloch1943].
    """
    x = floating("x", x)
    return (x > 0).astype(x.dtype)


# ---------------------------------------------------------------------------- smooth


def elu(x, *, alpha=1.0):
    """z = x where x > 0, else α (eˣ − 1)        ∂z/∂x = diag(1 where x > 0, else α eˣ)

    Args:
        x: [...].
        alpha: α; minus the limit of z for x → −∞.

    >>> bool(jnp.allclose(elu(jnp.array([-1.0, 2.0])), jnp.array([-0.632121, 2.0])))
    True

    Source: [clevert2016].
    """
    return jax.nn.elu(floating("x", x), alpha)


def selu(x):
    """z = λ x where x > 0, else λ α (eˣ − 1)        ∂z/∂x = λ diag(1 where x > 0, else α eˣ)

    With λ ≈ 1.0507 and α ≈ 1.6733, mean 0 and variance 1 are a fixed point from layer to layer.

    >>> bool(jnp.allclose(selu(jnp.array([-1.0, 2.0])), jnp.array([-1.111331, 2.101402])))
    True

    Source: [klambauer2017].
    """
    return jax.nn.selu(floating("x", x))


def gelu(x, *, approximate=False):
    """z = x Φ(x), Φ the normal distribution function.        ∂z/∂x = diag(Φ(x) + x φ(x))

    Args:
        x: [...].
        approximate: use Φ(x) ≈ ½ (1 + tanh(√(2/π) (x + 0.044715 x³))) instead.

    >>> bool(jnp.allclose(gelu(jnp.array([-1.0, 1.0])), jnp.array([-0.158655, 0.841345])))
    True

    Source: [hendrycks2016].
    """
    return jax.nn.gelu(floating("x", x), approximate=approximate)


def gelu_tanh(x):
    """z = x Φ(x) with Φ(x) ≈ ½ (1 + tanh(√(2/π) (x + 0.044715 x³))), `gelu` with approximate=True.

    >>> bool(jnp.allclose(gelu_tanh(jnp.array([-1.0, 1.0])), jnp.array([-0.158808, 0.841192])))
    True

    Source: [hendrycks2016].
    """
    return gelu(x, approximate=True)


def quick_gelu(x):
    """z = x σ(a x), a = 1.702, the cheap `gelu` of CLIP.    ∂z/∂x = diag(s (1 + a x (1 − s)))

    with s = σ(a x).

    >>> bool(jnp.allclose(quick_gelu(jnp.array([-1.0, 1.0])), jnp.array([-0.154204, 0.845796])))
    True

    Source: [hendrycks2016], section 2.
    """
    x = floating("x", x)
    return x * lax.logistic(1.702 * x)


def silu(x):
    """z = x σ(x), also called swish.        ∂z/∂x = diag(σ(x) (1 + x (1 − σ(x))))

    >>> bool(jnp.allclose(silu(jnp.array([0.0, 1.0])), jnp.array([0.0, 0.731059])))
    True

    Source: [elfwing2018].
    """
    return jax.nn.silu(floating("x", x))


def tanh(x):
    """z = tanh x        ∂z/∂x = diag(1 − z²)

    >>> bool(jnp.allclose(tanh(jnp.array([0.0, 1.0])), jnp.array([0.0, 0.761594])))
    True

    Source: [lecun1998].
    """
    return jnp.tanh(inexact("x", x))


def sigmoid(x):
    """z = σ(x) = 1 / (1 + e⁻ˣ), the logistic unit.        ∂z/∂x = diag(z (1 − z))

    >>> sigmoid(jnp.array([0.0, 100.0])).tolist()
    [0.5, 1.0]

    Source: [bishop2006], section 4.2.
    """
    return lax.logistic(inexact("x", x))


def softplus(x):
    """z = log(1 + eˣ), without overflow.        ∂z/∂x = diag(σ(x))

    >>> bool(jnp.allclose(softplus(jnp.array([0.0, 1000.0])), jnp.array([0.693147, 1000.0])))
    True

    Source: [dugas2001].
    """
    return jax.nn.softplus(floating("x", x))


# ---------------------------------------------------------------------------- along an axis


def softmax(x, *, axis=-1):
    """z_j = exp x_j / Σ_i exp x_i        ∂z/∂x = diag(z) − zᵀz, z a row

    Args:
        x: [..., n], scores.
        axis: the axis whose entries sum to one.

    >>> softmax(jnp.array([0.0, 0.0, 1000.0, 1000.0])).tolist()
    [0.0, 0.0, 0.5, 0.5]

    Source: [bridle1990].
    """
    return jax.nn.softmax(floating("x", x), axis=axis)


def log_softmax(x, *, axis=-1):
    """z_j = x_j − log Σ_i exp x_i        ∂z/∂x = I − 1ᵀp, p = softmax(x) a row

    In float32 the largest entry's z loses its digits when it is close to zero (a margin of 17 or
    more); `fungrad.losses.cross_entropy` does not.

    Args:
        x: [..., n], scores.
        axis: the axis along which exp z sums to one.

    >>> bool(jnp.allclose(log_softmax(jnp.zeros(2)), -0.693147))
    True

    Source: [bridle1990].
    """
    return jax.nn.log_softmax(floating("x", x), axis=axis)


activations = {
    function.__name__: function
    for function in (
        *(identity, relu, leaky_relu, elu, selu, gelu, gelu_tanh, quick_gelu),
        *(silu, tanh, sigmoid, softplus, step),
    )
}
"""The elementwise activations by name, for configurations."""
