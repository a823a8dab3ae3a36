"""Rules of a rulebook: planted faults are found by the witness that is there for them."""

import jax.numpy as jnp
import pytest
from jax import lax

import fungrad as fg


def coarse(g, z, x):
    return g * (1 - z * z) * (1.0 if x.dtype == "float64" else 1 + 1e-5)


# primitive, wrong rule, witness
PLANTED = {
    "a factor of 1.00001": ("tanh", lambda g, z, x: g * (1 - z * z) * 1.00001, "reference"),
    "a factor, by slopes": ("tanh", lambda g, z, x: g * (1 - z * z) * 1.00001, "differences"),
    "a factor, by rows": ("tanh", lambda g, z, x: g * (1 - z * z) * 1.00001, "jacobian"),
    "swapped inputs": ("mul", lambda g, z, x, y: (g * x, g * y), "reference"),
    "a dropped second input": ("mul", lambda g, z, x, y: (g * y, None), "differences"),
    "a conjugate too many": ("mul", lambda g, z, x, y: (g * y.conj(), g * x.conj()), "reference"),
    "a linear input that is read": ("neg", lambda g, z, x: g * (z / x), "linear inputs"),
    "a constant second derivative": (
        "tanh",
        lambda g, z, x: g * lax.stop_gradient(1 - z * z),
        "second order",
    ),
    "digits lost in float32": ("tanh", coarse, "rounding"),
    "another format": ("tanh", lambda g, z, x: (g * (1 - z * z)).astype("float64"), "contract"),
    "a wrong choice at a tie": ("max", lambda g, z, x, y: (g, None), "reference"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_rule_is_caught(planted):
    name, wrong, witness = PLANTED[planted]
    chosen = ["rounding" if witness == "contract" else witness]
    options = {"dtypes": ("float64", "float32"), "witnesses": chosen}
    assert fg.check.rule(name, **options)
    verdict = fg.check.rule(name, rules=fg.rules.replace({name: wrong}), **options)
    assert verdict.faults[0].witness == witness
    assert verdict.faults[0].subject == repr(name)


def test_a_rulebook_is_the_sum_of_its_rules():
    book = fg.Rulebook({name: fg.rules[name] for name in ("neg", "tanh")})
    assert fg.check.rulebook(book, dtypes=["float64"], witnesses=["reference"])
    wrong = book.replace({"neg": lambda g, z, x: g})
    verdict = fg.check.rulebook(wrong, dtypes=["float64"], witnesses=["reference"])
    assert {finding.subject for finding in verdict.faults} == {"'neg'"}


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
