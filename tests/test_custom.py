"""fg.custom: one written VJP that serves every transform, JAX's and fungrad's."""

from functools import partial

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.agreement import assert_gradients_agree
from tests.ways import assert_ways_agree

x = jnp.array([0.3, -0.7, 1.1])
y = jnp.array([1.2, 0.4, -0.5])
s = jnp.array(0.6)


def sine_times(x, y):
    return jnp.sin(x) * y


def its_rule(g, out, x, y):
    return g * jnp.cos(x) * y, g * jnp.sin(x)


honest = fg.custom(sine_times, its_rule)
# Three times the true gradient at x tells whose rule was used.
triple = fg.custom(sine_times, lambda g, out, x, y: (3 * g * jnp.cos(x) * y, g * jnp.sin(x)))


def tripled(x, y):
    return 3 * jnp.sum(triple(x, y) / 3)


def indexed(x, i, y):
    return x[i] * y, jnp.sum(x)


def its_scatter(g, out, x, i, y):
    return jnp.zeros_like(x).at[i].add(g[0] * y) + g[1], None, g[0] * x[i]


gather = fg.custom(indexed, its_scatter)

FUNCTIONS = {
    "two inputs": (honest, x, y),
    "a constant input": (lambda x, y: honest(x, jnp.ones(3)) + honest(jnp.ones(3), y), x, y),
    "tuples and integers": (lambda x, y: gather(x, jnp.array([0, 2, 0]), y), x, y),
    "one of two outputs": (lambda x, y: gather(x, jnp.array([0, 2, 0]), y)[0], x, y),
    "None for zero": (
        lambda x, y: (
            fg.custom(lambda x, y: x * lax.stop_gradient(y), lambda g, out, x, y: (g * y, None))(
                x, x
            )
            * y
        ),
        *(x, y),
    ),
    "of itself": (lambda x, y: honest(honest(x, y), honest(y, x)), x, y),
    "in scan": (
        lambda w, x: lax.scan(lambda c, x: (honest(c, w * x), c), jnp.ones(()), x),
        *(s, x),
    ),
    "in cond": (lambda w, x: lax.cond(w > 0, honest, lambda a, b: a * b, x, x * w), s, x),
    "in jit in checkpoint": (jax.checkpoint(jax.jit(lambda x, y: honest(jnp.sin(x), y))), x, y),
    "a rule with a loop": (
        fg.custom(
            lambda x: jnp.cumsum(x * x),
            lambda g, out, x: 2 * x * lax.scan(lambda c, u: (c + u,) * 2, 0.0, g, reverse=True)[1],
        ),
        x,
    ),
    "a rule by fungrad itself": (
        fg.custom(sine_times, lambda g, out, x, y: fg.vjp(sine_times, x, y)[1](g)),
        *(x, y),
    ),
    "a rule by JAX": (
        fg.custom(sine_times, lambda g, out, x, y: jax.vjp(sine_times, x, y)[1](g)),
        *(x, y),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_transform_agrees(name):
    function, *args = FUNCTIONS[name]
    without = ["differences"] if name == "None for zero" else []
    assert_ways_agree(function, *args, without=without)


@pytest.mark.parametrize("name", ["two inputs", "in scan", "a rule with a loop"])
def test_jaxs_forward_mode_and_differences_agree(name):
    assert_gradients_agree(*FUNCTIONS[name])


TRUE = np.asarray(3 * jnp.cos(x) * y)


@pytest.mark.parametrize(
    "derivative",
    [
        lambda f: fg.grad(f),
        lambda f: jax.grad(f),
        lambda f: jax.jit(fg.grad(jax.jit(f))),
        lambda f: jax.jit(jax.grad(jax.jit(f))),
        lambda f: lambda x, y: jax.jacfwd(f)(x, y),
        lambda f: (
            lambda x, y: jax.vmap(lambda t: jax.jvp(lambda x: f(x, y), (x,), (t,))[1])(jnp.eye(3))
        ),
        lambda f: lambda x, y: jax.vmap(jax.linearize(lambda x: f(x, y), x)[1])(jnp.eye(3)),
        lambda f: lambda x, y: jax.vmap(fg.grad(f))(x[None], y[None])[0],
        lambda f: lambda x, y: jax.vmap(fg.grad(f), (0, None))(x[None], y)[0],
        lambda f: lambda x, y: jax.vmap(jax.grad(f), (None, 0))(x, y[None])[0],
        lambda f: lambda x, y: lax.map(lambda x: fg.grad(f)(x, y), x[None])[0],
        lambda f: fg.grad(f, save="nothing"),
        lambda f: fg.grad(jax.checkpoint(f)),
        lambda f: jax.grad(jax.checkpoint(f)),
    ],
)
def test_the_written_rule_is_used(derivative):
    np.testing.assert_allclose(derivative(tripled)(x, y), TRUE, rtol=1e-14)


@pytest.mark.parametrize(
    "hessian",
    [
        jax.hessian,
        fg.hessian,
        lambda f: jax.jacrev(jax.grad(f)),
        lambda f: fg.jacrev(fg.grad(f)),
        lambda f: jax.jacrev(fg.grad(f)),
        lambda f: fg.jacrev(jax.grad(f)),
        lambda f: jax.jacfwd(jax.jacfwd(f)),
    ],
)
def test_second_order_differentiates_the_rule(hessian):
    expected = -3 * jnp.diag(jnp.sin(x) * y)
    np.testing.assert_allclose(hessian(tripled)(x, y), expected, rtol=1e-13)


def test_half_precision_and_complex_numbers():
    half = x.astype("bfloat16")
    assert jax.grad(lambda x: honest(x, half).sum())(half).dtype == jnp.bfloat16
    z = lax.complex(x, y)
    square = fg.custom(lambda z: z * z, lambda g, out, z: 2 * g * z)
    for vjp in (fg.vjp, jax.vjp):
        np.testing.assert_allclose(vjp(square, z)[1](z)[0], 2 * z * z, rtol=1e-14)


# --- Its node -------------------------------------------------------------------------------------


def test_its_node_bears_its_name():
    graph = fg.trace(lambda x, y: jnp.sum(honest(x, y)))(x, y)
    (node,) = graph.find(fg.at(function="sine_times", primitive="custom_jvp_call"))
    assert (node.label, node.callee) == ("sine_times", "sine_times")
    assert graph.find(fg.at(primitive="sine_times")) == [node]
    assert honest.__name__ == "sine_times"


def test_its_rule_may_be_replaced_by_its_name():
    book = fg.rules.replace({"sine_times": lambda g, out, x, y: (7 * g, None)})
    actual = fg.grad(lambda x, y: jnp.sum(honest(x, y)), (0, 1), rules=book)(x, y)
    np.testing.assert_array_equal(actual[0], 7 * jnp.ones(3))
    np.testing.assert_array_equal(actual[1], jnp.zeros(3))


def test_keyword_arguments_and_defaults():
    scaled = fg.custom(lambda x, factor=2.0: x * factor, lambda g, out, x, factor: (g * 5, g * x))
    assert fg.grad(scaled)(1.0, factor=3.0) == 5
    assert fg.grad(scaled, 1)(4.0, 3.0) == 4
    assert scaled(1.0) == 2


# --- Refusals -------------------------------------------------------------------------------------

transforms = pytest.mark.parametrize(
    "differentiate",
    [
        lambda f: fg.grad(lambda x: jnp.sum(f(x, y)))(x),
        lambda f: jax.grad(lambda x: jnp.sum(f(x, y)))(x),
        lambda f: jax.jvp(partial(f, y=y), (x,), (x,)),
        lambda f: jax.jit(fg.grad(jax.jit(lambda x: jnp.sum(f(x, y)))))(x),
    ],
)


@transforms
@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda g, out, x, y: g, "returned 1 gradients for 2 inputs; return one per input"),
        (lambda g, out, x, y: (g, g, g), "returned 3 gradients for 2 inputs"),
        (lambda g, out, x, y: (g[:2], g), r"for input 0 a gradient float64\[2\], .* float64\[3\]"),
        (lambda g, out, x, y: (jnp.sum(g), g), r"for input 0 a gradient float64\[\]"),
        (lambda g, out, x, y: (g.astype("float32"), g), r"a gradient float32\[3\]"),
    ],
)
def test_a_wrong_gradient_is_refused(differentiate, rule, message):
    wrong = fg.custom(sine_times, rule)
    np.testing.assert_array_equal(wrong(x, y), sine_times(x, y))
    with pytest.raises(TypeError, match=f"the rule of sine_times .*{message}"):
        differentiate(wrong)


def test_arguments_are_functions():
    with pytest.raises(TypeError, match="fun must be a function, got 3"):
        fg.custom(3, its_rule)
    with pytest.raises(TypeError, match="rule must be a function, got None"):
        fg.custom(sine_times, None)


def test_trees_are_refused():
    for tree in ({"x": x}, [x], (x, x)):
        with pytest.raises(
            TypeError, match=r"argument 1 of sine_times is a tree .* pass its leaves"
        ):
            honest(x, tree)
        with pytest.raises(TypeError, match=r"argument 'y' of sine_times is a tree"):
            honest(x, y=tree)


def test_an_argument_may_be_none():
    def affine(x, w, b):
        return x * w if b is None else x * w + b

    def its_rule(g, out, x, w, b):
        return 3 * g * w, g * x, None if b is None else g

    function = fg.custom(affine, its_rule)
    for grad in (fg.grad, jax.grad):
        assert grad(function, (0, 1))(2.0, 5.0, None) == (15, 2)
        assert grad(function, (0, 1, 2))(2.0, 5.0, 1.0) == (15, 2, 1)
