"""Which nodes of a graph a `where` selects, and what `None` stands for: all that one may ask for.

That is the named nodes, and every operation of floats that depends on an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fungrad import _jax, editing
from fungrad.graph import Graph, Node
from fungrad.rules.loops import divided
from fungrad.selector import Selector

Where = Selector | str | None


def selected(graph: Graph, where: Where, enters_while: bool) -> list[Node]:
    """The nodes, in program order; at least one, unless `where` is `None`.

    Those that cannot be entered, such as the addition that a scatter does to each entry, are left
    out beside others.

    Args:
        graph: that of a function.
        where: `None`: all that one may ask for.
        enters_while: whether one may ask for nodes in while loops.

    Raises:
        LookupError: no node matches.
        ValueError: a node that matches is in a while loop, and may not be.
        NotImplementedError: all that match are in calls that cannot be entered.
    """
    found = graph.find(where)
    refusals = [_refusal(node, enters_while) for node in found]
    reached = [node for node, refusal in zip(found, refusals, strict=True) if refusal is None]
    if where is None:
        depending = _depending(graph)
        return [
            node
            for node in reached
            if node.name is not None or (id(node) in depending and has_gradient(node))
        ]
    for refusal in refusals:
        if isinstance(refusal, ValueError) or (refusal is not None and not reached):
            raise refusal
    return reached


def _refusal(node: Node, enters_while: bool) -> Exception | None:
    for call in node.path:
        if call.primitive == "while" and not enters_while:
            return ValueError(
                f"node {node.label!r} is inside the while loop at {call.file}:{call.line}, whose "
                "number of steps is not known, so there is no axis to stack its values along: "
                "state how many steps you want to see, max_steps=100, or select a node outside"
            )
    return editing.refusal(node)


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
        nodes, parts = inner.get(id(node), []), []
        for graph in node.graphs:
            size = len(graph.jaxpr.eqns)
            parts.append((graph.jaxpr, nodes[:size]))
            nodes = nodes[size:]
        if node.primitive == "while":
            known = node.params["cond_nconsts"]
            (condition, tested), body = divided(node.params, parts)
            carry = go_round(node, body, active[known:])[node.params["body_nconsts"] :]
            active = [*active[:known], *carry]
            mark(tested, {v for v, a in zip(condition.invars, active, strict=True) if a}, [])
        else:
            for part in parts:
                go_round(node, part, active[len(active) - len(part[0].invars) :])

    def go_round(node: Node, part: tuple[Any, list[Node]], active: list[bool]) -> list[bool]:
        """Mark what is inside; which inputs depend on an argument at any iteration of a loop."""
        jaxpr, nodes = part
        while True:
            reached = {v for v, a in zip(jaxpr.invars, active, strict=False) if a}
            outputs = mark(nodes, reached, jaxpr.outvars)
            grown = _carried(node, active, outputs)
            if grown == active:
                return active
            active = grown

    mark(inner.get(0, []), set(graph.jaxpr.jaxpr.invars), [])
    return found


def _carried(node: Node, active: list[bool], outputs: list[bool]) -> list[bool]:
    """Which inputs of a loop's body depend on an argument after one more step."""
    if node.primitive == "scan":
        consts, carry, xs = _jax.scan_operands(node.params, active)
    elif node.primitive == "while":
        first = node.params["body_nconsts"]
        consts, carry, xs = active[:first], active[first:], []
    else:
        return active
    return [*consts, *(a or b for a, b in zip(carry, outputs, strict=False)), *xs]


def _is_in(variable: Any, variables: set[Any]) -> bool:
    return not isinstance(variable, _jax.Literal) and variable in variables
