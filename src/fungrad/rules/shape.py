"""Shape operations: each output element is a copy of one input element.

Their Jacobians hold zeros and ones, so a gradient is moved back to where its element came from,
and where an element was copied its gradients are summed.
"""

from __future__ import annotations

import jax
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.layout import Layout, with_layout_constraint
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core.primitives import copy_p

from fungrad import _jax
from fungrad.rulebook import rule

# --- The same elements under another shape --------------------------------------------------


@rule(
    "reshape",
    example=lambda draw: [
        (lambda x: lax.reshape(x, (3, 2)), draw.uniform(2, 3)),
        (lambda x: lax.reshape(x, (6,), dimensions=(1, 0)), draw.uniform(2, 3)),
        (lambda x: lax.reshape(x, ()), draw.complex(1, 1)),
    ],
)
def reshape(g, z, x, *, dimensions):
    """vec(z) = vec(x)        ∂z/∂x = I"""
    if dimensions is None:
        return lax.reshape(g, x.shape, out_sharding=_jax.gradient_sharding(x))
    place = _jax.gradient_sharding(x, dimensions)
    moved = lax.reshape(g, [x.shape[axis] for axis in dimensions], out_sharding=place)
    return lax.transpose(moved, np.argsort(dimensions))


@rule(
    "squeeze",
    example=lambda draw: [
        (lambda x: lax.squeeze(x, (0, 2)), draw.uniform(1, 3, 1)),
        (lambda x: lax.squeeze(x, (1,)), draw.complex(3, 1)),
    ],
)
def squeeze(g, z, x):
    """vec(z) = vec(x), without axes of length 1        ∂z/∂x = I"""
    return lax.reshape(g, x.shape, out_sharding=_jax.gradient_sharding(x))


@rule(
    "transpose",
    example=lambda draw: [
        (lambda x: lax.transpose(x, (1, 2, 0)), draw.uniform(2, 3, 2)),
        (lambda x: lax.transpose(x, (1, 0)), draw.complex(2, 3)),
    ],
)
def transpose(g, z, x, *, permutation):
    """z[i_π(0), i_π(1), …] = x[i₀, i₁, …]        ∂z/∂x = P_π, whose inverse is P_π⁻¹ = P_πᵀ"""
    return lax.transpose(g, np.argsort(permutation))


@rule("rev", example=lambda draw: (lambda x: lax.rev(x, (0, 2)), draw.uniform(2, 2, 3)))
def rev(g, z, x, *, dimensions):
    """z[…, i, …] = x[…, n − 1 − i, …]        ∂z/∂x = the exchange matrix, its own inverse"""
    return lax.rev(g, dimensions)


# --- Copies of elements ---------------------------------------------------------------------


@rule(
    "broadcast_in_dim",
    example=lambda draw: [
        (lambda x: lax.broadcast_in_dim(x, (2, 3), (1,)), draw.uniform(3)),
        (lambda x: lax.broadcast_in_dim(x, (2, 3, 2), (0, 2)), draw.uniform(2, 1)),
        (lambda x: lax.broadcast_in_dim(x, (2, 2), ()), draw.complex()),
    ],
)
def broadcast_in_dim(g, z, x, *, shape, broadcast_dimensions):
    """z[i, j] = x[j]        ∂z/∂x = 1 ⊗ I: g is summed over the axes that x lacks"""
    kept = [i for i, d in enumerate(broadcast_dimensions) if x.shape[i] == shape[d]]
    added = sorted({*range(len(shape))} - {broadcast_dimensions[i] for i in kept})
    summed = lax.reduce_sum(g, added, out_sharding=_jax.gradient_sharding(x, kept))
    return lax.reshape(summed, x.shape, out_sharding=_jax.gradient_sharding(x))


@rule(
    "tile",
    example=lambda draw: [
        (lambda x: lax.tile(x, (2, 3)), draw.uniform(2, 2)),
        (lambda x: lax.tile(x, (1, 2)), draw.complex(2, 1)),
    ],
)
def tile(g, z, x, *, reps):
    """z[i + n k] = x[i] for each repetition k        ∂z/∂x = 1 ⊗ I: g is summed over k"""
    folded = [n for pair in zip(reps, x.shape, strict=True) for n in pair]
    place = _jax.gradient_sharding(x, [k for axis in range(x.ndim) for k in (None, axis)])
    apart = lax.reshape(g, folded, out_sharding=place)
    return lax.reduce_sum(apart, range(0, len(folded), 2))


# --- Parts and joins, duals of each other ---------------------------------------------------


@rule(
    "slice",
    example=lambda draw: [
        (lambda x: lax.slice(x, (1, 0), (3, 2)), draw.uniform(4, 3)),
        (lambda x: lax.slice(x, (0, 1), (2, 5), (1, 3)), draw.uniform(2, 6)),
        (lambda x: lax.slice(x, (2,), (2,)), draw.uniform(3)),
        (lambda x: lax.slice(x, (1,), (3,)), draw.complex(4)),
    ],
)
def slice(g, z, x, *, start_indices, limit_indices, strides):
    """z[i] = x[a + s i]        ∂z/∂x = S, rows of I: g comes back between zeros"""
    strides = strides or [1] * x.ndim
    after = [
        n - a - (s * (m - 1) + 1 if m else 0)
        for n, a, s, m in zip(x.shape, start_indices, strides, g.shape, strict=True)
    ]
    between = [s - 1 for s in strides]
    zero = g.dtype.type(0)
    return lax.pad(g, zero, list(zip(start_indices, after, between, strict=True)))


