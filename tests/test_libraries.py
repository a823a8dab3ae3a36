"""Whole models: plain JAX, and flax.nnx, flax.linen and equinox models as their users write them.

fungrad takes jax.grad's place in each library's own idiom; nothing in the models knows of it.
"""

import equinox as eqx
import jax
import numpy as np
import pytest
from flax import linen, nnx
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.ways import QUICK

keys = list(jax.random.split(jax.random.key(0), 3))


@pytest.fixture(autouse=True)
def as_users_have_it():
    """The libraries mix number formats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


IMAGES = normal(0, 2, 8, 8, 3)
SEQUENCE = normal(1, 2, 5, 8)
LABELS = jnp.array([0, 2])


def cross_entropy(logits):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), LABELS[:, None], 1))


def assert_same_gradients(gradient_by, rtol=1e-12):
    """`gradient_by(library)`, the gradients by fungrad and by JAX, agree to rtol, leaf by leaf."""

    def both():
        return gradient_by(fg), gradient_by(jax)

    ours, jaxs = jax.device_get(jax.jit(both, compiler_options=QUICK)())
    assert jax.tree.structure(ours) == jax.tree.structure(jaxs)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(jaxs))
    assert largest > 0
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(jaxs), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        # A leaf that is zero by symmetry is a difference of rounding errors of the others.
        scale = max(np.abs(b).max(), 1e-3 * largest)
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * scale)


def assert_slope_is_measured(loss, *args, step=1e-5):
    """Differences are the witness that shares nothing with JAX's derivatives."""

    def slopes(args):
        direction = jax.tree.map(jnp.cos, args)

        def along(h):
            return loss(*jax.tree.map(lambda x, t: x + h * t, args, direction))

        g = fg.grad(loss, tuple(range(len(args))))(*args)
        products = jax.tree.map(jnp.vdot, g, direction)
        return sum(jax.tree.leaves(products)), (along(step) - along(-step)) / (2 * step)

    slope, measured = jax.jit(slopes, compiler_options=QUICK)(args)
    np.testing.assert_allclose(slope, measured, rtol=1e-6)


# --- Plain JAX ------------------------------------------------------------------------------------


def mlp(p, x):
    for W, b in p["hidden"]:
        x = jax.nn.gelu(x @ W + b)
    return x @ p["out"]


MLP = {
    "hidden": [(normal(2, 40, 16) / 6, normal(3, 16)), (normal(4, 16, 16) / 4, normal(5, 16))],
    "out": normal(6, 16, 3),
}


