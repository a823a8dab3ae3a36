"""What operations cost, counted by hand."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.experimental import io_callback

import fungrad as fg
from fungrad import _jax, costs
from fungrad.costs import NEVER, PRICE, SHARE, STARTING, Effort, bytes_of, operations
from tests.test_crossing import array

x, W = array(5, 7), array(7, 3)


sine = _jax.trace(lambda x: [lax.sin(x)], [x])


def equation_of(function, *types):
    return _jax.trace(lambda *args: jax.tree.leaves(function(*args)), types).jaxpr.eqns[-1]


PLAIN = [
    (lambda x: x.reshape(35), 0),
    (lambda x: lax.transpose(x, (1, 0)), 4 * 35),
    (lambda x: lax.slice(x, (0, 0), (2, 7)), 4 * 14),
    (lambda x: x + x, 4 * 35),
    (lambda x: x / x, 16 * 35),
    (lambda x: lax.tanh(x), 64 * 35),
    (lambda x: lax.reduce_sum(x, (0, 1)), 4 * 35 + 40),
    (lambda x: lax.cumsum(x), 4 * 35 + 40 * 35),
]


@pytest.mark.parametrize(("function", "expected"), PLAIN)
def test_by_elements_of_the_output_or_of_what_is_reduced(function, expected):
    assert operations(equation_of(function, x)) == expected


def test_a_product_multiplies_and_adds():
    assert operations(equation_of(lambda x, W: lax.dot(x, W), x, W)) == STARTING + 2 * 5 * 7 * 3
    batched = (((2,), (1,)), ((0,), (0,)))
    types = array(4, 5, 7), array(4, 7, 3)
    equation = equation_of(lambda x, y: lax.dot_general(x, y, batched), *types)
    assert operations(equation) == STARTING + 2 * 4 * 5 * 7 * 3


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_multiplies_and_adds(groups):
    """For each entry of the output: the kernel's window times the channels of its group."""
    image, kernel = array(2, 6, 10, 10), array(8, 6 // groups, 3, 3)
    equation = equation_of(
        lambda x, k: lax.conv_general_dilated(x, k, (1, 1), "SAME", feature_group_count=groups),
        *(image, kernel),
    )
    expected = 2 * (2 * 8 * 10 * 10) * (3 * 3 * 6 // groups)
    assert operations(equation) == STARTING + expected


def loop(x):
    return lax.scan(lambda c, _: (lax.sin(c), None), x, None, length=6)[0]


def test_what_is_dear_may_be_repeated_if_that_is_said():
    sort, scan = equation_of(lax.sort, x), equation_of(loop, x)
    assert (operations(sort), operations(scan)) == (NEVER, NEVER)
    assert PRICE < operations(sort, dear=True) < NEVER
    assert operations(scan, dear=True) - operations(sort, dear=True) == 6 * 64 * 35


def test_an_effect_is_never_repeated():
    equation = equation_of(lambda x: io_callback(np.sin, x, x), x)
    assert operations(equation, dear=True) == NEVER
    assert Effort(NEVER, dear=True).price_of(equation) == NEVER

    looped = equation_of(
        lambda x: lax.scan(lambda c, _: (io_callback(np.sin, c, c), None), x, None, length=3)[0], x
    )
    assert operations(looped, dear=True) == NEVER


def test_a_call_costs_what_is_in_it():
    relu = equation_of(jax.nn.relu, x)
    assert relu.primitive.name == "custom_jvp_call"
    assert operations(relu) == 4 * 35
    assert operations(equation_of(jax.jit(lambda x: lax.sin(x + x)), x)) == 68 * 35
    assert operations(equation_of(jax.jit(lambda x: lax.sort(x + x)), x)) == NEVER


def test_a_checkpoint_and_its_halves_are_closed():
    """What an author let be repeated, or not, is not for the cut around it to decide."""
    half = equation_of(lambda x: _jax.call(sine, [x]), x)
    for closed in (half, equation_of(jax.checkpoint(lax.sin), x)):
        assert operations(closed) == NEVER
        assert costs.is_unfused(closed)


def test_what_is_not_fused():
    def unfused(function, *types):
        return costs.is_unfused(equation_of(function, *types))

    assert not unfused(lax.sin, x)
    assert not unfused(jax.nn.relu, x)
    assert unfused(lax.sort, x)
    assert unfused(lax.dot, x, W)
    assert unfused(jax.jit(lambda x, W: lax.sin(lax.dot(x, W))), x, W)


def test_what_moves():
    def moves(function):
        return costs.moves(equation_of(function, x))

    assert moves(lambda x: lax.transpose(x, (1, 0)))
    assert moves(lambda x: lax.broadcast(x, (3,)))
    assert not moves(lax.neg)


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("bool", 1), ("int32", 4), ("bfloat16", 2), ("float64", 8), ("complex64", 8)],
)
def test_bytes(dtype, size):
    assert bytes_of(array(5, 7, dtype=dtype)) == 35 * size
    assert bytes_of(array(0, 7, dtype=dtype)) == 0


