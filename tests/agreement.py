"""One assertion about the gradients of a whole function, by five witnesses."""

import jax
import jax.numpy as jnp
import numpy as np

import fungrad as fg


def assert_close(actual, expected, rtol=1e-12):
    """Equal shapes and dtypes, and every entry within rtol of its own or of the largest one.

    The largest of the whole tree: a gradient that is zero by symmetry beside others that are not
    is the difference of their rounding errors.
    """
    finite = (np.abs(np.asarray(y)[np.isfinite(y)]) for y in jax.tree.leaves(expected))
    largest = max((y.max(initial=0) for y in finite), default=0)
    for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (jnp.shape(x), jnp.result_type(x)) == (jnp.shape(y), jnp.result_type(y))
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=rtol, atol=rtol * largest)


def assert_gradients_agree(function, *args, seed=0):
    """Every gradient of `function`, of float64 arrays to float64 arrays, is the same by

    - `fg.vjp` and `jax.vjp`, to 1e-12;
    - `fg.vjp` under `jax.vmap`, to 1e-12;
    - `jax.jvp` along a random direction, to 1e-11;
    - central differences along it, to 1e-7.

    All of it is one compiled program, which also is a test of `fg.vjp` under `jax.jit`.
    """
    draw = np.random.default_rng(seed)

    def random(tree):
        return jax.tree.map(lambda x: draw.uniform(-1, 1, jnp.shape(x)), tree)

    def pull(args, g):
        out, pullback = fg.vjp(function, *args)
        return out, pullback(g)

    @jax.jit
    def witnesses(args, g, direction):
        def along(h):
            return function(*jax.tree.map(lambda x, t: x + h * t, args, direction))

        out, pullback = jax.vjp(function, *args)
        twice = jax.tree.map(lambda x: jnp.stack([x, x]), (args, g))
        return {
            "fungrad": pull(args, g),
            "jax": (out, pullback(g)),
            "vmap": jax.vmap(pull)(*twice),
            "jvp": jax.jvp(function, args, direction)[1],
            "differences": (along(1e-6), along(-1e-6)),
        }

    g, direction = random(jax.eval_shape(function, *args)), random(args)
    found = jax.device_get(witnesses(args, g, direction))
    assert_close(found["fungrad"], found["jax"])
    assert_close(found["vmap"], jax.tree.map(lambda x: np.stack([x, x]), found["fungrad"]))

    def inner(a, b):
        return sum(np.vdot(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))

    slope = inner(found["fungrad"][1], direction)
    assert abs(inner(g, found["jvp"]) - slope) <= 1e-11 * max(1, abs(slope))
    after, before = (inner(g, out) for out in found["differences"])
    assert abs((after - before) / 2e-6 - slope) <= 1e-7 * max(1, abs(slope))


def assert_keeps_dtype(function, *args):
    """Arrays of half and single precision give values near those of double, in their own format."""
    tolerances = {jnp.float64: 1e-12, jnp.float32: 1e-5, jnp.bfloat16: 4e-2}

    @jax.jit
    def in_every_format(args):
        return [
            function(*jax.tree.map(lambda x, dtype=dtype: jnp.asarray(x).astype(dtype), args))
            for dtype in tolerances
        ]

    found = jax.device_get(in_every_format(args))
    for out, (dtype, rtol) in zip(found, tolerances.items(), strict=True):
        assert all(x.dtype == dtype for x in jax.tree.leaves(out))
        assert_close(jax.tree.map(lambda x: x.astype(float), out), found[0], rtol)
