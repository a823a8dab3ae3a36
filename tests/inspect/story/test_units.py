"""What is a step, and what it is called."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg

OFFSET = jnp.array([0.5, -0.5])


def formulas(fun, *args):
    return [step.formula for step in fg.story(fun)(*args).forward]


def test_names_come_from_parameters_the_source_closures_and_fg_name():
    def loss(params, x):
        z: jax.Array = params["W"] @ x
        h = (jnp.tanh(z + OFFSET))  # fmt: skip
        k = fg.name(h * h, "squares"); r = jnp.sum(k)  # fmt: skip # noqa: E702
        return r * 2.0

    assert formulas(loss, {"W": jnp.eye(2)}, jnp.ones(2)) == [
        "z = params.W x",
        "x1 = z + OFFSET",
        "h = tanh(x1)",
        "squares = h · h",
        "r = Σ squares",
        "J = r · 2",
    ]


def test_a_name_that_is_given_twice_is_numbered_and_none_is_that_of_an_argument():
    def loop(x, x1):
        for _ in range(3):
            x = jnp.sin(x)
        return jnp.sum(x * x1) / 2.0

    assert formulas(loop, 0.3, 2.0) == [
        "x2 = sin(x)",
        "x3 = sin(x2)",
        "x4 = sin(x3)",
        "x5 = x4 · x1",
        "x6 = Σ x5",
        "J = x6 / 2",
    ]


def test_functions_of_the_users_are_looked_into_jitted_or_not():
    @jax.jit
    def square(u):
        s = u * u
        return s + 1.0

    def layer(w, u):
        z = w * u
        return jnp.tanh(z)

    def loss(w, x):
        h = layer(w, x)
        k = layer(w, h)
        m = square(k)
        return m * m

    assert formulas(loss, 2.0, 0.5) == [
        "z1 = w · x",
        "h = tanh(z1)",
        "z2 = w · h",
        "k = tanh(z2)",
        "s = k · k",
        "m = s + 1",
        "J = m · m",
    ]


def test_the_symbol_of_the_cost_is_no_argument():
    story = fg.story(lambda J: J * 3.0)(2.0)
    assert [step.formula for step in story.steps] == ["∂L/∂L = 1", "∂L/∂J = ∂L/∂L · 3"]


def blocks(x):
    for i in range(15):
        with jax.named_scope(f"block{i}"):
            h = jnp.tanh(x) * 0.5
            x = x + h - jnp.mean(h)
    return jnp.sum(x)


def helper(x):
    y = jnp.sin(x) + 0.1
    return y * y


def of_helpers(x):
    for _ in range(25):
        x = helper(x)
    return jnp.sum(x)


def one_long_loop(x):
    for _ in range(60):
        x = jnp.sin(x)
    return x


@pytest.mark.parametrize(
    ("fun", "first", "count"),
    [
        (blocks, "x1 = block0(x)", 16),
        (of_helpers, "x1 = helper(x)", 26),
        (one_long_loop, "x1 = one_long_loop[1/30](x)", 30),
    ],
)
def test_large_functions_are_told_in_fewer_steps(fun, first, count):
    x = jnp.array([0.3, 0.4]) if fun is not one_long_loop else 0.3
    story = fg.story(fun)(x)
    assert len(story.forward) == count
    assert story.forward[0].formula == first
    np.testing.assert_allclose(story.gradients["x"], jax.grad(fun)(x), rtol=1e-10)


def test_models_of_fungrad_are_looked_into():
    apply, params = fg.models.mlp((2, 2, 2), key=jax.random.key(0))
    told = formulas(lambda p, x: jnp.sum(apply(p, x)), params, jnp.ones(2))
    assert told[1:3] == ["h1 = relu(x1)", "logits = p.1.W h1 + p.1.b"]
