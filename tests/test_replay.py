"""What is repeated waits for its gradient: neither merged with its first computation, nor early."""

import re

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

import fungrad as fg
from fungrad import _jax, costs, saving
from tests.ways import assert_ways_agree

DEPTH, WIDTH, BATCH = 6, 16, 512


def mlp(weights, x):
    for i in range(DEPTH):
        x = jax.nn.gelu(x @ weights[i]) * 2.0
    return jnp.sum(x)


draw = np.random.default_rng(0)
weights = jnp.asarray(draw.normal(0, 0.3, (DEPTH, WIDTH, WIDTH)))
x = jnp.asarray(draw.normal(0, 1, (BATCH, WIDTH)))


def compiled(gradient, *args):
    return jax.jit(gradient).lower(*args).compile()


def memory(program):
    return program.memory_analysis().temp_size_in_bytes


# --- The compiled program -------------------------------------------------------------------------


def gradient(vjp):
    """Of the weights and x, by one way of taking gradients."""

    def of(weights, x):
        out, pullback = vjp(mlp, weights, x)
        return pullback(jnp.ones_like(out))

    return of


ours, theirs = gradient(fg.vjp), gradient(jax.vjp)


def test_what_is_repeated_takes_no_memory_and_is_not_merged(monkeypatch):
    """But for the last layer's, whose gradient is there at once."""
    waiting, plain = compiled(ours, weights, x), compiled(theirs, weights, x)

    def at_once(joint, behind, repeated, after):
        return [joint.equations[i] for i in sorted(behind)]

    with monkeypatch.context() as patch:
        patch.setattr(saving, "in_time", at_once)
        patch.setattr(saving, "split", saving.split.__wrapped__)
        merged = compiled(lambda *args: gradient(fg.vjp)(*args), weights, x)
    assert memory(waiting) < 0.8 * memory(plain)
    assert memory(waiting) < 0.8 * memory(merged)
    tanhs = [program.as_text().count(" tanh(") for program in (waiting, merged)]
    assert tanhs[0] >= 2 * DEPTH - 1
    assert tanhs[1] == DEPTH


def pairs(w, x):
    """Twice the sums of a function of the differences of all pairs: tables of a broadcast."""
    for _ in range(2):
        a = x @ w
        x = jnp.sum(jnp.tanh(a[:, None] - a[None, :]) ** 3, axis=1)
    return x @ x


def test_what_reads_a_broadcast_of_what_is_kept_waits_too():
    waiting, plain = (compiled(grad(pairs), weights[0], x[0]) for grad in (fg.grad, jax.grad))
    assert waiting.as_text().count(" tanh(") == 4
    assert plain.as_text().count(" tanh(") == 2
    table = x.itemsize * WIDTH**2
    assert memory(plain) > table > memory(waiting)


# --- Values ---------------------------------------------------------------------------------------

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-310]


@jax.jit
def wait(g, x):
    g = _jax.arrival_p.bind(g, place=0)
    return g, jax.tree.map(lambda x: _jax.awaiting_p.bind(x, place=0), x)


def bits(x):
    return np.asarray(x).tobytes()


@pytest.mark.parametrize("g", [*SPECIAL, complex(np.nan, np.inf), True, 3])
def test_x_comes_out_bit_for_bit_whatever_arrives(g):
    special = jnp.asarray(SPECIAL)
    values = {
        "float64": special,
        "float32": special.astype("float32"),
        "bfloat16": special.astype("bfloat16"),
        "complex": lax.complex(special, special[::-1]),
        "integer": jnp.array([-(2**63), 2**63 - 1, 0]),
        "boolean": jnp.array([True, False]),
        "scalar": jnp.array(np.nan),
        "empty": jnp.zeros((0, 3)),
    }
    for arriving in (jnp.asarray(g), jnp.full((2, 3), g)):
        same, found = wait(arriving, values)
        assert bits(same) == bits(arriving)
        assert {name: bits(x) for name, x in found.items()} == {
            name: bits(x) for name, x in values.items()
        }


