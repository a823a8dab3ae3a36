"""dot_general, convolution: grids of their parameters."""

import itertools
from functools import partial

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

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
)

# --- dot_general ---------------------------------------------------------------------------------


def dots(array):
    """Numbers of batch, summed and free axes, each in a random layout."""
    for batch, summed, free_x, free_y in itertools.product(range(2), range(3), range(2), range(3)):
        x_axes, y_axes = batch + summed + free_x, batch + summed + free_y
        x_order, y_order = rng.permutation(x_axes), rng.permutation(y_axes)
        sizes = [2, 3, 4][: batch + summed]
        x, y = np.empty(x_axes, int), np.empty(y_axes, int)
        x[x_order], y[y_order] = sizes + [2] * free_x, sizes + [3] * free_y
        numbers = tuple(
            (tuple(x_order[part].tolist()), tuple(y_order[part].tolist()))
            for part in (slice(batch, batch + summed), slice(batch))
        )
        yield partial(lax.dot_general, dimension_numbers=numbers), array(*x), array(*y)


def test_any_dimension_numbers():
    assert_agree(dots(normal))


def test_dot_of_complex_numbers():
    assert_agree(list(dots(complex_normal))[::3])


def test_dot_second_and_third_order():
    cases = list(dots(normal))[::5]
    assert_agree(cases, times=2)
    assert_agree(cases[::3], times=3)


def test_dot_vmap():
    assert_agree(stacked(list(dots(normal))[::5]), batched=True)


def test_dot_differences():
    assert_differences(jnp.matmul, normal(2, 3, 4), normal(2, 4, 5))


def test_dot_of_mixed_types_and_with_preferred_type():
    numbers = ((1,), (0,)), ((), ())
    wide = partial(lax.dot_general, dimension_numbers=numbers, preferred_element_type=jnp.float32)
    plain = partial(lax.dot_general, dimension_numbers=numbers, precision=("default", "highest"))
    half = normal(2, 3, dtype=jnp.bfloat16), normal(3, 4, dtype=jnp.bfloat16)
    single = normal(2, 3, dtype=jnp.float32), normal(3, 4, dtype=jnp.float32)
    assert_agree([(wide, *half), (plain, *half), (wide, *single)], rtol=2**-8)
    assert_agree([(plain, normal(2, 3), complex_normal(3, 4))])


def test_a_matrix_product_needs_no_transpose():
    for function in (lambda x, w: x @ w, lambda x, w: x @ w.T):
        pull = jax.make_jaxpr(gradient(ours, function))
        x, w = normal(2, 3), normal(3, 3)
        transposes = str(pull(x, w)).count("transpose[")
        assert transposes == 2 * str(jax.make_jaxpr(function)(x, w)).count("transpose[")


# --- ragged_dot_general --------------------------------------------------------------------------


def ragged(contract, batch, axis, group=()):
    numbers = lax.RaggedDotDimensionNumbers((contract, batch), [axis], group)
    return partial(lax.ragged_dot_general, ragged_dot_dimension_numbers=numbers)


def in_group(sizes, n):
    """[γ, m] -> 1 where the row m is in the group γ, else 0; sizes may have leading axes."""
    ends, rows = jnp.cumsum(sizes, axis=-1)[..., None], jnp.arange(n)
    return ((ends - sizes[..., None] <= rows) & (rows < ends)).astype(float)


def raggeds():
    """Products in every mode, with and without batch, and the same as sums over all groups."""
    sizes, several = jnp.array([2, 0, 3]), jnp.array([[1, 3, 1], [4, 0, 0]])
    x, y = normal(5, 2), normal(3, 2, 4)
    rows = ragged(([1], [1]), ([], []), 0, [0])
    same = partial(jnp.einsum, "gm,mk,gkn->mn")
    for m in (5, 7):
        yield rows, lambda x, y, s, m=m: same(in_group(s, m), x, y), normal(m, 2), y, sizes
    yield (
        ragged(([3], [0]), ([1], [2]), 2, [3]),
        lambda x, y, s: jnp.einsum("pbmk,knbg,bpgm->bpmn", x, y, in_group(s, 5)),
        *(normal(2, 1, 5, 3), normal(3, 4, 1, 3), several[None]),
    )
    yield (
        ragged(([1], [0]), ([], []), 1),
        lambda x, y, s: jnp.einsum("gk,mk,kn->gmn", in_group(s, 5), x, y),
        *(x.T, normal(5, 3), sizes),
    )
    yield (
        ragged(([2, 0], [0, 2]), ([], []), 0),
        lambda x, y, s: jnp.einsum("pgk,kmp,pnk->gmn", in_group(s, 5), x, y),
        *(normal(5, 3, 2), normal(2, 4, 5), several),
    )
    yield (
        ragged(([1], [1]), ([0], [0]), 0),
        lambda x, y, s: jnp.einsum("bm,bmn->bn", x, y),
        *(x, normal(5, 2, 3), sizes),
    )


