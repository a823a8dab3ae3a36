"""Rules at the nodes that selectors select: wherever they are, and which of several counts."""

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from tests.authored import bend, squash

x = jnp.array([0.3, -0.7, 1.1])


def times(factor):
    return lambda g, out, x: factor * g


tenfold = times(10)

# What a selector selects is replaced by `other` here: tanh with the rule that the book gives it.

other = fg.custom(lambda x: jnp.tanh(x), lambda g, out, x: 10 * g)


def in_scan(first, second):
    def step(c, x):
        with jax.named_scope("inner"):
            c = first(c)
        return c, second(x * c)

    return lambda x: jnp.sum(lax.scan(step, x[0], x)[1])


def in_cond(first, second):
    def branches(x):
        return lax.cond(x > 0, lambda x: first(x) * x, lambda x: second(2 * x), x)

    return lambda x: branches(x[0]) + branches(x[1])


def twice(first, second):
    """One jitted function, called in two scopes."""

    def of(tanh):
        return jax.jit(lambda x: tanh(x) * x)

    def function(x):
        with jax.named_scope("inner"):
            x = of(first)(x)
        return jnp.sum(of(second)(x))

    return function


def in_while(first, second):
    def function(x):
        run = lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, first(second(c[1]))), (0, x))
        return jnp.sum(run[1])

    return function


def in_vmap(first, second):
    return lambda x: jnp.sum(jax.vmap(lambda x: second(jax.checkpoint(first)(x) * 2))(x))


INSIDE = {
    "scan by scope": (in_scan, fg.at(scope="inner", primitive="tanh"), "first"),
    "scan by index": (in_scan, fg.at(primitive="tanh", index=1), "second"),
    "one call of a jit": (twice, fg.at(primitive="tanh", index=-1), "second"),
    "one call by its scope": (twice, fg.at(scope="inner") & fg.at(primitive="tanh"), "first"),
    "a branch": (
        in_cond,
        fg.at(primitive="tanh", index=0) | fg.at(primitive="tanh", index=2),
        "second",
    ),
    "a while loop": (in_while, fg.at(primitive="tanh", index=0), "second"),
    "vmap of a checkpoint": (in_vmap, fg.at(primitive="tanh", index=0), "first"),
}


@pytest.mark.parametrize("name", INSIDE)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_a_selector_reaches_inside(name, wrap):
    make, selector, place = INSIDE[name]
    changed = [other if place == each else jnp.tanh for each in ("first", "second")]
    book = fg.rules.replace({selector: tenfold})
    actual = wrap(fg.grad(make(jnp.tanh, jnp.tanh), rules=book))(x)
    np.testing.assert_allclose(actual, fg.grad(make(*changed))(x), rtol=1e-14)


def tanhs(x):
    with jax.named_scope("outer"):
        with jax.named_scope("inner"):
            a = jnp.tanh(x[0])
        b = jnp.tanh(x[1])
    return a + b + jnp.tanh(x[2])


ORDERS = [
    # (replacements in order, the factors of the three)
    ([("tanh", 1), (fg.at(primitive="tanh", index=2), 3)], (1, 1, 3)),
    ([(fg.at(primitive="tanh", index=2), 3), ("tanh", 1)], (1, 1, 3)),
    ([(fg.at(primitive="tanh"), 3), ("tanh", 1)], (1, 1, 1)),
    ([("tanh", 1), (fg.at(primitive="tanh"), 3)], (3, 3, 3)),
    (
        [
            (fg.at(scope="outer/inner", primitive="tanh"), 2),
            (fg.at(scope="outer", primitive="tanh"), 3),
            ("tanh", 1),
        ],
        (2, 3, 1),
    ),
    (
        [
            (fg.at(primitive="tanh", index=0), 2),
            (fg.at(scope="inner") & fg.at(primitive="tanh"), 3),
        ],
        (3, None, None),
    ),
    (
        [
            (fg.at(scope="inner") & fg.at(primitive="tanh"), 3),
            (fg.at(primitive="tanh", index=0), 2),
        ],
        (2, None, None),
    ),
]


@pytest.mark.parametrize(("replacements", "expected"), ORDERS)
def test_the_narrower_wins_and_then_the_later(replacements, expected):
    rules = {factor: times(factor) for factor in (1, 2, 3)}
    together = fg.rules.replace({key: rules[factor] for key, factor in replacements})
    one_by_one = fg.rules
    for key, factor in replacements:
        one_by_one = one_by_one.replace({key: rules[factor]})
    assert together == one_by_one
    plain = 1 - np.tanh(np.asarray(x)) ** 2
    due = [p if e is None else e for p, e in zip(plain, expected, strict=True)]
    np.testing.assert_allclose(fg.grad(tanhs, rules=together)(x), due, rtol=1e-14)


# --- What a selector may name ---------------------------------------------------------------------


def test_by_the_name_of_an_edge_a_line_or_the_function_around():
    def layer(x):
        return jnp.sum(fg.name(jnp.tanh(x), "h") * jnp.cos(x))

    line = layer.__code__.co_firstlineno + 1
    plain = fg.grad(jnp.sum, rules=fg.rules)(x)
    np.testing.assert_array_equal(plain, jnp.ones(3))
    due = 10 * (1 - jnp.tanh(x) ** 2) * jnp.cos(x) - jnp.tanh(x) * jnp.sin(x)
    book = fg.rules.replace({fg.at(name="h"): tenfold})
    np.testing.assert_allclose(fg.grad(layer, rules=book)(x), due, rtol=1e-14)
    due = 10 * jnp.cos(x) - jnp.tanh(x) * jnp.sin(x)
    for where in (fg.at(line=line), fg.at(line=f"test_placing.py:{line}"), fg.at(function="layer")):
        book = fg.rules.replace({where & fg.at(primitive="tanh"): tenfold})
        np.testing.assert_allclose(fg.grad(layer, rules=book)(x), due, rtol=1e-14)


