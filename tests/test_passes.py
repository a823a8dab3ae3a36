"""The two passes: what is differentiated, forks, broadcasting, rules that are wrong or missing."""

import inspect
import warnings

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from fungrad import _jax, passes, steps
from fungrad.passes import Settings
from tests.ways import assert_ways_agree

x = jnp.array([0.3, -0.7, 1.1])
y = jnp.array([1.2, 0.4, -0.5])
settings = Settings(fg.rules)


def graph_of(function, *args):
    return _jax.trace(lambda *args: list(function(*args)), [jax.typeof(a) for a in args])


def primitives(function, *args):
    return [node.primitive for node in fg.trace(function)(*args)]


# --- What is differentiated ---------------------------------------------------------------------


def mixture(a, b, i):
    stopped = lax.stop_gradient(a) * b
    whole = jnp.floor(a)
    return jnp.sin(a), stopped, whole, i + 1, a.astype(int), jnp.ones(3), jnp.argmax(b), a > b


def test_activity_follows_what_depends_differentiably():
    graph = graph_of(mixture, x, y, jnp.arange(3))
    of_a, of_b = [True, False], [False, True]
    none = [False] * 6
    assert [*passes.activity(graph, (True, False, False), settings)] == [*of_a, *none]
    assert [*passes.activity(graph, (False, True, False), settings)] == [*of_b, *none]
    assert not any(passes.activity(graph, (False, False, True), settings))


def test_activity_sees_into_calls():
    def function(a, b):
        inner = jax.jit(lambda a, b: (a * 2, b, jnp.floor(a)))
        looped = lax.scan(lambda c, x: ((c[1], c[1]), c[0]), (b, a), None, length=2)
        chosen = lax.cond(b > 0, lambda a, b: (a, b), lambda a, b: (b, b), a, b)
        return *inner(a, b), *looped[0], *chosen

    graph = graph_of(function, x[0], y[0])
    of_a = passes.activity(graph, (True, False), settings)
    assert of_a == (True, False, False, True, True, True, False)


def test_receivers_are_the_inputs_that_a_gradient_reaches():
    graph = graph_of(lambda a, b, c: (a * b, jnp.floor(c) * b, c), x, y, x)
    active = (True, True, True)

    def reached(*wanted):
        return passes.receivers(graph, active, wanted, settings)

    assert reached(True, False, False) == (True, True, False)
    assert reached(False, True, False) == (False, True, False)
    assert reached(False, False, True) == (False, False, True)
    assert reached(False, False, False) == (False, False, False)


def test_a_plan_has_steps_for_what_a_gradient_passes():
    graph = graph_of(lambda a, b: (jnp.sin(a) * jnp.cos(b), jnp.tanh(a)), x, y)
    steps = passes.plan(graph, (True, False), (True, False), settings)
    planned = {e.primitive.name: s for e, s in zip(graph.jaxpr.eqns, steps, strict=True)}
    assert planned["cos"] is None
    assert planned["tanh"] is None
    assert planned["sin"].active == (True,)
    assert planned["mul"].active == (True, False)


def test_only_what_steps_read_is_kept():
    graph = graph_of(lambda a: (jnp.exp(a), jnp.cos(jnp.floor(a))), x)
    steps = passes.plan(graph, (True,), (True, True), settings)
    record = passes.forward(graph, [x], steps)
    kept = {e.primitive.name for e in graph.jaxpr.eqns if e.outvars[0] in record.values}
    assert kept == {"exp"}


# --- Zeros are not built, thunks are not called ---------------------------------------------------


def test_no_operation_is_spent_on_what_is_not_asked_for():
    """∂(x·y)/∂x alone is one product, whatever the gradient at y."""
    assert primitives(fg.grad(lambda x: x * jnp.sin(2.0)), 1.0).count("mul") == 2
    backward = primitives(lambda x, g: fg.vjp(lambda x: x * y, x)[1](g), x, y)
    assert backward.count("mul") == 2
    assert "add_any" not in backward


def test_a_thunk_is_called_for_an_input_that_is_differentiated():
    called = []

    def rule(g, out, x, y):
        return lambda: called.append("x") or g * y, lambda: called.append("y") or g * x

    book = fg.rules.replace({"mul": rule})
    assert fg.grad(lambda x, y: x * y, 1, rules=book)(2.0, 3.0) == 2
    assert called == ["y"]


def test_none_and_python_numbers_are_gradients():
    book = fg.rules.replace({"mul": lambda g, out, x, y: (None, 7.0)})
    assert fg.grad(lambda x, y: x * y, (0, 1), rules=book)(2.0, 3.0) == (0, 7)


# --- Forks and broadcasting -----------------------------------------------------------------------

