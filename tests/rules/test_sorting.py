"""sort with one and several operands and keys, top_k: ties, axes, payloads."""

from functools import partial

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.rules.grids import (
    STRICT,
    assert_agree,
    assert_differences,
    complex_normal,
    normal,
    stacked,
    tied,
)


def sorts(array):
    yield lax.sort, array(7)
    yield partial(lax.sort, dimension=0), array(3, 4)
    yield partial(lax.sort, dimension=1), array(2, 4, 3)
    for keys in (1, 2, 3):
        yield partial(sort_all, keys), tied(2, 6), array(2, 6), tied(2, 6)
    yield partial(sort_with_integers, 1), array(6), tied(6)
    yield partial(sort_with_integers, 2), array(6), tied(6)


def sort_all(keys, *operands):
    return lax.sort(operands, num_keys=keys)


def sort_with_integers(keys, x, y):
    """Integers as the first key and as a payload: their gradients do not exist."""
    out = lax.sort((y.astype(int), x, y, jnp.arange(x.size)), num_keys=keys)
    return out[1], out[2]


def test_sort():
    assert_agree([*sorts(normal), *sorts(tied), *sorts(complex_normal)])


def test_sort_second_and_third_order():
    assert_agree(sorts(normal), times=2)
    assert_agree(list(sorts(normal))[::4], times=3)


def test_sort_vmap():
    assert_agree(stacked(sorts(tied)), batched=True)


def test_sort_of_numpy():
    def median_of(x):
        return jnp.median(x, axis=0)

    functions = [jnp.sort, partial(jnp.sort, axis=0, descending=True), median_of]
    functions += [partial(jnp.quantile, q=0.3), lambda x: jnp.sort(x[0], stable=False)]
    functions += [lambda x: x[jnp.argsort(x[:, 0])]]
    assert_agree([(function, normal(3, 5)) for function in functions])


def test_sort_keeps_bfloat16_and_leaves_an_unused_payload_alone():
    assert_agree([(lax.sort, normal(5, dtype=jnp.bfloat16))])
    assert_agree([(lambda x, y: lax.sort((x, y), num_keys=1)[1], normal(5), normal(5))])


def test_top_k():
    assert "axis" in str(jax.make_jaxpr(partial(lax.top_k, k=2))(normal(3)))
    functions = [(partial(lax.top_k, k=k), shape) for k in (1, 3) for shape in ((5,), (2, 4, 3))]
    functions += [(partial(lax.top_k, k=2, axis=axis), (3, 4, 3)) for axis in (0, 1, -1)]
    cases = [(f, array(*shape)) for f, shape in functions for array in (normal, tied)]
    assert_agree(cases)
    assert_agree(cases[::4], times=2)
    assert_agree(cases[:1], times=3)
    assert_agree(stacked(cases[::3]), batched=True)
    assert_agree([(f, x.astype(jnp.bfloat16)) for f, x in cases[:2]], rtol=2**-8)


@pytest.mark.parametrize("function", [lax.approx_max_k, lax.approx_min_k])
def test_approximate_top_k(function):
    cases = [(partial(function, k=2), normal(3, 6))]
    cases += [(partial(function, k=2, reduction_dimension=0), normal(6, 3))]
    assert_agree(cases)
    assert_agree(cases, times=2)


def test_only_the_positions_are_used():
    x = jnp.array([1.0, 3.0, 2.0])
    got = fg.grad(lambda x: jnp.sum(lax.top_k(x, 2)[1]).astype(float) * x[0], rules=STRICT)(x)
    np.testing.assert_array_equal(got, [3, 0, 0])


def test_sorting_differences():
    assert_differences(lax.sort, normal(6))
    assert_differences(lambda x: lax.top_k(x, 2)[0], normal(6))
