"""Sorting: the outputs are the inputs in another order, so g goes back in the order they came from.

The order itself is piecewise constant; it has no gradient.
"""

from __future__ import annotations

from functools import partial

from jax import lax

from fungrad.rulebook import rule


@rule(
    "sort",
    example=lambda draw: [
        (lax.sort, draw.uniform(5)),
        (lambda x, y: lax.sort((x, y), dimension=0), draw.uniform(4, 2), draw.complex(4, 2)),
        (lambda *xs: lax.sort(xs, num_keys=2), draw.integers(6, high=3), *draw.uniform(2, 6)),
        draw.kink(lambda x, y: lax.sort((x, y)), draw.values(2, 1, 2, 1), draw.uniform(4)),
    ],
    kink="ties: a stable sort keeps their order, and so does g",
)
def sort(g, out, *operands, dimension, is_stable, num_keys):
    """outₖ = P xₖ, P the permutation that sorts the keys        ∂outₖ/∂xₖ = P"""
    # Sorting the numbers 0, 1, 2, ... along shows where each entry came from: P's columns.
    numbers = lax.broadcasted_iota("int32", out[0].shape, dimension)
    how = {"dimension": dimension, "is_stable": is_stable, "num_keys": num_keys}
    *_, order = lax.sort((*operands, numbers), **how)

    def back(g):
        return None if g is None else lambda: _to_positions(g, g.shape, order, dimension)

    return [back(entry) for entry in g]


def _to_positions(g, shape, positions, axis):
    """Zeros, with g at the positions along the axis, which are all different."""
    axis %= g.ndim
    others = tuple(i for i in range(g.ndim) if i != axis)
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(),
        inserted_window_dims=(axis,),
        scatter_dims_to_operand_dims=(axis,),
        operand_batching_dims=others,
        scatter_indices_batching_dims=others,
    )
    zeros, indices = lax.full(shape, 0, g.dtype), lax.expand_dims(positions, [g.ndim])
    return lax.scatter_add(zeros, indices, g, numbers, unique_indices=True, mode="drop")


@rule(
    "top_k",
    example=lambda draw: [
        (partial(lax.top_k, k=2), draw.uniform(5)),
        (partial(lax.top_k, k=2, axis=0), draw.uniform(4, 2)),
        draw.kink(partial(lax.top_k, k=2), draw.values(2, 1, 2, 2)),
    ],
    kink="ties: all to the first of them",
)
def top_k(g, out, x, *, axis=-1, **_):
    """out = S x, S the rows of I at the k largest        ∂out/∂x = S"""
    return None if g[0] is None else _to_positions(g[0], x.shape, out[1], axis)


@rule(
    "approx_top_k",
    example=lambda draw: [
        (partial(lax.approx_max_k, k=2), draw.uniform(3, 5)),
        draw.kink(partial(lax.approx_max_k, k=1), draw.values(2, 1, 2)),
    ],
    kink="ties: all to the one that was chosen",
)
def approx_top_k(g, out, x, *, reduction_dimension, **_):
    """out = S x, S the rows of I at the k entries chosen        ∂out/∂x = S"""
    return None if g[0] is None else _to_positions(g[0], x.shape, out[1], reduction_dimension)
