"""Networks that see images: trained, and asked for the gradient at the image."""

from __future__ import annotations

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

import fungrad as fg
from benchmarks.programs.deep import NAMES, block, blocks
from benchmarks.programs.program import (
    FORMAT,
    Program,
    Sized,
    Wrap,
    generator,
    matrix,
    normal,
    unstacked,
)


def kernel(draw: np.random.Generator, size: int, inputs: int, outputs: int) -> np.ndarray:
    """The weights of a convolution, [size, size, inputs, outputs]."""
    return normal(draw, size, size, inputs, outputs, scale=math.sqrt(2 / (size**2 * inputs)))


# ---- residual network ----------------------------------------------------------------------------


def resnet(*, side: int, width: int, stages: int, repeats: int, batch: int) -> Program:
    """A residual network with batch norm; each stage halves the image and doubles the channels."""
    draw = generator()

    def layer(size, inputs, outputs):
        moments = np.ones(outputs, FORMAT), np.zeros(outputs, FORMAT)
        return {"kernel": kernel(draw, size, inputs, outputs), "norm": moments}

    residuals = []
    for i in range(stages * repeats):
        outputs = width * 2 ** (i // repeats)
        inputs = outputs // 2 if i and i % repeats == 0 else outputs
        parts = {"first": layer(3, inputs, outputs), "second": layer(3, outputs, outputs)}
        if inputs != outputs:
            parts["short"] = layer(1, inputs, outputs)
        residuals.append(parts)
    params = {
        "stem": layer(3, 3, width),
        "residuals": residuals,
        "output": matrix(draw, 10, outputs),
    }
    images, labels = normal(draw, batch, side, side, 3), np.arange(batch) % 10

    def convolved(x, params, stride=1):
        z = fg.layers.conv(x, params["kernel"], stride=stride)
        state = fg.layers.initial_statistics(z.shape[-1], FORMAT)
        return fg.layers.batch_norm(z, *params["norm"], state, train=True)[0]

    def residual(x, params):
        stride = 2 if "short" in params else 1
        short = convolved(x, params["short"], stride) if "short" in params else x
        inner = jax.nn.relu(convolved(x, params["first"], stride))
        return jax.nn.relu(short + convolved(inner, params["second"]))

    def loss(wrap: Wrap):
        def of(params, images, labels):
            x = jax.nn.relu(convolved(images, params["stem"]))
            for part in params["residuals"]:
                x = wrap(residual)(x, part)
            logits = fg.layers.linear(x.mean((1, 2)), params["output"])
            return fg.losses.cross_entropy(logits, labels).mean()

        return of

    return Program(loss, (params, images, labels))


# ---- vision transformer --------------------------------------------------------------------------


def vit(*, side: int, patch: int, width: int, depth: int, batch: int, heads: int = 4) -> Program:
    """A vision transformer with a class token."""
    draw = generator()
    places = (side // patch) ** 2 + 1
    params = {
        "patches": kernel(draw, patch, 3, width),
        "class": normal(draw, width),
        "place": normal(draw, places, width, scale=0.1),
        "blocks": unstacked(blocks(draw, width, depth), depth),
        "norm": (np.ones(width, FORMAT), np.zeros(width, FORMAT)),
        "output": matrix(draw, 10, width),
    }
    images, labels = normal(draw, batch, side, side, 3), np.arange(batch) % 10

    def layer(h, params):
        return block(h, params, heads=heads, causal=False)

    def loss(wrap: Wrap):
        def of(params, images, labels):
            h = fg.layers.conv(images, params["patches"], stride=patch, padding="VALID")
            h = h.reshape(len(h), places - 1, width)
            first = jnp.broadcast_to(params["class"], (len(h), 1, width))
            h = jnp.concatenate([first, h], axis=1) + params["place"]
            for one in params["blocks"]:
                h = wrap(layer)(h, one)
            h = fg.layers.layer_norm(h[:, 0], *params["norm"])
            return fg.losses.cross_entropy(fg.layers.linear(h, params["output"]), labels).mean()

        return of

    return Program(loss, (params, images, labels), names=NAMES)


# ---- the gradient at an image --------------------------------------------------------------------


def visualization(*, side: int, width: int, depth: int, views: int) -> Program:
    """One step of feature visualization: the image is seen in several views, moved and rescaled.

    The loss is a channel's mean activation in a convolutional network, with a penalty on the
    image's total variation.
    """
    draw = generator()
    channels = [3, *(width * 2**i for i in range(depth))]
    kernels = [kernel(draw, 3, *pair) for pair in pairwise(channels)]
    image = normal(draw, side, side, 3, scale=0.1)

    def seen(image, key):
        """A random view: scaled by 0.9 to 1.1, shifted by up to an eighth, and noisy."""
        scale, shift, noise = jax.random.split(key, 3)
        zoom = jax.random.uniform(scale, (1,), FORMAT, 0.9, 1.1)
        move = jax.random.uniform(shift, (2,), FORMAT, -side / 8, side / 8)
        view = jax.image.scale_and_translate(
            image, image.shape, (0, 1), jnp.broadcast_to(zoom, (2,)), move, "linear"
        )
        return view + 0.1 * jax.random.normal(noise, view.shape, FORMAT)

    def stage(x, kernel):
        return fg.layers.max_pool(jax.nn.relu(fg.layers.conv(x, kernel)))

    def loss(wrap: Wrap):
        def of(image, kernels, key):
            pixels = jax.nn.sigmoid(image)
            x = jax.vmap(seen, (None, 0))(pixels, jax.random.split(key, views))
            for one in kernels:
                x = wrap(stage)(x, one)
            rough = (
                jnp.abs(jnp.diff(pixels, axis=0)).mean() + jnp.abs(jnp.diff(pixels, axis=1)).mean()
            )
            return rough - x[..., 0].mean()

        return of

    return Program(loss, (image, kernels, jax.random.key(0)))


PROGRAMS = {
    "resnet": Sized(
        resnet,
        dict(side=32, width=16, stages=3, repeats=2, batch=16),
        dict(side=8, width=4, stages=2, repeats=1, batch=2),
    ),
    "vit": Sized(
        vit,
        dict(side=32, patch=4, width=128, depth=6, batch=8),
        dict(side=8, patch=4, width=16, depth=2, batch=2),
    ),
    "visualization": Sized(
        visualization,
        dict(side=96, width=16, depth=4, views=8),
        dict(side=16, width=4, depth=2, views=2),
    ),
}
