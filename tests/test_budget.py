"""A budget of bytes is kept, and what cannot be kept is refused with the least that can."""

import re

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from fungrad.budget import LADDER
from fungrad.costs import Effort


def array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def blocks(weights, x):
    """Scanned, with products so wide that the automatic cut keeps them."""

    def block(x, W):
        return x + jax.nn.gelu(x @ W) @ W.T, None

    return jnp.sum(lax.scan(block, x, weights)[0] ** 2)


def ode(k, y):
    """Many cheap steps of which the states are all there is to keep."""
    return jnp.sum(lax.scan(lambda y, _: (y + 0.01 * jnp.sin(k * y), None), y, None, length=200)[0])


def unrolled(weights, x):
    for W in weights:
        x = jax.nn.gelu(x @ W)
    return jnp.sum(x**2)


MODELS = {
    "blocks": (blocks, array(12, 512, 512), array(4096, 512)),
    "ode": (ode, array(1000), array(1000)),
    "unrolled": (unrolled, [array(32, 32)] * 8, array(512, 32)),
}


def gradient(function, save):
    return lambda *args: fg.grad(function, save=save)(*args)


def memory(function, args, save):
    compiled = jax.jit(gradient(function, save)).lower(*args).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def least(function, args):
    """What the error says."""
    with pytest.raises(
        ValueError, match="save=1 bytes: the gradient cannot be computed in as"
    ) as e:
        jax.eval_shape(gradient(function, 1), *args)
    return int(re.findall(r"save=([\d,]+) bytes$", str(e.value))[0].replace(",", ""))


@pytest.mark.parametrize("name", MODELS)
def test_the_plan_is_within_the_budget(name):
    """From what the automatic cut takes down to the least that there is."""
    function, *args = MODELS[name]
    most, bottom = memory(function, args, None), least(function, args)
    assert bottom < 0.7 * most
    budgets = [*map(int, np.geomspace(most, bottom, 4)[:-1]), bottom]
    plans = [memory(function, args, budget) for budget in budgets]
    assert all(plan <= budget for plan, budget in zip(plans, budgets, strict=True))
    assert sorted(plans, reverse=True) == plans


def test_in_every_transform():
    """The least budget of the function is one for its gradient, however that is asked for."""
    draw = np.random.default_rng(0)
    k, y = (jnp.asarray(draw.normal(0, 1, 1000), jnp.float32) for _ in range(2))
    budget = least(ode, [array(1000)] * 2)
    expected = jax.jit(jax.grad(ode))(k, y)
    ways = {
        "eager": lambda k: fg.grad(ode, save=budget)(k, y),
        "jit": jax.jit(lambda k: fg.grad(ode, save=budget)(k, y)),
        "value_and_grad": lambda k: fg.value_and_grad(ode, save=budget)(k, y)[1],
        "vjp": lambda k: fg.vjp(ode, k, y, save=budget)[1](jnp.float32(1))[0],
        "jacrev": lambda k: fg.jacrev(ode, save=budget)(k, y),
        "vmap": lambda k: jax.vmap(lambda k: fg.grad(ode, save=2 * budget)(k, y))(k[None])[0],
        "numpy": lambda k: fg.grad(ode, save=np.int64(budget))(k, y),
    }
    for way in ways.values():
        np.testing.assert_allclose(way(k), expected, rtol=1e-4, atol=1e-5)


def test_second_derivatives():
    def small(k, y):
        return jnp.sum(lax.scan(lambda y, _: (y + jnp.sin(k * y), None), y, None, length=9)[0])

    k, y = jnp.array([0.3, -0.7]), jnp.array([1.2, 0.4])
    found = fg.hessian(small, save=10_000)(k, y)
    np.testing.assert_allclose(found, jax.hessian(small)(k, y), rtol=1e-12)


@pytest.mark.parametrize("save", [0, -1, True, 1.5, "some", [], np.float64(3)])
def test_what_is_no_budget_is_refused(save):
    with pytest.raises(ValueError, match="save must be None, 'everything', 'nothing', a policy"):
        fg.grad(jnp.sin, save=save)(1.0)


def test_the_first_effort_is_the_usual_one_and_no_two_are_the_same():
    assert LADDER[0] == Effort()
    assert len(set(LADDER)) == len(LADDER)
    levels = [e.levels for e in LADDER if not e.dear]
    assert levels == sorted(levels)
