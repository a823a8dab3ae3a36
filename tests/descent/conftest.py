"""Fifty points on a line, and where the search for it starts."""

import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture
def points():
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 3))
    return x, x @ np.array([1.0, 2.0, 3.0]) + 0.5


@pytest.fixture
def start():
    return {"w": jnp.zeros(3), "b": jnp.zeros(())}
