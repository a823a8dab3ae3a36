"""What cannot be checked is refused, with the argument's name and what would do."""

import re
from typing import Any

import jax
import pytest
from jax import numpy as jnp

import fungrad as fg

prove: Any = fg.check  # of whatever type its arguments are
check = prove.function
ONES = jnp.ones(3, "float32")

REFUSED = {
    "no function": (lambda: check(ONES), "fun must be a function, got Array"),
    "no reference": (lambda: check(jnp.sin, reference=1), "reference must be a function, got 1"),
    "another reference": (
        lambda: check(jnp.sin, reference=jnp.sum)(ONES),
        "reference must return what sin returns, float32[3], got float32[]",
    ),
    "one format": (lambda: check(jnp.sin, dtypes="bfloat16"), "write dtypes=['bfloat16']"),
    "no format": (lambda: check(jnp.sin, dtypes=["bf16"]), "bfloat16, float16, got 'bf16'"),
    "no float": (lambda: prove.rule("tanh", dtypes=[int]), "float16, got <class 'int'>"),
    "one witness": (lambda: check(jnp.sin, witnesses="values"), "for one witness write"),
    "NaN": (lambda: check(jnp.sin)(ONES / 0 * 0), "x holds NaN, where nothing can be compared"),
    "traced": (lambda: jax.jit(check(jnp.sin))(ONES), "x is traced; a check compares numbers"),
    "a type": (
        lambda: check(jnp.sin)(jax.ShapeDtypeStruct((3,), "float32")),
        "x is a type, ShapeDtypeStruct(shape=(3,), dtype=float32); a check compares numbers",
    ),
    "no arguments": (lambda: check(lambda: ONES)(), "no arguments; give some argument as floats"),
    "no rule": (lambda: prove.rule("tnah"), "has no rule of 'tnah'; did you mean 'tanh'"),
    "no book": (lambda: prove.rulebook({}), "book must be a fungrad.Rulebook"),
    "no rules": (lambda: prove.rule("tanh", rules=[]), "rules must be a fungrad.Rulebook"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_by_name(name):
    call, message = REFUSED[name]
    with pytest.raises((TypeError, ValueError, KeyError), match=re.escape(message)):
        call()


def test_an_error_of_the_function_says_what_it_was_called_with():
    with pytest.raises(TypeError) as raised:
        check(lambda a: a @ jnp.ones(4, "float32"))(ONES)
    assert raised.value.__notes__[-1] == "fungrad.check called <lambda> with a float32[3]"


@pytest.mark.parametrize("slope", [2.0, 3.0])
def test_arguments_by_keyword_are_passed_on(slope):
    @jax.custom_vjp
    def scaled(x, factor):
        return factor * x

    scaled.defvjp(lambda x, factor: (factor * x, None), lambda _, g: (slope * g, None))
    verdict = prove.custom_vjp(scaled, witnesses=["reference"])(ONES, factor=2.0)
    assert (verdict.subject, verdict.passed) == ("scaled", slope == 2.0)
    assert all(fault.argument == "x" for fault in verdict.faults)
