"""Calls: jit and jax.checkpoint."""

import jax
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.ways import assert_ways_agree

x = jnp.array([0.3, -0.7, 1.1])
y = jnp.array([1.2, 0.4, -0.5])
s = jnp.array(0.6)
key = jax.random.key(0)
policies = jax.checkpoint_policies

# JAX itself has no forward mode for custom_vjp.
NO_JVP = ["jvp of it"]


def counts(fun, *args):
    """How often each primitive stands in the program, inner programs included."""
    found = {}
    for node in fg.trace(fun)(*args):
        found[node.primitive] = found.get(node.primitive, 0) + 1
    return found


# --- jit --------------------------------------------------------------------------------------


def called_twice(x):
    f = jax.jit(lambda a, b: jnp.sin(a) * b)
    return f(f(x, x), f(x, jnp.ones(3))) + f(jnp.ones(3), x)


def closing_over_tracers(x, y):
    w = jnp.exp(x)
    return jax.jit(lambda a: a * w * jax.jit(lambda b: b + a * w)(y))(y)


JITS = {
    "of jit of jit": (
        lambda x: jax.jit(lambda a: jax.jit(lambda b: jax.jit(jnp.sin)(b) * b)(a) * a)(x),
        x,
    ),
    "called several times": (called_twice, x),
    "closing over tracers": (closing_over_tracers, x, y),
    "with constants and inputs among its outputs": (
        lambda x, y: jax.jit(lambda a, b: (a, b, a, jnp.ones(3), a * b))(x, y),
        *(x, y),
    ),
    "without outputs": (lambda x, y: (jax.jit(lambda a: ())(x), y), x, y),
    "with static arguments": (lambda x: jax.jit(lambda a, n: a**n, static_argnums=1)(x, 3), x),
    "donating its argument": (
        lambda x: jax.jit(lambda a, b: a * b, donate_argnums=0)(x * 2.0, x),
        x,
    ),
}


@pytest.mark.parametrize("name", JITS)
def test_jit(name):
    assert_ways_agree(*JITS[name])


def test_a_large_jitted_function_stays_one_in_the_gradient():
    """Both halves are jits of the same name, so that profiles and caches know them."""

    def large(x):
        for _ in range(20):
            x = jnp.sin(x) * x
        return x

    f = jax.jit(large)
    jits = fg.trace(fg.grad(lambda x: f(f(x))))(1.0).find(fg.at(primitive="jit"))
    assert [node.callee for node in jits] == ["large"] * 4


def test_a_small_one_is_cut_with_what_is_around_it():
    f = jax.jit(lambda x: jnp.sin(x) * x)
    assert "jit" not in counts(fg.grad(lambda x: f(f(x))), 1.0)


# --- jax.checkpoint ---------------------------------------------------------------------------


def deep(x):
    return jnp.sin(jnp.sin(jnp.sin(x)))


def dots(x):
    return jnp.sin(jnp.dot(jnp.sin(x), x) * jnp.cos(x))


def named(x):
    return jnp.sin(fg.name(jnp.sin(x), "h") * jnp.cos(x))


CHECKPOINTS = {
    "plain": (jax.checkpoint(deep), x),
    "dots_saveable": (jax.checkpoint(dots, policy=policies.dots_saveable), x),
    "save_only_these_names": (
        jax.checkpoint(named, policy=policies.save_only_these_names("h")),
        x,
    ),
    "everything_saveable": (jax.checkpoint(deep, policy=policies.everything_saveable), x),
    "without a barrier": (jax.checkpoint(deep, prevent_cse=False), x),
    "with static arguments": (
        lambda x: jax.checkpoint(lambda n, a: deep(a) * n, static_argnums=0)(2.0, x),
        x,
    ),
    "with a key": (
        jax.checkpoint(lambda k, x: jnp.sin(x * jax.random.normal(k, (3,), float))),
        *(key, x),
    ),
    "with integer outputs": (
        jax.checkpoint(lambda x, i: (jnp.sin(x[i]), i + 1, x > 0)),
        *(x, jnp.array([2, 0, 2])),
    ),
    "of checkpoint": (lambda x: jax.checkpoint(lambda a: jax.checkpoint(deep)(a * a) * a)(x), x),
    "in scan": (
        lambda w, x: lax.scan(
            jax.checkpoint(lambda c, x: (jnp.sin(w * jnp.cos(c * x)), c)), jnp.ones(()), x
        ),
        *(s, x),
    ),
    "in scan, names saved": (
        lambda w, x: lax.scan(
            jax.checkpoint(
                lambda c, t: (jnp.sin(fg.name(jnp.sin(c * w), "h") * t), c),
                policy=policies.save_only_these_names("h"),
            ),
            *(w, x),
        ),
        *(s, x),
    ),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint(name):
    assert_ways_agree(*CHECKPOINTS[name])


@pytest.mark.parametrize(
    ("function", "sines", "products"),
    [
        # Forward 3 sines; the backward pass needs the two inner ones again, as inputs of cosines.
        (jax.checkpoint(deep), 5, 0),
        (jax.checkpoint(deep, policy=policies.everything_saveable), 3, 0),
        (jax.checkpoint(deep, policy=policies.nothing_saveable), 5, 0),
        # The product is saved and not computed again; sin x, a factor of its gradient, is.
        (jax.checkpoint(dots, policy=policies.dots_saveable), 4, 3),
        (jax.checkpoint(dots), 4, 4),
        (jax.checkpoint(named), 4, 0),
        (jax.checkpoint(named, policy=policies.save_only_these_names("h")), 3, 0),
        (jax.checkpoint(named, policy=policies.save_only_these_names("other")), 4, 0),
    ],
)
def test_a_policy_decides_what_is_computed_again(function, sines, products):
    found = counts(fg.grad(lambda x: jnp.sum(function(x))), x)
    assert (found["sin"], found.get("dot_general", 0)) == (sines, products)


def test_a_checkpoint_in_a_loop_computes_again_in_the_backward_loop():
    def loop(step):
        return lambda x: lax.scan(lambda c, _: (step(c), None), x, None, length=3)[0]

    # Each loop's body stands once in the program.
    assert counts(fg.grad(loop(deep), save="everything"), 1.0)["sin"] == 3
    assert counts(fg.grad(loop(jax.checkpoint(deep)), save="everything"), 1.0)["sin"] == 5


def test_xla_does_not_undo_a_checkpoint():
    """The compiled program computes the sines of both passes: the barrier holds."""
    program = (
        jax.jit(fg.value_and_grad(lambda x: jnp.sum(jax.checkpoint(deep)(x)))).lower(x).compile()
    )
    assert program.as_text().count(" sine(") == 5
