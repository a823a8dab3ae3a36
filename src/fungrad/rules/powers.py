"""Powers, polynomials and roots."""

from __future__ import annotations

from jax import lax
from jax import numpy as jnp

from fungrad.rulebook import elementwise

# --- Powers ---------------------------------------------------------------------------------


@elementwise("square", example=lambda draw: [draw.uniform(3), draw.complex(3)])
def square(g, z, x):
    """z = x²        ∂z/∂x = diag(2x)"""
    return g * (2 * x)


@elementwise("one_minus_square", example=lambda draw: [draw.uniform(3), draw.complex(3)])
def one_minus_square(g, z, x):
    """z = 1 − x²        ∂z/∂x = −diag(2x)"""
    return g * (-2 * x)


@elementwise(
    "integer_pow",
    example=lambda draw: [
        *((_to_the(y), draw.uniform(3)) for y in range(4)),
        (_to_the(-2), draw.complex(3)),
        *(draw.kink(_to_the(y), draw.values(0.0)) for y in (-1, 0, 1)),
    ],
    kink="at 0: x⁰ has slope 0, a negative power an infinite one",
)
def integer_pow(g, z, x, *, y):
    """z = xʸ        ∂z/∂x = diag(y xʸ⁻¹)"""
    return None if y == 0 else g * (y * lax.integer_pow(x, y - 1))


def _to_the(y):
    return lambda x: lax.integer_pow(x, y)


def _powers(draw):
    integers = draw.values(-1.0, 0.0, 1.0, 2.0).astype("int32")
    return [
        (draw.positive(3), draw.uniform(3)),
        (draw.complex(3), draw.complex(3)),
        (draw.positive(2, 1), draw.uniform(1, 3)),
        (draw.uniform(4), integers),
        draw.kink(draw.values(0.0, 0.0, 0.0, 0.0), draw.values(0.0, 0.5, 1.0, 2.0)),
        draw.kink(draw.values(-2.0, -2.0), draw.values(2.0, 0.5)),
        draw.kink(draw.values(0.0, 0.0, 0.0), integers[1:]),
    ]


@elementwise(
    "pow",
    example=_powers,
    kink="at x = 0: log x counts as 0; x⁰ has slope 0 for an integer 0, NaN for a float 0",
)
def pow(g, z, x, y):
    """z = xʸ        ∂z/∂x = diag(y xʸ⁻¹)        ∂z/∂y = diag(z log x)"""

    def by_x():
        # An integer 0 is not lowered to −1: so 0 · x⁰ is 0 at x = 0, and so are its derivatives.
        integer = jnp.issubdtype(y.dtype, jnp.integer)
        lowered = y - (y != 0).astype(y.dtype) if integer else y - 1
        return g * (y.astype(x.dtype) * lax.pow(x, lowered))

    def by_y():
        return g * (z * lax.log(lax.select(x == 0, lax.full_like(x, 1), x)))

    return by_x, by_y


# --- Roots ----------------------------------------------------------------------------------


def _positive_or_zero(draw):
    return [draw.positive(3), draw.complex(3), draw.kink(draw.values(0.0))]


@elementwise("sqrt", example=_positive_or_zero, kink="at 0: infinite")
def sqrt(g, z, x):
    """z = √x        ∂z/∂x = diag(1/2z)"""
    return g * (0.5 / z)


@elementwise("rsqrt", example=_positive_or_zero, kink="at 0: infinite")
def rsqrt(g, z, x):
    """z = 1/√x        ∂z/∂x = −diag(z/2x)"""
    return g * (-0.5 * z / x)


@elementwise(
    "cbrt",
    example=lambda draw: [draw.positive(3), -draw.positive(3), draw.kink(draw.values(0.0))],
    kink="at 0: infinite",
)
def cbrt(g, z, x):
    """z = ∛x        ∂z/∂x = diag(1/3z²)"""
    return g / (3 * z * z)


# --- Polynomials ----------------------------------------------------------------------------


@elementwise(
    "polynomial",
    example=lambda draw: [
        (_polynomial, draw.uniform(3), draw.uniform(3), draw.uniform(), draw.uniform(3)),
        (_polynomial, draw.complex(3), draw.complex(), draw.complex()),
    ],
)
def polynomial(g, z, x, *c, unroll=None):
    """z = Σₖ cₖ xᵏ        ∂z/∂x = diag(Σₖ k cₖ xᵏ⁻¹)        ∂z/∂cₖ = diag(xᵏ)"""

    def by_x():
        slopes = [k * c[k] for k in range(1, len(c))]
        return g * _polynomial(x, *slopes, unroll=unroll)

    return by_x, *(lambda k=k: g * lax.integer_pow(x, k) for k in range(len(c)))


def _polynomial(x, *c, unroll=None):
    # New in JAX 0.12, as are its graphs' `polynomial` equations.
    return lax.polynomial(x, c, unroll=unroll)  # pyright: ignore
