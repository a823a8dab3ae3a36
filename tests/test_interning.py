"""What was worked out about a graph holds for every graph that says the same, and for no other."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad import _jax, interning
from fungrad.pullback import settings_of

X = jnp.linspace(0.2, 1.0, 4)


def counted(rules=fg.rules):
    """A rulebook that notes each time that its rule of sin is asked."""
    asked = []

    def sin(g, out, x):
        asked.append(x)
        return g * jnp.cos(x)

    return rules.replace({"sin": sin}), asked


def programs_of(make, arguments, rules=None):
    """The gradient of each function that `make` makes of an argument, as it is traced."""
    grads = [fg.grad(make(a), rules=rules) for a in arguments]
    return [jax.jit(grad).trace(X).jaxpr for grad in grads]


@pytest.mark.parametrize(
    "make",
    [
        lambda _: lambda x: jnp.sum(jnp.sin(x) * 3.0),
        lambda _: lambda x: jax.lax.scan(lambda h, a: (jnp.sin(h) * a, None), 0.3, x)[0],
        lambda _: lambda x: jnp.sum(jax.nn.relu(jnp.sin(x))),
        lambda _: lambda x: jnp.sum(fg.losses.cross_entropy(jnp.sin(x), jnp.array(1))),
    ],
    ids=["plain", "scan", "custom_jvp", "fg.custom"],
)
def test_a_function_that_is_made_again_is_not_worked_out_again(make):
    rules, asked = counted()
    first, *others = programs_of(make, range(3), rules)
    assert [str(other) for other in others] == [str(first)] * 2
    assert len(asked) == 1


def scaled(a):
    @jax.custom_jvp
    def own(x):
        return jnp.sin(x)

    own.defjvp(lambda inputs, tangents: (own(*inputs), a * tangents[0]))
    return lambda x: jnp.sum(own(x))


def scaled_backward(a):
    @jax.custom_vjp
    def own(x):
        return jnp.sin(x)

    own.defvjp(lambda x: (own(x), None), lambda _, g: (a * g,))
    return lambda x: jnp.sum(own(x))


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (lambda a: lambda x: jnp.sum(jnp.sin(x) / (a * x)), [2.0, 3.0]),
        (lambda a: lambda x: jnp.sum(jnp.arctan2(x * 0.0, a * jnp.ones_like(x))), [1.0, -1.0]),
        (lambda a: lambda x: jnp.sum(jnp.copysign(x, a)), [0.0, -0.0]),
        (lambda a: lambda x: jnp.sum(x**a), [2, 3]),
        (lambda a: lambda x: jnp.sum(a * jnp.sin(x)), [np.arange(4.0), np.ones(4)]),
        (lambda a: lambda x: jax.jit(lambda y: jnp.sum(a * y))(x), [np.arange(4.0), np.ones(4)]),
        (lambda a: lambda x: jax.lax.scan(lambda h, y: (h * a * y, None), 1.0, x)[0], [2.0, 3.0]),
        (scaled, [2.0, 3.0]),
        (lambda a: lambda x: jax.jit(scaled(a))(x), [2.0, 3.0]),
        (lambda a: lambda x: jax.lax.map(scaled(a), x).sum(), [2.0, 3.0]),
        (scaled_backward, [2.0, 3.0]),
        (lambda a: lambda x: jax.jit(scaled_backward(a))(x), [2.0, 3.0]),
    ],
)
def test_what_a_function_closes_over_is_never_taken_for_another(make, arguments):
    for a in (*arguments, *arguments):
        got, due = (jax.jit(grad(make(a)))(X) for grad in (fg.grad, jax.grad))
        np.testing.assert_allclose(got, due, rtol=1e-13)


def test_lines_and_scopes_are_those_of_the_function():
    def at_scope(name):
        def fun(x):
            with jax.named_scope(name):
                return jnp.sum(jnp.sin(x))

        return fun

    def equations(graph):
        return [e for e in graph.eqns if e.primitive.name in ("sin", "cos")]

    one, two = programs_of(at_scope, ["one", "two"])
    for graph, name in ((one, "one"), (two, "two")):
        assert {_jax.line_of(e)[2].split(".")[-1] for e in equations(graph)} == {"fun"}
        assert {_jax.scope_of(e) for e in equations(graph)} == {
            f"jvp({name})",
            f"transpose(jvp({name}))",
        }


def test_whoever_looks_on_sees_every_graph():
    seen = []

    @interning.cached_by_content
    def note(graph, active, wanted, kept, settings):
        seen.append(graph)

    def graph(_):
        return _jax.trace(lambda x: [jnp.sin(x)], [jax.typeof(X)])

    settings = settings_of(None, None)
    for _ in range(2):
        note(graph(0), (True,), (True,), (True,), settings)
    assert len(seen) == 1
    for _ in range(2):
        note(graph(0), (True,), (True,), (True,), settings._replace(missed=print))
    assert len(seen) == 3
    with jax.checking_leaks():
        note(graph(0), (True,), (True,), (True,), settings)
    assert len(seen) == 4


def test_a_cleared_cache_knows_nothing():
    make = partial(lambda _: lambda x: jnp.sum(jnp.sin(x) + 0.25))
    rules, asked = counted()
    for _ in range(2):
        programs_of(make, [0], rules)
        jax.clear_caches()
    assert len(asked) == 2
