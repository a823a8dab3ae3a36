"""Elementwise functions: every Jacobian is diagonal, so every gradient is one product.

Where inputs of different shapes meet, a rule returns a gradient of the output's shape; the
backward pass sums it back, unless the rule has.
"""

from __future__ import annotations

import math

import jax
from jax import lax
from jax import numpy as jnp

from fungrad.rulebook import elementwise
from fungrad.steps import sum_to


def _between(low, high, kinks=()):
    """Examples of a function of one input: floats, complex numbers, and its kinks if any."""

    def example(draw):
        smooth = [draw.uniform(3, low=low, high=high), draw.complex(3)]
        return smooth + [draw.kink(draw.values(*kinks))] * (len(kinks) > 0)

    return example


_anywhere = _between(-1.0, 1.0)


def _pairs(draw):
    return [
        (draw.uniform(3), draw.uniform(3)),
        (draw.complex(3), draw.complex(3)),
        (draw.uniform(2, 1), draw.uniform(1, 3)),
        (draw.uniform(), draw.uniform(3)),
    ]


def _distinct_pairs(draw):
    x = draw.permutation(6) / 3 - 0.9
    return [(x[:3], x[3:]), (x[:1], x[1:4]), (x[:3], x[5])]


# --- Sums -----------------------------------------------------------------------------------


@elementwise("neg", example=_anywhere)
def neg(g, z, x):
    """z = −x        ∂z/∂x = −I"""
    return -g


@elementwise("add", example=_pairs)
def add(g, z, x, y):
    """z = x + y        ∂z/∂x = I        ∂z/∂y = I"""
    return g, g


# Where an edge forks, JAX adds the gradients by a primitive of its own: the graph of a function
# that calls `jax.grad` has it.
@elementwise("add_any", example=lambda draw: (_fork, draw.uniform(3), draw.uniform(3)))
def add_any(g, z, x, y):
    """z = x + y        ∂z/∂x = I        ∂z/∂y = I"""
    return g, g


def _fork(g, x):
    return jax.vjp(lambda x: x * x, x)[1](g)


@elementwise("sub", example=_pairs)
def sub(g, z, x, y):
    """z = x − y        ∂z/∂x = I        ∂z/∂y = −I"""
    return g, lambda: -g


# --- Products -------------------------------------------------------------------------------


@elementwise("mul", example=_pairs)
def mul(g, z, x, y, *, out_dtype=None):
    """z = x · y        ∂z/∂x = diag(y)        ∂z/∂y = diag(x)"""
    if out_dtype is None:
        return lambda: g * y, lambda: g * x
    return lambda: lax.mul(g, y, out_dtype=x.dtype), lambda: lax.mul(g, x, out_dtype=y.dtype)


@elementwise(
    "div",
    example=lambda draw: [
        (draw.uniform(3), draw.positive(3)),
        (draw.complex(3), draw.complex(3)),
        (draw.uniform(1, 3), draw.positive(2, 1)),
        (draw.uniform(3), draw.positive()),
        draw.kink(draw.values(1.0, 0.0), draw.values(0.0, 0.0)),
    ],
    kink="at y = 0: infinite, or NaN where x = 0",
)
def div(g, z, x, y):
    """z = x / y        ∂z/∂x = diag(1/y)        ∂z/∂y = −diag(x/y²)"""
    # y² might overflow. Where y was broadcast, the sum comes first: fewer divisions.
    at_x = g / y
    return at_x, lambda: sum_to(-at_x * x, y) / y


@elementwise(
    "rem",
    example=lambda draw: [
        (3 * draw.uniform(4), draw.positive(4)),
        (3 * draw.uniform(4), -draw.positive()),
        draw.kink(draw.values(2.0, 0.0, -2.0), draw.values(1.0, 1.0, -1.0)),
    ],
    kink="where y divides x: 1 for x, −x/y for y",
)
def rem(g, z, x, y):
    """z = x − y · trunc(x/y)        ∂z/∂x = I        ∂z/∂y = −diag(trunc(x/y))"""
    return g, lambda: -g * (lax.sign(x / y) * lax.floor(lax.abs(x / y)))


