"""Two towers that put pictures and captions into one space, and a generator of digits.

    J = mean over a batch of  CE(s z_n · t_m, same caption)  in both directions        two towers
    J = mean of  ‖x − decode(z)‖² / 2σ² + KL(N(μ, e^ν) ‖ N(0, 1))                        generator

with unit-norm embeddings z of pictures and t of captions, and z = μ + e^{ν/2} · noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import fungrad as fg
from experiments.guidance import captions
from fungrad import layers

WIDTH = 32  # of the space that the two towers share
LATENT = 8
SIGMA = 0.25  # what a pixel of the generator may be off by
Params = dict[str, Any]


# --- two towers ---------------------------------------------------------------------------------


def towers(key: jax.Array) -> Params:
    """The first parameters: a convolutional network, and word vectors for each place."""
    looking, words, scores = jax.random.split(key, 3)
    _, image = fg.models.cnn((captions.SIDE, captions.SIDE, 1), (24, 48), WIDTH, key=looking)
    shape = (captions.LENGTH * len(captions.WORDS), WIDTH)
    _, text = fg.models.mlp((WIDTH, 64, WIDTH), key=scores)
    return {
        "image": image,
        "words": jax.random.normal(words, shape) / 2,
        "text": text,
        "log_scale": jnp.log(10.0),
    }


def _look(width: int = WIDTH):
    return fg.models.cnn((captions.SIDE, captions.SIDE, 1), (24, 48), width, key=jax.random.key(0))


LOOK = _look()[0]
READ = fg.models.mlp((WIDTH, 64, WIDTH), key=jax.random.key(0))[0]


def embed_images(params: Params, images: jax.Array) -> jax.Array:
    """z [N, 32], of unit norm."""
    return _unit(LOOK(params["image"], images))


def embed_captions(params: Params, tokens: jax.Array) -> jax.Array:
    """t [M, 32], of unit norm: the sum of the word vectors, through a small network."""
    place = jnp.arange(captions.LENGTH, dtype=tokens.dtype) * len(captions.WORDS)
    words = params["words"][tokens + place]
    total = jnp.sum(jnp.where((tokens > 0)[..., None], words, 0.0), axis=-2)
    return _unit(READ(params["text"], total))


def contrast(params: Params, batch: captions.Pairs) -> jax.Array:
    """Which caption belongs to which picture? Equal captions of a batch are all right."""
    z, t = embed_images(params, batch.images), embed_captions(params, batch.tokens)
    scores = jnp.exp(params["log_scale"]) * z @ t.T
    same = jnp.all(batch.tokens[:, None] == batch.tokens, axis=-1).astype(scores.dtype)
    right = same / same.sum(axis=1, keepdims=True)
    both = fg.losses.cross_entropy(scores, right) + fg.losses.cross_entropy(scores.T, right)
    return both.mean() / 2


def _unit(z: jax.Array) -> jax.Array:
    return z / jnp.sqrt(jnp.sum(jnp.square(z), axis=-1, keepdims=True) + 1e-12)


# --- the generator ------------------------------------------------------------------------------

PIXELS = captions.SIDE**2
ENCODE = fg.models.mlp((PIXELS, 128, 2 * LATENT), key=jax.random.key(0))[0]
DECODE = fg.models.mlp((LATENT, 128, PIXELS), key=jax.random.key(0))[0]


def autoencoder(key: jax.Array) -> Params:
    """The first parameters of a variational autoencoder."""
    first, second = jax.random.split(key)
    return {
        "encode": fg.models.mlp((PIXELS, 128, 2 * LATENT), key=first)[1],
        "decode": fg.models.mlp((LATENT, 128, PIXELS), key=second)[1],
    }


def decode(params: Params, z: jax.Array) -> jax.Array:
    """Pictures [N, 16, 16, 1] of latents [N, 8]."""
    x = layers.sigmoid(DECODE(params["decode"], z))
    return x.reshape(*z.shape[:-1], captions.SIDE, captions.SIDE, 1)


def evidence(params: Params, images: jax.Array, key: jax.Array) -> jax.Array:
    """The negative evidence lower bound, per picture, up to a constant."""
    mean, log_variance = jnp.split(ENCODE(params["encode"], images.reshape(-1, PIXELS)), 2, axis=-1)
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    z = mean + jnp.exp(log_variance / 2) * noise
    error = jnp.square(images - decode(params, z)).sum((1, 2, 3)) / (2 * SIGMA**2)
    information = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance).sum(-1)
    return jnp.mean(error + information)


# --- training -----------------------------------------------------------------------------------


def train(cost: Callable[..., jax.Array], params: Params, examples: Any, steps: int, key: Any):
    """The parameters after so many steps of Adam."""
    size = min(128, len(jax.tree.leaves(examples)[0]))
    return fg.descent.minimize(
        cost,
        params,
        examples,
        optimizer=optax.adam(0.002),
        steps=steps,
        batch_size=size,
        key=key,
        progress=True,
    ).params


def retrieval(params: Params, examples: captions.Pairs) -> float:
    """How often the nearest of all captions is the picture's own."""
    every = jnp.unique(examples.tokens, axis=0)
    z, t = embed_images(params, examples.images), embed_captions(params, every)
    nearest = every[jnp.argmax(z @ t.T, axis=1)]
    return float(jnp.mean(jnp.all(nearest == examples.tokens, axis=-1)))
