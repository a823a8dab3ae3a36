"""Blocks of attention and linear layers, and a small transformer of columns of numbers."""

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
    initial_linear,
    initial_norm,
    positive,
)


class Block(NamedTuple):
    """The parameters of one block.

    Attributes:
        norms: before the attention, and before the two linear layers.
        attention: query, key, value and output of `fungrad.layers.multi_head_attention`.
        enter: the first linear layer, [e, d]; e = 2d in `attention`, 4d in larger models.
        leave: the second, [d, e].
    """

    norms: tuple[Norm, Norm]
    attention: tuple[Linear, Linear, Linear, Linear]
    enter: Linear
    leave: Linear


def initial_block(keys, width, hidden, *, attention_bias=True, dtype=float):
    """A `Block` of d = width and e = hidden; it takes six keys of the iterator."""

    def linear(m, n, bias=True):
        return initial_linear(next(keys), m, n, bias=bias, dtype=dtype)

    query, look, value = (linear(width, width, attention_bias) for _ in range(3))
    return Block(
        norms=(initial_norm(width, dtype), initial_norm(width, dtype)),
        attention=(query, look, value, linear(width, width)),
        enter=linear(hidden, width),
        leave=linear(width, hidden),
    )


def apply_block(h, block, *, heads, activation, epsilon=1e-5, causal=False):
    """h + attention(norm(h)), then h + W₂ f(W₁ norm(h) + b₁) + b₂, for h [..., T, d].

    The two parts lie in the scopes "attention" and "mlp".

    Source: [vaswani2017]; norms before the layers [xiong2020].
    """
    first, second = block.norms
    with jax.named_scope("attention"):
        normal = layers.layer_norm(h, *first, epsilon=epsilon)
        h = h + layers.multi_head_attention(normal, *block.attention, heads=heads, causal=causal)
    with jax.named_scope("mlp"):
        normal = layers.layer_norm(h, *second, epsilon=epsilon)
        return h + layers.linear(activation(layers.linear(normal, *block.enter)), *block.leave)


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

    params = Transformer(
        embedding=draw(next(keys), (tokens, width, inputs // tokens), dtype),
        place=0.1 * jax.random.normal(next(keys), (tokens, width), dtype),
        blocks=tuple(initial_block(keys, width, 2 * width, dtype=dtype) for _ in range(blocks)),
        norm=initial_norm(width, dtype),
        output=initial_linear(next(keys), outputs, width, dtype=dtype),
    )

    def forward(params, x):
        if x.shape[-1:] != (inputs,):
            raise ValueError(f"x must be [..., n] with n = {inputs} features, got {x.shape}")
        parts = x.reshape(*x.shape[:-1], tokens, inputs // tokens)
        h = jnp.einsum("...tc,tdc->...td", parts, params.embedding) + params.place
        for number, block in enumerate(params.blocks):
            with jax.named_scope(f"block{number}"):
                h = graph.name(apply_block(h, block, heads=heads, activation=f), f"h{number + 1}")
        mean = layers.layer_norm(h.mean(axis=-2), *params.norm)
        return graph.name(layers.linear(mean, *params.output), "logits")

    return Model(forward, name="attention", **sizes, activation=activation), params
