"""Small networks in several layouts and libraries, with the value of a layer worked out by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

import fungrad as fg

KEYS = jax.random.split(jax.random.key(7), 3)
W = jax.random.normal(KEYS[0], (3, 3, 3, 5)) / 5
V = jax.random.normal(KEYS[1], (5, 4))


def conv(x, layout):
    """x[N, H, W, C] ↦ W * x, in another layout."""
    kernel, images = {"NHWC": ("HWIO", (0, 1, 2, 3)), "NCHW": ("OIHW", (0, 3, 1, 2))}[layout]
    weights = W if layout == "NHWC" else W.transpose(3, 2, 0, 1)
    names = (layout, kernel, layout)
    return lax.conv_general_dilated(
        x.transpose(images), weights.astype(x.dtype), (1, 1), "SAME", dimension_numbers=names
    )


def nhwc(x):
    with jax.named_scope("first"):
        h = fg.name(jax.nn.relu(conv(x, "NHWC")), "h")
    return h.mean((1, 2)) @ V.astype(x.dtype)


def nchw(x):
    h = jax.nn.relu(fg.name(conv(x, "NCHW"), "conv"))
    return h.mean((2, 3)) @ V


class Equinox(eqx.Module):
    """Of one image; `jax.vmap` makes it one of a batch."""

    conv: eqx.nn.Conv2d
    linear: eqx.nn.Linear

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(3, 5, 3, padding=1, key=first)
        self.linear = eqx.nn.Linear(5, 4, key=second)

    def __call__(self, x):
        h = jax.nn.relu(self.conv(x.transpose(2, 0, 1)))
        return self.linear(h.mean((1, 2)))


class Flax(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        types = {"rngs": rngs, "param_dtype": jnp.float64, "dtype": jnp.float64}
        self.conv = nnx.Conv(3, 5, (3, 3), **types)
        self.linear = nnx.Linear(5, 4, **types)

    def __call__(self, x):
        return self.linear(nnx.relu(self.conv(x)).mean((1, 2)))


def scanned(x):
    """Three layers in a scan; the node "h" is in it."""

    def layer(h, weights):
        return fg.name(jnp.tanh(h @ weights), "h"), None

    weights = jax.random.normal(KEYS[2], (3, 3, 3))
    return lax.scan(layer, x, weights)[0].mean((1, 2))
