"""Which pixels made the score? Six answers, as maps of the pixels, by one backward pass or many.

A model gives scores y[N, C] of images x[N, H, W, c]; a map m[N, H, W] belongs to one class each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

import fungrad as fg

Model = Callable[[jax.Array], jax.Array]
Apply = Callable[[Any, jax.Array], jax.Array]


@dataclass(frozen=True)
class Asked:
    """What is explained: y[n, labels[n]] of the images x.

    Attributes:
        model: x[N, H, W, c] -> scores y[N, C].
        x: the images, in [0, 1].
        labels: [N], a class each.
    """

    model: Model
    x: jax.Array
    labels: jax.Array

    def score(self, x: jax.Array) -> jax.Array:
        """Σ_n y_n of the classes asked for: its gradient is each image's own."""
        return self.cotangent(self.model(x)).sum()

    def cotangent(self, scores: jax.Array) -> jax.Array:
        """The scores of the classes asked for, all others zero."""
        return scores * jax.nn.one_hot(self.labels, scores.shape[-1], dtype=scores.dtype)


Method = Callable[[Asked, jax.Array], jax.Array]


def saliency(asked: Asked, key: jax.Array) -> jax.Array:
    """|∂y/∂x|, the largest of the colours [simonyan2014]."""
    return _largest(fg.grad(asked.score)(asked.x))


def guided(asked: Asked, key: jax.Array) -> jax.Array:
    """The same with ReLU's rule of [springenberg2015]: only what is positive goes back."""
    return _largest(fg.grad(asked.score, rules=fg.rulebooks.guided_relu)(asked.x))


def smooth(asked: Asked, key: jax.Array) -> jax.Array:
    """|mean of ∂y/∂x over images with noise| [smilkov2017]."""
    gradient = fg.smooth_gradient(asked.score, noise=0.15, samples=24, key=key)
    return _largest(gradient(asked.x))


def integrated(asked: Asked, key: jax.Array) -> jax.Array:
    """(x − x') ⊙ mean of ∂y/∂x between a grey image x' and x [sundararajan2017]."""
    grey = jnp.full_like(asked.x, 0.5)
    return fg.integrated_gradients(asked.score, baseline=grey, steps=24)(asked.x).sum(axis=-1)


def times_input(asked: Asked, key: jax.Array) -> jax.Array:
    """x ⊙ ∂y/∂x."""
    return (asked.x * fg.grad(asked.score)(asked.x)).sum(axis=-1)


def relevance(asked: Asked, key: jax.Array) -> jax.Array:
    """Layer-wise relevance propagation: z-box at the pixels, γ in convolutions, ε elsewhere."""
    book = fg.rulebooks.lrp.epsilon_gamma_box(0.0, 1.0)
    scores, pullback = fg.vjp(asked.model, asked.x, rules=book)
    return pullback(asked.cotangent(scores))[0].sum(axis=-1)


def _largest(gradient: jax.Array) -> jax.Array:
    return jnp.abs(gradient).max(axis=-1)


METHODS: dict[str, Method] = {
    "saliency": saliency,
    "guided": guided,
    "SmoothGrad": smooth,
    "gradient × input": times_input,
    "integrated": integrated,
    "LRP": relevance,
}
SIGNED = ("gradient × input", "integrated", "LRP")  # the others say how much, not which way


def maps(
    apply: Apply, params: Any, x: jax.Array, labels: jax.Array, key: jax.Array
) -> dict[str, jax.Array]:
    """{method: m[N, H, W]} of the model y = apply(params, x)."""
    return {
        name: _compiled(apply, method)(params, x, labels, key) for name, method in METHODS.items()
    }


@cache
def _compiled(apply: Apply, method: Method) -> Any:
    """The parameters are an argument, so that other ones need no other program."""

    def program(params: Any, x: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
        return method(Asked(partial(apply, params), x, labels), key)

    return jax.jit(program)
