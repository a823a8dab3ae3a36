"""The tests that every rule gets from its examples; `pytest -k tanh` runs those of one rule."""

from functools import cache

import jax
import pytest
from jax import numpy as jnp
from jax.experimental import xla_metadata

import fungrad as fg
from fungrad.check.arrays import is_complex
from fungrad.check.examples import examples
from fungrad.check.nodes import Node, node_of
from fungrad.rulebook import Rule
from fungrad.rules import collective
from tests import witnesses
from tests.witnesses import Claim, check, low_node_of

# The rules of primitives that this version of JAX lacks have nothing to be tested on.
ABSENT = {name for name in ("log2", "one_minus_square", "polynomial") if not hasattr(jax.lax, name)}
ABSENT |= {name for name in ("xla_metadata_call",) if not hasattr(xla_metadata, name)}
# LAPACK, which does the work of these, knows float32 and float64 only.
WITHOUT_BFLOAT16 = {"cholesky", "lu", "qr", "eigh", "eig", "svd", "tridiagonal_solve"}
ALL = {rule.primitive: rule for rule in fg.rules if rule.primitive not in ABSENT}
# What exists only across the devices of a mesh is tested in whole programs: test_collective.py.
ON_MESH = {"reshard"}
ON_MESH |= {rule.primitive for rule in vars(collective).values() if isinstance(rule, Rule)}
NODES = [rule for name, rule in ALL.items() if isinstance(rule, Rule) and name not in ON_MESH]
WITH_GRADIENT = [rule.primitive for rule in NODES if not rule.reason]
CALLS = [name for name, rule in ALL.items() if not isinstance(rule, Rule) and rule.example]

every_rule = pytest.mark.parametrize("name", WITH_GRADIENT)


def every_rule_but(*names):
    """All but those where JAX has nothing to compare with; their own tests say more."""
    return pytest.mark.parametrize("name", [name for name in WITH_GRADIENT if name not in names])


@cache
def nodes(name, kinks=False):
    """The nodes of a rule's examples, with those at kinks if they are asked for."""
    some = examples(ALL[name]) if kinks else smooth_examples(name)
    return [node_of(example, name) for example in some]


@cache
def smooth_examples(name):
    some = [example for example in examples(ALL[name]) if not example.kink]
    assert some, f"the rule of {name!r} has no smooth example"
    return some


def low_nodes(name, dtype):
    """The nodes of a rule's smooth examples in another format, those that exist in it."""
    found = zip(smooth_examples(name), nodes(name), strict=True)
    return [
        low_node_of(example, name, dtype)
        for example, node in found
        if dtype == "float32" or not (has_complex(node) or name in WITHOUT_BFLOAT16)
    ]


@every_rule
def test_gradients_are_those_of_jax_also_at_kinks(name):
    assert check(witnesses.equals_jax, ALL[name], nodes(name, kinks=True))


@every_rule_but("random_gamma")  # a sampler that rejects jumps
def test_gradients_are_slopes(name):
    check(witnesses.equals_differences, ALL[name], nodes(name))


@every_rule_but("ragged_dot_general", "linear_call")  # JAX cannot vmap them
def test_gradients_are_g_times_the_jacobian(name):
    check(witnesses.equals_jacobian, ALL[name], _not_empty(nodes(name)))


@every_rule_but("random_gamma")  # JAX has none
def test_second_derivatives_are_those_of_jax(name):
    check(witnesses.equals_jax_twice, ALL[name], nodes(name))


@every_rule_but("ragged_dot_general", "linear_call")  # JAX cannot vmap them
def test_vmap(name):
    check(witnesses.keeps_under_vmap, ALL[name], nodes(name))


@every_rule
def test_float32(name):
    check(witnesses.equals_float64, ALL[name], low_nodes(name, "float32"))


@every_rule
def test_bfloat16(name):
    check(witnesses.equals_float64, ALL[name], low_nodes(name, "bfloat16"))


@every_rule
def test_a_missing_g_is_zero(name):
    if nodes(name)[0].primitive.multiple_results:
        check(witnesses.takes_missing_g_for_zero, ALL[name], nodes(name))


@every_rule_but("ragged_dot_general")  # JAX takes it for linear in x and y at once
def test_a_linear_input_is_never_read(name):
    check(witnesses.reads_no_linear_input, ALL[name], nodes(name))


@every_rule
def test_engine(name):
    assert check(witnesses.engine_equals_jax, ALL[name], nodes(name, kinks=True))


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_differentiated_as_by_jax(name):
    for example in examples(ALL[name]):
        program = jax.make_jaxpr(example.function)(*example.arguments)
        assert name in [equation.primitive.name for equation in program.eqns]
        out, pullback = jax.vjp(example.function, *example.arguments)
        g = jax.tree.map(lambda z: jnp.cos(1 + z), out)
        ours = fg.vjp(example.function, *example.arguments)[1](g)
        Claim(jax.tree.leaves(ours), jax.tree.leaves(pullback(g))).verify()


def has_complex(node: Node) -> bool:
    return any(map(is_complex, [*node.inputs, *node.g]))


def _not_empty(some):
    return [node for node in some if sum(g.size for g in node.g)]
