"""Decompositions of matrices by elimination and reflection: A = L Lᴴ, P A = L U, A P = Q R.

Every rule is found in three steps. Differentiate the equation and solve it for the factors, which
gives ∂factor as a linear function of ∂A. Then move g to the other side, where the trace pairs a
gradient with a change, dJ = Re tr(gᵀ ∂X):

    Re tr(gᵀ B X C) = Re tr((Bᵀ g Cᵀ)ᵀ X)        Re tr(gᵀ Xᴴ) = Re tr((gᴴ)ᵀ X)

Half of a matrix, as of X ↦ lower(X), is its own adjoint. [giles2008]
"""

from __future__ import annotations

from functools import partial

import jax
from jax import lax
from jax.lax.linalg import triangular_solve

from fungrad.rulebook import no_gradient, rule
from fungrad.rules.matrices import (
    adjoint,
    conj,
    dot,
    identity,
    lower,
    lower_half,
    put_rows,
    regular,
    rows,
    solve_transposed,
    upper,
    upper_half,
)

# --- A = L Lᴴ ---------------------------------------------------------------------------------


def _positive(x):
    return dot(x, adjoint(x)) + identity(x)


# Where JAX's gradient lies: on the half that is read; before JAX 0.11, on both.
_READS_LOWER_HALF = jax.__version_info__ >= (0, 11)


@rule(
    "cholesky",
    example=lambda draw: [
        (lax.linalg.cholesky, _positive(draw.uniform(2, 3, 3))),
        (lax.linalg.cholesky, _positive(draw.complex(3, 3))),
    ],
)
def cholesky(g, z, a):
    """A = L Lᴴ        ∂L = L Φ(L⁻¹ ∂A L⁻ᴴ), Φ the lower half with half of the diagonal"""
    # ∂A = ∂L Lᴴ + L ∂Lᴴ, so L⁻¹ ∂A L⁻ᴴ = L⁻¹∂L + (L⁻¹∂L)ᴴ, of which L⁻¹∂L is the lower half. Hence
    # g_A = L⁻ᵀ Φ(Lᵀ g) L̄⁻¹. [murray2016]
    factor = lower(z)  # what stands above is undefined
    h = lower_half(dot(factor.mT, g))
    h = triangular_solve(factor, h, left_side=True, lower=True, transpose_a=True)
    h = triangular_solve(factor, h, lower=True, conjugate_a=True)
    # A = Aᴴ moves in both halves, but only its lower half is read.
    return lower_half(h + adjoint(h)) if _READS_LOWER_HALF else h


# --- P A = L U --------------------------------------------------------------------------------


@rule(
    "lu",
    example=lambda draw: [
        (lax.linalg.lu, regular(draw.uniform(3, 3))),
        (lax.linalg.lu, regular(draw.uniform(2, 3, 2))),
        (lax.linalg.lu, regular(draw.complex(2, 3))),
    ],
)
def lu(g, out, a):
    """P A = L U        ∂L = L lower₋₁(X), ∂U = upper(X) U with X = L⁻¹ P ∂A U⁻¹"""
    # P ∂A = ∂L U + L ∂U, so X = L⁻¹∂L + ∂U U⁻¹, strictly lower plus upper. With g of L + U − I
    #     g_A = Pᵀ L⁻ᵀ (lower₋₁(Lᵀ g) + upper(g Uᵀ)) U⁻ᵀ
    # Where A is not square, L or U is completed to a square by the identity. [dehoog2011]
    g, (packed, _, order) = g[0], out
    m, n = packed.shape[-2:]
    low, up = _resized(packed, m, m), _resized(packed, n, n)
    low = lower(low, -1) + identity(low)
    up = upper(up) + identity(up) - _resized(identity(packed), n, n)
    h = lower(dot(low.mT, g), -1) + upper(dot(g, up.mT))
    h = triangular_solve(up, h, transpose_a=True)
    h = triangular_solve(low, h, left_side=True, lower=True, transpose_a=True, unit_diagonal=True)
    return put_rows(h, order)


def _resized(x, m, n):
    """x cut, or filled up with zeros, to m × n."""
    ends = (m - x.shape[-2], n - x.shape[-1])
    return lax.pad(
        x, lax.full((), 0, x.dtype), [(0, 0, 0)] * (x.ndim - 2) + [(0, e, 0) for e in ends]
    )


