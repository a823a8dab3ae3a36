"""Relevances of a residual network against those that zennit finds (zennit_figures.py)."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.rulebooks import zennit_figures as figures

HERE = Path(__file__).parent
FIGURES = json.loads((HERE / "zennit.json").read_text())["relevances"]
values = {name: jnp.asarray(a) for name, a in figures.numbers().items()}

lrp = fg.rulebooks.lrp
BOOKS = {
    "epsilon": lrp.epsilon(1e-6),
    "epsilon 0.25": lrp.epsilon(0.25),
    "gamma": lrp.gamma(0.25),
    "alpha_beta": lrp.alpha_beta(2, 1),
    "zplus": lrp.zplus(),
    "wsquare": lrp.wsquare(),
    "flat": lrp.flat(),
    "zbox": lrp.zbox(-2, 2),
    "epsilon_plus": lrp.epsilon_plus(),
    "epsilon_plus_flat": lrp.epsilon_plus_flat(),
    "epsilon_alpha2_beta1": lrp.epsilon_alpha2_beta1(),
    "epsilon_alpha2_beta1_flat": lrp.epsilon_alpha2_beta1_flat(),
    "epsilon_gamma_box": lrp.epsilon_gamma_box(-2 * np.ones((2, 6, 6)), 2 * np.ones((2, 6, 6))),
}


def of_channels(v):
    return v[:, None, None]


def convolution(p, name, x):
    z = lax.conv_general_dilated(x, p[f"{name}.weight"], (1, 1), "SAME")
    return z + of_channels(p[f"{name}.bias"]) if f"{name}.bias" in p else z


def norm(p, name, x):
    mean, var, scale, shift = (
        of_channels(p[f"{name}.{part}"]) for part in ("mean", "var", "weight", "bias")
    )
    return (x - mean) * (lax.rsqrt(var + 1e-12) * scale) + shift


def pool(x, start, function, stride):
    return lax.reduce_window(x, start, function, (1, 1, 2, 2), (1, 1, stride, stride), "VALID")


def network(p, x):
    x = jax.nn.relu(norm(p, "norm1", convolution(p, "stem", x)))
    y = jax.nn.relu(norm(p, "norm2", convolution(p, "first", x)))
    x = jnp.maximum(x + convolution(p, "second", y), 0)
    x = pool(pool(x, -jnp.inf, lax.max, 2), 0.0, lax.add, 1) / 4
    x = jax.nn.relu(x.reshape(2, -1) @ p["hidden.weight"].T + p["hidden.bias"])
    return x @ p["head.weight"].T + p["head.bias"]


def relevance(p, book):
    pullback = fg.vjp(lambda x: network(p, x), p["input"], rules=book)[1]
    return pullback(p["relevance"])[0]


@pytest.mark.parametrize("name", FIGURES)
def test_the_relevance_that_zennit_finds(name):
    expected = np.reshape(FIGURES[name], values["input"].shape)
    np.testing.assert_allclose(relevance(values, BOOKS[name]), expected, rtol=1e-7, atol=1e-9)


def test_the_same_when_compiled():
    book = BOOKS["epsilon_gamma_box"]
    actual = jax.jit(relevance, static_argnums=1)(values, book)
    np.testing.assert_allclose(actual, relevance(values, book), rtol=1e-10, atol=1e-12)
