"""Join, then cut: the two halves of a sub-graph, and what crosses between them."""

from collections import Counter

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from fungrad import _jax, saving
from fungrad.budget import LADDER
from fungrad.costs import Effort
from fungrad.passes import Settings
from tests.ways import QUICK

x = jnp.array([0.3, -0.7, 1.1])
y = jnp.array([1.2, 0.4, -0.5])
W = jnp.outer(x, y)
policies = jax.checkpoint_policies


def graph_of(function, *args):
    return _jax.trace(lambda *args: jax.tree.leaves(function(*args)), [jax.typeof(a) for a in args])


def cut_of(function, *args, save=None, active=None, wanted=None, kept=None, invariant=None):
    graph = graph_of(function, *args)
    active = active or (True,) * len(args)
    wanted = wanted or (True,) * len(graph.jaxpr.outvars)
    kept = kept or (True,) * len(graph.jaxpr.outvars)
    return saving.split(graph, active, wanted, kept, Settings(fg.rules, save), invariant)


def primitives(graph):
    return sorted(equation.primitive.name for equation in graph.jaxpr.eqns)


def shapes(cut):
    return sorted(aval.shape for aval in cut.saved)


# --- The halves together are the vjp --------------------------------------------------------------


def layer(W, x):
    h = jnp.tanh(W @ x)
    return h * x, jnp.sum(h), x > 0


EVERY_SAVE = [None, "everything", "nothing", policies.dots_saveable]


@pytest.mark.parametrize("save", EVERY_SAVE)
@pytest.mark.parametrize("active", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("wanted", [(True, True, False), (True, False, False)])
def test_the_halves_are_the_function_and_its_pullback(save, active, wanted):
    cut = cut_of(layer, W, x, save=save, active=active, wanted=wanted)
    halves = cut.halves(active, wanted, _jax.evaluate, _jax.evaluate)
    outputs, saved = halves.forward(W, x)
    for actual, expected in zip(outputs, layer(W, x), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-14)

    g = [y if wanted[0] else None, jnp.array(2.0) if wanted[1] else None, None]
    full = (y, jnp.array(2.0 * wanted[1]))
    _, pullback = jax.vjp(lambda W, x: layer(W, x)[:2], W, x)
    gradients = halves.backward(saved, g)
    for is_active, actual, expected in zip(active, gradients, pullback(full), strict=True):
        if is_active:
            np.testing.assert_allclose(actual, expected, rtol=1e-13)
        else:
            assert actual is None


def test_a_gradient_that_does_not_arrive_is_a_zero():
    active, wanted = (True, True), (True, True, False)
    cut = cut_of(layer, W, x, active=active, wanted=wanted)
    halves = cut.halves(active, wanted, _jax.evaluate, _jax.evaluate)
    _, saved = halves.forward(W, x)
    actual = halves.backward(saved, [None, jnp.array(2.0), None])
    expected = jax.vjp(lambda W, x: layer(W, x)[1], W, x)[1](jnp.array(2.0))
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


# --- Every effort ---------------------------------------------------------------------------------


def pair(c, x):
    """Of a carry of two, one of them an integer."""
    a, n = c
    a = jnp.tanh(a * W[0] + jnp.sin(x))
    return (a, n + 1), a * x


def dropping(key):
    def step(c, x):
        key, a = c
        key, own = jax.random.split(key)
        a = jnp.where(jax.random.bernoulli(own, 0.5, a.shape), jnp.tanh(a + x), a)
        return (key, a), a

    return lambda a, xs: lax.scan(step, (key, a), xs)[0][1]


@jax.custom_vjp
def tripled(x):
    return jnp.sin(x)


tripled.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (3 * g * jnp.cos(x),))


def branching(c, x):
    return lax.cond(jnp.sum(c) > 0, lambda c: jnp.sin(c * x), lambda c: jax.nn.gelu(c) + x, c), c


def inner(c, x):
    return lax.scan(lambda d, _: (jnp.sin(d) * x, d), c, None, length=5)


def through(step, **options):
    return lambda a, xs: lax.scan(step, a, xs, **options)


def xs(length):
    return jnp.asarray(np.random.default_rng(length).normal(size=(length, 3)))


