"""Test the tester: wrong rules, each of which every witness of values must catch.

A witness that passes a wrong rule is worth nothing, and says so only here.
"""

import jax
import jax.custom_batching
import pytest
from jax import lax

import fungrad as fg
from fungrad.check.examples import Draw, Example
from fungrad.check.nodes import node_of
from fungrad.rulebook import elementwise, rule
from tests import witnesses
from tests.witnesses import Claim, check, low_node_of

draw = Draw(seed=0)
floats, others = draw.uniform(3), draw.positive(3)
numbers, more_numbers = draw.complex(3), draw.complex(3)


WITNESSES = [
    witnesses.equals_jax,
    witnesses.equals_differences,
    witnesses.equals_jacobian,
    witnesses.engine_equals_jax,
]

# wrong rule, function, arguments
PLANTED = {
    "a factor of 1.00001": (
        elementwise("tanh", example=None)(lambda g, z, x: g * (1 - z * z) * 1.00001),
        lax.tanh,
        floats,
    ),
    "a factor of 1.00001 in one of two inputs": (
        elementwise("mul", example=None)(lambda g, z, x, y: (g * y, g * x * 1.00001)),
        lax.mul,
        floats,
        others,
    ),
    "swapped inputs": (
        elementwise("mul", example=None)(lambda g, z, x, y: (g * x, g * y)),
        lax.mul,
        floats,
        others,
    ),
    "swapped inputs of different sign": (
        elementwise("sub", example=None)(lambda g, z, x, y: (-g, g)),
        lax.sub,
        floats,
        others,
    ),
    "a transposed matrix": (
        rule("dot_general", example=None)(lambda g, z, x, y, **_: (g @ y, x.T @ g)),
        lax.dot,
        draw.uniform(3, 3),
        draw.uniform(3, 3),
    ),
    "a dropped second input": (
        elementwise("mul", example=None)(lambda g, z, x, y: (g * y, None)),
        lax.mul,
        floats,
        others,
    ),
    "a missing un-broadcast": (
        elementwise("mul", example=None)(lambda g, z, x, y: ((g * y)[:, :1], (g * x)[:1])),
        lax.mul,
        draw.uniform(2, 1),
        draw.uniform(1, 3),
    ),
    "a missing sum over a broadcast axis": (
        rule("broadcast_in_dim", example=None)(lambda g, z, x: g),
        lambda x: lax.broadcast_in_dim(x, (2, 3), (1,)),
        floats,
    ),
    "a mean in place of the sum": (
        rule("broadcast_in_dim", example=None)(lambda g, z, x: g.mean(0)),
        lambda x: lax.broadcast_in_dim(x, (2, 3), (1,)),
        floats,
    ),
    "a conjugate too many": (
        elementwise("mul", example=None)(lambda g, z, x, y: (g * y.conj(), g * x.conj())),
        lax.mul,
        numbers,
        more_numbers,
    ),
    "a conjugate too few": (
        elementwise("abs", example=None)(lambda g, z, x: (g / z).astype(x.dtype) * x),
        lax.abs,
        numbers,
    ),
    "the wrong sign of an imaginary part": (
        elementwise("imag", example=None)(lambda g, z, x: lax.complex(0 * g, g)),
        lax.imag,
        numbers,
    ),
}


@pytest.mark.parametrize("witness", WITNESSES)
@pytest.mark.parametrize("planted", PLANTED)
def test_every_witness_catches(planted, witness):
    wrong, function, *arguments = PLANTED[planted]
    node = node_of(Example(function, tuple(arguments)), wrong.primitive)
    check(witness, fg.rules[wrong.primitive], [node])
    with pytest.raises((AssertionError, TypeError)):
        check(witness, wrong, [node])


def test_a_dropped_second_use_of_an_edge_is_caught():
    def square(x):
        return x * x

    def claim(rules):
        return Claim(
            fg.vjp(square, floats, rules=rules)[1](others), jax.vjp(square, floats)[1](others)
        )

    claim(fg.rules).verify()
    with pytest.raises(AssertionError, match="a gradient is"):
        claim(fg.rules.replace({"mul": lambda g, z, x, y: (g * y, None)})).verify()


def test_another_choice_at_a_tie_is_caught():
    first = elementwise("max", example=None)(lambda g, z, x, y: (g, None))
    node = node_of(Example(lax.max, (floats, floats)), "max")
    with pytest.raises(AssertionError, match="a gradient is"):
        check(witnesses.equals_jax, first, [node])


def only_one_catches(witness, wrong, function, dtype="float64"):
    """JAX's gradients in float64 cannot tell the rule from the right one, but the witness can."""
    example = Example(function, (floats,))
    check(witnesses.equals_jax, wrong, [node_of(example, wrong.primitive)])
    with pytest.raises((AssertionError, TypeError)):
        check(witness, wrong, [low_node_of(example, wrong.primitive, dtype)])


def test_a_finite_number_in_place_of_an_infinite_one_is_caught():
    tamed = elementwise("sqrt", example=None)(lambda g, z, x: g / (2 * z + 1e-30))
    node = node_of(Example(lax.sqrt, (draw.values(0.0),)), "sqrt")
    check(witnesses.equals_jax, fg.rules["sqrt"], [node])
    with pytest.raises(AssertionError, match="a gradient is"):
        check(witnesses.equals_jax, tamed, [node])


def test_a_wrong_second_derivative_is_caught():
    frozen = elementwise("tanh", example=None)(lambda g, z, x: g * lax.stop_gradient(1 - z * z))
    only_one_catches(witnesses.equals_jax_twice, frozen, lax.tanh)


def test_another_format_is_caught():
    wide = elementwise("tanh", example=None)(lambda g, z, x: (g * (1 - z * z)).astype("float64"))
    only_one_catches(witnesses.equals_float64, wide, lax.tanh, "bfloat16")


def test_lost_digits_are_caught():
    def coarse(g, z, x):
        return g * (1 - z * z) * (1.0 if x.dtype == "float64" else 1 + 2e-6)

    rule_of_float32 = elementwise("tanh", example=None)(coarse)
    only_one_catches(witnesses.equals_float64, rule_of_float32, lax.tanh, "float32")


def test_a_rule_that_reads_a_linear_input_is_caught():
    reads = elementwise("neg", example=None)(lambda g, z, x: g * (z / x))
    only_one_catches(witnesses.reads_no_linear_input, reads, lax.neg)


def test_a_rule_that_mixes_a_batch_is_caught():
    mixes = elementwise("neg", example=None)(lambda g, z, x: -_first_of_batch(g))
    only_one_catches(witnesses.keeps_under_vmap, mixes, lax.neg)


@jax.custom_batching.custom_vmap
def _first_of_batch(g):
    return g


@_first_of_batch.def_vmap
def _(size, batched, g):
    return g[:1].repeat(size, 0), True


def test_a_rule_that_looks_at_values_is_caught():
    looks = elementwise("neg", example=None)(lambda g, z, x: -g if g.sum() > 0 else 0 * g)
    node = node_of(Example(lax.neg, (floats,)), "neg")
    with pytest.raises(jax.errors.TracerBoolConversionError):
        check(witnesses.equals_jax, looks, [node])
