"""Collectives: operations across a mapped axis, named by `jax.vmap(..., axis_name=...)`."""

from __future__ import annotations

import jax
from jax import lax

from fungrad.rulebook import rule


def _sum_example(draw):
    summed = jax.vmap(lambda x: lax.psum(x, "i"), axis_name="i", out_axes=None)
    return [(summed, draw.uniform(4, 3)), (summed, draw.complex(2, 3))]


@rule("psum", example=_sum_example)
def psum(g, z, x, *, axes, axis_index_groups):
    """z = Σᵢ xᵢ over the axes        ∂z/∂xᵢ = I"""
    # A named axis has one x, and one g, in each place: every x moves every z, so the g are summed.
    # Under vmap the axis becomes one of x's own, and z has it no more.
    named = tuple(axis for axis in axes if not isinstance(axis, int))
    if named:
        g = lax.psum(g, named, axis_index_groups=axis_index_groups)
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    return lax.broadcast_in_dim(g, x.shape, kept)
