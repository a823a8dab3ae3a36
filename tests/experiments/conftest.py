"""Experiments run in JAX's default float32, as their user has it; numbers still may not mix."""

import jax
import pytest


@pytest.fixture(autouse=True)
def float32():
    with jax.enable_x64(False):
        yield