FORKS = {
    "twice in one operation": (lambda x: x * x, x),
    "in two operations": (lambda x: jnp.sin(x) * jnp.cos(x), x),
    "as output and input": (lambda x: (jnp.sin(x), jnp.exp(jnp.sin(x))), x),
    "in a call and outside": (lambda x: jax.jit(jnp.sin)(x) * x, x),
    "twice in one call": (lambda x: jax.jit(jnp.multiply)(x, x), x),
    "in a loop, as constant and carry": (
        lambda x: lax.scan(lambda c, _: (c * x, c), x, None, length=2),
        x,
    ),
}
BROADCASTS = {
    "a scalar": (lambda x, y: x[0] * y, x, y),
    "a row": (lambda x, y: x[None, :] * y[:, None], x, y),
    "an axis of length one": (lambda x, y: x.reshape(3, 1) + y.reshape(1, 3), x, y),
    "by lax, without an operation": (lambda x, y: lax.mul(x, y[0]), x, y),
    "under vmap": (lambda x, y: jax.vmap(lambda a: a * y)(x), x, y),
}


@pytest.mark.parametrize("name", FORKS)
def test_gradients_add_where_an_edge_forks(name):
    assert_ways_agree(*FORKS[name])


@pytest.mark.parametrize("name", BROADCASTS)
def test_broadcasting_is_undone(name):
    assert_ways_agree(*BROADCASTS[name])


# --- Test the tester: mistakes in the passes ------------------------------------------------------


def keep_first(gradients, variable, g):
    gradients.setdefault(variable, g)


def keep_last(gradients, variable, g):
    gradients[variable] = g


def take_first(g, x):
    """The first of the entries that broadcasting made, instead of their sum."""
    added = g.ndim - x.ndim
    g = g[(0,) * added]
    return g[tuple(slice(None, n) for n in x.shape)]


@pytest.mark.parametrize(
    ("module", "part", "mistake", "programs"),
    [
        (passes, "_accumulate", keep_first, FORKS),
        (passes, "_accumulate", keep_last, FORKS),
        (steps, "sum_to", take_first, {"by lax": BROADCASTS["by lax, without an operation"]}),
    ],
)
def test_mistakes_in_the_passes_are_noticed(monkeypatch, module, part, mistake, programs):
    monkeypatch.setattr(module, part, mistake)
    jax.clear_caches()  # the formulas that rules came to
    for function, *args in programs.values():
        # A function of its own: sub-graphs that were cut before the mistake are not used again.
        with pytest.raises(AssertionError):
            assert_ways_agree(lambda *args, f=function: f(*args), *args)


# --- Wrong rules ----------------------------------------------------------------------------------


def product(x, y):
    return jnp.sum(lax.mul(x, y))


def line_of_product():
    return f"{inspect.getsourcefile(product)}:{inspect.getsourcelines(product)[1] + 1}"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda g, out, x, y: g, "returned 1 gradients for 2 inputs; return one per input"),
        (lambda g, out, x, y: (g, g, g), "returned 3 gradients for 2 inputs"),
        (lambda g, out, x, y: (), "returned 0 gradients for 2 inputs"),
        (
            lambda g, out, x, y: (g[:2], g),
            r"returned a gradient float64\[2\] for an input float64\[3\]; return float64\[3\]",
        ),
        (lambda g, out, x, y: (lambda: g[None], g), r"returned a gradient float64\[1, ?3\]"),
        (lambda g, out, x, y: (g.astype("float32"), g), r"returned a gradient float32\[3\]"),
        (lambda g, out, x, y: (lax.complex(g, g), g), r"returned a gradient complex128\[3\]"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_a_rule_that_returns_something_else_is_named_with_its_line(rule, message, wrap):
    book = fg.rules.replace({"mul": rule})
    with pytest.raises(fg.RuleError, match=message) as error:
        fg.grad(wrap(product), rules=book)(x, y)
    assert f"the rule of 'mul' (used at {line_of_product()})" in str(error.value)
    assert isinstance(error.value, TypeError)


def test_the_rule_of_a_function_is_named_by_the_functions_name():
    @jax.jit
    def gate(x):
        return jnp.tanh(x)

    book = fg.rules.replace({"gate": lambda g, out, x: (g, g)})
    with pytest.raises(fg.RuleError, match=r"the rule of 'gate' \(used at .*returned 2 gradients"):
        fg.grad(lambda x: jnp.sum(gate(x)), rules=book)(x)


# --- Missing rules --------------------------------------------------------------------------------

without_tanh = fg.Rulebook({r.primitive: r for r in fg.rules if r.primitive != "tanh"})


def smooth(x):
    return jnp.sum(jnp.tanh(x) * x)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap])