def test_ragged_products():
    def both(function, same, x, y, sizes):
        of_product = partial(function, group_sizes=sizes)
        pairs = (ours, of_product), (jax.vjp, lambda x, y: same(x, y, sizes))
        return [[gradient(vjp, f, times)(x, y) for vjp, f in pairs] for times in (1, 2)]

    compare = partial(jax.jit, compiler_options=QUICK)
    for got, want in itertools.chain(*compare(lambda: [both(*case) for case in raggeds()])()):
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_ragged_products_of_mixed_types():
    x, y = normal(5, 2, dtype=jnp.bfloat16), normal(3, 2, 4, dtype=jnp.bfloat16)
    rows = partial(lax.ragged_dot, preferred_element_type=jnp.float32)
    assert_agree([(lambda x, y: rows(x, y, jnp.array([2, 0, 3])), x, y)], rtol=2**-8)


# --- convolution ---------------------------------------------------------------------------------


def convolution(strides, padding, **how):
    return partial(lax.conv_general_dilated, window_strides=strides, padding=padding, **how)


PADDINGS = [(0, 0), (1, 2), (-1, 2), (2, -1), (3, 0), (-1, -1)]


def one_axis():
    """Strides, paddings, dilations, lengths along one axis, with and without groups."""
    grid = itertools.product((1, 2, 3), (1, 2), (1, 2), (1, 3), (5, 6), PADDINGS)
    for number, (stride, apart, dilation, window, length, padding) in enumerate(grid):
        channel_groups, example_groups = ((1, 1), (2, 1), (1, 2))[number % 3]
        how = {"feature_group_count": channel_groups, "batch_group_count": example_groups}
        dilations = {"lhs_dilation": (dilation,), "rhs_dilation": (apart,)}
        function = convolution((stride,), [padding], **dilations, **how)
        yield function, normal(4, 4, length), normal(6, 4 // channel_groups, window)


def layouts():
    """Layouts of two axes, each with a padding by name, and one of three axes."""
    names = [
        ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("CHWN", "IHWO", "HWNC"),
        ("HNWC", "HOWI", "CNHW"), ("NHWC", "OHWI", "NHWC"), ("CHWN", "HIWO", "NCWH"),
    ]  # fmt: skip
    sizes = {"N": 4, "C": 4, "I": 4, "O": 2, "H": 5, "W": 4}
    window = sizes | {"H": 3, "W": 2}
    for (x, w, z), padding in itertools.product(names, ("SAME", "VALID")):
        for groups in ({}, {"feature_group_count": 2}, {"batch_group_count": 2}):
            inputs = 4 // groups.get("feature_group_count", 1)
            shape = [inputs if axis == "I" else window[axis] for axis in w]
            function = convolution((2, 1), padding, dimension_numbers=(x, w, z), **groups)
            yield function, normal(*(sizes[axis] for axis in x)), normal(*shape)
    deep = convolution((1, 2, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))
    yield deep, normal(1, 3, 4, 3, 2), normal(2, 3, 1, 2, 2)


def test_convolution_strides_paddings_dilations_groups():
    assert_agree(list(one_axis())[::5])


def test_convolution_layouts():
    assert_agree(layouts())


def test_convolution_of_complex_numbers():
    cases = [
        (f, lax.complex(x, x[::-1]), lax.complex(w, w[::-1])) for f, x, w in list(one_axis())[::53]
    ]
    assert_agree(cases)


def test_convolution_second_and_third_order():
    cases = [*list(one_axis())[::71], *list(layouts())[1::17]]
    assert_agree(cases, times=2)
    assert_agree(cases[::6], times=3)


def test_convolution_vmap():
    assert_agree(stacked([*list(one_axis())[::71], *list(layouts())[::17]]), batched=True)


def test_convolution_without_output_or_spatial_axes():
    nothing = convolution((1,), "VALID")
    dense = convolution((), ())
    assert_agree([
        (nothing, normal(1, 2, 2), normal(3, 2, 4)),
        (dense, normal(3, 2), normal(4, 2)),
        (nothing, normal(1, 2, 0), normal(3, 2, 1)),
    ])  # fmt: skip


def test_convolution_differences():
    function = convolution((2,), [(1, 0)], lhs_dilation=(2,), rhs_dilation=(2,))
    assert_differences(function, normal(1, 2, 5), normal(2, 2, 3))


@pytest.mark.parametrize("preferred", [None, jnp.float32])
def test_convolution_keeps_bfloat16(preferred):
    function = convolution((1,), "SAME", preferred_element_type=preferred)
    x, w = normal(1, 2, 5, dtype=jnp.bfloat16), normal(3, 2, 3, dtype=jnp.bfloat16)
    assert_agree([(function, x, w)], rtol=2**-7)


def test_convolution_emits_two_convolutions():
    """Their channels are last: inside of loops XLA's CPU backend has no other fast ones."""
    function = convolution((1, 2), "SAME", feature_group_count=1)
    text = str(jax.make_jaxpr(gradient(ours, function))(normal(2, 3, 6, 6), normal(4, 3, 3, 3)))
    last = "lhs_spec=(0, 3, 1, 2), rhs_spec=(3, 2, 0, 1), out_spec=(0, 3, 1, 2)"
    assert text.count("conv_general_dilated[") == 3
    assert text.count(last) == 2
    assert text.count("transpose[") == 6
    assert "pad[" not in text


def test_the_rules_are_in_the_book():
    assert {"dot_general", "conv_general_dilated"} <= {rule.primitive for rule in STRICT}
