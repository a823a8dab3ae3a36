"""Checkpoints on the way: where they are put, and what they are for."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import fungrad as fg
from fungrad import costs, saving
from fungrad.costs import NEVER, Effort
from fungrad.joint import join
from fungrad.passes import Settings
from fungrad.segments import checkpoints, worthwhile
from tests.test_crossing import array, masks, traced

LAYERS, WIDTH = 12, 16
x = array(4, WIDTH)
stack = array(LAYERS, WIDTH, WIDTH)


def unrolled(W, x):
    for i in range(LAYERS):
        x = jax.nn.gelu(x @ W[i])
    return x


def kept_in(function, types, parts):
    graph = traced(function, types)
    joint = join(graph, *masks(graph), Settings(fg.rules))
    return joint, checkpoints(joint, joint.needed(joint.outputs), parts)


@pytest.mark.parametrize("parts", [2, 3, 4, 6, 12])
def test_a_chain_is_divided_evenly(parts):
    """One value of the size of x between layers; W is an input, and slices of it are made again."""
    joint, kept = kept_in(unrolled, [stack, x], parts)
    assert [v.aval.shape for v in kept] == [x.shape] * (parts - 1)
    products = [i for i, e in enumerate(joint.equations) if e.primitive.name == "dot_general"]
    places = sorted(joint.producer[v] for v in kept)
    between = np.diff([0, *(sum(p < place for p in products) for place in places)])
    assert max(between) - min(between) <= 1


def test_they_are_put_where_little_is_alive():
    def hourglass(W, x):
        for i in range(LAYERS):
            x = jnp.tanh(jnp.sum(x @ W[i], axis=1, keepdims=True)) * jnp.ones((1, WIDTH), "float32")
        return x

    _, kept = kept_in(hourglass, [stack, x], 4)
    assert {v.aval.size for v in kept} <= {4}


@pytest.mark.parametrize("parts", [0, 1])
def test_one_part_needs_none(parts):
    assert kept_in(unrolled, [stack, x], parts)[1] == set()


def test_more_parts_than_there_are_equations():
    joint, kept = kept_in(lambda x: jnp.sin(jnp.sin(x)), [x], 100)
    assert kept <= {v for e in joint.equations for v in e.outvars}


def test_nothing_to_do_has_no_places():
    assert kept_in(lambda x: x, [x], 4)[1] == set()


def test_a_value_that_passes_by_is_kept_once():
    """What is made early and read late is alive at every place."""

    def skipping(W, x):
        early = jnp.tanh(x)
        for i in range(LAYERS):
            x = jnp.tanh(x @ W[i])
        return x * early

    joint, kept = kept_in(skipping, [stack, x], 4)
    assert {*joint.equations[0].outvars} < kept
    assert len(kept) == 4


def test_the_cut_keeps_them_and_repeats_the_rest():
    graph = traced(unrolled, [stack, x])

    def cut(parts):
        effort = Effort(NEVER, operands=True, parts=parts)
        return saving.split(graph, *masks(graph), Settings(fg.rules, effort))

    sizes = [sum(costs.bytes_of(aval) for aval in cut(parts).saved) for parts in (1, 2, 4, 8)]
    assert sizes == [4 * 4 * WIDTH * (parts - 1) for parts in (1, 2, 4, 8)]


# --- In the body of a loop ------------------------------------------------------------------------


def hourglass(W, V, x):
    """Two wide halves, and one narrow value between them."""
    h = x + jax.nn.gelu(x @ W) @ V
    return h + jax.nn.gelu(h @ W) @ V


WAIST = [array(8, 64), array(64, 8), array(16, 8)]


def worth_keeping(function, types, steps):
    joint = join(traced(function, types), *masks(traced(function, types)), Settings(fg.rules))
    ahead = joint.needed(joint.outputs)
    in_memory = {v for i in ahead for v in joint.equations[i].outvars}
    return [v.aval.shape for v in worthwhile(joint, ahead, in_memory, steps)]


def test_a_waist_is_kept_while_all_steps_take_less_than_a_half():
    assert worth_keeping(hourglass, WAIST, 2) == [(16, 8)]
    assert worth_keeping(hourglass, WAIST, 10_000) == []


def test_a_body_without_a_waist_is_repeated_as_a_whole():
    assert worth_keeping(lambda x: jnp.sin(jnp.sin(x)), [array(16, 8)], 2) == []
