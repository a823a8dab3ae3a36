"""`draw`: the graph of a small function, a value and a gradient on every edge.

What is shown is read here, where it goes is decided in layout.py, how it looks in drawing.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_flatten

from fungrad import _arguments, _jax
from fungrad.graph import Graph, Node
from fungrad.inspect.arguments import named_graph
from fungrad.inspect.drawing import Box, Drawing, Operation
from fungrad.rulebook import Rulebook
from fungrad.transforms import vjp

SYMBOLS = {
    "add": "+",
    "add_any": "+",
    "sub": "−",
    "neg": "−",
    "mul": "×",
    "div": "÷",
    "dot_general": "·",
    "reduce_sum": "Σ",
    "reduce_prod": "Π",
    "sqrt": "√",
    "square": "x²",
    "transpose": "xᵀ",
}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def draw(
    fun: Callable[..., Any], *, cotangent: Any = None, rules: Rulebook | None = None
) -> Callable[..., Drawing]:
    """Draw the graph of a small function: `draw(fun)(*args)`.

    Boxes are edges, "name | value | gradient", circles are operations; a call (jit, scan, ...) is
    one of them. An edge bears the name of its argument, or the one that `fungrad.name` gave it.
    All comes from one forward and one backward pass. Arrays are inputs of the graph, and so are
    Python floats; other Python numbers are part of the function.

    Args:
        fun: a function of pytrees of arrays.
        cotangent: the gradient at the output, in the output's structure; `None` is 1, for a
            function whose output is a real scalar.
        rules: the rulebook; `None` is `fungrad.rules`.

    Raises:
        TypeError: when called: the output is no real scalar and there is no cotangent, or the
            arguments are being traced.
        ValueError: when called: the cotangent does not fit the output.

    >>> import fungrad as fg
    >>> print(fg.draw(lambda w, x, b: w * x + b)(2.0, 3.0, 1.0))
    edge   value | gradient
    w          2 | 3
    x          3 | 2
    b          1 | 1
    ×          6 | 1
    + out      7 | 1
    """
    if not callable(fun):
        raise TypeError(f"fun must be a function, got {fun!r}")

    def drawing(*args: Any, **kwargs: Any) -> Drawing:
        graph, arrays, names, tree = named_graph(fun, args, kwargs)
        values, gradients = _run(graph, arrays, tree, cotangent, rules)
        return _assembled(graph, names, values, gradients)

    return drawing


# --- Values and gradients -----------------------------------------------------------------------


def _run(
    graph: Graph, arrays: list[Any], tree: Any, cotangent: Any, rules: Rulebook | None
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The value of every edge, and the gradient of every edge of floats or complex numbers."""
    jaxpr = graph.jaxpr.jaxpr
    variables = [*jaxpr.invars, *jaxpr.constvars, *(v for e in jaxpr.eqns for v in e.outvars)]
    watched = [v for v in variables if _jax.is_differentiable(v.aval)]

    def shifted(shifts):
        """Every edge x is x + shift, so that ∂out/∂shift is the gradient of the edge."""
        shift_of, values = dict(zip(watched, shifts, strict=True)), {}

        def put(edges, given):
            for v, x in zip(edges, given, strict=True):
                values[v] = _jax.add(x, shift_of[v]) if v in shift_of else x

        def get(v):
            return v.val if isinstance(v, _jax.Literal) else values[v]

        put(jaxpr.invars, arrays)
        put(jaxpr.constvars, graph.jaxpr.consts)
        for equation in jaxpr.eqns:
            put(equation.outvars, _jax.bind(equation, [get(v) for v in equation.invars]))
        return [get(v) for v in jaxpr.outvars], [values[v] for v in variables]

    # x + (−0) is x, to the sign of a zero.
    shifts = [_jax.with_weakness_of(-_jax.zeros(v.aval), v.aval) for v in watched]
    outputs, pullback, values = vjp(shifted, shifts, has_aux=True, rules=rules)
    if not _arguments.known(*values):
        raise TypeError("draw shows values, which a function under jit, vmap or grad has none of")
    (gradients,) = pullback(_at_outputs(outputs, tree, cotangent))
    return dict(zip(variables, values, strict=True)), dict(zip(watched, gradients, strict=True))


def _at_outputs(outputs: Sequence[Any], tree: Any, cotangent: Any) -> list[Any]:
    """The gradients at the leaves of the output."""
    types = [_arguments.describe(x) for x in outputs]
    if cotangent is None:
        scalar = len(types) == 1 and jnp.shape(outputs[0]) == ()
        if not scalar or not jnp.issubdtype(jnp.result_type(outputs[0]), jnp.floating):
            raise TypeError(
                "draw shows the gradients of one real scalar, but the function returns "
                f"{', '.join(types)}; reduce it, e.g. by jnp.sum, or give cotangent="
            )
        return [jnp.ones_like(outputs[0])]
    given, structure = tree_flatten(cotangent)
    if structure == tree:
        pairs = zip(given, outputs, strict=True)
        given = [jnp.asarray(g, jnp.result_type(x)) if np.isscalar(g) else g for g, x in pairs]
    got = [_arguments.describe(g) for g in given]
    if structure != tree or got != types:
        raise ValueError(
            f"cotangent must be like the function's output, {', '.join(types)} in the structure "
            f"{tree}; got {', '.join(got)} in {structure}"
        )
    return given


# --- Items and links ----------------------------------------------------------------------------


def _assembled(
    graph: Graph, names: dict[Any, str], values: dict[Any, Any], gradients: dict[Any, Any]
) -> Drawing:
    """Boxes and circles in program order, and the links between them."""
    jaxpr = graph.jaxpr.jaxpr
    nodes = [node for node in graph if not node.path]
    uses = Counter(edge for node in nodes for edge in node.inputs) + Counter(graph.outputs)
    made = {edge for node in nodes for edge in node.outputs}
    names = {**names, **{node.outputs[0].variable: node.name for node in nodes if node.name}}
    items: list[Box | Operation] = []
    links: list[tuple[int, int]] = []
    place: dict[Any, int] = {}

    def box(variable):
        if isinstance(variable, _jax.Literal):
            items.append(Box("", variable.val))
            return len(items) - 1
        if variable not in place:
            place[variable] = len(items)
            name = names.get(variable, "")
            items.append(Box(name, values[variable], gradients.get(variable)))
        return place[variable]

    for variable in (*jaxpr.invars, *jaxpr.constvars):
        box(variable)
    for node in nodes:
        operands = [box(v) for v in node.equation.invars]
        if node.name and uses[node.inputs[0]] == 1 and node.inputs[0] in made:
            # An edge whose one use is to be named is drawn once, with its name.
            place[node.outputs[0].variable] = operands[0]
            items[operands[0]] = replace(items[operands[0]], name=node.name)
            continue
        circle = len(items)
        items.append(Operation(_symbol(node)))
        links += dict.fromkeys((operand, circle) for operand in operands)
        results = [v for v in node.equation.outvars if not isinstance(v, _jax.DropVar)]
        links += [(circle, box(v)) for v in results]
    return Drawing(tuple(items), tuple(links))


def _symbol(node: Node) -> str:
    if node.primitive == "integer_pow":
        return "x" + str(node.params["y"]).translate(SUPERSCRIPTS)
    return SYMBOLS.get(node.primitive) or node.callee or node.primitive
