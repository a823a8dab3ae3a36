"""Reductions, cumulative operations, windows: axes, ties, zeros, strides, paddings, dilations."""

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
    cotangent,
    gradient,
    normal,
    ours,
    stacked,
    tied,
)


def with_zeros(x, *places):
    return x.at[tuple(np.transpose(places))].set(0)


# --- reductions ----------------------------------------------------------------------------------

AXES = [(0,), (1,), (0, 2), (2, 0), (0, 1, 2), ()]
REDUCTIONS = [lax.reduce_sum, lax.reduce_max, lax.reduce_min, lax.reduce_prod]


def reductions(array, functions=REDUCTIONS):
    for function, axes in itertools.product(functions, AXES):
        yield partial(function, axes=axes), array(2, 3, 4)


def test_reductions_over_any_axes():
    assert_agree([*reductions(normal), *list(reductions(tied))[6:18]])


def test_reductions_of_complex_numbers():
    assert_agree(reductions(complex_normal))


def test_reductions_second_and_third_order():
    assert_agree([*list(reductions(normal))[1::3], *list(reductions(tied))[6:18:3]], times=2)
    assert_agree(list(reductions(normal))[1::6], times=3)


def test_reductions_vmap():
    assert_agree(stacked(reductions(tied)), batched=True)


def test_a_tie_is_split_equally():
    x = jnp.array([1.0, 3.0, 3.0, 2.0])
    for function, y in ((jnp.max, x), (jnp.min, -x)):
        np.testing.assert_array_equal(fg.grad(function, rules=STRICT)(y), [0, 0.5, 0.5, 0])


@pytest.mark.parametrize("places", [[(1,)], [(0,), (3,)], [(0,), (1,), (2,)]])
@pytest.mark.parametrize("array", [normal, complex_normal])
def test_product_with_zeros(places, array):
    x = with_zeros(array(4), *places)
    product = partial(lax.reduce_prod, axes=(0,))
    for times in (1, 2, 3):
        assert_agree([(product, x)], times)


def test_product_with_zeros_over_several_axes():
    x = with_zeros(normal(2, 3, 2), (0, 0, 0), (1, 2, 0), (1, 1, 1))
    assert_agree([(partial(lax.reduce_prod, axes=axes), x) for axes in AXES], times=2)


def test_reductions_keep_bfloat16_and_empty_arrays():
    short = [(f, normal(2, 3, 4, dtype=jnp.bfloat16)) for f, _ in reductions(normal)]
    assert_agree(short[::3], rtol=2**-4)
    empty = [partial(f, axes=(1,)) for f in (lax.reduce_sum, lax.reduce_prod)]
    assert_agree([(f, jnp.zeros((2, 0))) for f in empty])


def test_reductions_differences():
    assert_differences(partial(lax.reduce_prod, axes=(0, 1)), normal(2, 3))
    assert_differences(partial(lax.reduce_max, axes=(1,)), normal(2, 3))


@pytest.mark.parametrize("function", [jnp.argmax, jnp.argmin])
def test_a_position_has_no_gradient(function):
    x = normal(4)
    got = fg.grad(lambda x: x[function(x)] + function(x).astype(x.dtype), rules=STRICT)(x)
    np.testing.assert_array_equal(got, jnp.zeros(4).at[function(x)].set(1))
    assert "integer" in STRICT[function.__name__].reason


# --- cumulative operations -----------------------------------------------------------------------

CUMULATIVE = [lax.cumsum, lax.cumprod, lax.cumlogsumexp, lax.cummax, lax.cummin]


def cumulative(array, functions=CUMULATIVE, shapes=((1,), (2, 6))):
    for function, shape, reverse in itertools.product(functions, shapes, (False, True)):
        axis = len(shape) - 1
        yield partial(function, axis=axis, reverse=reverse), array(*shape)


def test_cumulative():
    assert_agree(cumulative(normal))


