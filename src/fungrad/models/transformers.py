"""A small transformer that classifies columns of numbers."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fungrad import graph, layers
from fungrad.models.model import Linear, Model, activation_of, initial_linear, positive


class Norm(NamedTuple):
    """The parameters of `fungrad.layers.layer_norm`."""

    scale: jax.Array
    shift: jax.Array


class Block(NamedTuple):
    """The parameters of one block.

    Attributes:
        norms: before the attention, and before the two linear layers.
        attention: query, key, value and output of `fungrad.layers.multi_head_attention`.
        enter: the first linear layer, [2d, d].
        leave: the second, [d, 2d].
    """

    norms: tuple[Norm, Norm]
    attention: tuple[Linear, Linear, Linear, Linear]
    enter: Linear
    leave: Linear


class Transformer(NamedTuple):
    """The parameters of the whole model.

    Attributes:
        embedding: E [T, d, n / T], a matrix for each token.
        place: P [T, d].
        blocks: one `Block` after the other.
        norm: before the scores.
        output: the scores' linear layer, [m, d].
    """

    embedding: jax.Array
    place: jax.Array
    blocks: tuple[Block, ...]
    norm: Norm
    output: Linear


def attention(
    inputs,
    outputs,
    *,
    tokens=None,
    width=32,
    heads=4,
    blocks=1,
    activation="gelu",
    key,
    dtype=float,
):
    """A transformer whose tokens are the features, or equal parts of them.

        h_t = E_t x_t + P_t                                  token t of x, one matrix per token
        h  ← h + attention(norm(h))                          then, in each block
        h  ← h + W₂ f(W₁ norm(h) + b₁) + b₂
        z  = W norm(mean_t h_t) + b

    The nodes after the blocks are named "h1", "h2", ..., the scores "logits"; the blocks' parts
    lie in the scopes "block0/attention", "block0/mlp", "block1/attention", ...

    Args:
        inputs: n, the number of features.
        outputs: m, the number of classes.
        tokens: T, into how many tokens the features are cut; n if None, one feature each.
        width: d, the features of a token.
        heads: the number of heads.
        blocks: the number of blocks.
        activation: f, a function or a name in `fungrad.layers.activations`.
        key: a random key.
        dtype: of the parameters.

    Returns:
        (apply, params): apply(params, x[..., n]) -> z[..., m]; params is a `Transformer`.

    Raises:
        ValueError: sizes that are no positive integers, tokens that do not divide the inputs,
            heads that do not divide the width, or an unknown activation (the message lists the
            names).

    >>> apply, params = attention(64, 10, tokens=8, key=jax.random.key(0))
    >>> apply(params, jnp.ones((5, 64))).shape
    (5, 10)

    Source: [vaswani2017]; norms before the layers [xiong2020]; features as tokens [gorishniy2021].
    """
    tokens = inputs if tokens is None else tokens
    sizes = {"inputs": inputs, "outputs": outputs, "tokens": tokens}
    sizes |= {"width": width, "heads": heads, "blocks": blocks}
    for name, size in sizes.items():
        positive(name, size)
    for whole, parts in (("inputs", "tokens"), ("width", "heads")):
        if sizes[whole] % sizes[parts]:
            raise ValueError(f"{parts} must divide {whole}={sizes[whole]}, got {sizes[parts]}")
    f = activation_of(activation)

    keys = iter(jax.random.split(key, 3 + 6 * blocks))
    draw = jax.nn.initializers.he_normal(in_axis=-1, out_axis=-2, batch_axis=0)

    def linear(m, n):
        return initial_linear(next(keys), m, n, dtype=dtype)

    def norm():
        return Norm(jnp.ones(width, dtype), jnp.zeros(width, dtype))

    def block():
        query, key, value, output = (linear(width, width) for _ in range(4))
        enter, leave = linear(2 * width, width), linear(width, 2 * width)
        return Block((norm(), norm()), (query, key, value, output), enter, leave)

    params = Transformer(
        embedding=draw(next(keys), (tokens, width, inputs // tokens), dtype),
        place=0.1 * jax.random.normal(next(keys), (tokens, width), dtype),
        blocks=tuple(block() for _ in range(blocks)),
        norm=norm(),
        output=linear(outputs, width),
    )

    def forward(params, x):
        if x.shape[-1:] != (inputs,):
            raise ValueError(f"x must be [..., n] with n = {inputs} features, got {x.shape}")
        parts = x.reshape(*x.shape[:-1], tokens, inputs // tokens)
        h = jnp.einsum("...tc,tdc->...td", parts, params.embedding) + params.place
        for number, block in enumerate(params.blocks):
            with jax.named_scope(f"block{number}"):
                h = graph.name(_block(h, block, heads, f), f"h{number + 1}")
        mean = layers.layer_norm(h.mean(axis=-2), *params.norm)
        return graph.name(layers.linear(mean, *params.output), "logits")

    return Model(forward, name="attention", **sizes, activation=activation), params


def _block(h, block, heads, f):
    first, second = block.norms
    with jax.named_scope("attention"):
        h = h + layers.multi_head_attention(
            layers.layer_norm(h, *first), *block.attention, heads=heads
        )
    with jax.named_scope("mlp"):
        inner = f(layers.linear(layers.layer_norm(h, *second), *block.enter))
        return h + layers.linear(inner, *block.leave)
