"""Two towers, one for images and one for texts, whose embeddings are compared."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fungrad import graph, layers
from fungrad._arguments import describe
from fungrad.models.model import (
    Linear,
    Model,
    Norm,
    activation_of,
    initial_head,
    initial_norm,
    positive,
    positive_or_none,
)
from fungrad.models.transformers import Block, apply_block, initial_block
from fungrad.models.vits import ViT, vit


class TextTower(NamedTuple):
    """The parameters of `text_tower`.

    Attributes:
        embedding: [v, d], a row for each token.
        place: P [T, d].
        blocks: one `Block` after the other.
        norm: the norm after them.
        head: the linear layer of the embedding, without bias, or None.
    """

    embedding: jax.Array
    place: jax.Array
    blocks: tuple[Block, ...]
    norm: Norm
    head: Linear | None


class CLIP(NamedTuple):
    """The parameters of `clip`.

    Attributes:
        image: `ViT`.
        text: `TextTower`.
        logit_scale: [], the logarithm of what multiplies the cosines.
    """

    image: ViT
    text: TextTower
    logit_scale: jax.Array


class Similarity(NamedTuple):
    """What `clip` gives; a field that was not asked for is None.

    Attributes:
        image: [N, m], unit-norm embeddings of the images.
        text: [M, m], unit-norm embeddings of the texts.
        logits: [N, M], s times the cosine of each image with each text.
    """

    image: jax.Array | None
    text: jax.Array | None
    logits: jax.Array | None


def text_tower(
    vocabulary=49408,
    outputs=512,
    *,
    positions=77,
    end=49407,
    width=512,
    heads=8,
    blocks=12,
    hidden=None,
    activation="quick_gelu",
    epsilon=1e-5,
    key,
    dtype=float,
):
    """A transformer of tokens that look back; the one at the end of the text stands for it.

        h  = E[token] + P                             then blocks as in `vit`, attention causal
        z  = W norm(h_e)                              e: where the text ends

    The tokens before the blocks are a node named "tokens", those after them "block0", "block1",
    ..., norm(h_e) is "pooled", z "embedding".

    Args:
        vocabulary: v, the number of tokens that there are.
        outputs: m; None for a model without W, which gives "pooled".
        positions: T, the largest number of tokens of a text.
        end: the id of the end-of-text token: e is its first place, or 0 where it is missing. None:
            e is the first place of the largest id.
        width, heads, blocks, hidden, activation, epsilon, key, dtype: those of `vit`.

    Returns:
        (apply, params): apply(params, tokens[..., T']) -> z[..., m], T' ≤ T; params is a
        `TextTower`.

    Raises:
        TypeError: tokens that are no integers.
        ValueError: sizes that are no positive integers, heads that do not divide the width, an
            unknown activation, tokens outside the vocabulary, or more of them than T.

    >>> from fungrad import models
    >>> apply, params = models.shapes("text_tower")
    >>> jax.eval_shape(apply, params, jnp.ones((2, 77), int)).shape
    (2, 512)

    Source: [radford2021].
    """
    hidden = 4 * width if hidden is None else hidden
    sizes = {"positions": positions, "width": width, "heads": heads}
    sizes |= {"blocks": blocks, "hidden": hidden}
    for name, size in {"vocabulary": vocabulary, **sizes}.items():
        positive(name, size)
    if width % heads:
        raise ValueError(f"heads must divide width={width}, got {heads}")
    f, outputs = activation_of(activation), positive_or_none("outputs", outputs)

    keys = iter(jax.random.split(key, 3 + 6 * blocks))
    params = TextTower(
        embedding=jax.random.normal(next(keys), (vocabulary, width), dtype),
        place=0.1 * jax.random.normal(next(keys), (positions, width), dtype),
        blocks=tuple(initial_block(keys, width, hidden, dtype=dtype) for _ in range(blocks)),
        norm=initial_norm(width, dtype),
        head=initial_head(next(keys), outputs, width, bias=False, dtype=dtype),
    )

    def forward(params, tokens, prefix="", output="embedding"):
        given, tokens = tokens, jnp.asarray(tokens)
        if tokens.ndim < 1 or not 0 < tokens.shape[-1] <= positions:
            raise ValueError(
                f"tokens must be [..., T] with 1 ≤ T ≤ {positions}, got {describe(given)}"
            )
        with jax.named_scope(f"{prefix}embedding"):
            h = layers.embedding(given, params.embedding) + params.place[: tokens.shape[-1]]
            h = graph.name(h, f"{prefix}tokens")
        for number, block in enumerate(params.blocks):
            with jax.named_scope(label := f"{prefix}block{number}"):
                h = apply_block(h, block, heads=heads, activation=f, epsilon=epsilon, causal=True)
                h = graph.name(h, label)
        place = (tokens if end is None else tokens == end).argmax(axis=-1)
        h = jnp.take_along_axis(h, place[..., None, None], axis=-2)[..., 0, :]
        z = graph.name(layers.layer_norm(h, *params.norm, epsilon=epsilon), f"{prefix}pooled")
        return z if params.head is None else graph.name(layers.linear(z, *params.head), output)

    config = {"vocabulary": vocabulary, "outputs": outputs, "end": end, **sizes}
    config |= {"activation": activation, "epsilon": epsilon}
    return Model(forward, name="text_tower", **config), params


def clip(outputs=512, *, image=None, text=None, logit_scale=2.6592, key, dtype=float):
    """Images and texts in one space: s cos(z_image, z_text), s = exp(logit_scale).

    The image's tower is a `vit`, by default of 32×32 patches, a norm before its blocks and no
    biases outside of them; the text's is a `text_tower`. Their nodes and scopes begin with "image/"
    and "text/": "image/block0", "text/pooled", ...; the embeddings before they are normalised are
    "image/embedding" and "text/embedding", of unit norm "image" and "text", the scores "logits".

    Args:
        outputs: m, the size of the embeddings.
        image: options of `vit` that differ from those of the smallest published model.
        text: options of `text_tower` that differ, the vocabulary included.
        logit_scale: the first value of log s; log(1 / 0.07) by default.
        key: a random key.
        dtype: of the parameters.

    Returns:
        (apply, params): apply(params, images[N, H, W, C], tokens[M, T]) -> `Similarity`; either
        one may be None. params is a `CLIP`.

    Raises:
        ValueError: what `vit` and `text_tower` refuse, or neither images nor tokens.

    >>> from fungrad import models
    >>> apply, params = models.shapes("clip")
    >>> images, tokens = jnp.ones((3, 224, 224, 3)), jnp.ones((2, 77), int)
    >>> found = jax.eval_shape(apply, params, images, tokens)
    >>> found.image.shape, found.text.shape, found.logits.shape
    ((3, 512), (2, 512), (3, 2))
    >>> jax.eval_shape(apply, params, None, tokens).logits is None
    True

    Source: [radford2021].
    """
    usual = {"patch": 32, "activation": "quick_gelu", "epsilon": 1e-5, "entry_norm": True}
    usual |= {"patch_bias": False, "head_bias": False}
    of_image, of_text = jax.random.split(key)
    look, looking = vit(**{**usual, **(image or {}), "outputs": outputs}, key=of_image, dtype=dtype)
    read, reading = text_tower(**{**(text or {}), "outputs": outputs}, key=of_text, dtype=dtype)
    params = CLIP(looking, reading, jnp.asarray(logit_scale, dtype))

    def forward(params, images=None, tokens=None):
        if images is None and tokens is None:
            raise ValueError("images or tokens must be given, got None for both")
        image, text, logits = None, None, None
        if images is not None:
            image = look(params.image, images, prefix="image/", output="image/embedding")
            image = graph.name(_unit(image), "image")
        if tokens is not None:
            text = read(params.text, tokens, prefix="text/", output="text/embedding")
            text = graph.name(_unit(text), "text")
        if image is not None and text is not None:
            cosines = jnp.einsum("...nd,...md->...nm", image, text)
            logits = graph.name(jnp.exp(params.logit_scale) * cosines, "logits")
        return Similarity(image, text, logits)

    towers = {"image": look.config, "text": read.config}
    for config in towers.values():
        del config["name"], config["outputs"]
    return Model(forward, name="clip", outputs=outputs, **towers, logit_scale=logit_scale), params


def _unit(z):
    return z / jnp.linalg.norm(z, axis=-1, keepdims=True)