def test_cumulative_ties_are_those_of_the_parallel_scan():
    assert_agree(cumulative(tied, CUMULATIVE[3:], shapes=((2, 7),)))


def test_cumulative_of_complex_numbers():
    assert_agree(cumulative(complex_normal, CUMULATIVE[:3], shapes=((2, 3),)))


def test_cumulative_second_and_third_order():
    assert_agree(list(cumulative(normal, shapes=((2, 3),)))[::2], times=2)
    assert_agree(list(cumulative(normal, CUMULATIVE[1:4], shapes=((3,),)))[1::3], times=3)


def test_cumulative_vmap():
    assert_agree(list(stacked(cumulative(tied, shapes=((2, 4),))))[::2], batched=True)


@pytest.mark.parametrize("places", [[(0,)], [(1,), (3,)], [(4,), (2,), (3,)]])
def test_cumulative_product_with_zeros(places):
    functions = [partial(lax.cumprod, axis=0, reverse=reverse) for reverse in (False, True)]
    cases = [(function, with_zeros(normal(5), *places)) for function in functions]
    assert_agree(cases)
    assert_agree(cases, times=2)


@pytest.mark.parametrize("reverse", [False, True])
def test_cumulative_logsumexp_of_large_numbers_and_of_nothing(reverse):
    function = partial(lax.cumlogsumexp, axis=0, reverse=reverse)
    assert_agree([(function, jnp.array([800.0, -900.0, 1e4, 9999.0, -1e4]))])
    x = jnp.array([-jnp.inf, -jnp.inf, 1.0, -jnp.inf, 2.0])
    got = jax.jit(lambda x: fg.vjp(function, x, rules=STRICT)[1](jnp.ones(5))[0])(x)
    p = jax.nn.sigmoid(1.0)
    last_two = (
        jnp.array([0, 0, 3 - p, 0, p])
        if not reverse
        else jnp.array([0, 0, 3 * (1 - p), 0, 2 + 3 * p])
    )
    np.testing.assert_allclose(got, last_two, rtol=1e-12)
    (second,) = jax.jit(gradient(ours, function, 2), compiler_options=QUICK)(x)
    assert np.isfinite(second).all()


def test_cumulative_keep_bfloat16():
    cases = [(f, normal(6, dtype=jnp.bfloat16)) for f, _ in cumulative(normal, shapes=((6,),))]
    assert_agree(cases[::2], rtol=2**-4)


def test_cumulative_differences():
    assert_differences(partial(lax.cumprod, axis=1, reverse=True), normal(2, 5))
    assert_differences(partial(lax.cumlogsumexp, axis=0), normal(5))


# --- windows -------------------------------------------------------------------------------------


def window(primitive, dimensions, strides, padding, base_dilation, window_dilation):
    return partial(
        primitive.bind,
        window_dimensions=dimensions,
        window_strides=strides,
        padding=padding,
        base_dilation=base_dilation,
        window_dilation=window_dilation,
    )


EXTREMA = [lax.reduce_window_max_p, lax.reduce_window_min_p]
PADDINGS = [(0, 0), (1, 2), (-1, 2), (2, -1)]


def windows(array, primitives, apart=(1,), paddings=PADDINGS[:2]):
    grid = itertools.product(primitives, (1, 2, 3), (1, 2), apart, paddings)
    for primitive, stride, dilation, r, padding in grid:
        yield window(primitive, (3,), (stride,), (padding,), (dilation,), (r,)), array(7)
    for primitive, r in itertools.product(primitives, apart):
        paddings = ((0, 0), (1, 0), (1, 1))
        yield (
            window(primitive, (1, 2, 3), (1, 1, 2), paddings, (1, 1, 2), (1, r, 1)),
            array(2, 4, 5),
        )


def test_window_sums():
    assert_agree(windows(normal, [lax.reduce_window_sum_p], (1, 2), PADDINGS))
    assert_agree(list(windows(complex_normal, [lax.reduce_window_sum_p]))[::5])