def test_bytes_of_what_is_no_array():
    assert bytes_of(_jax.type_of(jax.random.key(0))) == 8


def test_the_price_of_a_byte():
    assert Effort().price_of_byte(apart=True) == PRICE
    assert Effort(3.0).price_of_byte(apart=True) == 3 * PRICE
    assert Effort(3.0).price_of_byte(apart=False) < 3 * PRICE


def test_within_one_program_a_share_of_a_call_is_paid():
    sine, moved = equation_of(lax.sin, x), equation_of(lambda x: lax.rev(x, (0,)), x)
    assert Effort().price_of(sine, SHARE) == 64 * 35 + SHARE
    assert Effort().price_of(moved, SHARE) == 4 * 35
    assert Effort().price_of(moved, NEVER) == 4 * 35
    both = equation_of(jax.jit(lambda x: lax.sin(x + x)), x)
    assert Effort().price_of(both, SHARE) == 68 * 35 + 2 * SHARE
    assert Effort(NEVER).price_of(sine, SHARE) == 0


def test_where_nothing_counts_but_bytes_operations_are_free():
    sine = equation_of(lax.sin, x)
    assert Effort().price_of(sine) == 64 * 35
    assert Effort(NEVER).price_of(sine) == 0
    assert 0 < Effort(NEVER).price_of_byte(apart=True) < NEVER
    assert Effort(NEVER).price_of(equation_of(lax.sort, x)) == NEVER


SPECIAL = """bessel_i0e bessel_i1e digamma igamma igammac lgamma polygamma
regularized_incomplete_beta"""


def test_the_table_is_complete():
    """It names what the rulebook knows, and all that works element by element, but for series."""
    known = {entry.primitive: entry for entry in fg.rules}
    names = costs._OF_OUTPUT.keys() | costs._OF_INPUT.keys()
    assert names <= known.keys()
    elementwise = {name for name, entry in known.items() if getattr(entry, "broadcasts", False)}
    assert elementwise - names == set(SPECIAL.split())


def table(depth, *columns):
    """What is kept and repeated of each y = x V and y + 1, besides layers of 512 columns."""

    def function(x, W, *wide):
        beside = 0.0
        for y in [x @ V for V in wide]:
            beside += jnp.sum(jnp.sin(y) + jnp.square(y + 1))
        for _ in range(depth):
            x = jnp.tanh(x @ W)
        return beside + jnp.sum(x)

    shapes = (64, 512), (512, 512), *((512, count) for count in columns)
    return fg.saved(function)(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))


def test_what_is_small_beside_the_others_is_not_repeated():
    assert [value.operations for value in table(3, 512).repeated] == [("add",)]
    assert table(3, 4).repeated == []
    assert table(0, 4).repeated
    for columns, repeated in ((4, {2048}), (64, {64, 2048})):  # nor where others are
        assert {value.shape[1] for value in table(3, 2048, columns).repeated} == repeated


def test_nothing_is_repeated_where_that_would_spare_little():
    """One array of 128 columns beside forty of 512: less than 1 %."""
    assert table(3, 128).repeated
    deep = table(40, 128)
    assert deep.repeated == []
    assert "to repeat it would spare too little" in {value.why for value in deep.kept}
