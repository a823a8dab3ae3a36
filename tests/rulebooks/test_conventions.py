"""PyTorch's conventions at kinks: the book against gradients by PyTorch (torch_figures.py)."""

import functools
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.rulebooks import torch_figures as figures

HERE = Path(__file__).parent
GRADIENTS = json.loads((HERE / "torch.json").read_text())["gradients"]

norm, nn = jnp.linalg.norm, jax.nn
OPERATIONS = {
    "abs": jnp.abs,
    "sign": jnp.sign,
    "relu": nn.relu,
    "relu6": nn.relu6,
    "leaky_relu": nn.leaky_relu,
    "leaky_relu 0.3": lambda x: nn.leaky_relu(x, 0.3),
    "elu": nn.elu,
    "elu 2": lambda x: nn.elu(x, 2.0),
    "selu": nn.selu,
    "celu 2": lambda x: nn.celu(x, 2.0),
    "hard_tanh": nn.hard_tanh,
    "hard_sigmoid": nn.hard_sigmoid,
    "hard_silu": nn.hard_silu,
    "softsign": nn.soft_sign,
    "softplus": nn.softplus,
    "clamp": lambda x: jnp.clip(x, 0, 1),
    "clamp by arrays": lambda x, y, z: lax.clamp(y, x, z),
    "clamp from below": lambda x: jnp.clip(x, min=0),
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "max": jnp.max,
    "amax": lambda x: jnp.max(x, 1),
    "amin": lambda x: jnp.min(x, 1),
    "cummax": lax.cummax,
    "cummin": lax.cummin,
    "cummax of columns": lax.cummax,
    "sort": jnp.sort,
    "topk": lambda x: lax.top_k(x, 2)[0],
    "median": jnp.median,
    "median of distinct": jnp.median,
    "max_pool": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (2,), "VALID"),
    "prod of one zero": jnp.prod,
    "prod of two zeros": jnp.prod,
    "cumprod of a zero": jnp.cumprod,
    "norm": norm,
    "norm of rows": lambda x: norm(x, axis=1),
    "norm of columns": lambda x: norm(x, axis=0, keepdims=True),
    "norm 1": lambda x: norm(x, 1),
    "norm inf": lambda x: norm(x, jnp.inf),
    "std": lambda x: jnp.std(x, ddof=1),
    "std of rows": lambda x: jnp.std(x, 1, ddof=1),
    "where": lambda x: jnp.where(x > 0, x, 0.0),
    "where of sqrt": lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0),
    "sqrt": jnp.sqrt,
    "rsqrt": lax.rsqrt,
    "reciprocal": lambda x: 1 / x,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "acos": jnp.acos,
    "acosh": jnp.acosh,
    "atanh": jnp.atanh,
    "erfinv": lax.erf_inv,
    "pow 2": lambda x: x**2,
    "pow 0.5": lambda x: x**0.5,
    "pow 0": lambda x: x**0.0,
    "pow by array": jnp.power,
    "power of 0": lambda x: 0.0**x,
    "atan2": jnp.atan2,
    "sinc": jnp.sinc,
    "fmod": jnp.fmod,
    "remainder": jnp.remainder,
    "round": jnp.round,
    "floor": jnp.floor,
    "trunc": jnp.trunc,
    "hypot": jnp.hypot,
    "copysign": jnp.copysign,
    "logsumexp": nn.logsumexp,
    "logaddexp": jnp.logaddexp,
    "xlogy": jax.scipy.special.xlogy,
    "nan_to_num": jnp.nan_to_num,
}


def gradients(operation, points, book):
    def weighted(*points):
        out = operation(*points)
        return jnp.sum(jnp.arange(1.0, out.size + 1).reshape(out.shape) * out)

    return fg.grad(weighted, tuple(range(len(points))), rules=book)(*points)


@functools.cache
def by_book(book):
    """The gradients of all operations, from one program."""
    points = {name: [jnp.array(p, float) for p in row[1]] for name, row in figures.ROWS.items()}

    @jax.jit
    def found(points):
        return {name: gradients(f, points[name], book) for name, f in OPERATIONS.items()}

    return found(points)


def fits(name, book):
    pairs = zip(by_book(book)[name], GRADIENTS[name], strict=True)
    # Some constants of PyTorch's are of float32.
    return all(np.allclose(g.ravel(), np.array(t, float), 1e-7, 0, True) for g, t in pairs)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_gradient_that_torch_finds(name):
    assert fits(name, fg.rulebooks.torch), (by_book(fg.rulebooks.torch)[name], GRADIENTS[name])


def test_where_jax_has_another_convention():
    """At these rows, and at no others, the book is needed; hypot's is PyTorch's since JAX 0.12."""
    others = """abs, atan2, clamp, clamp by arrays, clamp from below, copysign, cummax,
    cummax of columns, cummin, hard_tanh, leaky_relu, leaky_relu 0.3, median, norm, norm 1,
    norm of columns, norm of rows, pow 0, pow by array, std, std of rows, xlogy"""
    found = {name for name in OPERATIONS if not fits(name, fg.rules)}
    assert found - {"hypot"} == set(re.split(r",\s+", others))


def test_elsewhere_the_gradient_is_the_usual_one():
    """Under jit and vmap, in a scan, and in lower precision too."""
    x = jnp.array([[0.3, -1.7, 0.9], [-0.2, 0.4, 1.5]])

    def loss(x):
        z = nn.leaky_relu(jnp.abs(x) - 0.5) + jnp.clip(x, -1, 1) + nn.hard_tanh(2 * x)
        total = lax.scan(lambda c, row: (c + norm(row) + jnp.std(row), None), x[0, 0] * 0, z)[0]
        return total + jnp.sum(lax.cummax(z)) + jnp.sum(jnp.hypot(x, z)) + jnp.median(x)

    gradient = fg.grad(loss, rules=fg.rulebooks.torch)
    np.testing.assert_allclose(jax.jit(gradient)(x), jax.jit(jax.grad(loss))(x), rtol=1e-12)
    for dtype in (jnp.float32, jnp.bfloat16):
        assert jax.eval_shape(gradient, x.astype(dtype)).dtype == dtype
    rows = jax.vmap(fg.grad(lambda x: norm(x), rules=fg.rulebooks.torch))(
        jnp.array([x[0], 0 * x[0]])
    )
    np.testing.assert_allclose(rows, [x[0] / norm(x[0]), [0, 0, 0]], rtol=1e-12)
