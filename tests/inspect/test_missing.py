"""fg.missing lists what has no hand-written rule, and its stubs become rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas
from jax.extend.core import Primitive

import fungrad as fg
from fungrad.check.examples import examples
from fungrad.rulebook import rule

cube_p = Primitive("cube")
cube_p.def_abstract_eval(lambda x, n, *, scale, mode: x)
cube_p.def_impl(lambda x, n, *, scale, mode: scale * x**3)
pair_p = Primitive("pair")
pair_p.multiple_results = True
pair_p.def_abstract_eval(lambda x, y: [x, y])

X = jax.ShapeDtypeStruct((3, 4), jnp.float64)


def cube(x):
    return cube_p.bind(x, 1, scale=2.0, mode=None)


def twice(z_ref, x_ref):
    x_ref[...] = 2 * z_ref[...]


def book_without(*names):
    return fg.Rulebook({rule.primitive: rule for rule in fg.rules if rule.primitive not in names})


def test_nothing_is_missing():
    found = fg.missing(lambda x: jnp.linalg.norm(jnp.tanh(x)))(X)
    assert (len(found), found.primitives, bool(found)) == (0, [], False)
    assert str(found) == "every primitive that is differentiated has a hand-written rule"


@pytest.mark.parametrize(
    "around",
    [
        lambda f: lambda x: f(x) + f(x),
        lambda f: lambda x: jax.jit(f)(jax.jit(lambda x: f(x) + 0)(x)),
        lambda f: lambda x: jax.lax.scan(lambda c, _: (f(f(c)), None), x, None, length=3)[0],
        lambda f: lambda x: jax.lax.cond(x[0, 0] > 0, f, lambda x: f(x) * 1, x),
        lambda f: jax.checkpoint(lambda x: f(f(x))),
    ],
    ids=["plain", "jit", "scan", "cond", "checkpoint"],
)
def test_counts_in_calls(around):
    found = fg.missing(around(cube))(X)
    assert found.primitives == ["cube"]
    assert found["cube"].count == 2
    line = cube.__code__.co_firstlineno + 1
    assert found["cube"].places == [f"{__file__}:{line} (cube)"]


def test_counts_in_the_derivative_of_a_custom_jvp():
    found = fg.missing(jax.nn.relu, rules=book_without("select_n"))(X)
    assert found.primitives == ["select_n"]


def test_a_rule_at_a_node_that_is_selected_is_there():
    book = book_without("sin").replace({fg.at(primitive="sin", index=0): lambda g, out, x: g})
    assert fg.missing(jnp.sin, rules=book)(X).primitives == []
    assert fg.missing(lambda x: jnp.sin(jnp.sin(x)), rules=book)(X)["sin"].count == 1


def test_only_what_is_differentiated_counts():
    found = fg.missing(lambda x: x * cube(jnp.ones(3)).sum() + jnp.isnan(cube(x)).astype(float))(X)
    assert found.primitives == []
    assert fg.missing(lambda x, n: x[n] if n > 2 else cube(x))(X, 1).primitives == ["cube"]


def test_a_gap_has_its_reason():
    def call(x):
        return pallas.pallas_call(twice, jax.typeof(x), interpret=True)(x) + cube(x)

    found = fg.missing(call)(X)
    assert found.primitives == ["cube", "pallas_call"]
    assert found["cube"].reason is None
    assert "kernel" in found["pallas_call"].reason
    assert "A gap, which keeps JAX's own rule: its body is a kernel" in str(found)
    with pytest.raises(KeyError, match="'tanh' is not missing"):
        found["tanh"]


def test_shows_the_stub():
    found = fg.missing(lambda x: cube(x).sum())(X)
    assert (
        found["cube"].stub
        == '''@rule(
    "cube",
    example=lambda draw: (lambda x, y: cube_p.bind(x, y, scale=2.0, mode=None), \
draw.uniform(3, 4), draw.integers()),
)
def cube(g, z, x, y, *, scale, mode):
    """z = cube(x, y)        ∂z/∂x = ..."""
    return lambda: ..., None
'''
    )
    assert all(line.strip() in str(found) for line in found["cube"].stub.splitlines())
    assert f"```python\n{found['cube'].stub}```" in found._repr_markdown_()


def test_a_stub_becomes_a_rule():
    stub = fg.missing(cube)(X)["cube"].stub
    filled = stub.replace("lambda: ...", "3 * scale * g * x**2").replace("...", "diag(6 x²)")
    namespace = {"rule": rule, "cube_p": cube_p}
    exec(filled, namespace)
    (example,) = examples(namespace["cube"])
    book = fg.Rulebook({**{rule.primitive: rule for rule in fg.rules}, "cube": namespace["cube"]})
    (x, _) = example.arguments
    gradient = fg.grad(lambda x: example.function(x, 1).sum(), rules=book)(x)
    np.testing.assert_allclose(gradient, 6 * x**2, rtol=1e-15)
    assert namespace["cube"].jacobian == "z = cube(x, y)        ∂z/∂x = diag(6 x²)"


def test_stubs_of_several_outputs_and_of_functions_in_lax():
    stub = fg.missing(lambda x: pair_p.bind(x, x)[1])(X)["pair"].stub
    assert "def pair(g, out, x, y):" in stub
    assert "g1, g2 = g" in stub
    stub = fg.missing(jnp.sin, rules=book_without("sin"))(X)["sin"].stub
    assert "example=lambda draw: draw.uniform(3, 4),\n)\ndef sin(g, z, x, *, accuracy):" in stub


def test_refuses_what_is_no_function():
    with pytest.raises(TypeError, match="fun must be a function, got 3"):
        fg.missing(3)
