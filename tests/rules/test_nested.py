"""A scan as loops within loops: the same values and gradients, of which less is kept."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from fungrad import _jax, saving
from fungrad.costs import NEVER, Effort
from fungrad.passes import Settings
from fungrad.rules.nested import nested
from tests.test_crossing import array, masks, traced


def recurrence(reverse):
    """A carry of two, one of them an integer; xs and ys of floats and of integers."""

    def function(w, a, n, u, v):
        def step(c, x):
            (a, n), (u, v) = c, x
            a = jnp.tanh(w * a + u)
            return (a, n + 1), (a * u, n * v)

        return lax.scan(step, (a, n), (u, v), reverse=reverse)

    return function


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [4, 7, 12, 13])
@pytest.mark.parametrize("levels", [2, 3])
def test_the_values_are_those_of_the_scan(levels, length, reverse):
    """Lengths that divide evenly and those that do not, one way and the other."""
    draw = np.random.default_rng(length)
    w, a, u = (jnp.asarray(draw.normal(size=shape)) for shape in (2, 2, (length, 2)))
    args = w, a, jnp.array(0), u, jnp.arange(length)
    function = recurrence(reverse)
    (scan,) = traced(function, list(map(jax.typeof, args))).jaxpr.eqns
    found = _jax.evaluate(nested(scan, levels), args)
    expected = jax.tree.leaves(function(*args))
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-14)


def test_without_xs_or_ys():
    def function(a):
        return lax.scan(lambda a, _: (jnp.sin(a), None), a, None, length=10)[0]

    (scan,) = traced(function, [array(2, dtype="float64")]).jaxpr.eqns
    a = jnp.array([0.3, 1.1])
    np.testing.assert_allclose(_jax.evaluate(nested(scan, 2), [a])[0], function(a), rtol=1e-14)


# --- How the loops are made -----------------------------------------------------------------------


def loops(graph):
    """The scans of a graph, each with its length and its own scans."""
    found = []
    for equation in graph.jaxpr.eqns:
        inside = [loop for inner in _jax.subgraphs(equation) for loop in loops(inner)]
        scan = equation.primitive.name == "scan"
        found += [(equation.params["length"], inside)] if scan else inside
    return found


def repeated(function):
    def times(length):
        return lambda a: lax.scan(lambda a, _: (function(a), None), a, None, length=length)[0]

    return times


steps_of = repeated(jnp.sin)


@pytest.mark.parametrize(
    ("length", "levels", "outer", "inner", "left"),
    [
        (16, 2, 4, 4, 0),
        (64, 3, 4, 16, 0),
        (12, 2, 3, 4, 0),
        (7, 2, 3, 2, 1),
        (13, 2, 4, 3, 1),
        (1000, 2, 40, 25, 0),
        (4, 12, 2, 2, 0),
        (64, 6, 2, 32, 0),
    ],
)
def test_the_outer_loop_has_about_as_many_steps_as_the_root(length, levels, outer, inner, left):
    """A divisor near the root, if there is one: then no steps are left over."""
    (scan,) = traced(steps_of(length), [array(3)]).jaxpr.eqns
    rest = [(left, [])] if left else []
    assert loops(nested(scan, levels)) == [(outer, [(inner, [])]), *rest]


def forward_steps(length, levels):
    """How often a program of the gradient computes the sine: the loops' lengths, multiplied."""
    save = Effort(NEVER, operands=True, levels=levels)
    graph = traced(steps_of(length), [array(3)])
    cut = saving.split(graph, *masks(graph), Settings(fg.rules, save))
    return sum(count(half) for half in (cut.forward, cut.backward))


def count(graph):
    total = 0
    for equation in graph.jaxpr.eqns:
        inside = sum(map(count, _jax.subgraphs(equation)))
        total += equation.params.get("length", 1) * inside
        total += equation.primitive.name == "sin"
    return total


@pytest.mark.parametrize(
    ("length", "levels"), [(16, 1), (16, 2), (64, 1), (64, 2), (64, 3), (64, 6)]
)
def test_each_level_but_the_first_is_one_more_forward_pass(length, levels):
    assert forward_steps(length, levels) == length * levels


# --- Memory ---------------------------------------------------------------------------------------

SIZE = 4000
STATE = 4 * SIZE


def states(length, levels):
    """How many states the compiled gradient has in memory."""
    save = Effort(NEVER, operands=True, levels=levels)
    graph = traced(steps_of(length), [array(SIZE)])
    cut = saving.split(graph, *masks(graph), Settings(fg.rules, save))
    halves = cut.halves((True,), (True,), _jax.evaluate, _jax.evaluate)

    def gradient(a, g):
        _, saved = halves.forward(a)
        return halves.backward(saved, [g])

    types = [jax.ShapeDtypeStruct((SIZE,), jnp.float32)] * 2
    plan = jax.jit(gradient).lower(*types).compile().memory_analysis()
    return plan.temp_size_in_bytes / STATE


@pytest.mark.parametrize(
    ("levels", "few", "many"),
    [(1, 64, 1024), (2, 2 * 8, 2 * 32), (3, 3 * 4, 3 * 10), (10, 2 * 6, 2 * 10)],
)
def test_memory_grows_as_the_theory_says(levels, few, many):
    """From 64 to 1024 steps: T, 2 √T, 3 ∛T, and 2 log₂ T states, and a handful besides."""
    assert states(64, levels) <= few + 5
    assert states(1024, levels) <= many + 5


def test_a_short_scan_stays_as_it_is():
    """With three steps there is nothing to gain."""
    assert forward_steps(3, 4) == 3


def test_a_scan_with_effects_is_not_repeated():
    def printing(a):
        jax.debug.print("{}", a)
        return jnp.sin(a)

    function = repeated(printing)(16)
    graph = traced(function, [array(3)])
    save = Effort(NEVER, operands=True, dear=True, levels=3)
    cut = saving.split(graph, *masks(graph), Settings(fg.rules, save))
    assert [length for length, _ in loops(cut.forward)] == [16]
    assert [bool(equation.effects) for equation in cut.backward.jaxpr.eqns].count(True) == 0