# --- Exponentials and logarithms ------------------------------------------------------------


@elementwise("exp", example=_anywhere)
def exp(g, z, x):
    """z = eˣ        ∂z/∂x = diag(z)"""
    return g * z


@elementwise("exp2", example=_anywhere)
def exp2(g, z, x):
    """z = 2ˣ        ∂z/∂x = diag(z log 2)"""
    return g * (z * math.log(2))


@elementwise("expm1", example=_anywhere)
def expm1(g, z, x):
    """z = eˣ − 1        ∂z/∂x = diag(eˣ)"""
    return g * lax.exp(x)  # not z + 1, which has no correct digit for x < −37


@elementwise(
    "log",
    example=_between(0.5, 2.0, kinks=(0.0, -1.0)),
    kink="at 0: infinite; below 0: 1/x, though z is NaN",
)
def log(g, z, x):
    """z = log x        ∂z/∂x = diag(1/x)"""
    return g / x


@elementwise(
    "log2",
    example=_between(0.5, 2.0, kinks=(0.0, -1.0)),
    kink="at 0: infinite; below 0: 1/(x log 2), though z is NaN",
)
def log2(g, z, x):
    """z = log₂ x        ∂z/∂x = diag(1/(x log 2))"""
    return g / (x * math.log(2))


@elementwise("log1p", example=_between(-0.5, 1.0, kinks=(-1.0,)), kink="at −1: infinite")
def log1p(g, z, x):
    """z = log(1 + x)        ∂z/∂x = diag(1/(1 + x))"""
    return g / (1 + x)


@elementwise("logistic", example=_anywhere)
def logistic(g, z, x):
    """z = 1/(1 + e⁻ˣ)        ∂z/∂x = diag(z (1 − z))"""
    return g * (z * (1 - z))


# --- Trigonometric functions ----------------------------------------------------------------


@elementwise("sin", example=_anywhere)
def sin(g, z, x):
    """z = sin x        ∂z/∂x = diag(cos x)"""
    return g * lax.cos(x)


@elementwise("cos", example=_anywhere)
def cos(g, z, x):
    """z = cos x        ∂z/∂x = −diag(sin x)"""
    return -g * lax.sin(x)


@elementwise("tan", example=_anywhere)
def tan(g, z, x):
    """z = tan x        ∂z/∂x = diag(1 + z²)"""
    return g * (1 + z * z)


# Near ±1 the product (1 − x)(1 + x) keeps the digits that 1 − x² loses.
@elementwise("asin", example=_between(-0.9, 0.9, kinks=(-1.0, 1.0)), kink="at ±1: infinite")
def asin(g, z, x):
    """z = arcsin x        ∂z/∂x = diag(1/√(1 − x²))"""
    return g * lax.rsqrt((1 - x) * (1 + x))


@elementwise("acos", example=_between(-0.9, 0.9, kinks=(-1.0, 1.0)), kink="at ±1: infinite")
def acos(g, z, x):
    """z = arccos x        ∂z/∂x = −diag(1/√(1 − x²))"""
    return -g * lax.rsqrt((1 - x) * (1 + x))


@elementwise("atan", example=_anywhere)
def atan(g, z, x):
    """z = arctan x        ∂z/∂x = diag(1/(1 + x²))"""
    return g / (1 + x * x)


@elementwise(
    "atan2",
    example=lambda draw: [
        (draw.uniform(3), draw.positive(3)),
        (draw.uniform(3), -draw.positive(3)),
        (draw.uniform(1, 3), draw.positive(2, 1)),
        draw.kink(draw.values(0.0, 0.0, 1.0), draw.values(0.0, -1.0, 0.0)),
    ],
    kink="at x = y = 0: NaN",
)
def atan2(g, z, x, y):
    """z = arg(y + ix)        ∂z/∂x = diag(y/(x² + y²))        ∂z/∂y = −diag(x/(x² + y²))"""
    share = g / (x * x + y * y)
    return lambda: share * y, lambda: -share * x


# --- Hyperbolic functions -------------------------------------------------------------------


