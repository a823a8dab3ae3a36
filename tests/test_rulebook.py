"""Rules as values: books that replace rules, compare, hash, and never change."""

import types

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp

import fungrad as fg
from fungrad import placing
from fungrad.graph import Graph
from fungrad.rulebook import CallRule, Gap, Rule, elementwise, no_gradient, rule
from tests.authored import bend, squash

x = jnp.array([0.3, -0.7, 1.1])


def straight(g, out, x):
    return g


def tenfold(g, out, x):
    return 10 * g


# --- Rules ----------------------------------------------------------------------------------------


def test_decorators_make_rules():
    @rule("f", example=lambda draw: 1.0, kink="at 0: 0")
    def f(g, out, x):
        """z = f(x)        ∂z/∂x = 2

        More about it.
        """
        return 2 * g

    @elementwise("h", example=lambda draw: 1.0)
    def h(g, out, x):
        """z = h(x)        ∂z/∂x = 1"""
        return g

    nothing = no_gradient("floor", reason="piecewise constant", example=lambda draw: 1.0)
    assert isinstance(f, Rule)
    assert (f.primitive, f.broadcasts, f.reason, f.kink) == ("f", False, None, "at 0: 0")
    assert f.jacobian == "z = f(x)        ∂z/∂x = 2"
    assert f(3.0, None, 1.0, unread=1) == 6
    assert h.broadcasts
    assert nothing.jacobian == "∂out/∂in = 0: piecewise constant"
    assert nothing(1.0, None, 1.0, 2.0) == (None, None)


def test_a_rule_is_given_the_parameters_that_it_names():
    def named(g, out, x, *, axis):
        return axis

    def all_of_them(g, out, x, **params):
        return params

    def with_default(g, out, x, *, axis=7, other=8):
        return axis, other

    params = {"axis": 1, "size": 2}
    assert Rule("f", named)(0, 0, 0, **params) == 1
    assert Rule("f", all_of_them)(0, 0, 0, **params) == params
    assert Rule("f", with_default)(0, 0, 0, **params) == (1, 8)


def test_a_name_of_an_input_is_no_parameter():
    """A sum has one input and a parameter `axes`."""
    book = fg.rules.replace({"reduce_sum": lambda g, out, axes: 5 * axes})
    np.testing.assert_array_equal(fg.grad(jnp.sum, rules=book)(x), 5 * x)


# --- Books are values -----------------------------------------------------------------------------


def test_equal_replacements_make_equal_books():
    a, b = (fg.rules.replace({"tanh": straight, "sin": tenfold}) for _ in range(2))
    c = fg.rules.replace({"sin": tenfold}).replace({"tanh": straight})
    assert a == b == c
    assert hash(a) == hash(b) == hash(c)
    assert len({a, b, c, fg.rules}) == 2


def test_other_replacements_make_other_books():
    book = fg.rules.replace({"tanh": straight})
    assert book != fg.rules
    assert book != fg.rules.replace({"tanh": tenfold})
    assert book != fg.rules.replace({"sin": straight})
    assert book != book.replace({}, strict=True)
    assert book != "a book"
    assert fg.rules.replace({}) == fg.rules


def test_a_book_never_changes():
    book = fg.rules.replace({"tanh": straight})
    for name in ("strict", "_rules", "other"):
        with pytest.raises(AttributeError, match=r"never changes; replace\(\) makes another one"):
            setattr(book, name, True)
    size, numbered = len(fg.rules), hash(fg.rules)
    fg.rules.replace({"tanh": tenfold, "new": tenfold})
    assert (len(fg.rules), hash(fg.rules)) == (size, numbered)
    replacements = {"tanh": straight}
    book = fg.rules.replace(replacements)
    replacements["tanh"] = tenfold
    assert book["tanh"].function is straight


def test_a_book_is_a_collection_of_rules():
    book = fg.rules.replace({"tanh": straight, "relu": straight})
    assert len(book) == len(fg.rules) + 1
    assert "relu" in book
    assert "relu" not in fg.rules
    assert book["tanh"].function is straight
    assert fg.rules["tanh"].function is not straight
    assert {r.primitive for r in book} == {r.primitive for r in fg.rules} | {"relu"}
    assert all(isinstance(r, Rule | CallRule | Gap) for r in fg.rules)
    assert repr(book) == f"Rulebook({len(fg.rules)} rules, ['relu', 'tanh'] replaced)"
    with pytest.raises(KeyError, match="relu"):
        fg.rules["relu"]


