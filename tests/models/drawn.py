"""Models with parameters drawn by NumPy: to compile those of JAX takes most of a test's time."""

import jax
import numpy as np


def drawn(builder, *sizes, **options):
    """(apply, params) of the builder, every parameter random, biases and scales too."""
    models = []

    def params_of(key):
        apply, params = builder(*sizes, key=key, **options)
        models.append(apply)
        return params

    draw = np.random.default_rng(0)
    structs = jax.eval_shape(params_of, jax.random.key(0))
    params = jax.tree.map(lambda p: draw.normal(size=p.shape).astype(p.dtype) / 2, structs)
    return models[0], params
