"""What the prover can see: one wrong entry of 10,000, and 0.2 % in all of them."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import fungrad as fg
from fungrad.check.cases import Case
from fungrad.check.claims import Claim, compare, numbers_of
from fungrad.check.rounding import spread
from fungrad.check.witnesses import reference
from tests.check.faults import right, ruled, slope, tanh

SIDE = 100
CORNERS = [(0, 0), (0, SIDE - 1), (SIDE - 1, 0), (SIDE - 1, SIDE - 1)]
PLACES = CORNERS + [tuple(place) for place in np.random.default_rng(0).integers(0, SIDE, (100, 2))]


def numbers(dtype):
    return jnp.asarray(np.random.default_rng(1).uniform(-2, 2, (SIDE, SIDE)), dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_error_of_a_thousandth_is_found_in_whatever_entry_it_is(dtype):
    # In the arithmetic of dtype alone: of a function, float32 would be compared in float64.
    x, g = numbers(dtype), numbers(dtype)[::-1]

    def function(x):
        return [jnp.tanh(x)]

    def pull(g, points, of=None):
        return list(right(points, g[0]))

    case = Case("tanh", "", ("x",), [x], [g], function, pull, function)
    (claims,) = numbers_of(reference, [case])
    (moves,) = numbers_of(reference, [case], partial(spread, coarsest=case.coarsest))
    (claim,) = claims
    assert list(compare("reference", case, claims, moves)) == []
    for place in PLACES:
        planted = claim.got[0].copy()
        planted[place] *= 1.001
        (found,) = compare("reference", case, [Claim([planted], claim.want)], moves)
        assert found.entries.tolist() == [np.ravel_multi_index(place, x.shape)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_two_thousandths_in_all_entries_are_found_in_each(dtype):
    wrong = ruled(tanh, lambda residuals, g: (1.002 * g * slope(*residuals),))
    x = numbers(dtype)
    verdict = fg.check.custom_vjp(wrong, witnesses=["reference"])(x)
    (fault,) = verdict.faults
    assert (fault.argument, fault.count) == ("x", x.size)


@pytest.mark.parametrize("seed", range(10))
def test_two_thousandths_are_not_seen_by_check_grads_in_float32(seed):
    wrong = ruled(tanh, lambda residuals, g: (1.002 * g * slope(*residuals),))
    x = jnp.asarray(np.random.default_rng(seed).normal(size=(3, 3)), "float32")
    check_grads(wrong, (x,), 1, modes=["rev"])