def cnn(p, x):
    """Convolutions with batch norm, pooling, a dense end."""
    for W, scale, shift in p["blocks"]:
        x = lax.conv_general_dilated(
            x, W, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        mean, var = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
        x = jax.nn.relu((x - mean) * lax.rsqrt(var + 1e-5) * scale + shift)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x.reshape(len(x), -1) @ p["out"]


CNN = {
    "blocks": [
        (normal(2, 3, 3, 3, 4), normal(3, 4), normal(4, 4)),
        (normal(5, 3, 3, 4, 6), normal(6, 6), normal(7, 6)),
    ],
    "out": normal(8, 24, 3),
}


def norm(x, scale, shift):
    mean, var = (f(x, -1, keepdims=True) for f in (jnp.mean, jnp.var))
    return (x - mean) / jnp.sqrt(var + 1e-5) * scale + shift


def transformer_block(p, x):
    """Pre-norm causal attention of two heads and an MLP, the block under jax.checkpoint in scan."""

    def block(x, p):
        q, k, v = (jnp.einsum("btd,dhe->bhte", norm(x, *p["norm1"]), W) for W in p["qkv"])
        scores = jnp.einsum("bhte,bhse->bhts", q, k) / 2
        causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        weights = jax.nn.softmax(jnp.where(causal, scores, -1e30))
        x = x + jnp.einsum("bhts,bhse,hed->btd", weights, v, p["out"])
        return x + jax.nn.silu(norm(x, *p["norm2"]) @ p["up"]) @ p["down"], None

    x, _ = lax.scan(jax.checkpoint(block), x, p["layers"])
    return jnp.mean(x, 1) @ p["head"]


TRANSFORMER = {
    "layers": {
        "norm1": (normal(2, 3, 8), normal(3, 3, 8)),
        "norm2": (normal(4, 3, 8), normal(5, 3, 8)),
        "qkv": [normal(i, 3, 8, 2, 4) / 3 for i in (6, 7, 8)],
        "out": normal(9, 3, 2, 4, 8) / 3,
        "up": normal(10, 3, 8, 16) / 3,
        "down": normal(11, 3, 16, 8) / 4,
    },
    "head": normal(12, 8, 3),
}


def lstm(p, x):
    """An LSTM under scan; the last state is read."""

    def step(state, x):
        h, c = state
        i, f, g, o = jnp.split(x @ p["W"] + h @ p["U"] + p["b"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = (jnp.zeros((len(x), 6)),) * 2
    (h, _), _ = lax.scan(step, start, jnp.swapaxes(x, 0, 1))
    return h @ p["out"]


LSTM = {
    "W": normal(2, 8, 24) / 3,
    "U": normal(3, 6, 24) / 3,
    "b": normal(4, 24),
    "out": normal(5, 6, 3),
}

PLAIN = {
    "mlp": (mlp, MLP, SEQUENCE.reshape(2, -1)),
    "cnn": (cnn, CNN, IMAGES),
    "transformer": (transformer_block, TRANSFORMER, SEQUENCE),
    "lstm": (lstm, LSTM, SEQUENCE),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_jax(name):
    model, params, x = PLAIN[name]

    def loss(p, x):
        return cross_entropy(model(p, x))

    assert_same_gradients(lambda library: library.grad(loss, (0, 1))(params, x))
    assert_slope_is_measured(loss, params, x)


def test_hessian_vector_products_of_an_lstm():
    def loss(p):
        return cross_entropy(lstm(p, SEQUENCE))

    tangent = jax.tree.map(jnp.cos, LSTM)

    def hvp_by(library):
        if library is fg:
            return fg.hvp(loss, (LSTM,), (tangent,))
        return jax.jvp(jax.grad(loss), (LSTM,), (tangent,))

    assert_same_gradients(hvp_by)


# --- flax.nnx -------------------------------------------------------------------------------------


class NNXConvNet(nnx.Module):
    def __init__(self, rngs):
        options = {"dtype": float, "param_dtype": float, "rngs": rngs}
        self.conv = nnx.Conv(3, 4, (3, 3), **options)
        self.norm = nnx.BatchNorm(4, **options)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.dense = nnx.Linear(64, 3, **options)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        x = self.dropout(nnx.avg_pool(x, (2, 2), (2, 2)))
        return self.dense(x.reshape(len(x), -1))


class NNXSequence(nnx.Module):
    def __init__(self, rngs):
        options = {"dtype": float, "param_dtype": float, "rngs": rngs}
        self.embed = nnx.Embed(7, 8, **options)
        # Without dropout flax computes its softmax in float32.
        self.attention = nnx.MultiHeadAttention(
            2, 8, dropout_rate=0.2, deterministic=False, decode=False, **options
        )
        self.norm = nnx.LayerNorm(8, **options)
        self.rnn = nnx.RNN(nnx.LSTMCell(8, 6, **options))
        self.dense = nnx.Linear(6, 3, **options)

    def __call__(self, tokens):
        x = self.embed(tokens)
        x = self.norm(x + self.attention(x))
        return self.dense(self.rnn(x)[:, -1])


TOKENS = jnp.array([[0, 3, 6, 1, 3], [2, 2, 5, 4, 0]])


# Its batch norm keeps statistics in float32.
@pytest.mark.filterwarnings("ignore:scatter inputs have incompatible types:FutureWarning")
@pytest.mark.parametrize(("kind", "x"), [(NNXConvNet, IMAGES), (NNXSequence, TOKENS)])
def test_flax_nnx(kind, x):
    """The functional idiom: split, differentiate by the parameters, carry the rest as aux."""
    made = nnx.jit(lambda: kind(nnx.Rngs(0)))()
    graphdef, params, rest = nnx.split(made, nnx.Param, ...)

    def loss(params, rest, x):
        model = nnx.merge(graphdef, params, rest, copy=True)
        value = cross_entropy(model(x))
        return value, nnx.state(model, nnx.Not(nnx.Param))

    assert_same_gradients(lambda library: library.grad(loss, has_aux=True)(params, rest, x)[0])
    _, updated = fg.grad(loss, has_aux=True)(params, rest, x)
    if kind is NNXConvNet:
        mean = updated["norm"]["mean"].get_value()
        assert float(jnp.abs(mean).max()) > 0  # the running statistics went through as aux


# --- flax.linen -----------------------------------------------------------------------------------


class LinenConvNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Conv(4, (3, 3), param_dtype=float)(x)
        x = linen.relu(linen.BatchNorm(use_running_average=False, param_dtype=float)(x))
        x = linen.max_pool(x, (2, 2), (2, 2))
        x = linen.Dropout(0.3, deterministic=False)(x)
        return linen.Dense(3, param_dtype=float)(x.reshape(len(x), -1))


class LinenSequence(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = x + linen.MultiHeadDotProductAttention(2, param_dtype=float)(x)
        x = linen.GroupNorm(2, param_dtype=float)(x)
        x = linen.RNN(linen.OptimizedLSTMCell(6, param_dtype=float))(x)
        return linen.Dense(3, param_dtype=float)(x[:, -1])


@pytest.mark.parametrize(("model", "x"), [(LinenConvNet(), IMAGES), (LinenSequence(), SEQUENCE)])
def test_flax_linen(model, x):
    """`apply` with mutable batch statistics, which come back as aux."""
    variables = jax.jit(model.init)({"params": keys[0], "dropout": keys[1]}, x)
    params, statistics = variables["params"], variables.get("batch_stats", {})

    def loss(params):
        logits, updated = model.apply(
            {"params": params, "batch_stats": statistics},
            x,
            mutable=["batch_stats"],
            rngs={"dropout": keys[2]},
        )
        return cross_entropy(logits), updated

    assert_same_gradients(lambda library: library.grad(loss, has_aux=True)(params))


# --- equinox --------------------------------------------------------------------------------------


class EquinoxConvNet(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    pool: eqx.nn.MaxPool2d
    dense: eqx.nn.Linear

    def __init__(self, key):
        a, b = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(3, 4, 3, padding=1, dtype=float, key=a)
        self.norm = eqx.nn.BatchNorm(4, "batch", mode="batch", dtype=float)
        self.pool = eqx.nn.MaxPool2d(2, 2)
        self.dense = eqx.nn.Linear(64, 3, dtype=float, key=b)

    def __call__(self, x, state):
        x, state = self.norm(self.conv(x), state)
        return self.dense(self.pool(jax.nn.relu(x)).ravel()), state


class EquinoxSequence(eqx.Module):
    attention: eqx.nn.MultiheadAttention
    norm: eqx.nn.LayerNorm
    cell: eqx.nn.LSTMCell
    mlp: eqx.nn.MLP

    def __init__(self, key):
        a, b, c = jax.random.split(key, 3)
        self.attention = eqx.nn.MultiheadAttention(2, 8, dtype=float, key=a)
        self.norm = eqx.nn.LayerNorm(8, dtype=float)
        self.cell = eqx.nn.LSTMCell(8, 6, dtype=float, key=b)
        self.mlp = eqx.nn.MLP(6, 3, 5, 1, activation=jax.nn.gelu, dtype=float, key=c)

    def __call__(self, x):
        x = jax.vmap(self.norm)(x + self.attention(x, x, x))
        start = (jnp.zeros(6), jnp.zeros(6))
        (h, _), _ = lax.scan(lambda state, x: (self.cell(x, state), None), start, x)
        return self.mlp(h)


def by_partition(loss, model, library):
    """Gradients of a module by its arrays: equinox's filter_grad, written out."""
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    return library.grad(lambda arrays: loss(eqx.combine(arrays, rest)))(arrays)


# Its batch norm averages over the batch by lax.pmean.
@pytest.mark.filterwarnings("ignore:the primitive 'psum':fungrad.MissingRuleWarning")
def test_equinox_convolutions():
    model, state = eqx.filter_jit(eqx.nn.make_with_state(EquinoxConvNet))(keys[0])
    images = jnp.moveaxis(IMAGES, -1, 1)

    def loss(model):
        logits, _ = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(
            images, state
        )
        return cross_entropy(logits)

    assert_same_gradients(lambda library: by_partition(loss, model, library))


def test_equinox_sequences():
    def loss(model):
        return cross_entropy(jax.vmap(model)(SEQUENCE))

    model = eqx.filter_jit(EquinoxSequence)(keys[0])
    assert_same_gradients(lambda library: by_partition(loss, model, library))


def test_equinox_modules_are_trees_of_arguments():
    model = eqx.nn.Linear(8, 3, dtype=float, key=keys[0])
    g = fg.grad(lambda model: cross_entropy(jax.vmap(model)(SEQUENCE[:, 0])))(model)
    assert isinstance(g, eqx.nn.Linear)
    assert g.weight.shape == (3, 8)
