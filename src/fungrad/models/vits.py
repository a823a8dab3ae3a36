"""Transformers of image patches."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fungrad import graph, layers
from fungrad.models.model import (
    Linear,
    Model,
    Norm,
    activation_of,
    in_format_of,
    initial_head,
    initial_norm,
    positive,
    positive_or_none,
    whether,
)
from fungrad.models.transformers import Block, apply_block, initial_block


class ViT(NamedTuple):
    """The parameters of `vit`.

    Attributes:
        patch: `Linear`, its W [p, p, C, d]: the embedding of a patch.
        token: the class token, [d].
        place: P [T, d], T = 1 + the number of patches.
        entry: the norm before the blocks, or None.
        blocks: one `Block` after the other.
        norm: the norm after them.
        head: the scores' linear layer, or None.
    """

    patch: Linear
    token: jax.Array
    place: jax.Array
    entry: Norm | None
    blocks: tuple[Block, ...]
    norm: Norm
    head: Linear | None


def vit(
    image=(224, 224, 3),
    outputs=1000,
    *,
    patch=16,
    width=768,
    heads=12,
    blocks=12,
    hidden=None,
    activation="gelu",
    head_activation="identity",
    epsilon=1e-6,
    attention_bias=True,
    patch_bias=True,
    head_bias=True,
    entry_norm=False,
    key,
    dtype=float,
):
    """A transformer whose tokens are the patches of an image, and one for the class.

        h  = [c, E x₁, E x₂, ...] + P                 patches x_t in row-major order, class token c
        h  ← h + attention(norm(h))                   then, in each block
        h  ← h + W₂ f(W₁ norm(h) + b₁) + b₂
        z  = W norm(h₀) + b                           of the class token alone

    The tokens before the blocks are a node named "tokens", those after them "block0", "block1",
    ..., norm(h₀) is "pooled", the scores "logits"; the blocks' parts lie in the scopes
    "block0/attention", "block0/mlp", ..., all before them in "embedding".

    Args:
        image: (H, W, C) of one image.
        outputs: m, the number of classes; None for a model without scores, which gives "pooled".
        patch: p, the size of a patch, or (vertical, horizontal); pixels at the lower and right
            edges that fill none are left out.
        width: d, the features of a token.
        heads: the number of heads.
        blocks: the number of blocks.
        hidden: the units between W₁ and W₂; 4d if None.
        activation: f, a function or a name in `fungrad.layers.activations`.
        head_activation: applied to z, "tanh" where z is a pooled embedding.
        epsilon: ε of the norms.
        attention_bias: whether queries, keys and values have biases.
        patch_bias: whether E has one.
        head_bias: whether W has one.
        entry_norm: whether the tokens are normalised before the first block.
        key: a random key.
        dtype: of the parameters.

    Returns:
        (apply, params): apply(params, x[..., H, W, C]) -> z[..., m]; params is a `ViT`.

    Raises:
        ValueError: sizes that are no positive integers, a patch larger than the image, heads that
            do not divide the width, an unknown activation (the message lists the names), or
            images of another size.

    >>> from fungrad import models
    >>> apply, params = models.shapes("vit", (8, 12, 3), 5, patch=4, width=6, heads=2, blocks=1)
    >>> jax.eval_shape(apply, params, jnp.ones((2, 8, 12, 3))).shape, params.place.shape
    ((2, 5), (7, 6))

    Source: [dosovitskiy2021]; norms before the layers [xiong2020].
    """
    image = positive("image", *image)
    patch = positive("patch", *((patch, patch) if isinstance(patch, int) else patch))
    hidden = 4 * width if hidden is None else hidden
    sizes = {"width": width, "heads": heads, "blocks": blocks, "hidden": hidden}
    for name, size in sizes.items():
        positive(name, size)
    biases = {"attention_bias": attention_bias, "patch_bias": patch_bias, "head_bias": head_bias}
    for name, value in {**biases, "entry_norm": entry_norm}.items():
        whether(name, value)
    if len(image) != 3 or len(patch) != 2 or image[0] < patch[0] or image[1] < patch[1]:
        raise ValueError(
            f"image must be (H, W, C), and patch one or two sizes not above H and W, got image "
            f"{image} and patch {patch}"
        )
    if width % heads:
        raise ValueError(f"heads must divide width={width}, got {heads}")
    f, f_head = activation_of(activation), activation_of(head_activation)
    outputs = positive_or_none("outputs", outputs)

    keys = iter(jax.random.split(key, 4 + 6 * blocks))
    tokens = 1 + (image[0] // patch[0]) * (image[1] // patch[1])
    draw = jax.nn.initializers.he_normal(in_axis=(0, 1, 2))
    params = ViT(
        patch=Linear(
            draw(next(keys), (*patch, image[2], width), dtype),
            jnp.zeros(width, dtype) if patch_bias else None,
        ),
        token=0.1 * jax.random.normal(next(keys), (width,), dtype),
        place=0.1 * jax.random.normal(next(keys), (tokens, width), dtype),
        entry=initial_norm(width, dtype) if entry_norm else None,
        blocks=tuple(
            initial_block(keys, width, hidden, attention_bias=attention_bias, dtype=dtype)
            for _ in range(blocks)
        ),
        norm=initial_norm(width, dtype),
        head=initial_head(next(keys), outputs, width, bias=head_bias, dtype=dtype),
    )

    def forward(params, x, prefix="", output="logits"):
        with jax.named_scope(f"{prefix}embedding"):
            x = in_format_of(params.patch.W, x, image)
            h = layers.conv(x, *params.patch, stride=patch, padding="VALID")
            h = h.reshape(*h.shape[:-3], tokens - 1, width)
            token = jnp.broadcast_to(params.token, (*h.shape[:-2], 1, width))
            h = jnp.concatenate([token, h], axis=-2) + params.place
            if params.entry is not None:
                h = layers.layer_norm(h, *params.entry, epsilon=epsilon)
            h = graph.name(h, f"{prefix}tokens")
        for number, block in enumerate(params.blocks):
            with jax.named_scope(label := f"{prefix}block{number}"):
                h = apply_block(h, block, heads=heads, activation=f, epsilon=epsilon)
                h = graph.name(h, label)
        z = layers.layer_norm(h[..., 0, :], *params.norm, epsilon=epsilon)
        z = graph.name(z, f"{prefix}pooled")
        if params.head is None:
            return z
        return graph.name(f_head(layers.linear(z, *params.head)), output)

    config = {"image": image, "outputs": outputs, "patch": patch, **sizes}
    config |= {"activation": activation, "head_activation": head_activation, "epsilon": epsilon}
    return Model(forward, name="vit", **config, **biases, entry_norm=entry_norm), params
