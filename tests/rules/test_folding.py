"""Folds by any operation: axes, windows, several operands, orders, what the start value does."""

import itertools
import math
from functools import partial

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.rules.grids import (
    QUICK,
    STRICT,
    assert_agree,
    assert_differences,
    complex_normal,
    cotangent,
    gradient,
    normal,
    ours,
    stacked,
)


def multiply(a, b):  # two equations, so that JAX does not see the product in it
    return a * b * 1


def log_add(a, b):
    return lax.log(lax.exp(a) + lax.exp(b))


def first_largest(a, b):
    wins = (a[0] > b[0]) | ((a[0] == b[0]) & (a[1] < b[1]))
    return tuple(lax.select(wins, x, y) for x, y in zip(a, b, strict=True))


# --- over axes -----------------------------------------------------------------------------------


def over_axes(array):
    for axes in ((0,), (1,), (2, 0), (0, 1, 2), ()):
        yield partial(lax.reduce, init_values=1.0, computation=multiply, dimensions=axes), array
        yield (
            partial(lax.reduce, init_values=-math.inf, computation=log_add, dimensions=axes),
            array,
        )


def largest_and_its_place(x):
    """One operand is of integers; JAX cannot differentiate that one."""
    places = lax.iota("int32", x.shape[0])
    return lax.reduce((x, places), (-math.inf, np.int32(9)), first_largest, (0,))


def test_axes():
    assert_agree(over_axes(normal(2, 3, 5)))
    assert_agree([(lambda x: lax.reduce(x, 1 + 0j, multiply, (0,)), complex_normal(5))])


def test_axes_second_and_third_order():
    cases = list(over_axes(normal(2, 3, 2)))
    assert_agree(cases[::3], times=2)
    assert_agree(cases[:1], times=3)


def test_axes_vmap():
    assert_agree(stacked(list(over_axes(normal(2, 3, 2)))[:4]), batched=True)


def test_several_operands():
    def both(x, y):
        return lax.reduce((x, y), (-math.inf, 9.0), first_largest, (1,))

    assert_agree([(both, normal(3, 4), normal(3, 4)), (lambda x: both(x, 2 * x)[0], normal(3, 4))])
    x = jnp.array([1.0, 3.0, 3.0, 2.0])
    np.testing.assert_array_equal(
        fg.grad(lambda x: largest_and_its_place(x)[0], rules=STRICT)(x), [0, 1, 0, 0]
    )


def test_the_start_value_counts_once():
    def product(x, start):
        return lax.reduce(x, start, multiply, (0,))

    x = jnp.array([1.0, 2.0, 3.0, 4.0])
    value, pullback = fg.vjp(product, x, jnp.array(5.0), rules=STRICT)
    of_x, of_start = pullback(jnp.array(1.0))
    assert (float(value), float(of_start)) == (120, 24)
    np.testing.assert_array_equal(of_x, 120 / x)


def test_nothing_to_fold():
    assert fg.grad(lambda x: lax.reduce(x, 1.0, multiply, (0,)))(jnp.zeros(0)).shape == (0,)


# --- over windows --------------------------------------------------------------------------------


def windows(function, start):
    """Every parameter of a window, along one axis; then along three."""
    grid = itertools.product((2, 3), (1, 2), ((0, 0), (1, 2), (-1, 2)), (1, 2), (1, 2))
    for length, stride, padding, d, r in grid:
        yield fold_of(function, start, (length,), (stride,), (padding,), (d,), (r,)), normal(7)
    yield (
        fold_of(function, start, (1, 2, 3), (1, 1, 2), ((0, 0), (1, -1), (1, 1)), (1, 2, 1)),
        normal(2, 4, 5),
    )


def fold_of(function, start, *window):
    names = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    how = dict(zip(names, window, strict=False))
    return partial(lax.reduce_window, init_value=start, computation=function, **how)


def by_forward_mode(function):
    """The gradient that `gradient` gives, by JAX's forward mode: it has no reverse mode here."""

    def of(x):
        g = cotangent(function(x))
        directions = jnp.eye(x.size).reshape(-1, *x.shape)  # one by one: its vmap has gaps as well
        along = lax.map(lambda v: jnp.vdot(g, jax.jvp(function, (x,), (v,))[1]), directions)
        return [along.reshape(x.shape)]

    return of


def assert_as_forward(cases):
    @partial(jax.jit, compiler_options=QUICK)
    def compare(points):
        return [
            (gradient(ours, f)(x), by_forward_mode(f)(x), ours(f, x)[0], f(x))
            for (f, _), x in zip(cases, points, strict=True)
        ]

    for got, want, value, same in compare([x for _, x in cases]):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(value, same, rtol=1e-12)


def test_windows():
    some = list(windows(multiply, 1.0))
    assert_as_forward([*some[::7], some[-1]])
    assert_as_forward(list(windows(lax.mul, 1.0))[3::13])
    assert_as_forward(list(windows(log_add, -math.inf))[:1])


def test_windows_second_order_and_vmap():
    function, x = list(windows(multiply, 1.0))[9]
    pull = gradient(ours, function)
    twice = jax.jit(gradient(ours, pull))(x)
    want = by_forward_mode(lambda x: pull(x)[0])(x)
    np.testing.assert_allclose(twice, want, rtol=1e-12, atol=1e-12)
    both = jnp.stack([x, -x])
    np.testing.assert_allclose(jax.vmap(pull)(both)[0][1], pull(-x)[0], rtol=1e-12)


def test_windows_of_several_operands():
    def places(x):
        numbers = lax.iota("int32", x.size)
        starts = (-math.inf, np.int32(9))
        return lax.reduce_window((x, numbers), starts, first_largest, (3,), (2,))[0]

    x = jnp.array([1.0, 3.0, 3.0, 2.0, 5.0])
    np.testing.assert_array_equal(fg.grad(lambda x: places(x).sum())(x), [0, 1, 0, 0, 1])


def test_no_window_fits():
    short = fold_of(multiply, 1.0, (4,))
    assert fg.grad(lambda x: short(x).sum(), rules=STRICT)(jnp.ones(2)).tolist() == [0, 0]


def test_windows_are_differentiated_in_loops():
    def loop(x):
        def step(carry, _):
            return lax.reduce_window(carry, 1.0, multiply, (2,), (1,), "SAME"), None

        return lax.scan(step, x, None, length=2)[0]

    assert_differences(loop, normal(4))
