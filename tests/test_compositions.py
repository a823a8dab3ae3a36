"""fungrad among JAX's transforms and inside itself, on chosen programs and on random ones."""

from functools import partial

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.ways import error

x = jnp.array([0.3, -0.7, 1.1])
y = jnp.array([1.2, 0.4, -0.5])
W = jnp.outer(x, y)
policies = jax.checkpoint_policies


def energy(x, y):
    """A scalar of vectors with a loop, a branch, calls, and a custom function in it."""

    def step(c, t):
        c = lax.cond(t > 0, jnp.sin, jax.jit(lambda c: c * t), c)
        return jax.checkpoint(jnp.tanh)(c + t) * jax.nn.silu(t), c

    c, ys = lax.scan(step, y[0], x)
    return jnp.sum(ys * y) * c + jnp.sum(x * y)


def close(actual, expected, rtol=1e-12):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    assert float(error(actual, expected)) <= rtol


# --- Under JAX's transforms -----------------------------------------------------------------------

STACK = jnp.stack([x, y, -x, 2 * y])

UNDER = {
    "jit": lambda grad: jax.jit(grad(energy))(x, y),
    "jit with static arguments": lambda grad: jax.jit(
        lambda x, n: grad(lambda x: energy(x, x) ** n)(x), static_argnums=1
    )(x, 2),
    "vmap": lambda grad: jax.vmap(grad(energy))(STACK, STACK),
    "vmap over the first": lambda grad: jax.vmap(grad(energy), in_axes=(0, None))(STACK, y),
    "vmap over the second": lambda grad: jax.vmap(grad(energy), in_axes=(None, 0))(x, STACK),
    "vmap over other axes": lambda grad: jax.vmap(grad(energy), in_axes=(1, 0), out_axes=1)(
        STACK.T, STACK
    ),
    "vmap of vmap": lambda grad: jax.vmap(jax.vmap(grad(energy), (None, 0)), (0, None))(
        STACK, STACK
    ),
    "vmap with an axis's name": lambda grad: jax.vmap(
        lambda x: grad(energy)(x, y) - lax.pmean(x, "i"), axis_name="i"
    )(STACK),
    "map": lambda grad: lax.map(lambda x: grad(energy)(x, y), STACK),
    "map in batches": lambda grad: lax.map(lambda x: grad(energy)(x, y), STACK, batch_size=3),
    "scan": lambda grad: lax.scan(lambda x, _: (x - 0.1 * grad(energy)(x, y), x), x, None, 3),
    "while_loop": lambda grad: lax.while_loop(
        lambda x: jnp.sum(x * x) > 1, lambda x: x - 0.1 * grad(lambda x: jnp.sum(x**4))(x), x
    ),
    "cond": lambda grad: lax.cond(x[0] > 0, grad(energy), lambda x, y: x, x, y),
    "checkpoint": lambda grad: jax.checkpoint(grad(energy))(x, y),
    "jvp": lambda grad: jax.jvp(grad(energy), (x, y), (y, x)),
    "linearize": lambda grad: jax.linearize(grad(energy), x, y)[1](y, x),
    "vjp": lambda grad: jax.vjp(grad(energy, (0, 1)), x, y)[1]((y, x)),
    "jacfwd": lambda grad: jax.jacfwd(grad(energy), (0, 1))(x, y),
    "jacrev": lambda grad: jax.jacrev(grad(energy), (0, 1))(x, y),
    "eval_shape": lambda grad: jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(grad(energy), x, y)
    ),
}


@pytest.mark.parametrize("name", UNDER)
def test_under(name):
    close(UNDER[name](fg.grad), UNDER[name](jax.grad))


def test_without_jit():
    """With `jax.disable_jit` loops are Python's, jitted functions are inlined."""
    with jax.disable_jit():
        close(fg.grad(energy)(x, y), jax.grad(energy)(x, y))


@pytest.mark.filterwarnings("ignore:the primitive 'psum':fungrad.MissingRuleWarning")
def test_a_mean_over_a_named_axis():
    """A collective inside what is differentiated."""

    def loss(x):
        return jnp.sum((x - lax.pmean(x, "i")) ** 2)

    actual, expected = (jax.vmap(m.grad(loss), axis_name="i")(STACK) for m in (fg, jax))
    close(actual, expected)


# --- Inside each other ----------------------------------------------------------------------------


