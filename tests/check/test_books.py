"""Rules of a rulebook: planted faults are found by the witness that is there for them."""

import re
from typing import Any

import jax
import jax.custom_batching
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from fungrad.rulebook import elementwise


def coarse(g, z, x):
    return g * (1 - z * z) * (1.0 if x.dtype == "float64" else 1 + 1e-5)


def through_numpy(g, z, x):
    """Right, but a callback has no derivative."""
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    slope = jax.pure_callback(lambda z: 1 - z * z, shape, z, vmap_method="expand_dims")
    return g * slope


@jax.custom_batching.custom_vmap
def first_of_batch(g):
    return g


@first_of_batch.def_vmap
def _(size, batched, g):
    return g[:1].repeat(size, 0), True


VALUES = ("reference", "differences", "jacobian")

# primitive, wrong rule, witnesses that must catch it
PLANTED = {
    "a factor of 1.00001": (
        "tanh",
        lambda g, z, x: g * (1 - z * z) * 1.00001,
        (*VALUES, "complex step"),
    ),
    "a factor in one of two inputs": (
        "mul",
        lambda g, z, x, y: (g * y, g * x * 1.00001),
        (*VALUES, "complex step"),
    ),
    "swapped inputs": ("mul", lambda g, z, x, y: (g * x, g * y), VALUES),
    "swapped inputs of different sign": ("sub", lambda g, z, x, y: (-g, g), VALUES),
    "a dropped second input": ("mul", lambda g, z, x, y: (g * y, None), VALUES),
    "a missing sum over a broadcast axis": ("broadcast_in_dim", lambda g, z, x: g, ("contract",)),
    "a conjugate too many": ("mul", lambda g, z, x, y: (g * y.conj(), g * x.conj()), VALUES),
    "a conjugate too few": ("abs", lambda g, z, x: (g / z).astype(x.dtype) * x, VALUES),
    "the wrong sign of an imaginary part": ("imag", lambda g, z, x: lax.complex(0 * g, g), VALUES),
    "a finite number in place of an infinite one": (
        "sqrt",
        lambda g, z, x: g / (2 * z + np.asarray(1e-30, z.dtype)),
        ("reference",),
    ),
    "a linear input that is read": ("neg", lambda g, z, x: g * (z / x), ("linear inputs",)),
    "a constant second derivative": (
        "tanh",
        lambda g, z, x: g * lax.stop_gradient(1 - z * z),
        ("second order",),
    ),
    "no second derivative": ("tanh", through_numpy, ("second order",)),
    "a batch that is mixed": ("neg", lambda g, z, x: -first_of_batch(g), ("vmap",)),
    "a look at values": ("neg", lambda g, z, x: -g if g.sum() > 0 else 0 * g, ("contract",)),
    "digits lost in float32": ("tanh", coarse, ("rounding",)),
    "another format": ("tanh", lambda g, z, x: (g * (1 - z * z)).astype("float64"), ("contract",)),
    "a wrong choice at a tie": ("max", lambda g, z, x, y: (g, None), ("reference",)),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_rule_is_caught_by_each_witness(planted):
    name, wrong, expected = PLANTED[planted]
    verdict = fg.check.rule(
        name,
        rules=fg.rules.replace({name: wrong}),
        dtypes=("float64", "float32"),
        witnesses=[witness for witness in expected if witness != "contract"],
    )
    assert {finding.witness for finding in verdict.faults} == set(expected)
    assert verdict.faults[0].subject == repr(name)


@pytest.mark.parametrize("name", ["tanh", "dot_general", "reduce_sum", "scatter-add", "cumprod"])
def test_rules_raise_no_alarm_in_float16(name):
    verdict = fg.check.rule(name, dtypes=["float16"], witnesses=["rounding"])
    assert verdict, str(verdict)
    assert verdict.compared["rounding"]


def test_a_rulebook_is_the_sum_of_its_rules(capsys):
    book = fg.Rulebook({name: fg.rules[name] for name in ("neg", "tanh")})
    options: Any = {"dtypes": ["float64"], "witnesses": ["reference"]}
    assert fg.check.rulebook(book, **options, progress=True)
    assert re.findall(r"✓ '(\w+)' +\d+ numbers", capsys.readouterr().err) == ["neg", "tanh"]
    verdict = fg.check.rulebook(book.replace({"neg": lambda g, z, x: g}), **options)
    assert {finding.subject for finding in verdict.faults} == {"'neg'"}
    assert [name for name, of_rule in verdict.rules.items() if of_rule] == ["tanh"]
    table, summary = str(verdict).split("\n", 1)[0], str(verdict).splitlines()[-1]
    assert table.startswith("✗ 'neg'")
    assert summary.startswith("✗ 1 of 2 rules wrong: 'neg'; ")


def twice(x):
    return jnp.tanh(2 * jnp.tanh(x))


SECOND = fg.at(primitive="tanh", index=1)
PLACED: Any = {"dtypes": ["float64"], "witnesses": ["reference"]}


def placed(factor, **names):
    """A book of two rules, one of which is replaced at a node."""
    book = fg.Rulebook({name: fg.rules[name] for name in ("mul", "tanh")})
    return book.replace({SECOND: lambda g, z, x: g * (1 - z * z) * factor, **names})


def test_a_rule_at_a_selector_is_proven_by_a_function_that_meets_it():
    factor = jnp.array([1.0, 1.0, 1.001])
    example = (twice, jnp.array([0.1, 0.2, 0.3]))
    assert fg.check.rule(SECOND, rules=placed(1.0), example=example, **PLACED)
    # By it alone: another rule at a selector may mean not to be the derivative.
    first = fg.at(primitive="tanh", index=0)
    both = placed(factor).replace({first: lambda g, z, x: g})
    verdict = fg.check.rulebook(both, examples={SECOND: example}, **PLACED)
    (fault,) = verdict.faults
    assert (fault.subject, fault.place) == (repr(SECOND), "x[2]")
    assert [key for key, one in verdict.rules.items() if not one] == [SECOND]
    assert verdict.unproven == (repr(first),)
    with pytest.raises(AssertionError, match=re.escape("wrong at x[2], says reference")):
        fg.check.assert_rule(SECOND, rules=both, example=example, **PLACED)


def test_a_rule_that_nothing_proves_is_listed():
    verdict = fg.check.rulebook(placed(1.0, softplus=lambda g, z, x: g), **PLACED)
    assert verdict
    assert list(verdict.rules) == ["mul", "tanh"]
    lines = str(verdict).splitlines()
    assert "? not proven: 'softplus'" in lines
    assert f"? not proven: {SECOND!r}" in lines
    assert "examples={key: (function, *arguments)}" in str(verdict)
    assert lines[-1].startswith("✓ all 2 rules right, 2 not proven; ")


def test_an_example_that_is_none_is_refused():
    check: Any = fg.check
    with pytest.raises(LookupError, match=r"no node matches .*; the nearest labels are \['sin'\]"):
        check.rule(SECOND, rules=placed(1.0), example=(jnp.sin, 1.0))
    with pytest.raises(
        TypeError, match=r"must be a tuple \(function, \*arguments\), got <function"
    ):
        check.rule(SECOND, rules=placed(1.0), example=twice)
    with pytest.raises(TypeError, match="examples must be a dictionary"):
        check.rulebook(placed(1.0), examples=[twice])
    with pytest.raises(KeyError, match="has no rule of 'tnah'; did you mean 'tanh'"):
        check.rulebook(placed(1.0), examples={"tnah": (twice, 1.0)})
    wide = (lambda x: lax.add(twice(x), jnp.ones(2)), jnp.ones(2))
    with pytest.raises(ValueError, match="runs in none of the formats"):
        check.rule(SECOND, rules=placed(1.0), example=wide, dtypes=["float16"])


def test_an_unknown_witness_is_named():
    with pytest.raises(ValueError, match="there is no 'oracle', only"):
        fg.check.rule("tanh", witnesses=["oracle"])


def test_a_rule_without_example_is_refused():
    book = fg.rules.replace({"softplus": lambda g, out, x: g})
    with pytest.raises(ValueError, match="the rule of 'softplus' has no example"):
        fg.check.rule("softplus", rules=book)


def test_what_has_no_gradient_is_refused():
    with pytest.raises(TypeError, match="was given no array of floats"):
        fg.check.assert_vjp(jnp.sign, jnp.arange(3))
    with pytest.raises(TypeError, match="returns no array of floats"):
        fg.check.assert_vjp(jnp.isnan, jnp.ones(3))
    with pytest.raises(TypeError, match="give a reference"):
        fg.check.custom_vjp(lambda x: x)


def test_a_verdict_is_shown_as_text_and_in_notebooks():
    verdict = fg.check.rule("neg", dtypes=["float32"], witnesses=["rounding"])
    assert verdict
    assert str(verdict).startswith("✓ 'neg'")
    assert verdict._repr_html_().startswith("<pre>✓")


def test_a_format_that_jax_lacks_is_named():
    verdict = fg.check.rule("cholesky", dtypes=["float32", "bfloat16"], witnesses=["rounding"])
    assert verdict.compared["rounding"]
    (why,) = verdict.silent["bfloat16"]
    assert "bfloat16" in why
    assert "silent: bfloat16" in str(verdict)


def test_what_no_witness_may_be_asked_is_said():
    verdict = fg.check.rule("random_gamma", dtypes=["float64"], witnesses=["differences"])
    assert verdict.compared["differences"] == 0
    assert "jump" in verdict.silent["differences"][0]


def test_an_example_of_ones_own_that_fails_is_an_error():
    def example(draw):
        return lax.tanh, draw.nothing(3)

    own = elementwise("own", example=example)(lambda g, z, x: g)
    with pytest.raises(AttributeError, match="nothing"):
        fg.check.rule("own", rules=fg.Rulebook({"own": own}))
