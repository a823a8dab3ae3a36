"""Eigenvalues and singular values: A V = V diag(w), A = U diag(s) Vᴴ.

The rules are found as those of `decomposition` are. They hold where the values are distinct: the
vectors of two equal ones may be any basis of a plane, so that gradients at them are infinite or
NaN. Gradients at the values alone are finite everywhere. [giles2008]
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import lax

from fungrad.rulebook import rule
from fungrad.rules.matrices import (
    across,
    adjoint,
    conj,
    dot,
    down,
    identity,
    reciprocal_off_diagonal,
    solve_transposed,
    spread,
)

# --- A V = V diag(w) --------------------------------------------------------------------------


@rule(
    "eigh",
    example=lambda draw: [
        (lax.linalg.eigh, spread(draw.uniform(2, 3, 3))),
        draw.kink(partial(lax.linalg.eigh, lower=False), spread(draw.complex(3, 3))),
        draw.kink(lax.linalg.eigh, jnp.eye(2)),
    ],
    kink="equal eigenvalues: NaN where eigenvectors are used; complex ones are taken not to turn",
)
def eigh(g, out, a, *, subset_by_index=None):
    """A V = V diag(w)        ∂w = diag C, ∂V = V (F ∘ C), C = Vᴴ ∂A V, F[i,j] = 1/(w[j] − w[i])"""
    # With ∂V = V X, ∂A V + A ∂V = ∂V diag(w) + V diag(∂w) is C + diag(w) X = X diag(w) + diag(∂w),
    # and X has no diagonal. Hence g_A = V̄ (F ∘ (Vᵀ g_V) + diag(g_w)) Vᵀ.
    (g_v, g_w), (v, w) = g, out
    h: Any = 0 if g_w is None else identity(v) * across(g_w).astype(v.dtype)
    if g_v is not None:
        _refuse_subset("eigh", subset_by_index, a.shape[-1])
        f = reciprocal_off_diagonal(across(w) - down(w)).astype(v.dtype)
        h = h + f * dot(v.mT, g_v)
    return dot(conj(v), h, v.mT)


def _refuse_subset(primitive, subset, size):
    if subset not in (None, (0, size)):
        raise NotImplementedError(
            f"subset_by_index={subset} of {primitive}: Derivatives not defined for partial eigen "
            "decomposition, except those of the values; compute all vectors, and slice them"
        )


# --- A V = V diag(w), Aᴴ U = U diag(w̄) ---------------------------------------------------------


def _eig(left, right):
    sides = {"compute_left_eigenvectors": left, "compute_right_eigenvectors": right}
    return partial(lax.linalg.eig, enable_eigvec_derivs=True, **sides)


@rule(
    "eig",
    example=lambda draw: [
        (_eig(True, True), spread(draw.complex(2, 2, 2))),
        (_eig(False, False), spread(draw.uniform(2, 2))),
    ],
)
def eig(g, out, a, *, compute_left_eigenvectors, compute_right_eigenvectors, **how):
    """A V = V diag(w)        ∂w = diag C, ∂V = V (F ∘ C + diag c), C = V⁻¹ ∂A V, F as for eigh"""
    # As for eigh, with V⁻¹ in place of Vᴴ: g_A = V⁻ᵀ (F ∘ (Vᵀ h) + diag(g_w)) Vᵀ. The vectors' own
    # factors c turn g_V into h. Left vectors are the right ones of Aᴴ, whose eigenvalues are w̄.
    g_w, w = g[0], out[0]
    if any(g_vectors is not None for g_vectors in g[1:]):
        _refuse_unsafe_vectors(**how)
    if compute_right_eigenvectors:
        g_a = _at_eigenvectors(g_w, g[-1], w, out[-1])
    else:
        # No factor of v shows in g_A, so that second derivatives are safe.
        how |= {"compute_left_eigenvectors": False, "enable_eigvec_derivs": True}
        v = lax.linalg.eig(a, **how)[1]
        g_a = _at_eigenvectors(g_w, None, w, v)
    if compute_left_eigenvectors and g[1] is not None:
        g_a = g_a + adjoint(_at_eigenvectors(None, g[1], lax.conj(w), out[1]))
    return g_a if jnp.iscomplexobj(a) else lax.real(g_a)


def _refuse_unsafe_vectors(*, enable_eigvec_derivs, **_):
    if not enable_eigvec_derivs:
        raise NotImplementedError(
            "Derivatives of non-symmetric eigenvectors are only valid where the eigenvalues are "
            "distinct and each vector has one largest entry, which nobody can check; if so, pass "
            "enable_eigvec_derivs=True to jax.lax.linalg.eig"
        )


def _at_eigenvectors(g_w, g_v, w, v):
    h = lax.full_like(v, 0) if g_w is None else identity(v) * across(g_w)
    if g_v is not None:
        f = reciprocal_off_diagonal(across(w) - down(w))
        h = h + f * dot(v.mT, _at_vectors_of_any_size(g_v, v))
    return solve_transposed(v, dot(h, v.mT))


def _at_vectors_of_any_size(g, v):
    """The gradient at vectors before they are divided by a number, to be as LAPACK has them.

    The equation moves a vector v by some u; what is divided by moves it by c v. As |v| = 1 stays,
    Re c = −Re vᴴu; as the largest entry v[k] stays real, Im c = −Im u[k]/v[k]. With H = Σ g v,
    Re H c = Re Σ (−v̄ Re H − eₖ i Im H/v[k]) u.
    """
    axis = v.ndim - 2
    k = lax.argmax(lax.abs(v), axis, "int32")
    largest = (lax.broadcasted_iota("int32", v.shape, axis) == across(k)).astype(v.dtype)
    total, size = (across(lax.reduce_sum(x * v, [axis])) for x in (g, largest))
    twin = lax.conj(total)
    return g - lax.conj(v) * (total + twin) / 2 - largest * (total - twin) / (2 * size)


# --- A = U diag(s) Vᴴ -------------------------------------------------------------------------


def _svd(**how):
    return partial(lax.linalg.svd, **how)


@rule(
    "svd",
    example=lambda draw: [
        (_svd(full_matrices=False), spread(draw.uniform(2, 3, 2))),
        (_svd(compute_uv=False), spread(draw.complex(2, 3))),
        draw.kink(_svd(full_matrices=False), spread(draw.complex(2, 3))),
        draw.kink(_svd(full_matrices=False), jnp.eye(2)),
    ],
    kink="equal singular values: NaN where vectors are used; complex V is taken not to turn",
)
def svd(g, out, a, *, full_matrices, compute_uv, **how):
    """A = U diag(s) Vᴴ        ∂s = Re diag D, ∂U = U (F ∘ (D s + s Dᴴ) + i Im D/s), D = Uᴴ ∂A V"""
    # F[i,j] = 1/(s[j]² − s[i]²), and 0 on the diagonal, where alone i Im D/s stands. V is the U of
    # Aᴴ, without i Im D/s: the vectors' factors of size 1 are put on U. [giles2008] [wan2019]
    if not compute_uv:
        u, s, vh = lax.linalg.svd(a, full_matrices=False, **how)
        g, out = (g[0], None, None), (s, u, vh)
    (g_s, g_u, g_vh), (s, u, vh) = g, out
    if g_u is not None or g_vh is not None:
        _refuse_vectors(full_matrices, how["subset_by_index"], a.shape[-2:])
    u = lax.slice_in_dim(u, 0, s.shape[-1], axis=-1)
    vh = lax.slice_in_dim(vh, 0, s.shape[-1], axis=-2)
    g_a = dot(conj(u) * across(_at_singular_values(g_s, g_u, s, u)), conj(vh))
    if g_u is not None:
        g_a = g_a + _at_left_vectors(g_u, u, s, adjoint(vh))
    if g_vh is not None:
        g_a = g_a + adjoint(_at_left_vectors(adjoint(g_vh), adjoint(vh), s, u))
    return g_a


def _refuse_vectors(full_matrices, subset, shape):
    _refuse_subset("svd", subset, min(shape))
    if full_matrices and shape[0] != shape[1]:
        raise NotImplementedError(
            f"Singular vectors of a matrix {list(shape)} not implemented for full matrices: those "
            "of the null space are any basis of it; pass full_matrices=False, or leave them alone"
        )


def _at_singular_values(g_s, g_u, s, u):
    """g_s + i Im diag(Uᵀ g_U)/s, its second part for complex vectors and s ≠ 0 only."""
    g = lax.full_like(s, 0) if g_s is None else g_s
    if g_u is None or not jnp.iscomplexobj(u):
        return g.astype(u.dtype)
    turn = lax.imag(lax.reduce_sum(u * g_u, [u.ndim - 2]))
    zero = s == 0
    turn = lax.select(zero, lax.full_like(s, 0), turn / lax.select(zero, lax.full_like(s, 1), s))
    return lax.complex(g, turn)


def _at_left_vectors(g, u, s, v):
    """g · ∂U/∂A = Ū ((B + Bᴴ) s) Vᵀ + (g − Ū Uᵀ g) s⁻¹ Vᵀ with B = F ∘ (Uᵀ g).

    The second part, of what U does not span, is zero for a U that is square.
    """
    inner = dot(u.mT, g)
    gaps = (across(s) + down(s)) * (across(s) - down(s))  # more exact than those of s²
    b = reciprocal_off_diagonal(gaps).astype(u.dtype) * inner
    s = across(s).astype(u.dtype)
    h = dot(conj(u), (b + adjoint(b)) * s)
    if u.shape[-2] > v.shape[-2]:
        h = h + (g - dot(conj(u), inner)) / s
    return dot(h, v.mT)