def test_a_call_that_is_selected_is_replaced_whole():
    seen = []

    def of_relu(g, out, x):
        seen.append(x.shape)
        return 10 * g

    def function(x):
        x = jax.nn.relu(x)
        with jax.named_scope("last"):
            return jnp.sum(jax.nn.relu(x - 0.5))

    last = fg.at(scope="last") & fg.at(function="relu")
    g = fg.grad(function, rules=fg.rules.replace({last: of_relu}))(x)
    np.testing.assert_array_equal(g, jnp.where(x > 0, 10.0, 0.0))
    assert set(seen) == {(3,)}


@pytest.mark.parametrize("function", [bend, squash])
def test_a_node_in_a_function_with_a_written_derivative(function):
    """One call is differentiated through its body, where the node is; the other is not."""
    book = fg.rules.replace({fg.at(primitive="tanh", index=1): tenfold})
    assert fg.grad(lambda x: function(function(x)), rules=book)(0.5) == 30
    book = book.replace({function.__name__: times(2)})
    assert fg.grad(lambda x: function(function(x)), rules=book)(0.5) == 4


def test_a_selector_that_matches_nothing_is_an_error():
    book = fg.rules.replace({fg.at(scope="block7"): tenfold})
    with pytest.raises(
        LookupError, match=r"no node matches .*block7.* nearest labels are \['tanh'\]"
    ):
        fg.grad(jnp.tanh, rules=book)(0.5)


def test_broadcasting_is_undone_and_parameters_arrive():
    where = fg.at(primitive="mul", index=0)
    book = fg.rules.replace({where: lambda g, out, s, x: (2 * g * x, 3 * g * s)})
    actual = fg.grad(lambda s, x: jnp.sum(lax.mul(s, x)), (0, 1), rules=book)(2.0, x)
    np.testing.assert_allclose(actual[0], 2 * jnp.sum(x), rtol=1e-14)
    np.testing.assert_allclose(actual[1], 6 * jnp.ones(3), rtol=1e-14)
    book = fg.rules.replace({fg.at(primitive="reduce_sum"): lambda g, out, x, axes: 7 * g + 0 * x})
    np.testing.assert_array_equal(fg.grad(jnp.sum, rules=book)(x), 7 * jnp.ones(3))


# --- Books with selectors are values, and do not leak ---------------------------------------------


def test_equal_and_other_books():
    first, second = fg.at(primitive="tanh", index=0), fg.at(scope="inner")
    a, b = (fg.rules.replace({first: tenfold, "sin": tenfold}) for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)
    one, two = ({first: tenfold, second: tenfold}, {second: tenfold, first: tenfold})
    assert fg.rules.replace(one) != fg.rules.replace(two)  # of two that fit, the later wins
    assert fg.rules.replace(two).replace({second: tenfold}) == fg.rules.replace(one)
    assert len({a, b, fg.rules, fg.rules.replace(one), fg.rules.replace({second: tenfold})}) == 4
    assert first in a
    assert a[first].function is tenfold
    assert len(a) == len(fg.rules)
    with pytest.raises(TypeError, match="name of a primitive or function, or a selector"):
        fg.rules.replace({None: tenfold})


@jax.jit
def shared(x):
    """Kept by JAX from call to call, and by whatever is kept by its graph."""
    return jnp.sum(jnp.tanh(jnp.tanh(x)))


def test_books_do_not_leak_between_jitted_calls():
    whole = [
        fg.rules.replace({fg.at(primitive="tanh", index=i): times(f)})
        for i, f in ((0, 10), (1, 10), (1, 3))
    ]
    t = np.tanh(np.asarray(x))
    inner, outer = 1 - t**2, 1 - np.tanh(t) ** 2
    due = [10 * outer, 10 * inner, 3 * inner, inner * outer]
    for _ in range(2):
        for book, expected in zip((*whole, fg.rules), due, strict=True):
            np.testing.assert_allclose(fg.grad(shared, rules=book)(x), expected, rtol=1e-14)
            jitted = jax.jit(fg.grad(shared, rules=book))
            np.testing.assert_allclose(jitted(x), expected, rtol=1e-14)


def test_books_of_nested_transforms_are_apart():
    """The inner gradient's choices mean nothing to the outer book, be it with selectors or not."""
    book = fg.rules.replace({fg.at(primitive="tanh", index=0): tenfold})
    inner = fg.grad(lambda x: shared(x) * x, rules=book)
    t = np.tanh(0.5)
    z = np.tanh(t)
    # ∂(z x)/∂x = 10 (1 − z²) x + z, since tanh is replaced where it is first
    first = 10 * (1 - z**2) * 0.5 + z
    np.testing.assert_allclose(inner(0.5), first, rtol=1e-14)
    dz = (1 - z**2) * (1 - t**2)
    due = 10 * (1 - z**2) - 20 * z * dz * 0.5 + dz
    np.testing.assert_allclose(fg.grad(inner)(0.5), due, rtol=1e-14)
    np.testing.assert_allclose(jax.grad(inner)(0.5), due, rtol=1e-14)
    dz = (1 - z**2) * 10
    due = 10 * (1 - z**2) - 20 * z * dz * 0.5 + dz
    np.testing.assert_allclose(fg.grad(inner, rules=book)(0.5), due, rtol=1e-14)
