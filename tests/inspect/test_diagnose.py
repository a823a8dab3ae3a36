"""fg.diagnose names the line, the iteration, the example and the branch of what is wrong."""

import os
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from tests.inspect import blocked, sick, sick_within, sound


def by_name(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.fun.__name__)


def check(case, found):
    told = str(found)
    where = os.path.basename(case.fun.__code__.co_filename)
    assert (os.path.basename(found.file), found.line) == (where, case.line), told
    assert (found.iteration, found.example, found.branch) == case[3:6], told
    assert case.backward in (None, found.is_backward), told
    assert case.says in told, told


@by_name(sick.CASES + sick_within.CASES)
def test_origin_of_nan_and_infinity(case):
    found = fg.diagnose(case.fun)(*case.args)
    assert not found.healthy
    check(case, found)
    assert "<table>" in found._repr_html_()


@by_name(sound.CASES)
def test_no_alarm_without_harm(case):
    found = fg.diagnose(case.fun)(*case.args)
    assert found.healthy, str(found)
    assert (found.cause, found.line, found.node, found.iteration) == (None,) * 4
    assert found.word


@by_name(blocked.CASES)
def test_what_blocks_a_gradient(case):
    found = fg.diagnose(case.fun)(*case.args)
    first = next(iter(case.fun.__code__.co_varnames))
    finding = next(f for f in found.findings if f.argument == first)
    assert finding.kind == "zero"
    check(case, finding)


def test_an_argument_that_is_not_used_is_named():
    found = fg.diagnose(lambda x, *, scale: jnp.sum(x))(jnp.ones(2), scale={"a": 2.0, "n": 3})
    assert (found.kind, found.argument, found.line) == ("unused", "scale.a", None)
    assert "scale.a is unused" in found.cause
    assert [norm.norm for norm in found.arguments] == [np.sqrt(2), 0.0]


def test_only_what_is_asked_for_is_differentiated():
    def loss(x, y):
        return jnp.sum(x), jnp.log(y)

    x, y = jnp.ones(2), jnp.zeros(2)
    assert fg.diagnose(loss, has_aux=True)(x, y).argument == "y"  # which nothing depends on
    assert fg.diagnose(loss, 0, has_aux=True)(x, y).healthy
    assert fg.diagnose(loss)(x, y).kind == "inf"
    # In the second output a gradient of 0 arrives at an infinite slope.
    found = fg.diagnose(loss, argnums=[1], cotangent=(1.0, jnp.zeros(2)))(x, y)
    assert [finding.kind for finding in found.findings] == ["inf", "nan"]


def test_a_jitted_function_is_not_traced_again():
    traced = []

    @jax.jit
    def loss(x):
        traced.append(x)
        return jnp.sum(jnp.sqrt(x))  # here

    x = jnp.zeros(2)
    loss(x)
    found = fg.diagnose(loss)(x)
    assert len(traced) == 1
    assert (found.line, found.function) == (line_of("jnp.sum(jnp.sqrt(x))  # here"), "loss")


def line_of(code):
    lines = Path(__file__).read_text("utf-8").splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.strip().endswith(code))


def test_a_rule_of_the_users_is_followed():
    book = fg.rules.replace({"tanh": lambda g, z, x: g / x})
    found = fg.diagnose(lambda x: jnp.sum(jnp.tanh(x)), rules=book)(jnp.arange(2.0))
    assert (found.node, found.is_backward, found.entry) == ("tanh", True, (0,))
    straight = fg.rules.replace({"round": lambda g, z, x: g})
    assert fg.diagnose(lambda x: jnp.sum(jnp.round(x)), rules=straight)(jnp.ones(2)).healthy


def test_long_loops_tell_the_same(monkeypatch):
    monkeypatch.setattr("fungrad.inspect.diagnosis.loops.SHORT", 0)
    chosen = ("carry_that_reaches_zero", "reversed_scan", "nested_scans", "while_loop")
    for case in [*sick_within.CASES, *blocked.CASES]:
        if case.fun.__name__ in (*chosen, "rounding_in_a_scan"):
            check(case, fg.diagnose(case.fun)(*case.args))


def test_references_are_followed():
    def loss(x):
        total = jax.new_ref(x)
        total[...] = total[...] * 0.0
        return jnp.sum(jnp.sqrt(total[...]))  # and here

    assert fg.diagnose(loss)(jnp.ones(2)).line == line_of("# and here")


def test_norms_of_healthy_layers():
    def model(ws, x):
        for i, w in enumerate(ws):
            with jax.named_scope(f"layer{i}"):
                x = jnp.tanh(w @ x)
        return jnp.sum(x)

    found = fg.diagnose(model)([1e-3 * jnp.eye(3)] * 3, jnp.ones(3))
    assert [norm.name for norm in found.layers][:3] == ["layer0", "layer1", "layer2"]
    np.testing.assert_allclose(found.layers[0].norm, 1e-6 * np.sqrt(3), rtol=1e-3)
    assert "vanish on the way back" in found.word
    grown = fg.diagnose(model)([0.5 * jnp.eye(3), 1e6 * jnp.eye(3)], jnp.full(3, 1e-9))
    assert "explode on the way back" in grown.word
    assert "<pre>healthy" in found._repr_html_()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fg.diagnose(cast(Any, 3)), TypeError, "fun must be a function, got 3"),
        (lambda: fg.diagnose(jnp.sin)(jax.ShapeDtypeStruct((2,), "float32")), TypeError, "known"),
        (lambda: jax.jit(lambda x: fg.diagnose(jnp.sin)(x).cause)(1.0), TypeError, "outside"),
        (lambda: fg.diagnose(jnp.sin, cotangent=jnp.ones(3))(1.0), ValueError, "cotangent must"),
        (lambda: fg.diagnose(jnp.sin)(1.0).lines_of_code, AttributeError, "no 'lines_of_code'"),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call()