def test_what_waits_for_nothing_is_handed_on():
    """No arrival was seen in the program, or in another part of it."""
    found = jax.jit(lambda x: _jax.awaiting_p.bind(x, place=7))(x)
    np.testing.assert_array_equal(found, x)

    def in_branch(g, x):
        g = _jax.arrival_p.bind(g, place=0)
        return lax.cond(jnp.sum(g) > 0, lambda x: _jax.awaiting_p.bind(x, place=0), jnp.sin, x)

    np.testing.assert_array_equal(jax.jit(in_branch)(jnp.ones(3), x), x)


# --- Under transforms -----------------------------------------------------------------------------


def small(weights, x):
    """Narrow products, so that they are repeated, as gelu is."""
    for i in range(2):
        x = jax.nn.gelu(x @ weights[i]) * 2.0
    return x


few, batch = weights[:2, :3, :3], x[:4, :3]


@pytest.fixture(autouse=True)
def nothing_for_calls(monkeypatch):
    """What is as small as this would be kept."""
    monkeypatch.setattr(costs, "SHARE", 0.0)


def primitives(function, *args):
    return [node.primitive for node in fg.trace(function)(*args)]


def test_the_small_model_is_one_that_waits():
    found = primitives(jax.jit(fg.grad(lambda *args: jnp.sum(small(*args)))), few, batch)
    assert {"arrival", "awaiting"} <= set(found)


def test_in_every_way():
    assert_ways_agree(small, few, batch)


def test_gradients_that_are_infinite_or_nan_pass():
    def both(vjp):
        def at(g):
            return vjp(small, few, batch)[1](g)

        return jax.jit(at)

    for entry in (np.nan, np.inf):
        g = jnp.ones_like(batch).at[0, 0].set(entry)
        got, want = both(fg.vjp)(g), both(jax.vjp)(g)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_the_pullback_is_linear_and_can_be_transposed():
    """Its transpose is the forward derivative."""

    @jax.jit
    def both(weights, x, tangents):
        out, pullback = fg.vjp(small, weights, x)
        (pushed,) = jax.linear_transpose(pullback, out)(tangents)
        return pushed, jax.jvp(small, (weights, x), tangents)[1]

    np.testing.assert_allclose(*both(few, batch, (few, batch)), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_in_other_formats(dtype):
    args = few.astype(dtype), batch.astype(dtype)
    found = jax.jit(fg.grad(lambda *args: jnp.sum(small(*args))))(*args)
    assert found.dtype == dtype
    expected = jax.grad(lambda *args: jnp.sum(small(*args)))(few, batch)
    np.testing.assert_allclose(found.astype(float), expected, rtol=0.1, atol=0.1)


# --- On several devices ---------------------------------------------------------------------------

COLLECTIVES = ["all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter"]


def collectives(program):
    text = program.as_text()
    return {name: len(re.findall(rf" {name}(-start)?\(", text)) for name in COLLECTIVES}


@pytest.mark.parametrize("spec", [("data", None), (None, "data")])
def test_no_more_is_exchanged_than_by_jax(spec):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    whole = NamedSharding(mesh, PartitionSpec())
    args = (
        jax.device_put(weights, whole),
        jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec))),
    )
    got, want = compiled(ours, *args), compiled(theirs, *args)
    for a, b in zip(got(*args), want(*args), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    found, expected = collectives(got), collectives(want)
    assert all(found[name] <= expected[name] for name in COLLECTIVES)


def test_in_shards():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def in_shards(function):
        along, whole = PartitionSpec("data"), PartitionSpec()
        return jax.jit(
            jax.shard_map(function, mesh=mesh, in_specs=(whole, along), out_specs=(whole, along))
        )

    few = x[:16]
    got, want = in_shards(ours)(weights, few), in_shards(theirs)(weights, few)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
