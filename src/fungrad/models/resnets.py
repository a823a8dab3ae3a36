"""Residual networks."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax

from fungrad import graph, layers
from fungrad.models.convolutional import ConvNorm, Normalizer, initial_conv_norm
from fungrad.models.model import (
    Linear,
    Model,
    activation_of,
    in_format_of,
    initial_head,
    positive,
    positive_or_none,
    whether,
)

DEPTHS = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
"""The kind of block, and the number of blocks of each stage, by depth."""

REDUCTION = {"basic": 1, "bottleneck": 4}
"""How many times fewer channels the inside of a block has."""


class Residual(NamedTuple):
    """The parameters of one block.

    Attributes:
        layers: of two 3×3 convolutions, or of a 1×1, a 3×3 and a 1×1 one.
        shortcut: of a 1×1 convolution, where the block changes the size; else None.
    """

    layers: tuple[ConvNorm, ...]
    shortcut: ConvNorm | None


class ResNet(NamedTuple):
    """The parameters of `resnet`.

    Attributes:
        stem: of the first convolution, 7×7.
        stages: the blocks of each stage.
        head: the scores' linear layer, or None.
    """

    stem: ConvNorm
    stages: tuple[tuple[Residual, ...], ...]
    head: Linear | None


def resnet(
    depth=50,
    outputs=1000,
    *,
    block=None,
    widths=None,
    channels=3,
    stem=64,
    activation="relu",
    inner_activation=None,
    downsample_in_first_stage=False,
    downsample_in_bottleneck=False,
    key,
    dtype=float,
):
    """h ← f(h + norm(W₂ * f(norm(W₁ * h)))) in stages of such blocks; scores z = W mean(h) + b.

    Between the two convolutions of a "basic" block, or the three of a "bottleneck" block
    (1×1, 3×3, 1×1 on a quarter of the channels), lies the inner activation; where a block changes
    the number of channels or halves the image, its h is replaced by norm(V * h) with 1×1 windows.
    A 7×7 convolution and a 3×3 maximum, both of stride 2, come first; the first block of every
    stage but the first halves the image.

    The blocks' outputs are nodes named "stage1/block0", "stage1/block1", ..., the image after the
    first pooling "stem", the mean over its positions at the end "pooled", the scores "logits"; a
    block's convolutions lie in the scopes "stage1/block0/conv1", ..., "stage1/block0/shortcut".

    Args:
        depth: 18, 34, 50, 101 or 152, or the number of blocks of each stage.
        outputs: m, the number of classes; None for a model without scores, which gives "pooled".
        block: "basic" or "bottleneck"; that of the depth, else "bottleneck", if None.
        widths: the channels of each stage's output; if None 64, 128, 256, ..., and four times
            that for "bottleneck".
        channels: C, of the images.
        stem: the channels of the first convolution.
        activation: f, a function or a name in `fungrad.layers.activations`.
        inner_activation: the one inside the blocks; the same if None.
        downsample_in_first_stage: whether the first stage halves the image, too.
        downsample_in_bottleneck: whether a bottleneck's first convolution halves the image, not
            its second.
        key: a random key.
        dtype: of the parameters.

    Returns:
        (apply, params): apply(params, x[..., H, W, C]) -> z[..., m], by the running statistics;
        apply(params, x, train=True) -> (z, statistics) uses the batch's own, see `renewed`.
        params is a `ResNet`.

    Raises:
        ValueError: another depth or block, widths that are not one per stage or have no quarter,
            sizes that are no positive integers, an unknown activation (the message lists the
            names), or images of other channels.

    >>> from fungrad import models
    >>> apply, params = models.shapes("resnet", 50, 10)
    >>> jax.eval_shape(apply, params, jax.numpy.ones((2, 224, 224, 3))).shape
    (2, 10)

    Source: [he2016]; strides in the 3×3 convolution [goyal2017].
    """
    if isinstance(depth, int) and depth not in DEPTHS:
        raise ValueError(
            f"depth must be 18, 34, 50, 101, 152, or the blocks of each stage, got {depth}"
        )
    usual, stages = DEPTHS[depth] if isinstance(depth, int) else ("bottleneck", depth)
    block, stages = block or usual, positive("depth", *stages)
    if block not in REDUCTION:
        raise ValueError(f'block must be "basic" or "bottleneck", got {block!r}')
    inner = REDUCTION[block]
    if widths is None:
        widths = tuple(64 * inner * 2**stage for stage in range(len(stages)))
    widths, (channels, stem) = (
        positive("widths", *widths),
        positive("channels and stem", channels, stem),
    )
    if len(widths) != len(stages) or min(widths) < inner:
        raise ValueError(f"widths must be one per stage, {len(stages)}, ≥ {inner}, got {widths}")
    outputs = positive_or_none("outputs", outputs)
    inner_activation = activation if inner_activation is None else inner_activation
    f, f_inner = activation_of(activation), activation_of(inner_activation)
    whether("downsample_in_first_stage", downsample_in_first_stage)
    whether("downsample_in_bottleneck", downsample_in_bottleneck)

    keys = iter(jax.random.split(key, 2 + 4 * sum(stages)))

    def conv(size, n, m):
        return initial_conv_norm(next(keys), size, n, m, dtype=dtype)

    def residual(n, m, stride):
        shortcut = conv(1, n, m) if (n, stride) != (m, 1) else None
        if block == "basic":
            return Residual((conv(3, n, m), conv(3, m, m)), shortcut)
        return Residual((conv(1, n, m // 4), conv(3, m // 4, m // 4), conv(1, m // 4, m)), shortcut)

    entering = (stem, *widths)
    first_strides = (2 if downsample_in_first_stage else 1, *(2,) * (len(stages) - 1))
    params = ResNet(
        stem=conv(7, channels, stem),
        stages=tuple(
            (residual(n, m, stride), *(residual(m, m, 1) for _ in range(number - 1)))
            for number, n, m, stride in zip(stages, entering, widths, first_strides, strict=False)
        ),
        head=initial_head(next(keys), outputs, widths[-1], dtype=dtype),
    )

    def forward(params, x, train=False):
        norms = Normalizer(train)
        with jax.named_scope("stem"):
            x = in_format_of(params.stem.conv.W, x, (None, None, channels))
            x = f(norms.conv(x, params.stem, stride=2, padding=3))
            x = graph.name(layers.max_pool(x, 3, stride=2, padding=1), "stem")
        for s, stage in enumerate(params.stages, start=1):
            for number, part in enumerate(stage):
                stride = 1 if number else first_strides[s - 1]
                strides = _strides(block, stride, downsample_in_bottleneck)
                with jax.named_scope(label := f"stage{s}/block{number}"):
                    x = _residual(norms, x, part, strides, f_inner)
                    x = graph.name(f(x), label)
        x = graph.name(x.mean(axis=(-3, -2)), "pooled")
        if params.head is not None:
            x = graph.name(layers.linear(x, *params.head), "logits")
        return norms.result(x)

    config = {"depth": depth if isinstance(depth, int) else stages, "outputs": outputs}
    config |= {"block": block, "widths": widths, "channels": channels, "stem": stem}
    config |= {"activation": activation, "inner_activation": inner_activation}
    config |= {"downsample_in_first_stage": downsample_in_first_stage}
    config |= {"downsample_in_bottleneck": downsample_in_bottleneck}
    return Model(forward, name="resnet", **config), params


def _strides(block, stride, early):
    """The strides of a block's convolutions, in order, when the block's is `stride`."""
    if block == "basic":
        return stride, 1
    return (stride, 1, 1) if early else (1, stride, 1)


def _residual(norms, x, block, strides, activation):
    """x + norm(W₂ * f(norm(W₁ * x))), the x alone by way of the shortcut where there is one."""
    h = x
    for number, (part, stride) in enumerate(zip(block.layers, strides, strict=True), start=1):
        with jax.named_scope(f"conv{number}"):
            h = norms.conv(h, part, stride=stride, padding=part.conv.W.shape[0] // 2)
            h = activation(h) if number < len(block.layers) else h
    if block.shortcut is None:
        return h + x
    with jax.named_scope("shortcut"):
        return h + norms.conv(x, block.shortcut, stride=math.prod(strides))
