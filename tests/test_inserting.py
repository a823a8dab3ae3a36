"""What stands at a node instead of its value: arrays, and functions of the value."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.ways import QUICK


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def assert_close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def quick(fun, *args):
    return jax.jit(fun, compiler_options=QUICK)(*args)


def recurrent(x):
    def step(c, x):
        return fg.name(jnp.tanh(c + x), "c"), None

    return jnp.sum(lax.scan(step, jnp.zeros(2), x)[0])


def test_replace_in_scans_every_iteration_or_one():
    x = normal(0, 3, 2)
    rows, last = normal(1, 3, 2), normal(2, 2)
    assert_close(fg.replace(recurrent, {"c": rows})(x), rows[-1].sum())
    assert_close(quick(fg.replace(recurrent, {"c": last}), x), last.sum())

    def at_one(h, iteration):
        return jnp.where(iteration == 1, last, h)

    assert_close(fg.replace(recurrent, {"c": at_one})(x), np.tanh(last + x[2]).sum())
    g = jax.grad(lambda rows: fg.replace(recurrent, {"c": rows})(x))(rows)
    assert g.tolist() == [[0, 0], [0, 0], [1, 1]]


def test_replace_composes_and_the_later_entry_wins():
    def fun(x):
        return jnp.sum(jax.nn.relu(fg.name(x, "x")) ** 2)

    x, patch = normal(0, 3), jnp.array([1.0, -1.0, 2.0])
    both = fg.replace(fun, {"x": patch, fg.at(primitive="relu", index=0): lambda h: 3 * h})
    assert_close(both(x), 9 * 5)
    assert_close(fg.replace(fun, {"x": x, fg.at(name="x"): patch})(x), 5)
    assert_close(fg.replace(both, {"x": -patch})(x), 9 * 1)  # the outer one of two comes last
    for library in (jax, fg):
        assert_close(library.grad(lambda p: fg.replace(fun, {"x": p})(x))(patch), [2, 0, 4])
    batched = jax.vmap(lambda p: fg.replace(fun, {"x": p})(x))(jnp.stack([patch, -patch]))
    assert batched.tolist() == [5, 1]
    assert_close(jax.grad(fg.replace(fun, {"x": lambda h: 2 * h}))(patch), [8, 0, 16])


@pytest.mark.parametrize("patch", [lambda h: 3 * h, jnp.array([5.0, 7.0])])
def test_a_name_goes_over_to_what_stands_there(patch):
    def fun(x):
        return jnp.sum(fg.name(jnp.sin(x), "h") ** 2)

    x = jnp.array([0.5, 1.0])
    expected = patch(jnp.sin(x)) if callable(patch) else patch
    patched = fg.replace(fun, {"h": patch})
    assert jnp.array_equal(fg.values(patched, "h")(x)[1]["h"], expected)
    assert jnp.array_equal(fg.gradients(patched, "h")(x)[1]["h"], 2 * expected)
    twice = fg.replace(patched, {"h": lambda h: h + 1})
    assert jnp.array_equal(fg.values(twice, "h")(x)[1]["h"], expected + 1)


def test_replace_keeps_structures_and_keywords():
    def fun(tree, *, scale, activation):
        return {"out": fg.name(activation(tree["x"]), "h") * scale}

    doubled = fg.replace(fun, {"h": lambda h: 2 * h})
    assert doubled({"x": jnp.ones(2)}, scale=3, activation=jnp.negative)["out"].tolist() == [-6, -6]


@pytest.mark.parametrize(
    ("replacement", "error", "words"),
    [
        (jnp.ones(3), ValueError, r"'c' has shape \[3\]; expected \[2\], or \[4, 2\] for one per"),
        (jnp.ones((3, 2)), ValueError, r"'c' has shape \[3, 2\]; expected \[2\], or \[4, 2\]"),
        (lambda c: c[0], ValueError, r"'c' has shape \[\]; expected \[2\]"),
        (jnp.full(2, 1j), TypeError, "'c' is of complex128; expected float64"),
        (["ab", "cd"], TypeError, r"what replaces node 'c' must be an array or a function, got \["),
    ],
)
def test_wrong_shapes_are_named(replacement, error, words):
    with pytest.raises(error, match=words):
        fg.replace(recurrent, {"c": replacement})(normal(0, 4, 2))
