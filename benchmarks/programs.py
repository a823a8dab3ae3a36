"""What is measured: the losses of models, as functions of parameters and a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import fungrad as fg

WIDTH, DEPTH, BATCH, TOKENS, HEADS = 64, 12, 32, 16, 4
FORMAT = jnp.float32


class Program(NamedTuple):
    """A loss with its arguments; the first one is differentiated."""

    loss: Callable[..., Any]
    arguments: tuple[Any, ...]


def _scores(apply, params, x, labels):
    return fg.losses.cross_entropy(apply(params, x), labels).mean()


def _classifier(builder: Callable[..., Any], *sizes: Any, inputs: tuple[int, ...], **options: Any):
    """A model of `fungrad.models` under the cross entropy of ten classes."""
    apply, params = builder(*sizes, key=jax.random.key(0), dtype=FORMAT, **options)
    x = jax.random.normal(jax.random.key(1), (BATCH, *inputs), FORMAT)
    labels = jnp.arange(BATCH) % 10
    return Program(partial(_scores, apply), (params, x, labels))


# --- Deep models, unrolled and scanned ------------------------------------------------------


def _layer(h, w):
    return jnp.tanh(fg.layers.linear(h, w))


def _block(h, weights):
    norm = jnp.ones(WIDTH, FORMAT), jnp.zeros(WIDTH, FORMAT)
    linear = [(w, jnp.zeros(w.shape[0], FORMAT)) for w in weights["attention"]]
    inner = fg.layers.layer_norm(h, *norm)
    h = h + fg.layers.multi_head_attention(inner, *linear, heads=HEADS)
    inner = jax.nn.gelu(fg.layers.linear(fg.layers.layer_norm(h, *norm), weights["enter"]))
    return h + fg.layers.linear(inner, weights["leave"])


def _unrolled(step, weights, h):
    for i in range(DEPTH):
        h = step(h, jax.tree.map(lambda w, i=i: w[i], weights))
    return jnp.mean(h**2)


def _scanned(step, weights, h):
    h, _ = jax.lax.scan(lambda h, w: (step(h, w), None), h, weights)
    return jnp.mean(h**2)


SQUARE = jax.ShapeDtypeStruct((DEPTH, WIDTH, WIDTH), FORMAT)
BLOCK = {
    "attention": [SQUARE] * 4,
    "enter": SQUARE.update(shape=(DEPTH, 2 * WIDTH, WIDTH)),
    "leave": SQUARE.update(shape=(DEPTH, WIDTH, 2 * WIDTH)),
}


def _deep(over: Callable[..., Any], step: Callable[..., Any], weights: Any, *tokens: int):
    draw = jax.nn.initializers.he_normal(in_axis=-1, out_axis=-2, batch_axis=0)
    weights = jax.tree.map(lambda w: draw(jax.random.key(0), w.shape, w.dtype), weights)
    h = jax.random.normal(jax.random.key(1), (BATCH, *tokens, WIDTH), FORMAT)
    return Program(partial(over, step), (weights, h))


PROGRAMS: dict[str, Callable[[], Program]] = {
    "mlp": lambda: _classifier(fg.models.mlp, (64, 128, 128, 10), inputs=(64,)),
    "cnn": lambda: _classifier(fg.models.cnn, inputs=(8, 8, 1)),
    "transformer": lambda: _classifier(
        fg.models.attention, 64, 10, tokens=8, blocks=4, inputs=(64,)
    ),
    "mlp, 12 layers": lambda: _deep(_unrolled, _layer, SQUARE),
    "mlp, 12 layers, scanned": lambda: _deep(_scanned, _layer, SQUARE),
    "transformer, 12 blocks": lambda: _deep(_unrolled, _block, BLOCK, TOKENS),
    "transformer, 12 blocks, scanned": lambda: _deep(_scanned, _block, BLOCK, TOKENS),
}
"""What builds each program, by name."""
