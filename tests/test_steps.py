"""One step: what a rule answers fits its inputs, and is read once for all that is alike."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.extend.core import Primitive, jaxpr_as_fun

import fungrad as fg
from fungrad import _jax, steps
from fungrad.rulebook import Rule, Rulebook

x = jnp.array([0.3, -0.7, 1.1])


# --- Broadcasting is undone -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 3), (2, 1), (2, 3), (4, 1, 3)])
def test_sum_to_is_the_transpose_of_broadcasting(shape):
    g = jnp.arange(24.0).reshape(4, 2, 3)
    (expected,) = jax.linear_transpose(lambda x: jnp.broadcast_to(x, g.shape), jnp.ones(shape))(g)
    np.testing.assert_array_equal(steps.sum_to(g, jnp.ones(shape)), expected)


def test_a_sum_left_out_is_refused(monkeypatch):
    monkeypatch.setattr(steps, "sum_to", lambda g, x: g)
    with pytest.raises(fg.RuleError, match=r"the rule of 'mul' .* float64\[3\] .* float64\[\]"):
        fg.grad(lambda s: jnp.sum(lax.mul(x, s)))(2.0)


# --- Formulas are read once -----------------------------------------------------------------------


def with_own(name, function):
    """A book in which a rule of fungrad's own is another function."""
    rules = {r.primitive: r for r in fg.rules}
    return Rulebook(rules | {name: dataclasses.replace(fg.rules[name], function=function)})


def with_counted(name):
    """A book in which a rule of fungrad's own counts its calls."""
    called = []

    def counted(g, out, *inputs, **params):
        called.append(name)
        return fg.rules[name](g, out, *inputs, **params)

    return with_own(name, counted), called


def graph_of_gradient(f, *args, **named):
    return jax.make_jaxpr(fg.grad(f, **named))(*args)


def test_a_rule_is_read_once_for_each_choice_of_types():
    book, called = with_counted("sin")
    graph_of_gradient(lambda x: jnp.sum(jnp.sin(jnp.sin(x))), x, rules=book)
    assert called == ["sin"]
    graph_of_gradient(lambda x: 2 * jnp.sum(jnp.sin(x)), x, rules=book)
    assert called == ["sin"]
    graph_of_gradient(lambda x: jnp.sum(jnp.sin(x)), x.astype("float32"), rules=book)
    graph_of_gradient(lambda x: jnp.sum(jnp.sin(x)), x[:2], rules=book)
    assert called == ["sin"] * 3
    jax.clear_caches()
    graph_of_gradient(lambda x: jnp.sum(jnp.sin(x)), x, rules=book)
    assert called == ["sin"] * 4


def test_a_rule_of_the_users_is_called_at_each_use():
    called = []
    book = fg.rules.replace({"sin": lambda g, out, x: called.append(x) or g * jnp.cos(x)})
    graph_of_gradient(lambda x: jnp.sum(jnp.sin(jnp.sin(x))), x, rules=book)
    assert len(called) == 2


def test_nothing_is_kept_while_jax_looks_for_leaks():
    book, called = with_counted("sin")
    with jax.checking_leaks():
        graph_of_gradient(lambda x: jnp.sum(jnp.sin(jnp.sin(x))), x, rules=book)
    assert called == ["sin"] * 2


def test_operations_bear_the_line_and_the_scope_of_their_use():
    def f(x):
        with jax.named_scope("first"):
            y = jnp.tanh(x)
        with jax.named_scope("second"):
            return jnp.sum(jnp.tanh(y))

    line = f.__code__.co_firstlineno
    equations = graph_of_gradient(f, x).jaxpr.eqns
    backward = [e for e in equations if "transpose" in _jax.scope_of(e)]
    found = {_jax.scope_of(e).split("/")[-1]: _jax.line_of(e)[1] for e in backward}
    assert found["transpose(jvp(first))"] == line + 2
    assert found["transpose(jvp(second))"] == line + 4


