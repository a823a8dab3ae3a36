"""Indexing: reading entries at positions, and writing them there.

Reading and adding are each other's gradients: what was read from a place adds its gradient to that
place. The positions are integers and have none.

    out = gather(x, i)                ∂L/∂x = scatter_add(0, i, g)
    out = scatter_add(x, i, u)        ∂L/∂u = gather(g, i)
"""

from __future__ import annotations

from functools import partial

from jax import lax
from jax import numpy as jnp

from fungrad import _jax
from fungrad.rulebook import rule
from fungrad.rules.reduction import recurrence, shift

_SPLIT = "ties: the winners share the gradient equally"


# --- dynamic_slice, dynamic_update_slice ---------------------------------------------------------


@rule(
    "dynamic_slice",
    example=lambda draw: [
        (lambda x: lax.dynamic_slice(x, (1, 2), (2, 1)), draw.uniform(3, 4)),
        (lambda x, start: lax.dynamic_slice(x, (start,), (3,)), draw.complex(4), draw.integers()),
    ],
)
def dynamic_slice(g, out, x, *starts, **_):
    """out = S x, S = the rows of I from `starts` on        ∂out/∂x = S"""
    return lambda: _write(_jax.zeros_at(x), g, starts), *(None,) * len(starts)


@rule(
    "dynamic_update_slice",
    example=lambda draw: [
        (
            lambda x, u: lax.dynamic_update_slice(x, u, (1, 2)),
            draw.uniform(3, 4),
            draw.uniform(2, 1),
        ),
        (
            lambda x, u, start: lax.dynamic_update_slice(x, u, (start,)),
            *(draw.complex(4), draw.complex(3), draw.integers()),
        ),
    ],
)
def dynamic_update_slice(g, out, x, update, *starts, **_):
    """out = x with u in the slice that S reads        ∂out/∂x = I − SᵀS        ∂out/∂u = Sᵀ"""
    return (
        lambda: _write(g, _jax.zeros_at(update), starts),
        lambda: lax.dynamic_slice(g, starts, update.shape, allow_negative_indices=False),
        *(None,) * len(starts),
    )


def _write(x, update, starts):
    # In a jaxpr a negative start is out of bounds: it is clamped, not counted from the end.
    return lax.dynamic_update_slice(x, update, starts, allow_negative_indices=False)


# --- gather --------------------------------------------------------------------------------------


def _gather_examples(draw):
    def rows(mode, **how):
        numbers = lax.GatherDimensionNumbers((1,), (0,), (0,))
        return partial(lax.gather, dimension_numbers=numbers, slice_sizes=(1, 2), mode=mode, **how)

    x, inside, outside = (
        draw.uniform(4, 2),
        draw.integers(5, 1, high=4),
        draw.integers(5, 1, low=-3),
    )
    per_example = lax.GatherDimensionNumbers((), (1,), (1,), (0,), (0,))
    entries = partial(lax.gather, dimension_numbers=per_example, slice_sizes=(1, 1), mode="clip")
    return [
        (rows("promise_in_bounds"), x, inside),
        (rows("clip"), draw.complex(4, 2), outside),
        (rows("fill", fill_value=7.0), x, outside),
        (entries, draw.uniform(3, 4), draw.integers(3, 2, 1, high=6)),
    ]


@rule("gather", example=_gather_examples)
def gather(g, out, x, indices, *, dimension_numbers, slice_sizes, fill_value, **how):
    """out = S x, S = rows of I, 0 where out of bounds ("fill")        ∂out/∂x = S"""
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=dimension_numbers.offset_dims,
        inserted_window_dims=dimension_numbers.collapsed_slice_dims,
        scatter_dims_to_operand_dims=dimension_numbers.start_index_map,
        operand_batching_dims=dimension_numbers.operand_batching_dims,
        scatter_indices_batching_dims=dimension_numbers.start_indices_batching_dims,
    )
    return lambda: lax.scatter_add(_jax.zeros_at(x), indices, g, numbers, **how), None


# --- scatters ------------------------------------------------------------------------------------
#
# In the Jacobians S is the matrix of the gather with the same indices: u meets the entries S x.


def _reader(x, indices, updates, *, dimension_numbers, update_jaxpr, update_consts, **how):
    """a ↦ S a: the gather that reads where the scatter writes, 0 where the scatter drops."""
    sizes = iter([updates.shape[axis] for axis in dimension_numbers.update_window_dims])
    narrow = (*dimension_numbers.inserted_window_dims, *dimension_numbers.operand_batching_dims)
    return partial(
        lax.gather,
        start_indices=indices,
        dimension_numbers=lax.GatherDimensionNumbers(
            offset_dims=dimension_numbers.update_window_dims,
            collapsed_slice_dims=dimension_numbers.inserted_window_dims,
            start_index_map=dimension_numbers.scatter_dims_to_operand_dims,
            operand_batching_dims=dimension_numbers.operand_batching_dims,
            start_indices_batching_dims=dimension_numbers.scatter_indices_batching_dims,
        ),
        slice_sizes=[1 if axis in narrow else next(sizes) for axis in range(x.ndim)],
        fill_value=0,
        **how,
    )


def _writer(scatter, indices, *, update_jaxpr, update_consts, **how):
    """(a, u) ↦ another kind of scatter of u into a, at the same places."""
    return lambda a, u: scatter(a, indices, u, **how)


