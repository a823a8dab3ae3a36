"""Which nodes of a graph a `where` selects, and what `None` stands for: all that one may ask for.

That is the named nodes, and every operation of floats that depends on an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fungrad import _jax, editing
from fungrad.graph import Graph, Node, Selector

Where = Selector | str | None


def selected(graph: Graph, where: Where) -> list[Node]:
    """The nodes, in program order; at least one, unless `where` is `None`."""
    found = graph.find(where)
    if where is not None:
        return found
    depending = _depending(graph)
    return [
        node
        for node in found
        if editing.is_reachable(node)
        and (node.name is not None or (id(node) in depending and has_gradient(node)))
    ]


def has_gradient(node: Node) -> bool:
    """Whether a node has an output of floats, and no references."""
    avals = [v.aval for v in node.equation.outvars]
    arrays = not any(map(_jax.is_reference_type, avals))
    return arrays and any(map(_jax.is_differentiable, avals))


def _depending(graph: Graph) -> set[int]:
    """The ids of the nodes that depend on an argument."""
    inner: dict[int, list[Node]] = {}
    for node in graph.nodes:
        inner.setdefault(id(node.path[-1]) if node.path else 0, []).append(node)
    found: set[int] = set()

    def mark(nodes: list[Node], reached: set[Any], outputs: Sequence[Any]) -> list[bool]:
        for node in nodes:
            active = [_is_in(v, reached) for v in node.equation.invars]
            if any(active):
                found.add(id(node))
                reached.update(node.equation.outvars)
                enter(node, active)
        return [_is_in(v, reached) for v in outputs]

    def enter(node: Node, active: list[bool]) -> None:
        nodes = inner.get(id(node), [])
        for graph in node.graphs:
            size = len(graph.jaxpr.eqns)
            own, nodes = nodes[:size], nodes[size:]
            inputs = graph.jaxpr.invars
            active = active[len(active) - len(inputs) :]
            while True:  # what a scan carries goes round
                reached = {v for v, a in zip(inputs, active, strict=False) if a}
                outputs = mark(own, reached, graph.jaxpr.outvars)
                grown = _carried(node, active, outputs)
                if grown == active:
                    break
                active = grown

    mark(inner.get(0, []), set(graph.jaxpr.jaxpr.invars), [])
    return found


def _carried(node: Node, active: list[bool], outputs: list[bool]) -> list[bool]:
    """Which inputs of a scan's body depend on an argument after one more step."""
    if node.primitive != "scan":
        return active
    consts, carry, xs = _jax.scan_operands(node.params, active)
    carry = [a or b for a, b in zip(carry, outputs, strict=False)]
    return [*consts, *carry, *xs]


def _is_in(variable: Any, variables: set[Any]) -> bool:
    return not isinstance(variable, _jax.Literal) and variable in variables
