"""Multilayer perceptrons and transformers, their layers unrolled or scanned."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import fungrad as fg
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

# ---- perceptrons ---------------------------------------------------------------------------------


def mlp(*, depth: int, width: int, batch: int, scanned: bool = False) -> Program:
    """A perceptron of `depth` equal layers, regressed on a target."""
    draw = generator()
    weights = matrix(draw, width, width, depth), np.zeros((depth, width), FORMAT)
    params = weights if scanned else unstacked(weights, depth)
    x, y = normal(draw, batch, width), normal(draw, batch, width)

    def layer(h, params):
        return jax.nn.gelu(fg.layers.linear(h, *params))

    def loss(wrap: Wrap):
        def of(params, x, y):
            return jnp.mean((_through(wrap, layer, params, x) - y) ** 2)

        return of

    return Program(loss, (params, x, y), scanned=scanned)


def _through(wrap: Wrap, layer: Any, params: Any, h: Any) -> Any:
    """h through the layers: one after the other for a list, in a scan for stacked parameters."""
    if isinstance(params, list):
        for one in params:
            h = wrap(layer)(h, one)
        return h
    body = wrap(lambda h, one: (layer(h, one), None), prevent_cse=False)
    return lax.scan(body, h, params)[0]


# ---- transformers --------------------------------------------------------------------------------

NAMES = ("attended", "hidden")


def blocks(draw: np.random.Generator, width: int, depth: int) -> dict[str, Any]:
    """The parameters of `depth` transformer blocks, stacked."""
    ones, zeros = np.ones((depth, width), FORMAT), np.zeros((depth, width), FORMAT)
    return {
        "norms": [(ones, zeros), (ones, zeros)],
        "attention": [(matrix(draw, width, width, depth), zeros) for _ in range(4)],
        "enter": (matrix(draw, 4 * width, width, depth), np.zeros((depth, 4 * width), FORMAT)),
        "leave": (matrix(draw, width, 4 * width, depth), zeros),
    }


def block(h, params, *, heads: int, causal: bool):
    """Attention and a perceptron, each after a layer norm and beside a short cut."""
    first, second = params["norms"]
    inner = fg.layers.layer_norm(h, *first)
    attended = fg.layers.multi_head_attention(
        inner, *params["attention"], heads=heads, causal=causal
    )
    h = h + checkpoint_name(attended, "attended")
    hidden = fg.layers.linear(fg.layers.layer_norm(h, *second), *params["enter"])
    hidden = checkpoint_name(hidden, "hidden")
    return h + fg.layers.linear(jax.nn.gelu(hidden), *params["leave"])


def transformer(
    *, depth: int, width: int, tokens: int, batch: int, heads: int = 4, scanned: bool = False
) -> Program:
    """A language model of 256 characters, asked for each next one."""
    draw = generator()
    stacked = blocks(draw, width, depth)
    params = {
        "embedding": normal(draw, 256, width),
        "place": normal(draw, tokens, width, scale=0.1),
        "blocks": stacked if scanned else unstacked(stacked, depth),
        "norm": (np.ones(width, FORMAT), np.zeros(width, FORMAT)),
        "output": matrix(draw, 256, width),
    }
    text = draw.integers(256, size=(batch, tokens + 1), dtype=np.int32)

    def layer(h, params):
        return block(h, params, heads=heads, causal=True)

    def loss(wrap: Wrap):
        def of(params, text):
            h = fg.layers.embedding(text[:, :-1], params["embedding"]) + params["place"]
            h = _through(wrap, layer, params["blocks"], h)
            logits = fg.layers.linear(fg.layers.layer_norm(h, *params["norm"]), params["output"])
            return fg.losses.cross_entropy(logits, text[:, 1:]).mean()

        return of

    return Program(loss, (params, text), scanned=scanned, names=NAMES)


SMALL = dict(depth=2, width=16, batch=2)
LITTLE, LARGE = (
    dict(depth=6, width=128, tokens=64, batch=8),
    dict(depth=8, width=192, tokens=128, batch=4, heads=6),
)
TINY = dict(**SMALL, tokens=4)

PROGRAMS = {
    "mlp": Sized(mlp, dict(depth=24, width=384, batch=256), SMALL),
    "mlp-scanned": Sized(
        mlp, dict(depth=24, width=384, batch=256, scanned=True), dict(**SMALL, scanned=True)
    ),
    "transformer": Sized(transformer, LITTLE, TINY),
    "transformer-large": Sized(transformer, LARGE, TINY),
    "transformer-scanned": Sized(
        transformer, dict(**LITTLE, scanned=True), dict(**TINY, scanned=True)
    ),
    "transformer-scanned-large": Sized(
        transformer, dict(**LARGE, scanned=True), dict(**TINY, scanned=True)
    ),
}
