"""Test gradients whose author returned them in another format than their values'."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg


@jax.custom_vjp
def total(x):
    return jnp.sum(x.astype("float32"))


@jax.custom_vjp
def square(x):
    return x * x


total.defvjp(
    lambda x: (total(x), x.shape), lambda shape, g: (jnp.full(shape, np.float32(1.001) * g),)
)
square.defvjp(lambda x: (square(x), None), lambda _, g: (2 * g,))

x = jnp.asarray([1.0, 2.0, 3.0], "bfloat16")
ON_THE_WAY = {
    "nothing": lambda x: x,
    "a sign, and a gather": lambda x: -x[np.array([0, 0, 1])],
    "a concatenation": lambda x: lax.concatenate([x, x], 0),
    "a function of its author": square,
}


@pytest.mark.parametrize("way", ON_THE_WAY)
@pytest.mark.parametrize("around", [lambda f: f, jax.jit, jax.checkpoint])
def test_a_gradient_stays_in_the_format_that_its_author_returned_as_by_jax(way, around):
    fun = around(lambda x: total(ON_THE_WAY[way](x)))
    g, by_jax = fg.grad(fun)(x), jax.grad(fun)(x)
    assert g.dtype == by_jax.dtype == jnp.float32
    np.testing.assert_array_equal(g, by_jax)


def test_rules_work_in_that_format():
    g = fg.grad(lambda x: total(jnp.sin(x)))(x)
    np.testing.assert_allclose(g, np.float32(1.001) * jnp.cos(x.astype("float32")), rtol=1e-6)


@pytest.mark.parametrize("first", [True, False])
def test_it_is_added_to_a_gradient_in_the_value_s_own(first):
    terms = (total, lambda x: jnp.sum(x).astype("float32"))[:: 1 if first else -1]
    g = fg.grad(lambda x: sum(term(x) for term in terms))(x)
    np.testing.assert_allclose(g, np.full(3, 2.001, "float32"), rtol=1e-6)


CALLS = {
    "a branch": lambda x: lax.cond(True, total, lambda x: jnp.float32(0), x),
    "a loop": lambda x: lax.scan(lambda sum, x: (sum + total(x), None), jnp.float32(0), x)[0],
}


@pytest.mark.parametrize("call", CALLS)
def test_branches_and_loops_round_it(call):
    g = fg.grad(CALLS[call])(x)
    assert g.dtype == jnp.bfloat16
    np.testing.assert_array_equal(g, jnp.ones(3))


def test_loops_convert_nothing_else():
    """Not even a gradient that is weakly typed, as that of a Python scalar is."""
    _, pullback = fg.vjp(lambda x: lax.fori_loop(0, 3, lambda _, x: jnp.sin(x), x), 2.0)
    assert "convert_element_type" not in str(jax.make_jaxpr(pullback)(1.0))


def test_what_a_checkpoint_saves_is_what_its_forward_half_goes_on_with():
    """XLA would keep more digits of a product of a short format for what reads it."""
    product, widened = (jax.custom_vjp(f) for f in (jnp.matmul, lambda x: x.astype("float32") * 1))
    product.defvjp(lambda x, y: (product(x, y), None), lambda _, g: (g, None))
    widened.defvjp(lambda x: (widened(x), x), lambda x, g: (widened(x),))

    def fun(x):
        return widened(product(x, x))

    diagonal = jnp.diag(jnp.full(2, 1.0078125, "bfloat16"))  # its square is no bfloat16
    policy = jax.checkpoint_policies.everything_saveable
    out, pullback = fg.vjp(jax.jit(jax.checkpoint(fun, policy=policy)), diagonal)
    np.testing.assert_array_equal(out, *pullback(jnp.ones_like(out)))