SCANS = {
    "one step": (through(lambda c, x: (jnp.sin(c * x), c)), 1),
    "four, in reverse": (through(lambda c, x: (jnp.sin(c * x), c), reverse=True), 4),
    "seven, of two": (lambda a, xs: through(pair)((a, jnp.array(0)), xs), 7),
    "twelve, with cond": (through(branching), 12),
    "thirteen, in reverse, with jit": (
        through(jax.jit(lambda c, x: (jax.nn.gelu(c @ W) + x, jnp.sum(c))), reverse=True),
        13,
    ),
    "nested": (through(inner), 7),
    "without xs": (
        lambda a, xs: lax.scan(lambda c, _: (jnp.sin(c + xs[0]), None), a, None, length=12)[0],
        12,
    ),
    "custom_vjp": (through(lambda c, x: (tripled(c) * x, tripled(x))), 7),
    "dropout": (dropping(jax.random.key(0)), 7),
    "checkpoint": (through(jax.checkpoint(lambda c, x: (jnp.sin(jnp.sin(c) * x), c))), 7),
}


def with_effort(function, effort):
    """args -> the gradients by the halves that are cut with this effort, under a jit of JAX's."""

    def gradients(*args):
        active, types = (True,) * len(args), jax.tree.leaves(jax.eval_shape(function, *args))
        wanted = tuple(jnp.issubdtype(z.dtype, jnp.inexact) for z in types)
        cut = cut_of(function, *args, save=effort, wanted=wanted)
        halves = cut.halves(active, wanted, _jax.evaluate, _jax.evaluate)
        outputs, saved = halves.forward(*args)
        g = [jnp.cos(z) if w else None for z, w in zip(outputs, wanted, strict=True)]
        return halves.backward(saved, g)

    return gradients


def by_jax(function):
    def gradients(*args):
        def floats(*args):
            leaves = jax.tree.leaves(function(*args))
            return [z for z in leaves if jnp.issubdtype(z.dtype, jnp.inexact)]

        outputs, pullback = jax.vjp(floats, *args)
        return list(pullback([jnp.cos(z) for z in outputs]))

    return gradients


