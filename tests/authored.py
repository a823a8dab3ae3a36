"""Two functions whose author wrote a derivative, 3, that is not that of their body."""

import jax
from jax import numpy as jnp


@jax.custom_jvp
def bend(x):
    return jnp.tanh(x)


bend.defjvp(lambda p, t: (bend(p[0]), 3 * t[0]))


@jax.custom_vjp
def squash(x):
    return jnp.tanh(x)


squash.defvjp(lambda x: (squash(x), None), lambda _, g: (3 * g,))
