"""Convolutions with a batch norm after them, and a small network for small images."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fungrad import graph, layers
from fungrad.models.model import Linear, Model, activation_of, initial_linear, positive


class BatchNorm(NamedTuple):
    """The parameters of `fungrad.layers.batch_norm`, and its state.

    Attributes:
        scale: [C].
        shift: [C].
        statistics: the running mean and variance; no gradient trains them, see `renewed`.
    """

    scale: jax.Array
    shift: jax.Array
    statistics: layers.Statistics


class ConvNorm(NamedTuple):
    """The parameters of a convolution and of the batch norm after it.

    Attributes:
        conv: `Linear`, its W [h, w, n, m].
        norm: `BatchNorm`, or None.
    """

    conv: Linear
    norm: BatchNorm | None


def initial_conv_norm(key, size, inputs, outputs, *, bias=False, norm=True, dtype=float):
    """W [size, size, inputs, outputs] by He's normal, b = 0, γ = 1, β = 0. [he2015]"""
    W = jax.nn.initializers.he_normal()(key, (size, size, inputs, outputs), dtype)
    zeros, ones = jnp.zeros(outputs, dtype), jnp.ones(outputs, dtype)
    return ConvNorm(
        Linear(W, zeros if bias else None),
        BatchNorm(ones, zeros, layers.initial_statistics(outputs, dtype)) if norm else None,
    )


class Normalizer:
    """Batch norms of one forward pass: at test time by the running statistics, or in training.

    Attributes:
        train: whether each norm uses the batch's own statistics.
        seen: each norm's next statistics, in the order of the norms.
    """

    def __init__(self, train):
        self.train, self.seen = train, []

    def __call__(self, x, norm, *, epsilon=1e-5):
        z, statistics = layers.batch_norm(
            x, norm.scale, norm.shift, norm.statistics, train=self.train, epsilon=epsilon
        )
        self.seen.append(statistics)
        return z

    def conv(self, x, part, **options):
        """`fungrad.layers.conv` and the norm after it, where there is one, of a `ConvNorm`."""
        z = layers.conv(x, *part.conv, **options)
        return z if part.norm is None else self(z, part.norm)

    def result(self, scores):
        """The scores; in training the pair of scores and statistics."""
        return (scores, tuple(self.seen)) if self.train else scores


def renewed(params, statistics):
    """The parameters with the running statistics that `apply(params, x, train=True)` gave.

        (loss, statistics), g = fg.value_and_grad(cost, has_aux=True)(params)
        params = models.renewed(jax.tree.map(lambda p, g: p - 0.1 * g, params, g), statistics)

    In training the scores do not depend on the running statistics, so their gradient is zero; they
    follow the batches instead, see `fungrad.layers.batch_norm`.

    Args:
        params: parameters of `vgg` or `resnet`.
        statistics: one `fungrad.layers.Statistics` per batch norm, in order.

    Returns:
        params with these statistics.

    Raises:
        ValueError: not as many statistics as there are batch norms.

    >>> from fungrad import models
    >>> apply, params = models.shapes("resnet", 18)
    >>> x = jnp.ones((4, 64, 64, 3))
    >>> scores, statistics = jax.eval_shape(lambda params: apply(params, x, train=True), params)
    >>> scores.shape, len(statistics), renewed(params, statistics) == params
    ((4, 1000), 20, True)

    Source: [ioffe2015].
    """

    def is_state(node):
        return isinstance(node, layers.Statistics)

    leaves, structure = jax.tree.flatten(params, is_leaf=is_state)
    places = [place for place, leaf in enumerate(leaves) if is_state(leaf)]
    if len(places) != len(statistics):
        raise ValueError(
            f"statistics must hold one entry per batch norm of params, {len(places)}, "
            f"got {len(statistics)}"
        )
    for place, entry in zip(places, statistics, strict=True):
        leaves[place] = layers.Statistics(*entry)
    return jax.tree.unflatten(structure, leaves)


def count(params):
    """The number of parameters: of all arrays but running statistics, which are not trained.

    Args:
        params: any tree of arrays, or of their shapes as `jax.eval_shape` or `shapes` gives them.

    Returns:
        the number.

    >>> from fungrad import models
    >>> count(models.shapes("mlp", (4, 16, 3))[1])
    131
    """
    leaves = jax.tree.leaves(params, is_leaf=lambda node: isinstance(node, layers.Statistics))
    return sum(math.prod(p.shape) for p in leaves if not isinstance(p, layers.Statistics))


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