def assert_same(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", SCANS)
def test_every_effort_gives_the_same_gradients(name):
    function, length = SCANS[name]

    def all_of_them(*args):
        return [with_effort(function, effort)(*args) for effort in LADDER], by_jax(function)(*args)

    found, expected = jax.jit(all_of_them, compiler_options=QUICK)(x, xs(length))
    for gradients in found:
        assert_same(gradients, expected)


@pytest.mark.parametrize("effort", [Effort(), Effort(1.0, True, True, levels=2)])
@pytest.mark.parametrize("name", ["seven, of two", "twelve, with cond"])
def test_an_effort_twice_and_under_vmap(name, effort):
    """g · ∂²: the gradient of the gradients, by JAX of ours and by JAX of JAX's."""
    function, length = SCANS[name]

    def twice(gradients):
        return jax.grad(lambda *args: sum(jnp.sum(jnp.sin(z)) for z in gradients(*args)), (0, 1))

    def both(*args):
        ours, theirs = with_effort(function, effort), by_jax(function)
        stacked = [jnp.stack([a, 2 * a]) for a in args]
        return [[twice(f)(*args), jax.vmap(f)(*stacked)] for f in (ours, theirs)]

    assert_same(*jax.jit(both, compiler_options=QUICK)(x, xs(length)))


# --- What crosses ---------------------------------------------------------------------------------


def test_inputs_cross_for_free():
    cut = cut_of(lambda x, y: [x * y], x, y)
    assert (cut.free, cut.saved) == ((0, 1), ())


def test_the_forward_half_computes_nothing_for_the_backward_pass():
    cut = cut_of(lambda x: [jnp.sum(x * 2)], x)
    assert (cut.free, cut.saved) == ((), ())
    assert "mul" in primitives(cut.forward)


def test_what_a_rule_reads_is_saved_once():
    """tanh's rule reads its output, sin's its input: each crosses once, if often read."""
    cut = cut_of(lambda x: [jnp.tanh(jnp.tanh(x))], x, save="everything")
    assert shapes(cut) == [(3,), (3,)]

    def shared(x):
        e = jnp.exp(x)
        return [jnp.sin(e) * jnp.cos(e)]

    assert len(cut_of(shared, x, save="everything").saved) == 3  # e, sin e, cos e


def test_a_broadcast_is_repeated_and_not_saved():
    cut = cut_of(lambda x: [jnp.sin(jnp.broadcast_to(jnp.sum(x), (5, 5)))], x, save="everything")
    assert shapes(cut) == [()]


def test_what_stays_the_same_in_a_loop_is_not_saved():
    def step(w, c):
        return [jnp.tanh(c * jnp.sin(w))]

    assert len(cut_of(step, x, y, save="everything").saved) == 2  # sin w, and tanh
    cut = cut_of(step, x, y, save="everything", invariant=(True, False))
    assert len(cut.saved) == 1
    assert primitives(cut.backward).count("sin") == 1


@pytest.mark.parametrize(
    ("save", "repeated"),
    [
        ("everything", ""),
        (policies.everything_saveable, ""),
        ("nothing", "sin dot_general tanh"),
        (policies.nothing_saveable, "sin dot_general tanh"),
        (policies.dots_saveable, "sin tanh"),
        (policies.dots_with_no_batch_dims_saveable, "sin tanh"),
        (policies.save_only_these_names("h"), "dot_general tanh"),
        (policies.save_only_these_names("other"), "sin dot_general tanh"),
        (policies.save_any_names_but_these("h"), "sin dot_general tanh"),
    ],
)
def test_save_says_what_may_cross_and_the_rest_is_computed_again(save, repeated):
    def function(W, x):
        return [jnp.tanh(W @ fg.name(jnp.sin(x), "h"))]

    plain, cut = (
        Counter(primitives(cut_of(function, W, x, save=s).backward)) for s in ("everything", save)
    )
    again = cut - plain
    assert {name for name in ("sin", "dot_general", "tanh") if again[name]} == {*repeated.split()}
    assert (plain["sin"], plain["tanh"]) == (0, 0)


# --- Masks ----------------------------------------------------------------------------------------


def test_the_masks_tell_what_each_half_reads():
    def function(a, b, c):
        return [a * 2, jnp.sin(b), jnp.floor(c)]

    cut = cut_of(function, x, y, x, wanted=(True, True, False))
    assert cut.reads == (0, 1, 2)
    assert cut.free == (1,)
    assert cut.takes == (0, 1)
    assert cut.gives == (True, True, False)
    narrow = cut_of(function, x, y, x, wanted=(True, False, False), kept=(False, True, False))
    assert (narrow.reads, narrow.free, narrow.takes) == ((1,), (), (0,))
    assert narrow.gives == (True, False, False)


def test_dead_code_is_dropped():
    def function(x, y):
        jnp.exp(x)
        return [jnp.sin(x), jnp.cos(y)]

    cut = cut_of(function, x, y, wanted=(True, False), kept=(True, False))
    assert primitives(cut.forward) == ["sin"]
    assert primitives(cut.backward) == ["cos", "mul"]


# --- Effects --------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", EVERY_SAVE)
def test_an_effect_is_in_one_half_only(save):
    @jax.custom_vjp
    def watched(x):
        return x

    def back(_, g):
        jax.debug.print("{}", g)
        return (g,)

    watched.defvjp(lambda x: (x, None), back)

    def function(x):
        jax.debug.print("{}", x)
        return [jnp.sin(watched(jnp.sin(x)))]

    cut = cut_of(function, x, save=save)
    for half in (cut.forward, cut.backward):
        assert sum(bool(equation.effects) for equation in half.jaxpr.eqns) == 1


# --- The cache ------------------------------------------------------------------------------------


def test_a_graph_is_cut_once_for_each_question():
    graph = graph_of(lambda x, y: [jnp.sin(x) * y], x, y)
    book = fg.rules.replace({"sin": lambda g, out, x: g})

    def cut(active, rules=fg.rules, save=None):
        return saving.split(graph, active, (True,), (True,), Settings(rules, save))

    first = cut((True, True))
    assert cut((True, True)) is first
    others = [cut((True, False)), cut((True, True), book), cut((True, True), save="nothing")]
    assert len({id(each) for each in (first, *others)}) == 4


def test_a_loop_of_many_steps_is_traced_once():
    traced = []

    def step(c, x):
        traced.append(1)
        return jnp.sin(c * x), c

    loop = jax.jit(lambda c, x: lax.scan(step, c, x)[0])
    gradient = fg.grad(lambda c: loop(loop(c, x), x) * loop(c, x))
    gradient(x[0])
    gradient(x[1])
    assert len(traced) == 1
