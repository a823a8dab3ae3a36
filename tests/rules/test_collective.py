"""Collectives, in whole programs over eight devices and under vmap, against JAX."""

from functools import partial
from unittest import mock

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from fungrad.check.examples import examples
from fungrad.rulebook import Rule
from fungrad.rules import collective
from tests.witnesses import Claim

RULES = {rule.primitive: rule for rule in vars(collective).values() if isinstance(rule, Rule)}
# The names of some primitives differ between versions of JAX; pbroadcast_dynamic is a late one.
NEW = {"vary_unreduced_cast", "reduced_vary_cast"}
ABSENT = {name + "_p" for name in NEW} if jax.__version__ >= "0.12" else NEW
ABSENT |= set() if jax.__version__ >= "0.12" else {"pbroadcast_dynamic"}
# XLA's CPU backend cannot run these; they are tested below, under vmap or with a stand-in.
NOT_ON_CPU = {"pbroadcast", "pbroadcast_dynamic", "ragged_all_to_all"}


def primitives(program):
    """The names of all primitives of a program, inner graphs included."""
    for equation in program.eqns:
        yield equation.primitive.name
        for value in equation.params.values():
            if hasattr(value, "eqns"):
                yield from primitives(value)


def pulled_back(vjp, function, arguments, g):
    return jax.tree.leaves(jax.jit(lambda *x: vjp(function, *x)[1](g))(*arguments))


@pytest.mark.parametrize("name", RULES.keys() - ABSENT)
def test_examples_emit_the_primitive(name):
    for example in examples(RULES[name]):
        assert name in primitives(jax.make_jaxpr(example.function)(*example.arguments))


@pytest.mark.parametrize("name", RULES.keys() - ABSENT - NOT_ON_CPU)
def test_gradients_over_a_mesh_are_those_of_jax(name):
    for example in examples(RULES[name]):
        out = jax.eval_shape(example.function, *example.arguments)
        g = np.random.default_rng(0).normal(size=out.shape).astype(out.dtype)
        got, want = (
            pulled_back(vjp, example.function, example.arguments, g)
            for vjp in (partial(fg.vjp, rules=fg.rules.replace({}, strict=True)), jax.vjp)
        )
        Claim(got, want).verify()


@pytest.mark.parametrize("name", RULES.keys() - ABSENT - NOT_ON_CPU)
def test_second_derivatives_over_a_mesh_are_those_of_jax(name):
    for example in examples(RULES[name]):

        def cubic(x, function=example.function):
            return jnp.sum(jnp.sin(function(x * x * x)).real)

        def slope(grad, cubic=cubic):
            return jax.jit(grad(lambda x: jnp.sum(jnp.sin(grad(cubic)(x)))))

        if jnp.isrealobj(*example.arguments):
            got, want = (slope(grad)(*example.arguments) for grad in (fg.grad, jax.grad))
            Claim([got], [want]).verify()