def test_two_rules_of_one_name_are_refused():
    first, second = Rule("f", straight), Rule("f", tenfold)
    modules = types.SimpleNamespace(a=first), types.SimpleNamespace(b=second)
    assert len(fg.Rulebook.of(modules[0], types.SimpleNamespace(again=first))) == 1
    with pytest.raises(ValueError, match="two rules for the primitive 'f'"):
        fg.Rulebook.of(*modules)


@pytest.mark.parametrize(
    ("replacements", "message"),
    [
        ("tanh", r"replacements must be a dictionary \{key: rule\}, got 'tanh'"),
        ({3: straight}, r"name of a primitive or function, or a selector made by at\(...\), got 3"),
        ({"tanh": 3}, r"replacements\['tanh'\] must be a function .* got 3"),
    ],
)
def test_bad_replacements_are_refused(replacements, message):
    with pytest.raises(TypeError, match=message):
        fg.rules.replace(replacements)


# --- Whose rule is replaced -----------------------------------------------------------------------


@jax.jit
def gate(x):
    return jnp.tanh(x)


kept = fg.custom(lambda x: jnp.tanh(x), lambda g, out, x: 3 * g)
FUNCTIONS = {"relu": jax.nn.relu, "gate": gate, "bend": bend, "squash": squash, "<lambda>": kept}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("inside", [lambda f: f, jax.jit, jax.checkpoint, jax.vmap])
def test_by_a_functions_name(name, inside):
    function = inside(FUNCTIONS[name])
    book = fg.rules.replace({name: tenfold})
    g = fg.grad(lambda x: jnp.sum(function(x)), rules=book)(x)
    np.testing.assert_array_equal(g, 10 * jnp.ones(3))


def test_by_a_primitives_name():
    tanh = fg.rules.replace({"tanh": tenfold})
    for function in (jnp.tanh, gate, jax.checkpoint(jnp.tanh)):
        assert fg.grad(function, rules=tanh)(0.5) == 10
    assert fg.grad(bend, rules=tanh)(0.5) == 3  # its author's derivative does not read tanh's
    assert (
        fg.grad(lambda x: lax.scan(lambda c, _: (jnp.tanh(c), None), x, None, 2)[0], rules=tanh)(
            0.5
        )
        == 100
    )


def test_every_jit_is_replaced_by_the_primitives_name_and_one_by_its_own():
    book = fg.rules.replace({"jit": straight, "gate": tenfold})
    assert fg.grad(lambda x: jax.jit(jnp.sin)(gate(x)), rules=book)(0.5) == 10


def test_the_later_replacement_wins():
    book = fg.rules.replace({"tanh": straight}).replace({"tanh": tenfold})
    assert fg.grad(jnp.tanh, rules=book)(0.5) == 10


def test_a_primitive_that_broadcasts_still_does():
    book = fg.rules.replace({"mul": lambda g, out, x, y: (2 * g * y, 3 * g * x)})
    actual = fg.grad(lambda s, x: jnp.sum(lax.mul(s, x)), (0, 1), rules=book)(2.0, x)
    np.testing.assert_allclose(actual[0], 2 * jnp.sum(x), rtol=1e-15)
    np.testing.assert_allclose(actual[1], 6 * jnp.ones(3), rtol=1e-15)


def test_a_rule_of_ours_may_be_put_back():
    book = fg.rules.replace({"tanh": tenfold}).replace({"tanh": fg.rules["tanh"]})
    np.testing.assert_array_equal(fg.grad(jnp.tanh, rules=book)(0.5), fg.grad(jnp.tanh)(0.5))


def test_what_has_no_gradient_may_be_given_one():
    straight_through = fg.rules.replace({"floor": straight, "stop_gradient": straight})
    assert fg.grad(lambda x: 2 * jnp.floor(x), rules=straight_through)(0.5) == 2
    assert fg.grad(lambda x: x * lax.stop_gradient(x), rules=straight_through)(0.5) == 1
    rounded = jax.jit(lambda x: lax.scan(lambda c, _: (jnp.floor(c) + c, None), x, None, 2)[0])
    assert fg.grad(rounded)(0.5) == 1
    assert fg.grad(rounded, rules=straight_through)(0.5) == 4


