"""The registry lints itself: every rule says what it is, and shows it."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import fungrad as fg
from fungrad.check.examples import examples
from fungrad.check.nodes import node_of
from fungrad.rulebook import Rule, Rulebook, rule
from tests.rules.test_generated import ABSENT, NODES

WITHOUT_GRADIENT = [value for value in NODES if value.reason]


def named(values):
    return [pytest.param(value, id=value.primitive) for value in values]


def test_two_rules_of_one_primitive_are_an_error():
    class First:
        tanh = fg.rules["tanh"]

    class Second:
        tanh = rule("tanh", example=lambda draw: draw.uniform(3))(lambda g, z, x: g)

    assert len(Rulebook.of(First, First)) == 1
    with pytest.raises(ValueError, match="two rules for the primitive 'tanh'"):
        Rulebook.of(First, Second)


def test_absent_primitives_are_not_in_this_jax():
    for name in ABSENT:
        with pytest.raises(AttributeError, match=name):
            node_of(examples(fg.rules[name])[0], name)


@pytest.mark.parametrize("value", named(fg.rules))
def test_states_its_derivative(value):
    assert "∂" in value.jacobian, f"{value.primitive!r}: the docstring's first line is its Jacobian"
    assert len(value.jacobian) < 100


@pytest.mark.parametrize("value", named(NODES))
def test_examples_emit_the_primitive(value):
    for example in examples(value):
        node_of(example, value.primitive)


@pytest.mark.parametrize("value", named(NODES))
def test_kinks_are_stated_and_have_examples(value):
    assert bool(value.kink) == any(example.kink for example in examples(value))


@pytest.mark.parametrize("value", named(WITHOUT_GRADIENT))
def test_jax_has_no_gradient_there_either(value):
    for example in examples(value):
        node = node_of(example, value.primitive)
        try:
            out, pullback = jax.vjp(node.function, *node.points)
        except NotImplementedError:  # JAX says so by an error
            continue
        for gradient in pullback(jax.tree.map(jnp.ones_like, out)):
            np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("value", named(WITHOUT_GRADIENT))
def test_a_rule_without_gradient_returns_none(value):
    for example in examples(value):
        node = node_of(example, value.primitive)
        out = node.outputs(*node.points)
        assert value(out, out, *node.inputs, **node.params) == (None,) * len(node.inputs)
        assert value.reason in value.jacobian


def test_an_example_that_is_missing_is_named():
    bare = Rule("tanh", lambda g, z, x: g)
    with pytest.raises(ValueError, match="the rule of 'tanh' has no example"):
        examples(bare)