def test_pooling():
    assert_agree([*windows(normal, EXTREMA), *list(windows(tied, EXTREMA))[::2]])


def test_windows_second_and_third_order():
    cases = list(windows(normal, [lax.reduce_window_sum_p, *EXTREMA]))
    assert_agree(cases[::5], times=2)
    assert_agree(cases[::20], times=3)


def test_windows_vmap():
    assert_agree(
        stacked(list(windows(tied, [lax.reduce_window_sum_p, *EXTREMA]))[::4]), batched=True
    )


def test_pooling_of_images_keeps_bfloat16():
    def pool(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")

    assert_agree([(pool, normal(2, 5, 5, 3)), (pool, normal(2, 5, 5, 3, dtype=jnp.bfloat16))])


def pooling_that_jax_cannot_reverse(array):
    """Dilated windows and windows that leave out entries at the border."""
    cases = [window(p, (3,), (s,), ((1, 2),), (1,), (2,)) for p in EXTREMA for s in (1, 2)]
    cases += [window(p, (2,), (1,), ((-1, 3),), (2,), (1,)) for p in EXTREMA]
    yield from ((f, array(7)) for f in cases)
    yield (
        window(EXTREMA[0], (1, 2, 3), (1, 1, 2), ((0, 0), (1, -1), (1, 1)), *[(1, 2, 1)] * 2),
        array(2, 4, 5),
    )


def by_forward_mode(function):
    """The gradient that `gradient` gives, from JAX's forward mode."""

    def of(x):
        out = function(x)
        return [jnp.tensordot(cotangent(out), jax.jacfwd(function)(x), out.ndim)]

    return of


def test_pooling_with_dilated_windows_and_crops():
    cases = [*pooling_that_jax_cannot_reverse(normal), *pooling_that_jax_cannot_reverse(tied)]

    @partial(jax.jit, compiler_options=QUICK)
    def compare(points):
        pairs = zip(cases, points, strict=True)
        return [(gradient(ours, f)(x), by_forward_mode(f)(x)) for (f, _), x in pairs]

    for got, want in compare([x for _, x in cases]):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_pooling_with_dilated_windows_second_order_and_vmap():
    for f, x in list(pooling_that_jax_cannot_reverse(normal))[::3]:
        pull = gradient(ours, f)
        twice = jax.jit(gradient(ours, pull), compiler_options=QUICK)(x)
        want = jax.jit(by_forward_mode(lambda x, pull=pull: pull(x)[0]), compiler_options=QUICK)(x)
        np.testing.assert_allclose(twice, want, rtol=1e-12, atol=1e-12)
        both = jnp.stack([x, -x])
        np.testing.assert_array_equal(jax.vmap(pull)(both)[0][1], pull(-x)[0])


SELECT = {"window_dimensions": (3,), "window_strides": (2,), "padding": ((1, 1),)}


@pytest.mark.parametrize("choose", [lax.ge_p, lax.le_p])
def test_select_and_scatter_and_gather(choose):
    scatter = partial(lax.select_and_scatter_add_p.bind, select_prim=choose, **SELECT)
    ones = {"base_dilation": (1,), "window_dilation": (1,)}
    gather = partial(lax.select_and_gather_add_p.bind, select_prim=choose, **SELECT, **ones)
    cases = [(scatter, normal(4), tied(7)), (gather, normal(7), tied(7))]
    assert_agree(cases)
    assert_agree(cases, times=2)
    assert_agree(stacked(cases), batched=True)


def test_window_differences():
    function = window(lax.reduce_window_sum_p, (3,), (2,), ((1, 1),), (2,), (2,))
    assert_differences(function, normal(6))
    assert_differences(window(EXTREMA[0], (3,), (2,), ((1, 1),), (1,), (2,)), normal(6))
