"""A descent that takes a while, to be killed and taken up again: `python -m ... FOLDER`.

Dropout, shuffled mini-batches, momenta and a learning rate that falls: everything that a state
or a step's number has to bring back.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fungrad as fg


def run(checkpoint=None, **changes):
    """The descent; `changes` replace its arguments."""
    random = np.random.default_rng(0)
    x = random.normal(size=(90, 4))
    data = x, np.sin(x.sum(axis=1))

    def cost(params, batch, key):
        x, y = batch
        hidden = fg.layers.tanh(fg.layers.linear(x, params["W"]))
        hidden = hidden * jax.random.bernoulli(key, 0.9, hidden.shape).astype(hidden.dtype)
        return jnp.mean((hidden @ params["v"] - y) ** 2)

    given = {
        "params": {"W": jnp.asarray(random.normal(size=(8, 4))), "v": jnp.zeros(8)},
        "optimizer": optax.adam(optax.cosine_decay_schedule(0.02, 2000)),
        "epochs": 400,
        "batch_size": 20,
        "key": jax.random.key(7),
        "checkpoint": checkpoint,
    }
    return fg.descent.minimize(given.pop("cost", cost), data=data, **(given | changes))


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_disable_most_optimizations", True)  # as in conftest.py, or bits differ
    run(fg.descent.Checkpoint(sys.argv[1], every=int(sys.argv[2])))
    print("finished")