def test_a_rule_of_a_function_of_several_inputs_and_outputs():
    @jax.jit
    def pair(x, n, y):
        return x * y, y + n.astype(float)

    seen = []

    def of_pair(g, out, x, n, y):
        seen.append([jnp.shape(z) for z in (*out, x, n, y)] + [entry is None for entry in g])
        return g[0] * 2, None, g[0] * 3

    book = fg.rules.replace({"pair": of_pair})
    actual = fg.grad(lambda x, y: jnp.sum(pair(x, jnp.arange(3), y)[0]), (0, 1), rules=book)(x, x)
    assert seen == [[(3,)] * 5 + [False, True]]
    np.testing.assert_array_equal(actual, [2 * jnp.ones(3), 3 * jnp.ones(3)])


@pytest.mark.parametrize("wrap", [jax.jit, jax.custom_jvp, jax.custom_vjp])
def test_what_a_function_closes_over_is_not_shown_to_its_rule(wrap):
    def loss(x):
        w = jnp.exp(x)

        def scaled(x):
            return x * w

        function = wrap(scaled)
        if wrap is jax.custom_vjp:
            function.defvjp(lambda x: (x, None), lambda _, g: (g,))
        elif wrap is jax.custom_jvp:
            function.defjvp(lambda p, t: (p[0], t[0]))
        return jnp.sum(function(x))

    book = fg.rules.replace({"scaled": tenfold})
    np.testing.assert_array_equal(fg.grad(loss, rules=book)(x), 10 * jnp.ones(3))


def test_a_rule_with_a_keyword_active_is_told_what_is_differentiated():
    seen = []

    def of_mul(g, z, x, y, *, active):
        seen.append(active)
        return g, g

    def of_any(g, z, x, y, *, active, **params):
        seen.append(active)
        return g, g

    for rule_of_mul in (of_mul, of_any):
        book = fg.rules.replace({"mul": rule_of_mul})
        fg.grad(lambda x: jnp.sum(2 * x), rules=book)(x)
        fg.grad(lambda x, y: jnp.sum(x * y), (0, 1), rules=book)(x, x)
    assert seen == [(False, True), (True, True)] * 2


def test_a_placement_looks_at_the_whole_graph():
    """It is part of the book: of what compares, of what hashes, of what later books keep."""

    def tenfold_tanh(graph, book):
        rule_at = lambda node, _: Rule("tanh", tenfold) if node.primitive == "tanh" else None  # noqa: E731
        return placing.placed(graph, placing.choices(Graph(graph), rule_at))

    book = fg.rules.with_placement(tenfold_tanh)
    assert book != fg.rules
    assert book == fg.rules.with_placement(tenfold_tanh)
    assert fg.grad(lambda x: gate(jnp.tanh(x)), rules=book)(0.5) == 100
    both = book.replace({"sin": straight})
    assert fg.grad(lambda x: jnp.sin(gate(x)), rules=both)(0.5) == 10


# --- Books do not leak ----------------------------------------------------------------------------


def test_a_jitted_function_does_not_remember_another_book():
    books = [fg.rules, fg.rules.replace({"tanh": straight}), fg.rules.replace({"tanh": tenfold})]
    expected = [1 - np.tanh(0.5) ** 2, 1, 10]
    for _ in range(2):
        for book, value in zip(books, expected, strict=True):
            np.testing.assert_allclose(fg.grad(gate, rules=book)(0.5), value, rtol=1e-15)
            np.testing.assert_allclose(jax.jit(fg.grad(gate, rules=book))(0.5), value, rtol=1e-15)


def test_a_book_is_a_static_argument():
    traced = []

    def derivative(x, book):
        traced.append(book)
        return fg.grad(gate, rules=book)(x)

    jitted = jax.jit(derivative, static_argnames="book")
    for _ in range(2):
        assert jitted(0.5, book=fg.rules.replace({"tanh": straight})) == 1
        assert jitted(0.5, book=fg.rules.replace({"tanh": tenfold})) == 10
    assert len(traced) == 2


def test_books_of_nested_transforms_are_apart():
    """Inner and outer gradient each have their own book; both meet the same jitted function."""
    book = fg.rules.replace({"tanh": tenfold})
    inner = fg.grad(lambda x: gate(x) * x, rules=book)  # 10x + tanh x
    assert fg.grad(inner, rules=book)(0.5) == 20
    np.testing.assert_allclose(fg.grad(inner)(0.5), 10 + 1 - np.tanh(0.5) ** 2, rtol=1e-15)
    np.testing.assert_allclose(jax.grad(inner)(0.5), 10 + 1 - np.tanh(0.5) ** 2, rtol=1e-15)
