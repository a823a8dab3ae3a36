"""Special functions: the error function, the gamma function, and their kin."""

from __future__ import annotations

import math

from jax import lax
from jax import numpy as jnp

from fungrad.rulebook import elementwise

# --- The error function, dz/dx = 2/√π e^(−x²) -----------------------------------------------


@elementwise("erf", example=lambda draw: draw.uniform(3))
def erf(g, z, x):
    """z = erf x        ∂z/∂x = diag(2/√π · exp(−x²))"""
    return g * (2 / math.sqrt(math.pi) * lax.exp(-x * x))


@elementwise("erfc", example=lambda draw: draw.uniform(3))
def erfc(g, z, x):
    """z = 1 − erf x        ∂z/∂x = −diag(2/√π · exp(−x²))"""
    return g * (-2 / math.sqrt(math.pi) * lax.exp(-x * x))


@elementwise(
    "erf_inv",
    example=lambda draw: [0.9 * draw.uniform(3), draw.kink(draw.values(-1.0, 1.0))],
    kink="at ±1: infinite",
)
def erf_inv(g, z, x):
    """z = erf⁻¹ x        ∂z/∂x = diag(√π/2 · exp(z²))"""
    return g * (math.sqrt(math.pi) / 2 * lax.exp(z * z))


# --- The gamma function ---------------------------------------------------------------------


@elementwise("lgamma", example=lambda draw: [draw.positive(3), -0.9 * draw.positive(3) / 2])
def lgamma(g, z, x):
    """z = log |Γ(x)|        ∂z/∂x = diag(ψ(x)), ψ the digamma function"""
    return g * lax.digamma(x)


@elementwise("digamma", example=lambda draw: draw.positive(3))
def digamma(g, z, x):
    """z = ψ(x)        ∂z/∂x = diag(ψ⁽¹⁾(x))"""
    return g * lax.polygamma(lax.full_like(x, 1), x)


@elementwise("polygamma", example=lambda draw: (_second_polygamma, draw.positive(3)))
def polygamma(g, z, m, x):
    """z = ψ⁽ᵐ⁾(x)        ∂z/∂x = diag(ψ⁽ᵐ⁺¹⁾(x))"""

    def by_order():
        raise ValueError(
            "polygamma(m, x) has no derivative by its order m, a whole number: differentiate it by "
            "x, or hold m back with jax.lax.stop_gradient"
        )

    return by_order, lambda: g * lax.polygamma(m + 1, x)


def _second_polygamma(x):
    return lax.polygamma(lax.full_like(x, 2), x)


def _positive_pairs(draw):
    return [(draw.positive(3), draw.positive(3)), (draw.positive(2, 1), draw.positive(1, 3))]


@elementwise("igamma", example=_positive_pairs)
def igamma(g, z, a, x):
    """z = γ(a, x)/Γ(a)        ∂z/∂x = diag(xᵃ⁻¹ e⁻ˣ/Γ(a))        ∂z/∂a by its power series"""
    return lambda: g * lax.igamma_grad_a(a, x), lambda: g * _gamma_density(a, x)


@elementwise("igammac", example=_positive_pairs)
def igammac(g, z, a, x):
    """z = 1 − γ(a, x)/Γ(a)        ∂z/∂x = −diag(xᵃ⁻¹ e⁻ˣ/Γ(a))        ∂z/∂a by its power series"""
    return lambda: -g * lax.igamma_grad_a(a, x), lambda: -g * _gamma_density(a, x)


def _gamma_density(a, x):
    # At x = ∞ the logarithm would be ∞ − ∞.
    density = lax.exp(_times(a - 1, lax.log(x)) - x - lax.lgamma(a))
    return _zero_where(x == math.inf, density)


def _times(k, logarithm):
    """k log x, but 0 where k = 0: the density is xᵏ, and 0⁰ = 1, where JAX's gradient is NaN."""
    product = k * logarithm
    return _zero_where(k == 0, product)


def _zero_where(condition, z):
    """z, but 0 where the condition holds, which broadcasts as the inputs do."""
    axes = range(z.ndim - condition.ndim, z.ndim)
    return lax.select(lax.broadcast_in_dim(condition, z.shape, axes), lax.full_like(z, 0), z)


# --- The beta function ----------------------------------------------------------------------


@elementwise("regularized_incomplete_beta", example=lambda draw: (_beta, draw.uniform(3)))
def regularized_incomplete_beta(g, z, a, b, x):
    """z = I_x(a, b)        ∂z/∂x = diag(xᵃ⁻¹ (1 − x)ᵇ⁻¹/B(a, b))"""

    def by_parameter():
        raise ValueError(
            "betainc(a, b, x) has no derivative by a and b here, as in JAX: differentiate it by x, "
            "or hold a and b back with jax.lax.stop_gradient"
        )

    def by_x():
        log_beta = lax.lgamma(a) + lax.lgamma(b) - lax.lgamma(a + b)
        powers = _times(a - 1, lax.log(x)) + _times(b - 1, lax.log1p(-x))
        return g * lax.exp(powers - log_beta)

    return by_parameter, by_parameter, by_x


def _beta(x):
    x = (1 + x * x) / 3
    return lax.betainc(lax.full_like(x, 1.5), lax.full_like(x, 2.5), x)


# --- Bessel functions, scaled by e^(−|x|) -----------------------------------------------------


@elementwise(
    "bessel_i0e",
    example=lambda draw: [draw.positive(3), -draw.positive(3), draw.kink(draw.values(0.0))],
    kink="at 0: 0",
)
def bessel_i0e(g, z, x):
    """z = e^(−|x|) I₀(x)        ∂z/∂x = diag(e^(−|x|) I₁(x) − z sign x)"""
    return g * (lax.bessel_i1e(x) - lax.sign(x) * z)


@elementwise(
    "bessel_i1e",
    example=lambda draw: [draw.positive(3), -draw.positive(3), draw.kink(draw.values(0.0))],
    kink="at 0: ½",
)
def bessel_i1e(g, z, x):
    """z = e^(−|x|) I₁(x)        ∂z/∂x = diag(e^(−|x|) I₀(x) − z (1/x + sign x)), ½ at x ≈ 0"""
    tiny = lax.abs(x) <= jnp.finfo(x.dtype).eps
    safe = lax.select(tiny, lax.full_like(x, 1), x)
    slope = lax.bessel_i0e(safe) - z * (lax.sign(safe) + 1 / safe)
    return g * lax.select(tiny, lax.full_like(x, 0.5), slope)