@elementwise("sinh", example=_anywhere)
def sinh(g, z, x):
    """z = sinh x        ∂z/∂x = diag(cosh x)"""
    return g * lax.cosh(x)


@elementwise("cosh", example=_anywhere)
def cosh(g, z, x):
    """z = cosh x        ∂z/∂x = diag(sinh x)"""
    return g * lax.sinh(x)


@elementwise("tanh", example=_anywhere)
def tanh(g, z, x):
    """z = tanh x        ∂z/∂x = diag(1 − z²)"""
    return g * (1 - z * z)


@elementwise("asinh", example=_anywhere)
def asinh(g, z, x):
    """z = arsinh x        ∂z/∂x = diag(1/√(1 + x²))"""
    return g / lax.cosh(z)  # = √(1 + x²) without the x², which may overflow


@elementwise("acosh", example=_between(1.5, 3.0, kinks=(1.0,)), kink="at 1: infinite")
def acosh(g, z, x):
    """z = arcosh x        ∂z/∂x = diag(1/(√(x − 1) √(x + 1)))"""
    return g * (lax.rsqrt(x - 1) * lax.rsqrt(x + 1))


@elementwise("atanh", example=_between(-0.9, 0.9, kinks=(-1.0, 1.0)), kink="at ±1: infinite")
def atanh(g, z, x):
    """z = artanh x        ∂z/∂x = diag(1/(1 − x²))"""
    return g / ((1 - x) * (1 + x))


# --- Choices --------------------------------------------------------------------------------


def _ties(draw):
    tie = draw.kink(draw.values(1.0, 0.0, jnp.nan), draw.values(1.0, -0.0, 1.0))
    return [*_distinct_pairs(draw), tie]


@elementwise("max", example=_ties, kink="at a tie: ½ for each")
def max(g, z, x, y):
    """z = max(x, y)        ∂z/∂x = diag([x > y] + ½[x = y])        ∂z/∂y likewise"""
    return lambda: _to_the_larger(g, x, y), lambda: _to_the_larger(g, y, x)


@elementwise("min", example=_ties, kink="at a tie: ½ for each")
def min(g, z, x, y):
    """z = min(x, y)        ∂z/∂x = diag([x < y] + ½[x = y])        ∂z/∂y likewise"""
    return lambda: _to_the_larger(g, y, x), lambda: _to_the_larger(g, x, y)


def _to_the_larger(g, x, y):
    """g where x > y, half of it where x = y, 0 elsewhere (at NaN too)."""
    return lax.select(x > y, g, lax.select(x == y, g / 2, lax.full_like(g, 0)))


@elementwise(
    "clamp",
    example=lambda draw: [
        (-draw.positive(4) / 2, 2 * draw.uniform(4), draw.positive(4) / 2),
        (lambda x: lax.clamp(x.dtype.type(-0.5), x, x.dtype.type(0.5)), 2 * draw.uniform(4)),
        draw.kink(draw.values(0.0, 0.0), draw.values(0.0, 1.0), draw.values(1.0, 1.0)),
    ],
    kink="at a bound: 0 for x and for the bound",
)
def clamp(g, z, low, x, high):
    """z = min(max(x, l), h)        ∂z/∂x = diag([l < x < h])        ∂z/∂l, ∂z/∂h = what is left"""
    zero = lax.full_like(g, 0)
    return (
        lambda: lax.select((x < low) & (low < high), g, zero),
        lambda: lax.select((low < x) & (x < high), g, zero),
        lambda: lax.select(high < x, g, zero),
    )


@elementwise(
    "select_n",
    example=lambda draw: [
        (draw.boolean(4), draw.uniform(4), draw.uniform(4)),
        (draw.boolean(), draw.complex(3), draw.complex(3)),
        (draw.integers(4, high=3).astype("int32"), *(draw.uniform(4) for _ in range(3))),
    ],
)
def select_n(g, z, which, *cases):
    """z = (x₀, x₁, …)[i], place by place        ∂z/∂xₖ = diag([i = k])"""
    zero = lax.full_like(g, 0)

    def to(k):
        return lambda: lax.select_n(which, *(g if j == k else zero for j in range(len(cases))))

    return None, *map(to, range(len(cases)))
