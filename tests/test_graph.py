"""Functions as graphs: nodes, edges, labels, names, and selectors."""

import inspect

import jax
import numpy as np
import pytest
from jax import lax
from jax import numpy as jnp
from jax.extend.core import Primitive

import fungrad as fg

x = jnp.array([0.3, -0.7, 1.1])
W = jnp.outer(x, x)


@jax.jit
def gate(x):
    with jax.named_scope("inner"):
        return jnp.tanh(x)


def block(W, x):
    with jax.named_scope("attention"):
        return jax.nn.relu(gate(W @ x))


def network(W, x):
    with jax.named_scope("block0"):
        x = block(W, x)
    with jax.named_scope("block1"):
        x = block(W, x)
    return jnp.sum(fg.name(x, "last"))


graph = fg.trace(network)(W, x)


def labels(where):
    return [node.label for node in graph.find(where)]


# --- Reading --------------------------------------------------------------------------------------


def test_trace_reads_all_nodes_in_program_order():
    assert [node.label for node in graph] == [
        *("dot_general", "gate", "tanh", "relu"),
        *("jit", "max"),  # JAX's relu is a custom_jvp around a jit of the same name
        *("dot_general:1", "gate:1", "tanh:1", "relu:1"),
        *("jit:1", "max:1"),
        *("last", "reduce_sum"),
    ]
    assert len(graph) == len(graph.nodes) == 14


def test_trace_computes_nothing_and_takes_shapes():
    def loud(x, *, y):
        jax.debug.callback(lambda: pytest.fail("it ran"))
        return jnp.exp(x["a"]) * y

    struct = jax.ShapeDtypeStruct((3,), jnp.float32)
    (node,) = fg.trace(loud)({"a": struct}, y=struct).find(fg.at(primitive="exp"))
    assert (node.outputs[0].shape, node.outputs[0].dtype) == ((3,), jnp.float32)
    assert fg.trace(loud)({"a": 1.0}, y=jnp.ones(3)).inputs[1].shape == (3,)


def test_a_node_knows_its_place():
    node = graph.find(fg.at(primitive="tanh"))[0]
    assert node.file == inspect.getsourcefile(gate.__wrapped__)
    assert node.line == inspect.getsourcelines(gate.__wrapped__)[1] + 3
    assert node.function == "gate"
    assert node.scope == "block0/attention/inner"
    assert [call.label for call in node.path] == ["gate"]
    assert repr(node) == f"Node('tanh', test_graph.py:{node.line})"


def test_a_node_in_a_librarys_jit_has_its_calls_line():
    def function(x):
        return jnp.linalg.norm(x)

    nodes = fg.trace(function)(x).nodes
    line = inspect.getsourcelines(function)[1] + 1
    assert len(nodes) > 1
    assert {node.line for node in nodes} == {line}
    assert {node.function for node in nodes} == {"function"}


def test_a_node_knows_what_it_calls_and_holds():
    call = graph.find(fg.at(primitive="gate", index=0))[0]
    assert (call.primitive, call.callee) == ("jit", "gate")
    assert [len(inner.jaxpr.eqns) for inner in call.graphs] == [1]
    assert call.params["name"] == "gate"
    leaf = graph.find("last")[0]
    assert (leaf.primitive, leaf.name, leaf.callee, leaf.graphs) == ("name", "last", None, [])
    branches = fg.trace(lambda x: lax.cond(x > 0, jnp.sin, jnp.cos, x))(1.0)
    assert len(branches.find(fg.at(primitive="cond"))[0].graphs) == 2
    assert {"sin", "cos"} <= {node.label for node in branches}


def test_edges_join_nodes():
    def function(x, y):
        return jnp.sin(x) * y + W[0, 0]

    read = fg.trace(function)(2.0, 3.0)
    sine, product = (read.find(fg.at(primitive=p))[0] for p in ("sin", "mul"))
    assert sine.inputs == [read.inputs[0]]
    assert product.inputs == [sine.outputs[0], read.inputs[1]]
    assert len({sine.outputs[0], product.inputs[0]}) == 1
    assert sine.outputs[0] != product.outputs[0]
    assert read.edges[:2] == read.inputs
    assert set(read.outputs) <= set(read.edges)
    assert repr(product.outputs[0]) == "Edge(float64[])"


