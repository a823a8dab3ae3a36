"""Functions whose author wrote the derivative, and whose rules close over values."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg

x = jnp.array(0.4)
ys = jnp.array([0.3, 0.8, 1.1])


def by_vjp(y, where=("primal", "fwd", "bwd")):
    """sin x · s with 2 s'' cos(x s'), where each s is cos y in the parts of `where`, else 0.7."""

    def s(part):
        return jnp.cos(y) if part in where else 0.7

    f = jax.custom_vjp(lambda x: jnp.sin(x) * s("primal"))
    f.defvjp(
        lambda x: (jnp.sin(x) * s("primal"), x * s("fwd")),
        lambda r, g: (2 * g * jnp.cos(r) * s("bwd"),),
    )
    return f


def by_jvp(y, where=("primal", "jvp")):
    """sin x · s with 2 s' cos x t."""

    def s(part):
        return jnp.cos(y) if part in where else 0.7

    f = jax.custom_jvp(lambda x: jnp.sin(x) * s("primal"))
    f.defjvp(lambda p, t: (f(*p), 2 * t[0] * jnp.cos(p[0]) * s("jvp")))
    return f


def assert_as_jax(program, *args):
    """A program of a transform gives what it gives of jax.grad, jitted or not, under vmap too."""
    expected = program(jax.grad)(*args)
    for actual in (program(fg.grad)(*args), jax.jit(program(fg.grad))(*args)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), actual, expected)


def looped(x, y, h):
    w = jnp.exp(y)
    return lax.scan(lambda c, _: (h(w)(c), None), x, None, 3)[0]


# Programs of (grad, h), where h(y) is a function that closes over y.
PROGRAMS = {
    "a value of the function": lambda grad, h: lambda x: grad(lambda x: h(jnp.exp(ys[1]))(x))(x),
    "a value without gradient": lambda grad, h: (
        lambda x: grad(lambda x: h(lax.stop_gradient(jnp.exp(x)))(x) * h(jnp.argmax(x))(x))(x)
    ),
    "a vmap around the gradient": lambda grad, h: (
        lambda x: jax.vmap(lambda y: grad(lambda x: h(jnp.exp(y))(x) * h(y)(x))(x * y))(ys)
    ),
    "a vmap in the function": lambda grad, h: (
        lambda x: grad(lambda x: jnp.sum(jax.vmap(lambda y: h(jnp.exp(y))(x * y))(ys + 1)))(x)
    ),
    "two vmaps in the function": lambda grad, h: (
        lambda x: grad(
            lambda x: jnp.sum(jax.vmap(lambda y: jax.vmap(lambda z: h(y * z)(x * z))(ys))(ys))
        )(x)
    ),
    "a vmap around and one within": lambda grad, h: (
        lambda x: jax.vmap(
            lambda w: grad(lambda x: jnp.sum(jax.vmap(lambda y: h(w * y)(x * y))(ys)))(x)
        )(ys)
    ),
    "in a loop": lambda grad, h: lambda x: grad(lambda x: looped(x, ys[0], h))(x),
    "in a loop, under vmap": lambda grad, h: (
        lambda x: jax.vmap(lambda y: grad(lambda x: looped(x, y, h))(x))(ys)
    ),
    "second order": lambda grad, h: lambda x: grad(grad(lambda x: h(jnp.exp(ys[1]))(x)))(x),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_rule_of_a_custom_jvp_may_close_over_a_value(name):
    assert_as_jax(lambda grad: PROGRAMS[name](grad, by_jvp), x)


# JAX reads the backward function when these vmaps are over, and refuses it.
TOO_LATE_FOR_JAX = {
    "in a loop, under vmap",
    "a vmap in the function",
    "two vmaps in the function",
    "a vmap around and one within",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_rule_of_a_custom_vjp_may_close_over_a_value(name):
    h = by_vjp
    if name in TOO_LATE_FOR_JAX:

        def h(y):
            return by_vjp(y, ("primal", "fwd"))

    assert_as_jax(lambda grad: PROGRAMS[name](grad, h), x)


@pytest.mark.parametrize("part", ["primal", "jvp"])
def test_a_value_that_one_rule_alone_closes_over(part):
    program = PROGRAMS["a vmap in the function"]
    assert_as_jax(lambda grad: program(grad, lambda y: by_jvp(y, (part,))), x)


def test_a_backward_function_may_not_close_over_the_examples_of_a_vmap_in_the_function():
    """The vmap is over by then; of a value for all examples, g is the sum of theirs."""
    for grad in (jax.grad, fg.grad):
        with pytest.raises(jax.errors.UnexpectedTracerError):
            grad(lambda x: jnp.sum(jax.vmap(lambda y: by_vjp(y, ("bwd",))(x * y))(ys)))(x)
    with pytest.raises(jax.errors.UnexpectedTracerError):  # as before fungrad is imported
        jax.grad(lambda x: jnp.sum(jax.vmap(lambda y: by_vjp(jnp.sin(y), ("bwd",))(x))(ys)))(x)


def test_in_a_branch():
    """Which is a graph where a gradient is jitted, and must be handed the value."""

    def f(x):
        h = by_jvp(jnp.cos(lax.stop_gradient(x)), ("jvp",))
        return jnp.sum(lax.cond(x[0] > 0, h, jnp.sin, x))

    np.testing.assert_allclose(jax.jit(fg.grad(f))(ys), jax.grad(f)(ys), rtol=1e-12)


def test_one_value_for_all_examples_with_a_derivative_for_each():
    def program(grad):
        return grad(lambda x: jnp.sum(jax.vmap(lambda y: by_jvp(y, ("jvp",))(x))(ys)))

    assert_as_jax(program, x)


def test_a_rule_that_is_read_for_its_batches_is_not_run():
    """For the value is not batched, and the tangent is; JAX reads it where x is differentiated."""
    seen = []
    constant = jax.custom_jvp(lambda x: 2.0)

    @constant.defjvp
    def _(primals, tangents):
        jax.debug.callback(lambda x: seen.append(float(x)), primals[0])
        return constant(*primals), 3 * tangents[0]

    def f(x, z):
        return jnp.sum(jax.vmap(constant)(x) * z)

    for argnums, times in ((1, 0), (0, 1)):
        for transform in (jax.grad, fg.grad):
            seen.clear()
            jax.block_until_ready(transform(f, argnums)(ys, ys))
            jax.effects_barrier()
            np.testing.assert_allclose(sorted(seen), [*ys] * times)


def test_a_value_of_a_callback():
    def f(x):
        w = jax.pure_callback(np.cos, jax.ShapeDtypeStruct((), x.dtype), ys[0])
        return by_jvp(w)(x) * by_vjp(w)(x)

    assert_as_jax(lambda grad: grad(f), x)


@pytest.mark.parametrize("h", [by_vjp, by_jvp])
def test_a_value_that_is_differentiated_is_refused_as_by_jax(h):
    rule = "fwd" if h is by_vjp else "jvp"
    for grad in (jax.grad, fg.grad):
        with pytest.raises(jax.errors.UnexpectedTracerError) as refused:
            grad(lambda x: h(jnp.exp(x), (rule,))(x))(x)
    assert "close over jax.lax.stop_gradient" in "".join(refused.value.__notes__)


def test_a_value_that_an_effect_makes_is_refused():
    def f(x):
        ref = jax.new_ref(ys)
        ref[0] = 2.0
        return by_jvp(ref[0], ("jvp",))(x)

    with pytest.raises(jax.errors.UnexpectedTracerError):
        fg.grad(f)(x)
