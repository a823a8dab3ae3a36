"""A small convolutional network for small images."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fungrad import graph, layers
from fungrad.models.model import Linear, Model, activation_of, initial_linear, positive


def cnn(image=(8, 8, 1), channels=(32, 64), outputs=10, *, activation="relu", key, dtype=float):
    """h_l = pool(f(W_l * h_{l−1} + b_l)) with 3×3 windows, and scores z = W vec(h_L) + b.

    Every stage halves height and width. Its activations before pooling are a node named "h1",
    "h2", ..., the scores "logits". The defaults are those for the digits of 8×8 pixels.

    Args:
        image: (H, W, C) of one image.
        channels: the number of channels of each stage.
        outputs: m, the number of classes.
        activation: f, a function or a name in `fungrad.layers.activations`.
        key: a random key.
        dtype: of the parameters.

    Returns:
        (apply, params): apply(params, x[..., H, W, C]) -> z[..., m]; params is a tuple of
        `Linear(W, b)`, one per stage, and one for the scores.

    Raises:
        ValueError: sizes that are no positive integers, more stages than the image can be halved,
            an unknown activation (the message lists the names), or images of another size.

    >>> apply, params = cnn(key=jax.random.key(0))
    >>> apply(params, jnp.ones((5, 8, 8, 1))).shape
    (5, 10)

    Source: [lecun1998].
    """
    image, channels = positive("image", *image), positive("channels", *channels)
    (outputs,), f = positive("outputs", outputs), activation_of(activation)
    if len(image) != 3:
        raise ValueError(f"image must be (H, W, C), got {image}")
    height, width = (size >> len(channels) for size in image[:2])
    if height * width == 0:
        raise ValueError(
            f"channels must have at most {int(math.log2(min(image[:2])))} stages for {image[0]}×"
            f"{image[1]} pixels, which each stage halves; got {channels}"
        )

    draw = jax.nn.initializers.he_normal()
    *keys, last = jax.random.split(key, len(channels) + 1)
    params = (
        *(
            Linear(draw(key, (3, 3, n, m), dtype), jnp.zeros(m, dtype))
            for key, n, m in zip(keys, (image[2], *channels), channels, strict=False)
        ),
        initial_linear(last, outputs, height * width * channels[-1], dtype=dtype),
    )

    def forward(params, x):
        if x.shape[-3:] != image:
            raise ValueError(f"x must be images [..., H, W, C] of {image}, got {x.shape}")
        *stages, last = params
        for number, stage in enumerate(stages, start=1):
            h = graph.name(f(layers.conv(x, *stage)), f"h{number}")
            x = layers.max_pool(h)
        return graph.name(layers.linear(x.reshape(*x.shape[:-3], -1), *last), "logits")

    config = {"image": image, "channels": channels, "outputs": outputs, "activation": activation}
    return Model(forward, name="cnn", **config), params
