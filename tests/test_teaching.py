"""Errors inside rules and passes: the node, its line, the shapes, the formula, and what to do."""

import inspect

import jax
import jax.numpy as jnp
import pytest

import fungrad as fg
from fungrad.rules import default

X = jnp.arange(3.0)


def product(x):
    with jax.named_scope("scaled"):
        return jnp.sum(jnp.tanh(x) * x)


def line_of(function, offset):
    return f"test_teaching.py:{inspect.getsourcelines(function)[1] + offset}"


def told(error):
    """All that an error says: its text and its notes."""
    return "\n".join([str(error.value), *getattr(error.value, "__notes__", [])])


def boom(g, out, x):
    raise ZeroDivisionError("boom")


def branch(g, out, x):
    return g if x[0] > 0 else -g


def by_parts(g, z, x):
    """z = tanh x        ∂z/∂x = I, by decree"""
    return jnp.stack([g, g])


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["", "jit", "remat"])
@pytest.mark.parametrize(
    ("rule", "parts"),
    [
        (boom, ["raised ZeroDivisionError: boom", "of the rule that is replaced"]),
        (lambda g, out: g, ["raised TypeError", "takes 2 positional arguments but 3 were given"]),
        (lambda g, out, x: (g, g), ["returned 2 gradients for 1 inputs", "None for zero"]),
        (by_parts, ["a gradient float64[2, 3] for", "z = tanh x        ∂z/∂x = I, by decree"]),
        (lambda g, out, x: g.astype("float32"), ["a gradient float32[3]", "return float64[3]"]),
        (lambda g, out, x: g @ jnp.ones((4, 3)), ["raised TypeError", "dot_general"]),
        (lambda g, out, x: lambda: g + "1", ["raised TypeError", "str"]),
    ],
    ids=["raises", "arguments", "count", "shape", "dtype", "inside", "late"],
)
def test_a_rule_of_the_users(rule, parts, wrap):
    book = fg.rules.replace({"tanh": rule})
    with pytest.raises(fg.RuleError) as error:
        fg.grad(wrap(product), rules=book)(X)
    for part in (
        "the rule of 'tanh'",
        "node:    'tanh'",
        line_of(product, 2),
        "in product, scope scaled",
        "shapes:  (float64[3]) -> (float64[3])",
        "formula: z = tanh x        ∂z/∂x = ",
        "mend:    a rule is called as (g, out, *inputs, **params)",
        *parts,
    ):
        assert part in told(error)
    raised = isinstance(error.value.__cause__, TypeError | ZeroDivisionError)
    assert raised == ("raised" in str(error.value))


def test_a_rule_that_branches_on_a_value_under_jit():
    book = fg.rules.replace({"tanh": branch})
    assert fg.grad(product, rules=book)(X).shape == (3,)
    with pytest.raises(fg.RuleError, match=r"(?s)TracerBoolConversionError.*jnp\.where") as error:
        jax.jit(fg.grad(product, rules=book))(X)
    assert isinstance(error.value.__cause__, jax.errors.TracerBoolConversionError)


def looped(x):
    def step(c, _):
        return jnp.tanh(c), None

    return jnp.sum(jax.lax.scan(step, x, None, length=3)[0])


def test_a_rule_in_a_scan_tells_the_scan_too():
    book = fg.rules.replace({"tanh": boom})
    with pytest.raises(fg.RuleError) as error:
        fg.grad(looped, rules=book)(X)
    assert line_of(looped, 2) in str(error.value)
    assert any("inside 'scan'" in note for note in error.value.__notes__)
    assert any(line_of(looped, 4) in note for note in error.value.__notes__)


def test_a_rule_at_a_selected_node():
    second = fg.at(primitive="tanh", index=1)
    book = fg.rules.replace({second: boom})
    with pytest.raises(fg.RuleError, match=r"node: +'tanh:1'") as error:
        fg.grad(lambda x: jnp.sum(jnp.tanh(jnp.tanh(x))), rules=book)(X)
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_an_error_in_a_rule_of_the_book_keeps_its_type_and_text():
    def broken(g, z, x):
        """z = tanh x        ∂z/∂x = diag(1 − z²)"""
        raise ValueError("as it was")

    rules = {rule.primitive: rule for rule in default}
    tanh = fg.Rule("tanh", broken, True, example=lambda draw: draw.uniform(3))
    book = fg.Rulebook({**rules, "tanh": tanh})
    with pytest.raises(ValueError, match="as it was") as error:
        fg.grad(product, rules=book)(X)
    assert error.value.args == ("as it was",)
    assert "raised in the rule of 'tanh' (used at" in told(error)
    assert "formula: z = tanh x        ∂z/∂x = diag(1 − z²)" in told(error)


@jax.custom_vjp
def squared(x):
    return x * x


def forward(x):
    return x * x, x


def fails(x, g):
    raise KeyError("no residual")


squared.defvjp(forward, fails)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["", "jit"])
def test_a_backward_function_that_fails(wrap):
    def loss(x):
        return jnp.sum(squared(x))

    with pytest.raises(KeyError) as error:
        fg.grad(wrap(loss))(X)
    assert error.value.args == ("no residual",)
    assert "'squared'" in told(error)
    assert line_of(loss, 1) in told(error)
    assert "shapes:  (float64[3]) -> (float64[3])" in told(error)
    assert "fg.check.custom_vjp" in told(error)


def test_a_backward_function_of_another_structure_is_refused_as_by_jax():
    f = jax.custom_vjp(lambda x: x * x)
    f.defvjp(forward, lambda x, g: (g, g))
    with pytest.raises(TypeError) as theirs:
        jax.grad(lambda x: jnp.sum(f(x)))(X)
    with pytest.raises(TypeError) as ours:
        fg.grad(lambda x: jnp.sum(f(x)))(X)
    assert str(ours.value).split("\n")[0] == str(theirs.value).split("\n")[0]
    assert "node:" in told(ours)


def test_the_rule_of_a_custom_function():
    cube = fg.custom(lambda x: x**3, lambda g, out, x: (g, g))

    def loss(x):
        return jnp.sum(cube(x))

    with pytest.raises(TypeError, match="returned 2 gradients for 1 inputs") as error:
        fg.grad(loss)(X)
    assert line_of(loss, 1) in told(error)


def test_jax_is_told_nothing_where_nothing_fails():
    with pytest.raises(TypeError, match="grad requires real- or complex-valued inputs") as error:
        fg.grad(jnp.sum)(jnp.arange(3))
    assert "fungrad: " not in told(error)