lu_pivots_to_permutation = no_gradient(
    "lu_pivots_to_permutation",
    reason="it turns integers into integers",
    example=lambda draw: (
        partial(lax.linalg.lu_pivots_to_permutation, permutation_size=3),
        draw.integers(3, low=2, high=3).astype("int32"),
    ),
)

# --- A P = Q R --------------------------------------------------------------------------------


def _qr(**how):
    return partial(lax.linalg.qr, **how)


@rule(
    "qr",
    example=lambda draw: [
        (_qr(full_matrices=False), regular(draw.complex(2, 2, 2))),
        (_qr(full_matrices=True, pivoting=True), regular(draw.complex(3, 2))),
        (_qr(full_matrices=True), regular(draw.uniform(2, 3))),
    ],
)
def qr(g, out, a, *, pivoting, full_matrices):
    """A P = Q R        ∂R = Y R, ∂Q = ∂A P R⁻¹ − Q Y with Y = Ψ(C + Cᴴ), C = Qᴴ ∂A P R⁻¹"""
    (q, r), m, n = out[:2], *a.shape[-2:]
    g_q, g_r = (lax.full_like(x, 0) if h is None else h for h, x in zip(g, (q, r), strict=False))
    if m < n:  # A P = Q (R₁ R₂), so R₁ is as above, and R₂ = Qᴴ A₂ with A₂ = Q R₂
        (r, r_2), (g_r, g_2) = (lax.split(x, (m, n - m), axis=x.ndim - 1) for x in (r, g_r))
        g_q = g_q + conj(dot(q, dot(r_2, g_2.mT)))
        g_a = lax.concatenate([_thin_qr(g_q, g_r, q, r), dot(conj(q), g_2)], a.ndim - 1)
    elif m > n and full_matrices:
        g_q, q = _first_columns(g_q, q, n)
        g_a = _thin_qr(g_q, rows(g_r, 0, n), q, rows(r, 0, n))
    else:
        g_a = _thin_qr(g_q, g_r, q, r)
    return put_rows(g_a.mT, out[2]).mT if pivoting else g_a


def _thin_qr(g_q, g_r, q, r):
    """g · ∂(Q, R)/∂A where Q has as many columns as A, and R is square.

    Ψ is the upper half with half of the diagonal. From ∂A R⁻¹ = ∂Q + Q Y and QᴴQ = I follows
    C = Qᴴ∂Q + Y, in which Qᴴ∂Q is skew and Y = ∂R R⁻¹ upper with a real diagonal. Hence
    Y = Ψ(C + Cᴴ), and g_A = (g_Q + Q̄ (S + Sᴴ)) R⁻ᵀ with S = Ψ(g_R Rᵀ − Qᵀ g_Q). [seeger2017]
    """
    s = upper_half(dot(g_r, r.mT) - dot(q.mT, g_q))
    return triangular_solve(r, g_q + dot(conj(q), s + adjoint(s)), transpose_a=True)


def _first_columns(g, q, n):
    """The gradient at Q₁, the first n columns of Q, of which the others are a function; and Q₁.

    Q is a product of n reflections (Householder's), so that Q − I has rank n, and its last columns
    are its first ones times Zᴴ, Z = Q₂₁ (Q₁₁ − I)⁻¹. By that, with N = (−Z I) and g₂ at Q₂,
    ∂Q₂ = ∂Q₁ Zᴴ − (Q₁ + Q₂ Z)(N ∂Q₁)ᴴ. [papanicolopulos2024]
    """
    g_1, g_2 = lax.split(g, (n, g.shape[-1] - n), axis=g.ndim - 1)
    q_1, q_2 = lax.split(q, (n, q.shape[-1] - n), axis=q.ndim - 1)
    top, bottom = rows(q_1, 0, n), rows(q_1, n, q.shape[-1])
    z = solve_transposed(top - identity(top), bottom.mT).mT
    h = conj(dot(g_2.mT, q_1 + dot(q_2, z)))
    return g_1 + dot(g_2, conj(z)) + lax.concatenate([dot(z.mT, h), -h], g.ndim - 2), q_1
