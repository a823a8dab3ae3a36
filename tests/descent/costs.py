"""The costs that the tests of the descent minimise."""

import jax
import jax.numpy as jnp

KEY = jax.random.key(0)


def bowl(x):
    """J(x) = Σ (x − 3)², with ∂J/∂x = 2 (x − 3)."""
    return jnp.sum((x - 3.0) ** 2)


def line(params, batch):
    """Mean squared error of a line."""
    x, y = batch
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)
