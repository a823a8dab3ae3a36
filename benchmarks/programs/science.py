"""Models of the sciences: graphs, operators between functions, Gaussian processes; and one line."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import cho_solve

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


def graph_network(*, nodes: int, edges: int, width: int, depth: int) -> Program:
    """Messages along the edges of a graph, summed at the nodes, in several rounds."""
    draw = generator()
    stacked = {
        "message": matrix(draw, width, 2 * width, depth),
        "inner": matrix(draw, width, width, depth),
        "update": matrix(draw, width, 2 * width, depth),
    }
    h, y = normal(draw, nodes, width), normal(draw, nodes, width)
    senders, receivers = draw.integers(nodes, size=(2, edges), dtype=np.int32)

    def exchange(h, params, senders, receivers):
        pairs = jnp.concatenate([h[senders], h[receivers]], axis=-1)
        inner = jax.nn.silu(fg.layers.linear(pairs, params["message"]))
        messages = fg.layers.linear(inner, params["inner"])
        heard = jax.ops.segment_sum(messages, receivers, num_segments=nodes)
        both = jnp.concatenate([h, heard], axis=-1)
        return fg.layers.layer_norm(h + jax.nn.silu(fg.layers.linear(both, params["update"])))

    def loss(wrap: Wrap):
        def of(params, h, y, senders, receivers):
            for one in params:
                h = wrap(exchange)(h, one, senders, receivers)
            return jnp.mean((h - y) ** 2)

        return of

    return Program(loss, (unstacked(stacked, depth), h, y, senders, receivers))


def fourier_operator(*, side: int, width: int, modes: int, depth: int, batch: int) -> Program:
    """A Fourier neural operator on a periodic square: each layer mixes the lowest modes."""
    draw = generator()
    scale = 1 / width
    stacked = {
        "real": normal(draw, depth, 2 * modes, modes, width, width, scale=scale),
        "imaginary": normal(draw, depth, 2 * modes, modes, width, width, scale=scale),
        "local": matrix(draw, width, width, depth),
    }
    params = {
        "enter": matrix(draw, width, 3),
        "layers": unstacked(stacked, depth),
        "leave": matrix(draw, 1, width),
    }
    x, y = normal(draw, batch, side, side, 3), normal(draw, batch, side, side, 1)

    def layer(h, params):
        spectrum = jnp.fft.rfft2(h, axes=(1, 2))
        low = jnp.concatenate([spectrum[:, :modes, :modes], spectrum[:, -modes:, :modes]], axis=1)
        weights = lax.complex(params["real"], params["imaginary"])
        mixed = jnp.einsum("bxyi,xyio->bxyo", low, weights)
        full = jnp.zeros_like(spectrum)
        full = full.at[:, :modes, :modes].set(mixed[:, :modes])
        full = full.at[:, -modes:, :modes].set(mixed[:, modes:])
        global_ = jnp.fft.irfft2(full, s=(side, side), axes=(1, 2))
        return jax.nn.gelu(global_ + fg.layers.linear(h, params["local"]))

    def loss(wrap: Wrap):
        def of(params, x, y):
            h = fg.layers.linear(x, params["enter"])
            for one in params["layers"]:
                h = wrap(layer)(h, one)
            return jnp.mean((fg.layers.linear(h, params["leave"]) - y) ** 2)

        return of

    return Program(loss, (params, x, y))


def gaussian_process(*, points: int, features: int) -> Program:
    """−log p(y | x) of a Gaussian process, y ~ N(0, K): ½ yᵀ K⁻¹ y + ½ log det K, up to a constant.

    K = σ² exp(−½ Σ_d (x_d − x'_d)² / ℓ_d²) + τ² I, differentiated by the logarithms of σ, ℓ and τ.
    """
    draw = generator()
    params = {
        "amplitude": np.zeros((), FORMAT),
        "lengths": np.zeros(features, FORMAT),
        "noise": np.full((), -1.0, FORMAT),
    }
    x, y = normal(draw, points, features), normal(draw, points)

    def covariance(params, x):
        scaled = x * jnp.exp(-params["lengths"])
        distances = jnp.sum((scaled[:, None] - scaled[None]) ** 2, axis=-1)
        smooth = jnp.exp(2 * params["amplitude"] - distances / 2)
        return smooth + jnp.exp(2 * params["noise"]) * jnp.eye(len(x), dtype=FORMAT)

    def loss(wrap: Wrap):
        def of(params, x, y):
            factor = jnp.linalg.cholesky(wrap(covariance)(params, x))
            fit = y @ cho_solve((factor, True), y) / 2
            return (fit + jnp.log(jnp.diagonal(factor)).sum()) / len(y)

        return of

    return Program(loss, (params, x, y))


def neuron() -> Program:
    """One neuron and its squared error, called without jit."""
    arguments = tuple(np.asarray(x, FORMAT) for x in (0.5, -0.2, 2.0, 1.0))

    def loss(wrap: Wrap):
        return wrap(lambda w, b, x, y: (jnp.tanh(w * x + b) - y) ** 2)

    return Program(loss, arguments, eager=True)


PROGRAMS = {
    "graph-network": Sized(
        graph_network,
        dict(nodes=1024, edges=8192, width=64, depth=4),
        dict(nodes=8, edges=16, width=4, depth=2),
    ),
    "fourier-operator": Sized(
        fourier_operator,
        dict(side=64, width=24, modes=12, depth=4, batch=4),
        dict(side=8, width=4, modes=2, depth=2, batch=2),
    ),
    "gaussian-process": Sized(
        gaussian_process, dict(points=768, features=6), dict(points=16, features=2)
    ),
    "neuron-eager": Sized(neuron, {}, {}),
}