def test_without_a_rule_jaxs_own_is_used_and_says_so(wrap):
    function = wrap(lambda x: jnp.tanh(x) * x)
    with pytest.warns(fg.MissingRuleWarning, match=r"'tanh' at .*test_passes.py:\d+ has no hand"):
        g = fg.vjp(function, x, rules=without_tanh)[1](y)[0]
    np.testing.assert_allclose(g, jax.vjp(function, x)[1](y)[0], rtol=1e-14)


def test_jaxs_own_rule_serves_every_way_and_second_order():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.MissingRuleWarning)
        actual = jax.jit(jax.vmap(fg.grad(fg.grad(jnp.tanh, rules=without_tanh))))(x)
        several = fg.grad(
            lambda x: jnp.sum(lax.cummax(x)), rules=fg.Rulebook(dict.fromkeys(()), None)
        )(x)
    np.testing.assert_allclose(actual, jax.vmap(jax.grad(jax.grad(jnp.tanh)))(x), rtol=1e-14)
    np.testing.assert_allclose(several, jax.grad(lambda x: jnp.sum(lax.cummax(x)))(x))


def test_a_strict_book_makes_a_missing_rule_an_error():
    strict = without_tanh.replace({}, strict=True)
    with pytest.raises(fg.MissingRuleError, match=r"'tanh' at .*:\d+.*rules\.replace") as error:
        fg.grad(smooth, rules=strict)(x)
    assert isinstance(error.value, NotImplementedError)
    fg.grad(lambda x: jnp.sum(jnp.sin(x)), rules=strict)(x)  # what has a rule is not touched
    fg.grad(lambda x: jnp.sum(x * jnp.tanh(lax.stop_gradient(x))), rules=strict)(x)


# --- Effects --------------------------------------------------------------------------------------


def shows(seen, where, x):
    jax.debug.callback(lambda x: seen.append((where, float(x))), x)


def watch(seen, where):
    """2x, which shows its gradient in the backward pass."""
    f = jax.custom_vjp(lambda x: 2 * x)
    f.defvjp(lambda x: (2 * x, None), lambda _, g: (shows(seen, where, g), (2 * g,))[1])
    return f


def calling(function):
    """The function, inside each kind of call."""
    yield function
    yield jax.jit(function)
    yield jax.checkpoint(function)
    yield lambda x: lax.cond(x > 0, function, lambda x: x, x)
    yield lambda x: lax.scan(lambda c, _: (function(c), None), x, None, length=1)[0]


@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("save", [None, "nothing"])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_an_effect_happens_once(kind, save, wrap):
    seen = []

    def noisy(x):
        shows(seen, "forward", x)
        return jnp.sin(watch(seen, "backward")(x))

    function = [*calling(noisy)][kind]
    g = wrap(fg.grad(function, save=save))(0.5)
    jax.effects_barrier()
    np.testing.assert_allclose(g, 2 * np.cos(1.0), rtol=1e-14)
    assert sorted(seen) == [("backward", pytest.approx(np.cos(1.0))), ("forward", 0.5)]


def test_the_effects_of_a_loop_come_in_order():
    seen = []
    step = watch(seen, "backward")

    def function(x):
        return lax.scan(lambda c, _: (shows(seen, "forward", c), (step(c), None))[1], x, None, 3)[0]

    assert fg.grad(function)(1.0) == 8
    jax.effects_barrier()
    backward = [value for where, value in seen if where == "backward"]
    forward = [value for where, value in seen if where == "forward"]
    assert (forward, backward) == ([1, 2, 4], [1, 2, 4])


def test_a_callback_runs_once():
    seen = []

    def host(x):
        seen.append(float(x))
        return np.asarray(x) * 2

    def function(x):
        shape = jax.ShapeDtypeStruct((), x.dtype)
        return x * jax.pure_callback(host, shape, lax.stop_gradient(x))

    assert jax.jit(fg.grad(function))(1.5) == 3
    assert seen == [1.5]


def test_what_jax_cannot_differentiate_is_refused_in_its_words():
    def function(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct((), x.dtype), x)

    with pytest.raises(ValueError, match=r"Pure callbacks do not support JVP.*test_passes\.py"):
        fg.grad(function)(1.5)


def test_backward_functions_are_checked_unless_jax_is_told_not_to():
    @jax.custom_vjp
    def first(x, y):
        return x

    first.defvjp(lambda x, y: (x, None), lambda _, g: (jnp.zeros(3), jnp.zeros(3)))
    gradient = fg.grad(lambda x, y: jnp.sum(first(x, y)), 1)
    with pytest.raises(ValueError, match="the shapes do not match"):
        gradient(jnp.ones(3), jnp.ones(4))
    jax.config.update("jax_disable_bwd_checks", True)
    try:
        assert gradient(jnp.ones(3), jnp.ones(4)).shape == (3,)
    finally:
        jax.config.update("jax_disable_bwd_checks", False)
