"""Optimizers by name: every one of them makes steps of the loop."""

import warnings

import jax
import jax.numpy as jnp
import optax
import pytest

import fungrad as fg
from fungrad.descent import loop
from fungrad.descent.methods import as_method
from fungrad.descent.problem import Keys, Problem


def made(name):
    """The optimizer with its own learning rate, or with 0.1 where it needs one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (UserWarning, DeprecationWarning))  # optax's renamings
        try:
            return fg.descent.optimizer(name)
        except ValueError:
            return fg.descent.optimizer(name, 0.1)


@pytest.mark.parametrize("name", sorted(fg.descent.optimizers()))
def test_the_state_of_every_optimizer_keeps_its_shapes_and_formats(name):
    """The loop can be traced in float64 under strict promotion, where optax mixes formats."""
    params = {"W": jnp.ones((3, 2)), "b": jnp.zeros(2)}
    task = Problem(
        cost=lambda p: jnp.sum((p["W"] - 0.3) ** 2) + jnp.sum(p["b"] ** 2),
        method=as_method(made(name)),
        rules=None,
        promotion="strict",
        examples=0,
        batch_size=None,
        total=3,
        window=1,
        tolerance=1e-3,
        takes_key=False,
    )
    keys = Keys.of(jax.random.key(0))
    state = loop.initial(task, params, keys)
    after, costs = jax.eval_shape(loop.burst(task), state, jnp.int32(3), None, None, keys)
    assert jax.tree.map(jax.typeof, state) == jax.tree.map(
        lambda leaf: jax.core.ShapedArray(leaf.shape, leaf.dtype), after
    )
    assert costs.dtype == jnp.float64


def test_arguments_reach_the_optimizer():
    by_name = fg.descent.optimizer("sgd", 0.1, momentum=0.9)
    x = jnp.zeros(1)
    plain, named = (
        fg.descent.minimize(lambda x: jnp.sum((x - 3.0) ** 2), x, optimizer=each, steps=5).history
        for each in (optax.sgd(0.1, momentum=0.9), by_name)
    )
    assert plain.tolist() == named.tolist()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown optimizer 'adma'; the names are .*adam, .*sgd"):
        fg.descent.optimizer("adma", 0.1)


def test_learning_rates_where_they_belong():
    with pytest.raises(ValueError, match="learning_rate: the optimizer 'adam' needs one"):
        fg.descent.optimizer("adam")
    with pytest.raises(ValueError, match="learning_rate: the optimizer 'newton_cg' takes none"):
        fg.descent.optimizer("newton_cg", 0.1)
    assert fg.descent.optimizer("spsa", 0.1).name == "spsa"
    with pytest.raises(TypeError, match="speed"):
        fg.descent.optimizer("sgd", 0.1, speed=3)


def test_optimizers_that_ask_for_gradients_elsewhere():
    """Sharpness-aware minimisation asks for the gradient at a second point."""
    sam = optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.01), opaque_mode=True)
    descent = fg.descent.minimize(
        lambda x: jnp.sum((x - 3.0) ** 2), jnp.zeros(1), optimizer=sam, steps=50
    )
    assert descent.params == pytest.approx(3.0, abs=0.1)
