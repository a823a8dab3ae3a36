"""Slices, gathers, scatters: modes, indices out of bounds, duplicates, layouts."""

import itertools
from functools import partial

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.rules.grids import (
    QUICK,
    STRICT,
    assert_agree,
    assert_differences,
    complex_normal,
    gradient,
    normal,
    ours,
    rng,
    stacked,
    tied,
)

MODES = ["clip", "fill", "promise_in_bounds"]


def indices(*shape, size=4, mode="promise_in_bounds"):
    """Positions with duplicates; out of bounds on both sides where the mode allows it."""
    low, high = (0, size) if mode == "promise_in_bounds" else (-3, size + 3)
    return jnp.asarray(rng.integers(low, high, shape))


# --- slices --------------------------------------------------------------------------------------


def slices(array):
    for starts in ((0, 0), (1, 2), (3, 3), (9, -9), (2, -1)):
        starts = tuple(jnp.asarray(start) for start in starts)
        read = partial(lax.dynamic_slice, slice_sizes=(2, 3))
        yield lambda x, starts=starts, read=read: read(x, starts), array(4, 5)
        write = lax.dynamic_update_slice
        yield lambda x, u, starts=starts, write=write: write(x, u, starts), array(4, 5), array(2, 3)


def test_slices_inside_and_beyond_the_border():
    assert_agree([*slices(normal), *slices(complex_normal)])


def test_slices_second_and_third_order():
    assert_agree(list(slices(normal))[2:6], times=2)
    assert_agree(list(slices(normal))[2:4], times=3)


def test_slices_under_vmap_become_gathers():
    def read(x, start):
        return lax.dynamic_slice(x, (start,), (2,))

    def write(x, u, start):
        return lax.dynamic_update_slice(x, u, (start,))

    x, u, start = normal(3, 5), normal(3, 2), jnp.array([0, 2, 4])
    assert_agree([(read, x, start), (write, x, u, start)], batched=True)
    assert_agree([(jax.vmap(read), x, start), (jax.vmap(write), x, u, start)], times=2)


def test_a_slice_that_starts_at_a_literal_far_below_zero():
    def read(x):
        return lax.dynamic_slice(x, (-7,), (2,)) * x[0]  # clamped, then counted from the start

    assert_agree([(read, normal(5))])
    assert_agree([(lambda x: lax.dynamic_update_slice(x, x[:2] * x[1], (-7,)), normal(5))])


def test_an_update_that_is_a_literal():
    assert_agree(
        [(lambda x: x.at[1].set(2.0) * x, normal(3)), (lambda x: x.at[1].add(2.0), normal(3))]
    )
    assert_agree([(lambda x: lax.dynamic_update_slice(x, 2.0, ()), normal())])


# --- gather --------------------------------------------------------------------------------------

# Layouts: (offset_dims, collapsed_slice_dims, start_index_map, operand_batching_dims,
# start_indices_batching_dims), slice sizes, shape of the indices; the operand is [4, 5, 3].
LAYOUTS = [
    (((1, 2), (0,), (0,)), (1, 5, 3), (6, 1)),
    (((0, 2), (1,), (1,)), (4, 1, 3), (6, 1)),
    (((), (0, 1, 2), (0, 1, 2)), (1, 1, 1), (7, 3)),
    (((), (0, 1, 2), (2, 0, 1)), (1, 1, 1), (2, 3, 3)),
    (((1, 2, 3), (), (0, 2)), (2, 5, 2), (3, 2)),
    (((1,), (1,), (1,), (0,), (0,)), (1, 1, 2), (4, 1)),
    (((1,), (1,), (1, 2), (0,), (1,)), (1, 1, 2), (2, 4, 2)),
]


def gathers(array):
    for (numbers, sizes, shape), mode in itertools.product(LAYOUTS, MODES):
        read = partial(
            lax.gather,
            dimension_numbers=lax.GatherDimensionNumbers(*numbers),
            slice_sizes=sizes,
            mode=mode,
            fill_value=7 if mode == "fill" else None,
        )
        size = 2 if mode == "promise_in_bounds" else 4
        yield read, array(4, 5, 3), indices(*shape, size=size, mode=mode)


