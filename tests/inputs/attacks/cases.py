"""Classifiers to attack: one whose distances are known exactly, and one that is not linear."""

import jax
import jax.numpy as jnp

import fungrad as fg

INFINITY = float("inf")
EXAMPLES, FEATURES, CLASSES = 12, 9, 4


def linear(dtype=jnp.float32, bounds=(0.0, 1.0)):
    """(model, x, labels): z = W x + b at random points of the box, with the labels it gives."""
    low, high = bounds
    of_W, of_x = jax.random.split(jax.random.key(3))
    W = jax.random.normal(of_W, (CLASSES, FEATURES), dtype) * (4 / (high - low))
    b = -W @ jnp.full(FEATURES, (low + high) / 2, dtype)
    x = jax.random.uniform(of_x, (EXAMPLES, FEATURES), dtype)
    x = jnp.where(x < 0.25, 0, x) * (high - low) + low  # some entries are at their bound

    def model(x):
        return x @ W.T + b

    return model, x, model(x).argmax(axis=1)


def network(dtype=jnp.float32):
    """(model, x, labels): a small network with images [N, 3, 3] of numbers in [0, 1]."""
    apply, params = fg.models.mlp((9, 16, CLASSES), key=jax.random.key(1), dtype=dtype)
    x = jax.random.uniform(jax.random.key(2), (EXAMPLES, 3, 3), dtype)

    def model(x):
        return apply(params, x.reshape(len(x), -1))

    return model, x, model(x).argmax(axis=1)
