"""Matrices, which stand in the last two axes: the words that the rules of linear algebra share."""

from __future__ import annotations

from functools import partial, reduce
from typing import Any

import jax.numpy as jnp
from jax import lax

_product = partial(lax.batch_matmul, precision=lax.Precision.HIGHEST)


def dot(*factors: Any) -> Any:
    """The product of matrices, from left to right."""
    return reduce(_product, factors)


def conj(x: Any) -> Any:
    """x̄, which is x if it is real."""
    return lax.conj(x) if jnp.iscomplexobj(x) else x


def adjoint(x: Any) -> Any:
    """xᴴ, the conjugate of the transpose."""
    return conj(x.mT)


def column_minus_row(x: Any) -> Any:
    """j − i at the entry (i, j)."""
    row, column = (lax.broadcasted_iota("int32", x.shape, x.ndim - axis) for axis in (2, 1))
    return column - row


def _where(condition: Any, x: Any) -> Any:
    return lax.select(condition, x, lax.full_like(x, 0))


def lower(x: Any, k: int = 0) -> Any:
    """The entries up to the k-th diagonal; those above become zero, whatever they are."""
    return _where(column_minus_row(x) <= k, x)


def upper(x: Any, k: int = 0) -> Any:
    """The entries from the k-th diagonal on; those below become zero, whatever they are."""
    return _where(column_minus_row(x) >= k, x)


def lower_half(x: Any) -> Any:
    """The lower triangle with half of the diagonal: lower_half(x + xᴴ) + its adjoint = x + xᴴ."""
    return (lower(x) + lower(x, -1)) / 2


def upper_half(x: Any) -> Any:
    """The upper triangle with half of the diagonal."""
    return (upper(x) + upper(x, 1)) / 2


def identity(x: Any) -> Any:
    """The identity matrix of x's shape."""
    return (column_minus_row(x) == 0).astype(x.dtype)


def across(v: Any) -> Any:
    """The vector as a row, which scales the columns of a matrix."""
    return lax.expand_dims(v, [v.ndim - 1])


def down(v: Any) -> Any:
    """The vector as a column, which scales the rows of a matrix."""
    return lax.expand_dims(v, [v.ndim])


def reciprocal_off_diagonal(x: Any) -> Any:
    """1/x off the diagonal, where a zero makes it infinite, and 0 on it, where x is zero."""
    eye = identity(x)
    return 1 / (x + eye) - eye


def rows(x: Any, start: int, stop: int) -> Any:
    """The rows from `start` to `stop` − 1."""
    return lax.slice_in_dim(x, start, stop, axis=-2)


def put_rows(x: Any, order: Any) -> Any:
    """Pᵀx, the matrix whose row order[i] is row i of x: it undoes the permutation P."""
    axis, batch = x.ndim - 2, tuple(range(x.ndim - 2))
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(x.ndim - 1,),
        inserted_window_dims=(axis,),
        scatter_dims_to_operand_dims=(axis,),
        operand_batching_dims=batch,
        scatter_indices_batching_dims=batch,
    )
    zeros = lax.full_like(x, 0)
    return lax.scatter_add(zeros, down(order), x, numbers, unique_indices=True, mode="drop")


def solve_transposed(a: Any, b: Any) -> Any:
    """a⁻ᵀ b: with P a = L U, it is Pᵀ L⁻ᵀ U⁻ᵀ b."""
    packed, _, order = lax.linalg.lu(a)
    from_left = partial(lax.linalg.triangular_solve, packed, left_side=True, transpose_a=True)
    return put_rows(from_left(from_left(b), lower=True, unit_diagonal=True), order)


# --- Examples ---------------------------------------------------------------------------------


def regular(x: Any) -> Any:
    """A matrix far from a singular one, whose rows elimination swaps."""
    return lax.rev(x / 2 + 2 * identity(x), [x.ndim - 2])


def spread(x: Any) -> Any:
    """A matrix whose eigenvalues and singular values differ: near to 1, 3, 5, …"""
    row = lax.broadcasted_iota("int32", x.shape, x.ndim - 2)
    return x / 4 + identity(x) * (2 * row + 1).astype(x.dtype)