def test_gather_layouts_and_modes():
    assert_agree([*gathers(normal), *list(gathers(complex_normal))[::5]])


def test_gather_second_and_third_order():
    assert_agree(list(gathers(normal))[1::4], times=2)
    assert_agree(list(gathers(normal))[4::9], times=3)


def test_gather_vmap():
    cases = list(gathers(normal))[::4]
    assert_agree(stacked(cases), batched=True)
    over_numbers = [(jax.vmap(f, (None, 0)), x, jnp.stack([i, i[..., ::-1]])) for f, x, i in cases]
    assert_agree(over_numbers)


def test_numpy_indexing():
    rows, columns, wanted = jnp.array([2, 0, 2]), jnp.array([1, 1, -1]), jnp.array([True, False])
    cases = [
        lambda x: x[rows],
        lambda x: x[:, columns],
        lambda x: x[rows, columns],
        lambda x: x[rows[:, None], columns],
        lambda x: x[1, ..., ::-1],
        lambda x: x[:, None, -1],
        lambda x: jnp.take(x, rows, axis=1),
        lambda x: jnp.take_along_axis(x, jnp.argsort(x, axis=1), axis=1),
        lambda x: x.at[rows].get(mode="fill", fill_value=jnp.nan)[:2],
        lambda x: jnp.where(wanted[:, None, None], x[rows[:2], None], x[0]),
    ]
    assert_agree([(function, normal(3, 4)) for function in cases])


def test_gather_of_bfloat16_and_an_empty_gather():
    assert_agree([(lambda x: x[jnp.array([1, 1])], normal(3, 2, dtype=jnp.bfloat16))])
    assert_agree([(lambda x: x[jnp.zeros(0, int)], normal(3, 2))])


# --- scatters ------------------------------------------------------------------------------------

SCATTERS = [lax.scatter_add, lax.scatter_sub, lax.scatter, lax.scatter_min, lax.scatter_max]


def scatters(array, functions=SCATTERS, modes=MODES, unique=False):
    for (numbers, sizes, shape), mode, function in itertools.product(LAYOUTS, modes, functions):
        reads = partial(
            lax.gather,
            dimension_numbers=lax.GatherDimensionNumbers(*numbers),
            slice_sizes=sizes,
            mode=mode,
        )
        x = array(4, 5, 3)
        # JAX 0.10 does not clip in the gradient of scatter_min and scatter_max.
        inside = mode == "promise_in_bounds" or (mode == "clip" and function in SCATTERS[3:])
        kind = "promise_in_bounds" if inside else mode
        places = indices(*shape, size=2 if inside else 4, mode=kind)
        if unique:
            places = places[:1] if len(numbers) == 3 else places
        shape = jax.eval_shape(reads, x, places).shape
        write = partial(
            function,
            dimension_numbers=lax.ScatterDimensionNumbers(*numbers),
            mode=mode,
            unique_indices=unique,
        )
        yield (
            lambda x, u, places=places, write=write: write(x, places, u),
            x,
            array(*shape),
        )


def test_scatter_layouts_modes_and_duplicates():
    assert_agree(list(scatters(normal))[::3])
    assert_agree(list(scatters(complex_normal, SCATTERS[:3]))[::7])


def test_scatter_ties():
    assert_agree(list(scatters(tied, SCATTERS[3:]))[::4])
    got = fg.vjp(lambda x, u: x.at[jnp.zeros(3, int)].max(u), jnp.ones(2), jnp.array([1.0, 0, 1]))
    x, u = got[1](jnp.array([3.0, 5.0]))
    np.testing.assert_allclose(x, [1, 5], rtol=1e-15)
    np.testing.assert_allclose(u, [1, 0, 1], rtol=1e-15)


