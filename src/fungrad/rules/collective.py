"""Collectives: operations across the devices of a mesh, or across an axis that vmap has named.

All are linear. A loss J is the sum of what the devices contribute, so g · J travels the way that x
came, in the other direction: what was sent comes back, what was copied is summed, what was summed
is copied.

Inside `jax.shard_map` the type of a value says how its copies on the devices are related, along
each axis of the mesh. A gradient's type follows from the value's:

    value          its copies                     gradient
    varying        differ                         varying
    invarying      are the same value             invarying
    reduced        are the same value             unreduced
    unreduced      add up to the value            reduced

Without types (`check_vma=False`, vmap) every value counts as varying, and a sum as a sum that is
then sent to everyone: its gradient is summed once more.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from fungrad.rulebook import rule


def _on_mesh(function, *shape, out: str | None = "i", check_vma=True):
    """An example: the function of shards, over all devices, of an array whose first axis is n."""

    def example(draw):
        n = jax.device_count()
        mesh = jax.make_mesh((n,), ("i",), axis_types=(AxisType.Auto,))
        how = {"mesh": mesh, "in_specs": P("i"), "out_specs": P(out), "check_vma": check_vma}
        return jax.shard_map(partial(function, n=n), **how), draw.uniform(n, *shape or (3,))

    return example


# --- sums ----------------------------------------------------------------------------------------


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
    if len(named) == len(axes):
        return g
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    return lax.broadcast_in_dim(g, x.shape, kept)


@rule("psum_invariant", example=_on_mesh(lambda x, n: lax.psum(x, "i"), out=None))
def psum_invariant(g, z, x, *, axes):
    """z = Σᵢ xᵢ, the same value everywhere        ∂z/∂xᵢ = I"""
    return lax.pcast(g, axes, to="varying")


@rule(
    "reduce_scatter",
    example=lambda draw: [
        _on_mesh(lambda x, n: lax.psum_scatter(x[0], "i")[None], jax.device_count(), 2)(draw),
        _on_mesh(
            lambda x, n: lax.psum_scatter(x, "i", scatter_dimension=1, tiled=True),
            2 * jax.device_count(),
            check_vma=False,
        )(draw),
    ],
)
def reduce_scatter(g, z, x, *, axis_name, scatter_dimension, axis_index_groups, tiled, **_):
    """zᵢ = Σⱼ xⱼ[i]        ∂zᵢ/∂xⱼ[i] = I"""
    return lax.all_gather(
        g, axis_name, axis_index_groups=axis_index_groups, axis=scatter_dimension, tiled=tiled
    )


# --- gathers -------------------------------------------------------------------------------------


@rule(
    "all_gather",
    example=lambda draw: [
        _on_mesh(lambda x, n: lax.all_gather(x, "i", axis=1))(draw),
        _on_mesh(lambda x, n: lax.all_gather(x, "i", axis=1, tiled=True), check_vma=False)(draw),
    ],
)
def all_gather(g, z, x, *, all_gather_dimension, axis_name, axis_index_groups, tiled, **_):
    """zᵢ = (x₁, x₂, ...) for every i        ∂zᵢ[j]/∂xⱼ = I"""
    return lax.psum_scatter(
        g,
        axis_name,
        scatter_dimension=all_gather_dimension,
        axis_index_groups=axis_index_groups,
        tiled=tiled,
    )


@rule(
    "all_gather_invariant",
    example=lambda draw: [
        _on_mesh(lambda x, n: lax.all_gather(x, "i", to="invarying"), out=None)(draw),
        _on_mesh(lambda x, n: lax.all_gather(x, "i", to="invarying", tiled=True), out=None)(draw),
    ],
)
def all_gather_invariant(g, z, x, *, all_gather_dimension, axis_name, axis_size, tiled):
    """z = (x₁, x₂, ...), the same value everywhere        ∂z[i]/∂xᵢ = I"""
    size = g.shape[all_gather_dimension] // axis_size
    start = lax.axis_index(axis_name) * size
    own = lax.dynamic_slice_in_dim(g, start, size, all_gather_dimension)
    return own if tiled else lax.squeeze(own, [all_gather_dimension])


def _reduced(x, n):
    gathered = lax.all_gather(x, "i", to="reduced", tiled=True)
    return lax.pcast(gathered, "i", to="varying")


@rule("all_gather_reduced", example=_on_mesh(_reduced))
def all_gather_reduced(g, z, x, *, all_gather_dimension, axis_name, tiled, **_):
    """z = (x₁, x₂, ...), the same value everywhere, g unreduced        ∂z[i]/∂xᵢ = I"""
    return lax.psum_scatter(g, axis_name, scatter_dimension=all_gather_dimension, tiled=tiled)


# --- exchanges -----------------------------------------------------------------------------------


def _ring(n):
    return [(i, (i + 1) % n) for i in range(n)]


@rule("ppermute", example=_on_mesh(lambda x, n: lax.ppermute(x, "i", _ring(n)[1:])))
def ppermute(g, z, x, *, axis_name, perm):
    """z at j = x at i for the pairs (i, j), else 0        ∂zⱼ/∂xᵢ = I"""
    return lax.ppermute(g, axis_name, [(j, i) for i, j in perm])


@rule(
    "all_to_all",
    example=lambda draw: [
        _on_mesh(lambda x, n: lax.all_to_all(x, "i", 1, 0), jax.device_count())(draw),
        _on_mesh(lambda x, n: lax.all_to_all(x, "i", 1, 2, tiled=True), jax.device_count(), 2)(
            draw
        ),
    ],
)
def all_to_all(g, z, x, *, axis_name, split_axis, concat_axis, axis_index_groups, **_):
    """zⱼ[i] = xᵢ[j]        ∂zⱼ[i]/∂xᵢ[j] = I"""
    # The primitive keeps both axes, whether or not its user asked for tiles.
    groups = axis_index_groups
    return lax.all_to_all(
        g, axis_name, concat_axis, split_axis, axis_index_groups=groups, tiled=True
    )


def _at_the_source(g, axis_name, source):
    """Σ g at the source, 0 elsewhere: everyone's z is the source's x."""
    here = lax.axis_index(axis_name) == source
    return lax.mul(lax.psum(g, axis_name), lax.convert_element_type(here, g.dtype))


@rule("pbroadcast", example=_on_mesh(lambda x, n: lax.pbroadcast(x, "i", n - 1)))
def pbroadcast(g, z, x, *, axis_name, source):
    """zᵢ = x at the source        ∂zᵢ/∂x at the source = I"""
    return _at_the_source(g, axis_name, source)


@rule(
    "pbroadcast_dynamic",
    example=_on_mesh(lambda x, n: lax.pbroadcast(x, "i", jax.numpy.int32(n - 1))),
)
def pbroadcast_dynamic(g, z, x, source, *, axis_name):
    """zᵢ = x at the source        ∂zᵢ/∂x at the source = I"""
    return lambda: _at_the_source(g, axis_name, source), None


def _ragged_example(draw):
    def exchange(x, n):
        ones = jax.numpy.ones(n, "int32")
        offsets = jax.numpy.arange(n, dtype="int32")
        return lax.ragged_all_to_all(x, 2 * x, offsets, ones, offsets, ones, axis_name="i")

    return _on_mesh(exchange, check_vma=False)(draw)


# Device i sends to j its entries [aᵢⱼ, aᵢⱼ + sᵢⱼ), which arrive there at [bᵢⱼ, bᵢⱼ + sᵢⱼ). What it
# receives has the sizes rᵢⱼ = sⱼᵢ. Back goes the same exchange with the roles of a and b, and of s
# and r, exchanged; both must be known at the other end, so a and b change places too.
@rule("ragged_all_to_all", example=_ragged_example)
def ragged_all_to_all(g, z, x, y, a, s, b, r, *, axis_name, axis_index_groups):
    """zⱼ = yⱼ, but zⱼ[bᵢⱼ:][:sᵢⱼ] = xᵢ[aᵢⱼ:][:sᵢⱼ]        ∂zⱼ/∂xᵢ, ∂zⱼ/∂yⱼ select entries"""
    how = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    landed, taken = (
        lax.all_to_all(o, split_axis=0, concat_axis=0, tiled=True, **how) for o in (b, a)
    )

    def kept():
        """g where nothing arrived: the number of pieces that cover an entry is 0."""
        ends = lax.full(g.shape[:1], 0, "int32").at[landed].add(1).at[landed + r].add(-1)
        free = lax.convert_element_type(lax.cumsum(ends) == 0, g.dtype)
        return g * lax.broadcast_in_dim(free, g.shape, [0])

    nothing = lax.full(x.shape, 0, x.dtype)
    return lambda: lax.ragged_all_to_all(g, nothing, landed, r, taken, s, **how), kept, *[None] * 4


# --- casts, where only the type changes, and the collectives of their types ----------------------


@rule("pvary", example=_on_mesh(lambda x, n: lax.pcast(lax.psum(x, "i"), "i", to="varying") * x))
def pvary(g, z, x, *, axes):
    """zᵢ = x, invarying -> varying        ∂zᵢ/∂x = I"""
    return lax.psum(g, axes)


def _share(x, n):
    """x varying -> invarying -> reduced -> varying"""
    return lax.pcast(lax.pcast(lax.psum(x, "i"), "i", to="reduced"), "i", to="varying") * x


def _collect(x, n):
    """x varying -> unreduced -> invarying"""
    return lax.psum(lax.pcast(x, "i", to="unreduced"), "i")


@rule("preduced", example=_on_mesh(_share))
def preduced(g, z, x, *, axes):
    """z = x, invarying -> reduced        ∂z/∂x = I"""
    return lax.psum(g, axes)


@rule("unreduced_psum", example=_on_mesh(_collect, out=None))
def unreduced_psum(g, z, x, *, axes):
    """z = x, unreduced -> invarying        ∂z/∂x = I"""
    return lax.pcast(g, axes, to="reduced")


@rule(
    "unreduced_reduce_scatter",
    example=lambda draw: _on_mesh(
        lambda x, n: lax.psum_scatter(lax.pcast(x[0], "i", to="unreduced"), "i")[None],
        jax.device_count(),
    )(draw),
)
def unreduced_reduce_scatter(g, z, x, *, axis_name, scatter_dimension, tiled, **_):
    """zᵢ = x[i], unreduced -> varying        ∂zᵢ/∂x[i] = I"""
    return lax.all_gather(g, axis_name, axis=scatter_dimension, tiled=tiled, to="reduced")


def _vary_unreduced(g, z, x, *, axes):
    """z = Σᵢ xᵢ, not yet summed, varying -> unreduced        ∂z/∂xᵢ = I"""
    return lax.pcast(g, axes, to="varying")


def _reduced_vary(g, z, x, *, axes):
    """zᵢ = x, reduced -> varying        ∂zᵢ/∂x = I"""
    return lax.pcast(g, axes, to="unreduced")


# The names of the last two end in _p before JAX 0.12.
vary_unreduced_cast = rule("vary_unreduced_cast", example=_on_mesh(_collect, out=None))(
    _vary_unreduced
)
vary_unreduced_cast_p = replace(vary_unreduced_cast, primitive="vary_unreduced_cast_p")
reduced_vary_cast = rule("reduced_vary_cast", example=_on_mesh(_share))(_reduced_vary)
reduced_vary_cast_p = replace(reduced_vary_cast, primitive="reduced_vary_cast_p")