@rule(
    "pad",
    example=lambda draw: [
        (_padded((1, 2, 0), (0, 1, 0)), draw.uniform(2, 3), draw.uniform()),
        (_padded((1, 0, 2)), draw.uniform(3), draw.uniform()),
        (_padded((-1, 2, 1)), draw.uniform(4), draw.uniform()),
        (_padded((1, -3, 1), (-1, -1, 0)), draw.complex(4, 3), draw.complex()),
        (_padded((2, 1, 1)), draw.uniform(0), draw.uniform()),
    ],
)
def pad(g, z, x, filling, *, padding_config):
    """z = x between fillings f        ∂z/∂x = Sᵀ, S as for slice        ∂z/∂f = [not from x]"""

    def by_x():
        cut = [(-low, -high, 0) for low, high, _ in padding_config]
        inner = lax.pad(g, g.dtype.type(0), cut)  # a negative padding had cut x: zeros there
        steps = [between + 1 for *_, between in padding_config]
        return lax.slice(inner, [0] * g.ndim, inner.shape, steps)

    def by_filling():
        is_filling = lax.pad(lax.full(x.shape, False), True, padding_config)
        return lax.reduce_sum(lax.select(is_filling, g, lax.full_like(g, 0)), range(g.ndim))

    return by_x, by_filling


def _padded(*padding_config):
    return lambda x, filling: lax.pad(x, filling, padding_config)


@rule(
    "concatenate",
    example=lambda draw: [
        (_concatenated(1), draw.uniform(2, 1), draw.uniform(2, 3), draw.uniform(2, 2)),
        (_concatenated(0), draw.complex(2), draw.complex(1)),
    ],
)
def concatenate(g, z, *xs, dimension):
    """z = (x₁; x₂; …) along an axis        ∂z/∂xₖ = the columns of I that hold xₖ"""
    ends = np.cumsum([x.shape[dimension] for x in xs]).tolist()
    starts = [0, *ends[:-1]]

    def part(start, end):
        return lambda: lax.slice_in_dim(g, start, end, axis=dimension)

    return tuple(map(part, starts, ends))


def _concatenated(axis):
    return lambda *xs: lax.concatenate(xs, axis)


@rule(
    "split",
    example=lambda draw: [
        (lambda x: lax.split(x, (1, 3, 2), axis=1), draw.uniform(2, 6)),
        (lambda x: lax.split(x, (2, 1)), draw.complex(3)),
    ],
)
def split(g, zs, x, *, axis):
    """x = (z₁; z₂; …) along an axis        ∂zₖ/∂x = the rows of I that hold zₖ"""
    return lax.concatenate(_with_zeros(g, zs), axis)


@rule(
    "stack",
    example=lambda draw: [
        (lambda *xs: lax.stack(xs, axis=1), draw.uniform(2), draw.uniform(2), draw.uniform(2)),
        (lambda *xs: lax.stack(xs), draw.complex(), draw.complex()),
    ],
)
def stack(g, z, *xs, axis):
    """z[k] = xₖ        ∂z/∂xₖ = eₖ ⊗ I"""

    def part(k):
        return lambda: lax.index_in_dim(g, k, axis, keepdims=False)

    return tuple(map(part, range(len(xs))))


@rule(
    "unstack",
    example=lambda draw: [
        (lambda x: lax.unstack(x, axis=1), draw.uniform(2, 3)),
        (lambda x: lax.unstack(x), draw.complex(2)),
    ],
)
def unstack(g, zs, x, *, axis):
    """zₖ = x[k]        ∂zₖ/∂x = eₖᵀ ⊗ I"""
    return lax.stack(_with_zeros(g, zs), axis=axis)


def _with_zeros(g, outputs):
    return [_jax.zeros_at(z) if g_k is None else g_k for g_k, z in zip(g, outputs, strict=True)]


# --- The identity, under names that mean something to JAX -----------------------------------


@rule("copy", example=lambda draw: (lambda x: jax.numpy.array(x, copy=True), draw.uniform(3)))
def copy(g, z, x):
    """z = x, in memory of its own        ∂z/∂x = I, likewise"""
    return copy_p.bind(g)


@rule(
    "name",
    example=lambda draw: (lambda x: checkpoint_name(x, "x"), draw.uniform(3)),
)
def name(g, z, x):
    """z = x, with a name        ∂z/∂x = I"""
    return g


@rule(
    "xla_metadata_value",
    example=lambda draw: (lambda x: set_xla_metadata(x, a="b"), draw.uniform(3)),
)
def xla_metadata_value(g, z, x):
    """z = x, with notes for XLA        ∂z/∂x = I"""
    return g


@rule(
    "layout_constraint",
    example=lambda draw: (
        lambda x: with_layout_constraint(x, Layout((1, 0))),
        draw.uniform(2, 3),
    ),
)
def layout_constraint(g, z, x, *, layout):
    """z = x, in another order in memory        ∂z/∂x = I, likewise"""
    return with_layout_constraint(g, layout)


@rule(
    "device_put",
    example=lambda draw: (jax.device_put, draw.uniform(3)),
)
def device_put(g, zs, *xs, srcs):
    """z = x, on other devices        ∂z/∂x = I, on the devices of x"""
    return tuple(
        g_k if g_k is None or device is None else jax.device_put(g_k, device)
        for g_k, device in zip(g, srcs, strict=True)
    )


@rule(
    "optimization_barrier",
    example=lambda draw: (
        lambda *xs: lax.optimization_barrier(xs),
        draw.uniform(3),
        draw.complex(2),
    ),
)
def optimization_barrier(g, zs, *xs):
    """zₖ = xₖ, once all are computed        ∂zₖ/∂xₖ = I, likewise"""
    together = iter(lax.optimization_barrier([g_k for g_k in g if g_k is not None]))
    return tuple(None if g_k is None else next(together) for g_k in g)