@pytest.mark.parametrize("mode", ["clip", "drop"])
def test_the_extremum_that_is_clipped_or_dropped(mode):
    x, u, places = jnp.array([1.0, 2.0, 3.0]), jnp.array([4.0, 0.5, 2.5]), jnp.array([5, -9, 1])
    got = fg.vjp(lambda x, u: x.at[places].max(u, mode=mode), x, u)[1](jnp.array([1.0, 10, 100]))
    np.testing.assert_array_equal(got[0], [1, 0, 0 if mode == "clip" else 100])
    np.testing.assert_array_equal(got[1], [100 if mode == "clip" else 0, 0, 10])


def test_scatter_second_and_third_order():
    assert_agree(list(scatters(normal))[::13], times=2)
    assert_agree(list(scatters(normal))[4::37], times=3)


def test_scatter_vmap():
    assert_agree(stacked(list(scatters(tied))[::9]), batched=True)


def test_scatter_of_unique_indices():
    functions = [lax.scatter, lax.scatter_mul]
    cases = list(scatters(normal, functions, ["clip"], unique=True))
    assert_agree(cases)
    assert_agree(cases[::3], times=2)


def test_overwriting_the_same_place_keeps_the_gradient_of_the_writer_who_stays():
    x, u, places = jnp.zeros(3), jnp.array([1.0, 2.0, 3.0]), jnp.array([1, 1, 0])
    out, pullback = fg.vjp(lambda x, u: x.at[places].set(u), x, u, rules=STRICT)
    of_x, of_u = pullback(jnp.array([10.0, 20.0, 30.0]))
    np.testing.assert_array_equal(of_x, [0, 0, 30])
    np.testing.assert_array_equal(of_u, jnp.where(out[1] == u, 20.0, 0.0).at[2].set(10))


def product_by_hand(x, u, places):
    """x.at[places].multiply(u) as a product of a dense matrix."""
    meets = places == jnp.arange(x.size)[:, None]
    return x * jnp.prod(jnp.where(meets, u, 1.0), axis=1)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_scatter_mul_with_duplicates_and_zeros(times):
    """JAX has no gradient here unless the indices are unique."""
    places = jnp.array([2, 0, 0, 2, 0, 7])
    patterns = jnp.array([[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 0]], float)
    x, u = normal(3), normal(3, 6) * patterns

    def pull(vjp, function):
        return jax.jit(jax.vmap(gradient(vjp, function, times), (None, 0)), compiler_options=QUICK)(
            x, u
        )

    got = pull(ours, lambda x, u: x.at[places].multiply(u))
    want = pull(jax.vjp, partial(product_by_hand, places=places))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_scatter_mul_of_windows_with_duplicates():
    def by_hand(x, u):
        return x * jnp.stack([u[2], u[0] * u[1] * u[3]])

    def multiply(x, u):
        return x.at[jnp.array([1, 1, 0, 1])].multiply(u)

    args = normal(2, 3), normal(4, 3)
    want = jax.jit(gradient(jax.vjp, by_hand))(*args)
    got = jax.jit(gradient(ours, multiply), compiler_options=QUICK)(*args)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_scatter_apply_says_what_to_write_instead():
    with pytest.raises(NotImplementedError, match=r"x\.at\[i\]\.set\(f\(x\[i\]\)\)"):
        fg.grad(lambda x: x.at[0].apply(jnp.sin).sum())(normal(3))


def test_scatter_of_bfloat16():
    x, u = normal(3, dtype=jnp.bfloat16), normal(4, dtype=jnp.bfloat16)
    places = jnp.array([0, 2, 2, 0])

    def both(x, u):
        return x.at[places].add(u) + x.at[places].max(u)

    assert_agree([(both, x, u)], rtol=2**-6)


def test_indexing_differences():
    places = jnp.array([0, 2, 2, 0])
    assert_differences(lambda x, u: x.at[places].add(u)[places], normal(3), normal(4))
    assert_differences(lambda x, u: x.at[places].multiply(u), normal(3), normal(4))
    assert_differences(lambda x, u: x.at[places].min(u), normal(3), normal(4))
