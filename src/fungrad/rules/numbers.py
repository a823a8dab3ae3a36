"""Numbers: the parts, size and direction of complex ones, and the formats of all.

A gradient of a complex z is plain g · J, without conjugates: g = ∂L/∂(Re z) − i ∂L/∂(Im z), so that
dL = Re(g dz).
"""

from __future__ import annotations

from jax import lax
from jax import numpy as jnp

from fungrad.rulebook import elementwise

_ROUNDING = "where it rounds: as if it did not"


def _is_complex(x):
    return jnp.issubdtype(x.dtype, jnp.complexfloating)


# --- Parts of complex numbers ----------------------------------------------------------------


@elementwise("real", example=lambda draw: draw.complex(3))
def real(g, z, x):
    """z = Re x        ∂z/∂x = g ↦ g + 0i"""
    return g.astype(x.dtype)


@elementwise("imag", example=lambda draw: draw.complex(3))
def imag(g, z, x):
    """z = Im x        ∂z/∂x = g ↦ −ig"""
    return lax.complex(lax.full_like(g, 0), -g)


@elementwise("complex", example=lambda draw: (draw.uniform(3), draw.uniform(3)))
def complex(g, z, x, y):
    """z = x + iy        ∂z/∂x = g ↦ Re g        ∂z/∂y = g ↦ −Im g"""
    return lambda: lax.real(g), lambda: -lax.imag(g)


@elementwise("conj", example=lambda draw: [draw.uniform(3), draw.complex(3)])
def conj(g, z, x):
    """z = x̄        ∂z/∂x = g ↦ ḡ"""
    return lax.conj(g) if _is_complex(x) else lax.real(g)


# --- Size and direction ----------------------------------------------------------------------


@elementwise(
    "abs",
    example=lambda draw: [
        draw.uniform(3),
        draw.complex(3),
        draw.kink(draw.values(0.0, -0.0)),
        draw.kink(draw.values(0.0).astype("complex")),
    ],
    kink="at 0: 1 for a float, 0 for a complex number",
)
def abs(g, z, x):
    """z = |x|        ∂z/∂x = diag(sign x), for a complex x its conjugate x̄/|x|"""
    if not _is_complex(x):
        return lax.select(x >= 0, g, -g)
    size = lax.select(z == 0, lax.full_like(z, 1), z)
    return lax.conj(x) * (g / size).astype(x.dtype)


@elementwise(
    "sign",
    example=lambda draw: [draw.uniform(3), draw.complex(3), draw.kink(draw.values(0.0))],
    kink="at 0: 0",
)
def sign(g, z, x):
    """z = x/|x|        ∂z/∂x = 0; for a complex x, which moves on a circle, g ↦ i z̄ Im(gz)/|x|"""
    # A step dx turns z by the angle Im(z̄ dx)/|x|: dz = i z Im(z̄ dx)/|x|. The gradient h satisfies
    # Re(h dx) = Re(g dz) = −Im(g z) Im(z̄ dx)/|x| = Re(i z̄ dx) Im(g z)/|x| for every dx.
    if not _is_complex(x):
        return None
    size = lax.select(x == 0, lax.full_like(z.real, 1), lax.abs(x))
    z = x / size.astype(x.dtype)
    turn = lax.imag(g * z) / size
    return lax.conj(z) * lax.complex(lax.full_like(turn, 0), turn)


# --- Neighbouring numbers and formats -------------------------------------------------------


@elementwise("nextafter", example=lambda draw: (draw.uniform(3), draw.uniform(3)))
def nextafter(g, z, x, y):
    """z = the float after x on the way to y        ∂z/∂x = I        ∂z/∂y = 0"""
    return g, None


@elementwise(
    "convert_element_type",
    example=lambda draw: [
        (_converted("complex128"), draw.uniform(3)),
        draw.kink(_converted("float16"), draw.uniform(3)),
        draw.kink(_converted("complex64"), draw.complex(3)),
    ],
    kink=_ROUNDING,
)
def convert_element_type(g, z, x):
    """z = x in another number format        ∂z/∂x = I, with g in the format of x"""
    if _is_complex(g) and not _is_complex(x):
        g = lax.real(g)
    return lax.convert_element_type(g, x.dtype)


def _converted(dtype):
    return lambda x: lax.convert_element_type(x, dtype)


@elementwise(
    "reduce_precision",
    example=lambda draw: [
        (lambda x: lax.reduce_precision(x, 11, 52), draw.uniform(3)),
        draw.kink(lambda x: lax.reduce_precision(x, 8, 7), draw.uniform(3)),
    ],
    kink=_ROUNDING,
)
def reduce_precision(g, z, x, *, exponent_bits, mantissa_bits):
    """z = x rounded to fewer bits        ∂z/∂x = I, with g rounded likewise"""
    return lax.reduce_precision(g, exponent_bits, mantissa_bits)
