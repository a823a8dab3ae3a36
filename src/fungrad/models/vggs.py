"""Stacks of 3×3 convolutions."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import jax

from fungrad import graph, layers
from fungrad.models.convolutional import ConvNorm, Normalizer, initial_conv_norm
from fungrad.models.model import (
    Linear,
    Model,
    activation_of,
    in_format_of,
    initial_linear,
    positive,
    whether,
)

CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Convolutions of each stage, by depth: the number of layers that have weights."""


class VGG(NamedTuple):
    """The parameters of `vgg`.

    Attributes:
        stages: the convolutions of each stage.
        hidden: the hidden linear layers.
        head: the scores' linear layer.
    """

    stages: tuple[tuple[ConvNorm, ...], ...]
    hidden: tuple[Linear, ...]
    head: Linear


def vgg(
    depth: Any = 16,
    outputs=1000,
    *,
    image=(224, 224, 3),
    batch_norm=False,
    widths=(64, 128, 256, 512, 512),
    hidden=(4096, 4096),
    activation="relu",
    key,
    dtype=float,
):
    """Five stages h ← f(norm(W * h + b)) of 3×3 windows, each ended by a 2×2 maximum; an mlp.

    The activations are nodes named "stage1/conv1", "stage1/conv2", ..., those of the hidden linear
    layers "hidden1", "hidden2", the scores "logits"; each layer lies in the scope of its name.

    Args:
        depth: 11, 13, 16 or 19, or the number of convolutions of each stage.
        outputs: m, the number of classes.
        image: (H, W, C) of one image; every stage halves H and W.
        batch_norm: whether each convolution has a batch norm after it.
        widths: the channels of each stage.
        hidden: the sizes of the hidden linear layers; () for none.
        activation: f, a function or a name in `fungrad.layers.activations`.
        key: a random key.
        dtype: of the parameters.

    Returns:
        (apply, params): apply(params, x[..., H, W, C]) -> z[..., m], by the running statistics
        where there are batch norms; apply(params, x, train=True) -> (z, statistics) uses the
        batch's own, see `renewed`. params is a `VGG`.

    Raises:
        ValueError: another depth, widths that are not one per stage, sizes that are no positive
            integers, an image too small for its stages, an unknown activation (the message lists
            the names), or images of another size.

    >>> from fungrad import models
    >>> apply, params = models.shapes("vgg", 16, 10, batch_norm=True)
    >>> jax.eval_shape(apply, params, jax.numpy.ones((2, 224, 224, 3))).shape
    (2, 10)

    Source: [simonyan2015]; with batch norms [ioffe2015].
    """
    if isinstance(depth, int) and depth not in CONVOLUTIONS:
        raise ValueError(
            f"depth must be 11, 13, 16, 19, or the convolutions of each stage, got {depth}"
        )
    stages = CONVOLUTIONS[depth] if isinstance(depth, int) else positive("depth", *depth)
    image, widths = positive("image", *image), positive("widths", *widths)
    hidden, (outputs,) = hidden and positive("hidden", *hidden), positive("outputs", outputs)
    f, batch_norm = activation_of(activation), whether("batch_norm", batch_norm)
    if len(widths) != len(stages):
        raise ValueError(f"widths must be one per stage, {len(stages)}, got {widths}")
    if len(image) != 3 or min(image[:2]) >> len(stages) == 0:
        raise ValueError(
            f"image must be (H, W, C) with H and W at least {2 ** len(stages)}, for each of the "
            f"{len(stages)} stages halves them; got {image}"
        )

    pixels = math.prod(size >> len(stages) for size in image[:2])
    sizes = (pixels * widths[-1], *hidden, outputs)
    keys = iter(jax.random.split(key, sum(stages) + len(sizes)))

    def stage(number, inputs, width):
        return tuple(
            initial_conv_norm(next(keys), 3, n, width, bias=True, norm=batch_norm, dtype=dtype)
            for n in (inputs, *(width,) * (number - 1))
        )

    entering = (image[2], *widths)
    convolutions = tuple(stage(*of) for of in zip(stages, entering, widths, strict=False))
    *linears, head = (
        initial_linear(next(keys), m, n, dtype=dtype) for n, m in itertools.pairwise(sizes)
    )
    params = VGG(convolutions, tuple(linears), head)

    def forward(params, x, train=False):
        norms = Normalizer(train)
        x = in_format_of(params.head.W, x, image)
        for s, stage in enumerate(params.stages, start=1):
            for c, part in enumerate(stage, start=1):
                with jax.named_scope(label := f"stage{s}/conv{c}"):
                    x = graph.name(f(norms.conv(x, part)), label)
            x = layers.max_pool(x)
        x = x.reshape(*x.shape[:-3], -1)
        for number, linear in enumerate(params.hidden, start=1):
            with jax.named_scope(label := f"hidden{number}"):
                x = graph.name(f(layers.linear(x, *linear)), label)
        return norms.result(graph.name(layers.linear(x, *params.head), "logits"))

    config = {"depth": depth if isinstance(depth, int) else stages, "outputs": outputs}
    config |= {"image": image, "batch_norm": batch_norm, "widths": widths, "hidden": hidden}
    return Model(forward, name="vgg", **config, activation=activation), params