def nested(outer, inner):
    """An outer gradient of an inner one, which closes over the outer's values."""

    def function(x, y):
        w = jnp.exp(x)
        g = inner(lambda t: jnp.sum(jnp.sin(t * w) * y))(y)
        return jnp.sum(g * x) + energy(x, g)

    return outer(function, (0, 1))(x, y)


@pytest.mark.parametrize("outer", [fg.grad, partial(fg.grad, save="nothing"), jax.grad])
@pytest.mark.parametrize("inner", [fg.grad, partial(fg.grad, save="nothing")])
@pytest.mark.parametrize("compiled", [False, True])
def test_inner_gradients_see_the_outer_values(outer, inner, compiled):
    if compiled:
        inner_grad, inner = inner, lambda f: jax.jit(inner_grad(f))
    close(nested(outer, inner), nested(jax.grad, jax.grad))


def test_jaxs_inner_gradient_in_ours():
    close(nested(fg.grad, jax.grad), nested(jax.grad, jax.grad))
    close(nested(fg.grad, lambda f: jax.jit(jax.grad(f))), nested(jax.grad, jax.grad))


def test_perturbations_are_not_confused():
    """d/dx (x · d/dy (x + y)) = 1: the inner derivative knows nothing of the outer variable."""
    for outer in (fg.grad, jax.grad):
        for inner in (fg.grad, jax.grad):
            assert outer(lambda x, inner=inner: x * inner(lambda y, x=x: x + y)(1.0))(1.0) == 1
            assert outer(lambda x, inner=inner: x * inner(lambda y, x=x: x * y)(2.0))(3.0) == 6


@pytest.mark.parametrize(
    "grads",
    [
        (fg.grad, fg.grad, fg.grad),
        (fg.grad, jax.grad, fg.grad),
        (jax.grad, fg.grad, jax.grad),
        (fg.grad, fg.grad, jax.grad),
        (partial(fg.grad, save="nothing"),) * 3,
    ],
)
def test_third_order(grads):
    def along(t):
        return energy(x + t * y, y)

    derivative = along
    for grad in grads:
        derivative = grad(derivative)
    expected = jax.grad(jax.grad(jax.grad(along)))(0.1)
    close(jax.jit(derivative)(0.1), expected)
    close(jax.jit(jax.vmap(derivative))(jnp.array([0.1, 0.2]))[0], expected)


def test_a_gradient_penalty():
    """The gradient of a norm of a gradient, by parameters, over a batch."""

    def critic(p, x):
        return jnp.sum(jnp.tanh(jax.nn.softplus(x @ p["W"]) @ p["W"].T) * p["b"])

    def penalty(p, grad):
        norms = jax.vmap(lambda x: jnp.sqrt(jnp.sum(grad(critic, 1)(p, x) ** 2)))(STACK)
        return jnp.mean((norms - 1) ** 2)

    p = {"W": W, "b": x}
    close(jax.jit(fg.grad(partial(penalty, grad=fg.grad)))(p), jax.grad(penalty)(p, jax.grad))


def test_an_implicit_layer():
    """A fixed point with its own VJP, which solves by a loop: custom_vjp around while_loop."""

    @jax.custom_vjp
    def root(a):
        return lax.while_loop(lambda z: jnp.abs(z * z - a) > 1e-14, lambda z: (z + a / z) / 2, a)

    root.defvjp(lambda a: (root(a), root(a)), lambda z, g: (g / (2 * z),))
    np.testing.assert_allclose(fg.grad(root)(4.0), 0.25, rtol=1e-14)
    np.testing.assert_allclose(
        jax.vmap(fg.grad(root))(jnp.array([4.0, 9.0])), [1 / 4, 1 / 6], rtol=1e-14
    )


def test_a_derivative_of_one_value_for_all_examples_is_refused_in_a_jit():
    @jax.custom_jvp
    def nothing(x):
        return jnp.zeros(())

    nothing.defjvp(lambda p, t: (nothing(*p), p[0] * t[0]))
    total, v = lambda x: jnp.sum(jax.vmap(nothing)(x)), jnp.arange(3.0)
    for grad in (jax.grad, fg.grad):
        np.testing.assert_array_equal(grad(total)(v), v)
    message = (
        r"custom_jvp function .*test_compositions\.py:\d+ is .* under a vmap, .* adding 0 \* x"
    )
    with pytest.raises(TypeError, match=message):
        fg.grad(jax.jit(total))(v)