def test_a_graph_prints_as_a_table():
    text = str(graph)
    assert text.splitlines()[2].split()[:2] == ["tanh", "float64[3]"]
    assert text.splitlines()[2].startswith("  ")
    assert f"test_graph.py:{graph.nodes[2].line}" in text


# --- Labels and names -----------------------------------------------------------------------------


def test_labels_are_unique_and_the_same_at_every_trace():
    found = [node.label for node in graph]
    assert len(set(found)) == len(found)
    assert found == [node.label for node in fg.trace(network)(W, x)]
    assert found == [node.label for node in fg.trace(network)(2 * W, 3 * x)]


def test_a_name_that_is_given_once_is_the_label():
    def function(x):
        x = jnp.tanh(jnp.tanh(x))
        return fg.name(fg.name(x, "tanh"), "tanh:1") * fg.name(fg.name(x, "h"), "h")

    found = [node.label for node in fg.trace(function)(1.0)]
    assert found == ["tanh:2", "tanh:3", "tanh", "tanh:1", "h", "h:1", "mul"]


def test_name_is_the_identity_in_every_transform():
    def named(x):
        return jnp.sum(jnp.sin(fg.name(x, "h")))

    assert fg.name(3.0, "h") == 3
    np.testing.assert_array_equal(jax.jit(jax.vmap(lambda x: fg.name(x, "h")))(x), x)
    for grad in (fg.grad, jax.grad):
        np.testing.assert_allclose(grad(named)(x), jnp.cos(x), rtol=1e-15)
    np.testing.assert_allclose(fg.hessian(named)(x), -jnp.diag(jnp.sin(x)), rtol=1e-15)


def test_name_takes_trees():
    read = fg.trace(lambda t: fg.name(t, "h"))({"a": x, "b": (x, None)})
    assert [node.label for node in read.find("h")] == ["h", "h:1"]


def test_checkpoint_names_are_names():
    read = fg.trace(lambda x: jax.ad_checkpoint.checkpoint_name(x, "h") * 2)(1.0)
    assert read.find("h")[0].name == "h"


@pytest.mark.parametrize("label", ["", 3, None])
def test_a_name_is_a_text(label):
    with pytest.raises(TypeError, match=f"label must be a non-empty string, got {label!r}"):
        fg.name(1.0, label)


# --- Selectors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("last", ["last"]),
        (fg.at(name="last"), ["last"]),
        (fg.at("last"), ["last"]),
        ("tanh:1", ["tanh:1"]),  # no name, but a label
        (fg.at(primitive="tanh"), ["tanh", "tanh:1"]),
        (fg.at(primitive="tanh", index=0), ["tanh"]),
        (fg.at(primitive="tanh", index=1), ["tanh:1"]),
        (fg.at(primitive="tanh", index=-1), ["tanh:1"]),
        (fg.at(primitive="tanh", index=-2), ["tanh"]),
        (fg.at(primitive="gate"), ["gate", "gate:1"]),
        (fg.at(function="gate"), ["gate", "tanh", "gate:1", "tanh:1"]),
        (fg.at(function="network"), ["last", "reduce_sum"]),
        (fg.at(scope="block1"), [node.label for node in graph.nodes[6:12]]),
        (fg.at(scope="block1", primitive="tanh"), ["tanh:1"]),
        (fg.at(scope="block1/attention", primitive="dot_general"), ["dot_general:1"]),
        (fg.at(scope="attention/inner"), ["tanh", "tanh:1"]),
        (fg.at(scope="block*/attention/inner", index=0), ["tanh"]),
        (fg.at(scope="*0/attention", primitive="max"), ["max"]),
        (fg.at(primitive="tanh") | fg.at("last"), ["tanh", "tanh:1", "last"]),
        (fg.at(primitive="tanh") & fg.at(scope="block0"), ["tanh"]),
        (fg.at(index=-1), ["reduce_sum"]),
        (None, [node.label for node in graph]),
    ],
)
def test_find(where, expected):
    assert labels(where) == expected


