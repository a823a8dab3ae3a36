"""Rulebooks against functions whose backward pass is written by hand, as `jax.custom_vjp`."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg

x = jnp.array([[0.3, -0.7, 1.1, 0.0], [-0.2, 0.9, -1.5, 2.0]])
w = jnp.array([2.0, 1.0, -3.0, -0.5])


def by_hand(function, backward):
    written = jax.custom_vjp(lambda x: function(x))
    written.defvjp(lambda x: (function(x), x), lambda x, g: (backward(g, x),))
    return written


def of_norm(g, x):
    return g * jnp.minimum(1, 2 / jnp.linalg.norm(g))


def named(x):
    return fg.name(x, "h")


CASES = {
    "guided": (
        fg.rulebooks.guided_relu,
        jax.nn.relu,
        lambda g, x: jnp.where(x > 0, jax.nn.relu(g), 0.0),
    ),
    "guided maximum": (
        fg.rulebooks.guided_relu,
        lambda x: jnp.maximum(0.0, x),
        lambda g, x: jnp.where(x > 0, jax.nn.relu(g), 0.0),
    ),
    "deconvnet": (fg.rulebooks.deconvnet, jax.nn.relu, lambda g, x: jax.nn.relu(g)),
    "deconvnet maximum": (
        fg.rulebooks.deconvnet,
        lambda x: jnp.maximum(x, 0.0),
        lambda g, x: jax.nn.relu(g),
    ),
    "redirected": (
        fg.rulebooks.redirected_relu,
        jax.nn.relu,
        lambda g, x: jnp.where(x > 0, g, jnp.minimum(g, 0)),
    ),
    "round": (fg.rulebooks.straight_through, jnp.round, lambda g, x: g),
    "sign": (fg.rulebooks.straight_through, jnp.sign, lambda g, x: g),
    "floor": (fg.rulebooks.straight_through, jnp.floor, lambda g, x: g),
    "scale": (fg.rulebooks.scale(3), named, lambda g, x: 3 * g),
    "reversal": (fg.rulebooks.reverse_gradient(2.0), named, lambda g, x: -2 * g),
    "clip": (fg.rulebooks.clip(0.6), named, lambda g, x: jnp.clip(g, -0.6, 0.6)),
    "clip_norm": (fg.rulebooks.clip_norm(2.0), named, of_norm),
}


def direct(f):
    return lambda x: jnp.sum(w * f(jnp.sin(x[0])) ** 3 + w * f(x[1]))


def in_scan(f):
    def step(c, x):
        c = f(c * x)
        return c, w * c

    return lambda x: jnp.sum(lax.scan(step, jnp.ones(4), x)[1])


def in_vmap(f):
    return lambda x: jnp.sum(jax.vmap(lambda x: w * f(x * w))(x))


# Under vmap a node is one node, and the norm at it that of the whole batch: no case for clip_norm.
PAIRS = [
    (n, m) for n in CASES for m in (direct, in_scan, in_vmap) if (n, m) != ("clip_norm", in_vmap)
]


@pytest.mark.parametrize(("name", "make"), PAIRS)
def test_the_same_as_by_hand(name, make):
    book, function, backward = CASES[name]
    actual = jax.jit(fg.grad(make(function), rules=book))(x)
    np.testing.assert_allclose(actual, jax.grad(make(by_hand(function, backward)))(x), rtol=1e-13)


def test_a_string_for_where_is_the_name_of_an_edge():
    def loss(x):
        return fg.name(2 * fg.name(x, "a"), "b")

    books = [fg.rulebooks.scale(3.0, where) for where in (None, "a", fg.at(name="a"))]
    assert [float(fg.grad(loss, rules=book)(1.0)) for book in books] == [18, 6, 6]
    with pytest.raises(LookupError, match="'c'"):
        fg.grad(loss, rules=fg.rulebooks.clip(1.0, "c"))(1.0)
    with pytest.raises(TypeError, match="where must be a selector"):
        fg.rulebooks.clip_norm(1.0, 3)


def test_an_example_that_gets_no_gradient_gets_what_raises_it():
    """Else the gradient is that of relu; an array of one axis is one example."""

    def loss(x):
        return jnp.sum(w * jax.nn.relu(x))

    rows = jnp.array([[-1.0, -0.5, -2.0, 0.0], [-1.0, 0.5, -2.0, 1.0]])
    expected = [[0, 0, -3, -0.5], [0, 1, 0, -0.5]]
    gradient = fg.grad(loss, rules=fg.rulebooks.rectified_relu)
    np.testing.assert_array_equal(gradient(rows), expected)
    np.testing.assert_array_equal(jax.vmap(gradient)(rows), expected)


def test_noise_is_a_function_of_key_gradient_and_value():
    def chain(x):
        return jnp.sum(lax.scan(lambda c, _: (fg.name(c, "h"), None), x, None, 4)[0])

    first, second = (fg.rulebooks.noise(0.5, jax.random.key(seed)) for seed in (0, 1))
    many = jnp.zeros(4000)
    noisy = jax.jit(fg.grad(chain, rules=first))(many)
    np.testing.assert_allclose(noisy.mean(), 1, atol=0.1)
    np.testing.assert_allclose(noisy.std(), 0.5 * np.sqrt(4), rtol=0.1)  # four independent ones
    np.testing.assert_allclose(fg.grad(chain, rules=first)(many), noisy, rtol=1e-12)
    for other in (fg.grad(chain, rules=second)(many), fg.grad(chain, rules=first)(many + 1)):
        assert np.abs(np.corrcoef(other, noisy)[0, 1]) < 0.1
    assert first == fg.rulebooks.noise(0.5, jax.random.key(0))
    assert first == fg.rulebooks.noise(0.5, jax.random.PRNGKey(0))
    assert first != second
    assert fg.grad(chain, rules=first)(many.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_the_key_of_noise_is_known_when_the_book_is_made():
    with pytest.raises(TypeError, match="key must be known when the book is made, got a tracer"):
        jax.jit(lambda key: fg.rulebooks.noise(1, key) == fg.rules)(jax.random.key(0))
    with pytest.raises(ValueError, match="deviation must be a positive number"):
        fg.rulebooks.noise(0, jax.random.key(0))


def test_other_maxima_keep_their_rule():
    def loss(x):
        return jnp.sum(w * jnp.maximum(x[0], x[1]))

    expected = jax.grad(loss)(x)
    np.testing.assert_array_equal(fg.grad(loss, rules=fg.rulebooks.guided_relu)(x), expected)


def test_at_a_place_of_ones_own():
    book = fg.rulebooks.scale(3, fg.at(primitive="sin", index=1))
    g = fg.grad(lambda x: jnp.sin(x) + jnp.sin(2 * x), rules=book)(0.0)
    assert g == 7  # cos 0 + 2 · 3: the rule is in place of that of sin
    assert fg.grad(lambda x: -(2 * fg.name(x, "h")), rules=fg.rulebooks.scale(4))(1.0) == -8


def test_equal_parameters_make_equal_books():
    make = fg.rulebooks
    for one, same, other in (
        (make.scale(2), make.scale(2.0), make.scale(3)),
        (make.clip(2), make.clip(2.0), make.clip_norm(2.0)),
        (make.reverse_gradient(2), make.scale(-2), make.reverse_gradient(2, "neg")),
        (make.clip_norm(2), make.clip_norm(2.0), make.clip_norm(3.0)),
    ):
        assert one == same
        assert hash(one) == hash(same)
        assert one != other


@pytest.mark.parametrize("make", [fg.rulebooks.clip, fg.rulebooks.clip_norm])
@pytest.mark.parametrize("bad", [0, -1.0, float("nan")])
def test_bad_bounds_are_refused(make, bad):
    with pytest.raises(ValueError, match=r"(value|norm) must be a positive number, got"):
        make(bad)
