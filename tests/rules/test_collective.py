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
from tests.agreement import assert_close

RULES = {rule.primitive: rule for rule in vars(collective).values() if isinstance(rule, Rule)}
# The names of some primitives differ between versions of JAX; pbroadcast_dynamic is a late one.
NEW = {"vary_unreduced_cast", "reduced_vary_cast"}
ABSENT = {name + "_p" for name in NEW} if jax.__version__ >= "0.12" else NEW
ABSENT |= set() if jax.__version__ >= "0.12" else {"pbroadcast_dynamic"}
# XLA's CPU backend cannot run these; their rules are tested below, under vmap.
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


@pytest.mark.parametrize("name", sorted(RULES.keys() - ABSENT))
def test_examples_emit_the_primitive(name):
    for example in examples(RULES[name]):
        assert name in primitives(jax.make_jaxpr(example.function)(*example.arguments))


@pytest.mark.parametrize("name", sorted(RULES.keys() - ABSENT - NOT_ON_CPU))
def test_gradients_over_a_mesh_are_those_of_jax(name):
    for example in examples(RULES[name]):
        out = jax.eval_shape(example.function, *example.arguments)
        g = np.random.default_rng(0).normal(size=out.shape).astype(out.dtype)
        got, want = (
            pulled_back(vjp, example.function, example.arguments, g)
            for vjp in (partial(fg.vjp, rules=fg.rules.replace({}, strict=True)), jax.vjp)
        )
        assert_close(got, want)


@pytest.mark.parametrize("name", sorted(RULES.keys() - ABSENT - NOT_ON_CPU))
def test_second_derivatives_over_a_mesh_are_those_of_jax(name):
    for example in examples(RULES[name]):

        def cubic(x, function=example.function):
            return jnp.sum(jnp.sin(function(x * x * x)).real)

        def slope(grad, cubic=cubic):
            return jax.jit(grad(lambda x: jnp.sum(jnp.sin(grad(cubic)(x)))))

        if jnp.isrealobj(*example.arguments):
            got, want = (slope(grad)(*example.arguments) for grad in (fg.grad, jax.grad))
            assert_close([got], [want])


# ---- what XLA's CPU backend cannot run -----------------------------------------------------------


def test_pbroadcast_sums_the_gradients_at_the_source():
    g = np.random.default_rng(0).normal(size=(4, 3))

    def static(g):
        return collective.pbroadcast(g, None, g, axis_name="i", source=2)

    def dynamic(g):
        return collective.pbroadcast_dynamic(g, None, g, jnp.int32(2), axis_name="i")[0]()

    want = np.zeros_like(g)
    want[2] = np.sum(g, 0)
    got = [jax.jit(jax.vmap(rule, axis_name="i"))(g) for rule in (static, dynamic)]
    assert_close(got, [want, want])


def exchanged(x, y, a, s, b, r, *, axis_name, axis_index_groups=None):
    """What ragged_all_to_all returns, entry by entry, from everything that the devices have."""
    x, a, s, b = (lax.all_gather(value, axis_name) for value in (x, a, s, b))
    me, places = lax.axis_index(axis_name), jnp.arange(len(y), dtype="int32")
    for sender in range(len(x)):
        within = places - b[sender, me]
        lands = (within >= 0) & (within < s[sender, me])
        entry = x[sender, jnp.clip(within + a[sender, me], 0, x.shape[1] - 1)]
        y = jnp.where(lands[:, None], entry, y)
    return y


def test_ragged_all_to_all_sends_gradients_back_where_entries_came_from():
    draw = np.random.default_rng(0)
    sizes = np.array([[1, 2, 0], [2, 0, 2], [1, 1, 1]], "int32")  # of what i sends to j
    starts = np.cumsum(sizes, axis=1, dtype="int32") - sizes
    landing = np.cumsum(sizes, axis=0, dtype="int32") - sizes
    x, y = draw.normal(size=(3, 5, 2)), draw.normal(size=(3, 6, 2))
    rest = starts, sizes, landing, sizes.T
    g = draw.normal(size=y.shape)
    rule = collective.ragged_all_to_all

    def ours(g, *inputs):
        first, second, *_ = rule(g, None, *inputs, axis_name="i", axis_index_groups=None)
        return first(), second()

    def theirs(g, x, y, *rest):
        return jax.vjp(lambda x, y: exchanged(x, y, *rest, axis_name="i"), x, y)[1](g)

    with mock.patch.object(lax, "ragged_all_to_all", exchanged):
        got = jax.jit(jax.vmap(ours, axis_name="i"))(g, x, y, *rest)
    assert_close(got, jax.jit(jax.vmap(theirs, axis_name="i"))(g, x, y, *rest))