def test_a_function_is_found_once_for_each_call():
    """Be it jitted, custom, both, or, as JAX's softmax and gelu are, a mere function."""

    def function(x):
        x = jax.nn.relu(jax.nn.relu(x))
        return jax.nn.gelu(fg.layers.softmax(x)) + jax.nn.silu(x) * jax.nn.log_softmax(x)

    read = fg.trace(function)(jnp.ones(3))
    found = {
        name: [node.label for node in read.find(fg.at(function=name))]
        for name in ("relu", "silu", "log_softmax", "softmax", "gelu")
    }
    assert found["relu"] == ["relu", "relu:1"]
    assert [found[name] for name in ("silu", "log_softmax")] == [["silu"], ["log_softmax"]]
    assert found["softmax"][-1] == "div"
    assert found["gelu"][-1].startswith("mul")
    assert not set(found["softmax"]) & set(found["gelu"])


def test_find_by_line():
    line = graph.find(fg.at(primitive="tanh"))[0].line
    tanhs = ["tanh", "tanh:1"]
    assert labels(fg.at(line=line)) == tanhs
    for file in ("test_graph.py", "tests/test_graph.py", inspect.getsourcefile(gate.__wrapped__)):
        assert labels(fg.at(line=f"{file}:{line}")) == tanhs
    with pytest.raises(LookupError, match="no node matches"):
        graph.find(fg.at(line=f"graph.py:{line}"))


def test_scopes_of_transforms_are_looked_through():
    def function(x):
        with jax.named_scope("outer"):
            return jax.vmap(jax.vmap(gate))(x)

    read = fg.trace(jax.vmap(function))(W[None])
    assert [node.label for node in read.find(fg.at(scope="outer/inner"))] == ["tanh"]
    assert read.find(fg.at(primitive="tanh"))[0].scope == "outer/inner"


def test_scopes_of_loops_are_those_of_their_calls():
    def function(x):
        with jax.named_scope("loop"):
            return lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=2)[0]

    (node,) = fg.trace(function)(1.0).find(fg.at(scope="loop", primitive="sin"))
    assert [call.label for call in node.path] == ["scan"]


@pytest.mark.parametrize(
    ("where", "near"),
    [
        ("lst", "last"),
        (fg.at(primitive="tan"), "tanh"),
        (fg.at(function="gat"), "gate"),
        (fg.at(primitive="tanh", index=2), "tanh"),
        (fg.at(primitive="tanh", index=-3), "tanh"),
    ],
)
def test_what_is_not_found_is_named_with_what_is_near(where, near):
    with pytest.raises(LookupError) as error:
        graph.find(where)
    assert str(error.value).startswith(f"no node matches {where!r}; the nearest labels are ")
    assert f"'{near}'" in str(error.value)


def test_where_is_a_selector_or_a_name():
    with pytest.raises(TypeError, match=r"where must be a selector, made by at\(...\), or a name"):
        graph.find(3)


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"name": 3}, TypeError, "name must be a string, or None, got 3"),
        ({"function": len}, TypeError, "function must be a string"),
        ({"line": 1.5}, TypeError, "line must be a number, or a string"),
        ({"line": "model.py"}, ValueError, "line must be a number, .* got 'model.py'"),
        ({"index": True}, TypeError, "index must be an integer, or None, got True"),
    ],
)
def test_what_selects_nothing_ever_is_refused(fields, error, words):
    with pytest.raises(error, match=words):
        fg.at(**fields)


def test_names_combine_with_selectors():
    a, b = fg.at(name="a"), fg.at(name="b")
    assert {a | "b", "b" | a} == {a | b}
    assert a & "b" == a & b
    with pytest.raises(TypeError, match="where must be a selector"):
        a | 3


def test_selectors_are_values():
    assert repr(fg.at("a", index=0) & fg.at(scope="b")) == "(at(name='a', index=0) & at(scope='b'))"
    assert fg.at(primitive="tanh", index=1) == fg.at(primitive="tanh", index=1)
    assert len({fg.at("a"), fg.at(name="a"), fg.at("b")}) == 2


def test_a_jaxpr_whose_constants_are_elsewhere_is_no_graph_of_its_equation():
    """Libraries hold functions so in the parameters of primitives of theirs."""
    held_p = Primitive("held")
    held_p.def_abstract_eval(lambda x, jaxpr: x)
    held_p.def_impl(lambda x, jaxpr: x)
    open_jaxpr = jax.make_jaxpr(lambda x: x * W)(x).jaxpr
    book = fg.rules.replace({"held": lambda g, z, x, jaxpr: 2 * g})
    gradient = fg.grad(lambda x: jnp.sum(held_p.bind(x, jaxpr=open_jaxpr)), rules=book)
    np.testing.assert_array_equal(gradient(x), jnp.full(3, 2.0))
