"""Samples: their gradients by the parameters of their distributions, JAX's and those of moments."""

from functools import partial

import jax
import numpy as np
from jax import numpy as jnp

import fungrad as fg
from tests.rules.grids import STRICT, assert_agree

key = jax.random.key(0)
a = jnp.array([0.1, 0.7, 1.0, 3.0, 50.0])


def samplers():
    yield jax.random.gamma, a
    yield jax.random.loggamma, a
    yield lambda key, a: jax.random.gamma(key, a, (3, 5)), a
    yield lambda key, x: jax.random.normal(key, (5,)) * x, a
    yield lambda key, x: jax.random.truncated_normal(key, x, x + 1), a[:3]


def test_samples():
    assert_agree([(partial(sampler, key), x) for sampler, x in samplers()])


def test_samples_vmap():
    assert_agree([(partial(jax.random.loggamma, key), jnp.stack([a, 2 * a]))], batched=True)


def test_a_very_negative_logarithm():
    x = jnp.array([1e-4, 1e-3])
    assert_agree([(partial(jax.random.loggamma, key), x)])


def test_samples_in_low_precision():
    low = a.astype("bfloat16")
    assert_agree([(partial(jax.random.gamma, key, dtype="bfloat16"), low)], rtol=2**-7)


def test_gradients_of_moments():
    """E z = a and E z² = a (a + 1), so the means of the gradients are 1 and 2a + 1."""

    def moments(a):
        z = jax.random.gamma(key, a, (2_000,))
        return jnp.stack([jnp.mean(z), jnp.mean(z * z)])

    got = fg.jacrev(moments, rules=STRICT)(jnp.array(2.5))
    np.testing.assert_allclose(got, [1, 6], rtol=0.1)