def test_what_differs_is_not_taken_for_the_same():
    """Literals by value, what is asked for, which gradients arrive, and JAX's settings."""
    powers = [fg.grad(jax.jit(lambda x, n=n: x**n))(3.0) for n in (2.0, 3.0, -1.0)]
    np.testing.assert_allclose(powers, [6.0, 27.0, -1 / 9], rtol=1e-15)
    zeros = [jax.jit(fg.grad(lambda x, zero=zero: zero / x))(1.0) for zero in (0.0, -0.0)]
    assert np.signbit(zeros).tolist() == [True, False]
    product = jax.jit(lambda a, b: a * b)
    for argnums, expected in ((0, 5.0), (1, 3.0), ((0, 1), (5.0, 3.0))):
        assert jax.jit(fg.grad(product, argnums))(3.0, 5.0) == expected

    A = jnp.array([[2.0, 0.3], [0.1, 1.0]])
    for i in (0, 1):  # the gradient arrives at one output of the same operation

        def part(A, i=i):
            return jnp.sum(jnp.sin(jnp.linalg.qr(A)[i]))

        np.testing.assert_allclose(jax.jit(fg.grad(part))(A), jax.grad(part)(A), rtol=1e-12)

    def precisions():
        graph = graph_of_gradient(lambda a: jnp.sum(a @ a), jnp.ones((2, 2)))
        return {e.params["precision"] for e in graph.jaxpr.eqns if "precision" in e.params}

    assert precisions() == {None}
    with jax.default_matmul_precision("highest"):
        assert precisions() == {(lax.Precision.HIGHEST, lax.Precision.HIGHEST)}


def test_parameters_are_compared_by_type_and_value_all_the_way_down():
    scaled = Primitive("scaled")
    scaled.def_impl(lambda x, *, like: x * np.asarray(like[0], x.dtype))
    scaled.def_abstract_eval(lambda x, *, like: x)

    def rule(g, out, x, *, like):
        return g * (2.0 if like[0] is True else np.copysign(1.0, like[0]))

    book = Rulebook({"scaled": Rule("scaled", rule, example=lambda draw: draw.uniform(3))})
    for like, slope in ((1,), 1), ((True,), 2), ((0.0,), 1), ((-0.0,), -1):
        gradient = fg.grad(lambda x, like=like: scaled.bind(x, like=like), rules=book)
        assert jaxpr_as_fun(jax.make_jaxpr(gradient)(1.0))(1.0) == [slope]


def test_a_part_of_the_gradients_is_not_taken_for_all():
    book, _ = with_counted("mul")

    @jax.jit
    def both(a, b, g):
        _, pullback = fg.vjp(lambda a, b: a * b, a, b, rules=book, save="everything")
        _, second = pullback.with_refs(jax.ad.DontWant(), jax.ad.GradValue())(g)
        return second, pullback(g)

    assert both(3.0, 5.0, 1.0) == (3.0, (5.0, 3.0))


def test_what_is_read_under_other_settings_is_not_taken_for_the_same():
    book = with_own("sin", lambda g, out, x: jnp.diag(jnp.arange(3).astype(g.dtype)) @ g)

    def precisions_and_formats():
        graph = graph_of_gradient(lambda x: jnp.sum(jnp.sin(x)), x.astype("float32"), rules=book)
        products = {e.params["precision"] for e in graph.jaxpr.eqns if "precision" in e.params}
        counts = {v.aval.dtype.name for e in graph.jaxpr.eqns for v in e.outvars} - {"float32"}
        return products, counts & {"int32", "int64"}

    highest = (lax.Precision.HIGHEST, lax.Precision.HIGHEST)
    assert precisions_and_formats() == ({None}, {"int64"})
    with jax.default_matmul_precision("highest"):
        assert precisions_and_formats() == ({highest}, {"int64"})
    with jax.enable_x64(False):
        assert precisions_and_formats() == ({None}, {"int32"})


def test_a_rule_that_closes_over_a_tracer_is_not_kept():
    scale = []
    book = with_own("sin", lambda g, out, x: scale[-1] * g * jnp.cos(x))

    def scaled(x, s):
        scale.append(s)
        return fg.grad(lambda x: jnp.sum(jnp.sin(x)), rules=book, save="everything")(x)

    for s in (2.0, 3.0):
        found = jax.jit(partial(scaled))(x, s)  # in a trace of its own
        np.testing.assert_allclose(found, s * jnp.cos(x), rtol=1e-15)


def test_what_is_emitted_carries_no_rule():
    """Or it would be that of a gradient outside, by another book, too."""
    book = fg.rules.replace({fg.at(primitive="mul"): lambda g, out, x, y: (100 * g, None)})

    @jax.custom_jvp
    def tripled(x):
        return x * 3.0

    @tripled.defjvp
    def _(primals, tangents):
        (x,), (t,) = primals, tangents
        return tripled(x), fg.vjp(lambda u: u * 3.0 + 0, t, rules=book)[0]

    other = fg.rules.replace({fg.at(primitive="sin"): fg.rules["sin"].function})
    gradient = fg.grad(lambda x: jnp.sum(jnp.sin(tripled(x))), rules=other)(x)
    np.testing.assert_allclose(gradient, 3 * jnp.cos(3 * x), rtol=1e-14)
