"""Programs that are evaluated by another hand."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

from fungrad import _jax
from fungrad.check import programs
from fungrad.check.programs import Hand, without_authored_rules


def nested(depth):
    """sin x, inside of so many functions whose author says that they are constant."""
    if not depth:
        return jnp.sin

    @jax.custom_jvp
    def authored(x):
        return nested(depth - 1)(x)

    authored.defjvp(lambda primals, tangents: (authored(*primals), 0 * tangents[0]))
    return authored


@pytest.mark.parametrize("depth", [3, 9])
def test_a_body_is_looked_at_once_for_each_that_it_is_inside_of(depth, monkeypatch):
    bound = []

    def bind(equation, arguments):
        bound.append(equation.primitive.name)
        return _jax.bind(equation, arguments)

    monkeypatch.setattr(programs, "_PLAIN", Hand(bind, programs._is_entered))
    plain = without_authored_rules(lambda x: [nested(depth)(x)])
    slope = jax.grad(lambda x: plain(x)[0])(0.5)
    np.testing.assert_allclose(slope, np.cos(0.5))
    assert bound.count("sin") == depth + 1


def test_what_jax_cannot_differentiate_keeps_its_rule():
    @jax.custom_jvp
    def halved(x):
        return lax.while_loop(lambda y: y > 1, lambda y: y / 2, x)

    halved.defjvp(lambda primals, tangents: (halved(*primals), 0.25 * tangents[0]))

    @jax.custom_jvp
    def around(x):
        return 3 * halved(x)

    around.defjvp(lambda primals, tangents: (around(*primals), 0 * tangents[0]))
    plain = without_authored_rules(lambda x: [around(x)])
    assert jax.grad(lambda x: plain(x)[0])(4.0) == 0.75