def _scatter_examples(primitive, *, duplicates=True):
    def examples(draw):
        def into(*numbers, **how):
            numbers = lax.ScatterDimensionNumbers(*numbers)
            return partial(getattr(lax, primitive), dimension_numbers=numbers, **how)

        rows, entries = (
            into((1,), (0,), (0,), unique_indices=True),
            into((), (0,), (0,), mode="drop"),
        )
        yield rows, draw.uniform(4, 2), jnp.array([[3], [0], [2]]), draw.uniform(3, 2)
        if duplicates:
            yield entries, draw.uniform(4), jnp.array([[2], [0], [9], [2]]), draw.uniform(4)
        if primitive in ("scatter_max", "scatter_min"):
            ones = draw.values(1, 1, 1)
            yield draw.kink(entries, ones, jnp.array([[2], [0], [2]]), ones)

    return lambda draw: list(examples(draw))


@rule("scatter-add", example=_scatter_examples("scatter_add"))
def scatter_add(g, out, x, indices, updates, **params):
    """out = x + Sᵀu        ∂out/∂x = I        ∂out/∂u = Sᵀ"""
    return g, None, lambda: _reader(x, indices, updates, **params)(g)


@rule("scatter-sub", example=_scatter_examples("scatter_sub"))
def scatter_sub(g, out, x, indices, updates, **params):
    """out = x − Sᵀu        ∂out/∂x = I        ∂out/∂u = −Sᵀ"""
    return g, None, lambda: -_reader(x, indices, updates, **params)(g)


@rule("scatter", example=_scatter_examples("scatter"))
def scatter(g, out, x, indices, updates, *, update_jaxpr, **params):
    """out = x, overwritten by u where S reads        ∂out/∂x = I − SᵀS        ∂out/∂u = Sᵀ"""
    params = _without_function(update_jaxpr, params)
    overwrite = _writer(lax.scatter, indices, **params)

    def of_updates():
        # Of several updates of one place one stays: number them to see whose number is there.
        read = _reader(x, indices, updates, **params)
        if params["unique_indices"]:
            return read(g)
        numbers = lax.reshape(lax.iota("int32", updates.size) + 1, updates.shape)
        stays = read(overwrite(lax.full(x.shape, 0, numbers.dtype), numbers)) == numbers
        return lax.select(stays, read(g), _jax.zeros_at(updates))

    return lambda: overwrite(g, _jax.zeros_at(updates)), None, of_updates


def _without_function(update_jaxpr, params):
    """The parameters of a scatter that writes its updates as they are."""
    if update_jaxpr is not None:
        raise NotImplementedError(
            "scatter_apply, i.e. x.at[i].apply(f), has no gradient rule, as in JAX; "
            "write x.at[i].set(f(x[i])) instead"
        )
    return {**params, "update_jaxpr": None}


@rule("scatter-mul", example=_scatter_examples("scatter_mul", duplicates=False))
def scatter_mul(g, out, x, indices, updates, **params):
    """out = x Π u over the u that meet x        ∂out/∂x = diag(Π u), ∂out/∂uᵢ = x Π_{j≠i} uⱼ"""
    multiply = _writer(lax.scatter_mul, indices, **params)

    def of_updates():
        read = _reader(x, indices, updates, **params)
        if params["unique_indices"]:
            return read(g * x)
        places = lax.reshape(lax.iota("int32", x.size), x.shape)
        return read(g * x) * _product_of_rivals(updates, read(places, fill_value=-1))

    return lambda: multiply(g, updates), None, of_updates


def _product_of_rivals(u, places):
    """For each entry of u, the product of the other entries that go to the same place.

    Sorted by place, rivals are neighbours: their product is that of the run of rivals before, times
    that of the run after. No division, so zeros do no harm.
    """
    numbers = lax.iota("int32", u.size)
    flat = lax.reshape(places, [u.size]), numbers, lax.reshape(u, [u.size])
    places, order, sorted_u = lax.sort(flat, num_keys=1)
    runs = []
    for step in (1, -1):
        rival = lax.convert_element_type(places == shift(places, step, 0, -2), u.dtype)
        neighbour = shift(sorted_u, step, 0, 1)
        runs.append(recurrence(1 - rival, rival * neighbour, 0, reverse=step == -1))
    return lax.reshape(lax.sort((order, runs[0] * runs[1]), num_keys=1)[1], u.shape)


def _share(g, out, x, indices, updates, **params):
    read, add = _reader(x, indices, updates, **params), _writer(lax.scatter_add, indices, **params)
    stays, wins = (lax.convert_element_type(w, g.dtype) for w in (x == out, updates == read(out)))
    share = g / add(stays, wins)
    return stays * share, None, wins * read(share)


@rule("scatter-max", example=_scatter_examples("scatter_max"), kink=_SPLIT)
def scatter_max(g, out, x, indices, updates, **params):
    """out = max(x, u that meet x)        ∂out/∂x = diag[x = out], ∂out/∂u = Sᵀ diag[u = S out]"""
    return _share(g, out, x, indices, updates, **params)


@rule("scatter-min", example=_scatter_examples("scatter_min"), kink=_SPLIT)
def scatter_min(g, out, x, indices, updates, **params):
    """out = min(x, u that meet x)        ∂out/∂x = diag[x = out], ∂out/∂u = Sᵀ diag[u = S out]"""
    return _share(g, out, x, indices, updates, **params)
