"""The nodes of a graph, level by level: each equation with its node and the graphs inside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fungrad import _jax
from fungrad.graph import Graph, Node

Variable = Any


@dataclass(frozen=True, eq=False)
class Level:
    """A graph, and for each of its equations the node and the levels inside."""

    graph: Any
    nodes: tuple[Node, ...]
    inside: tuple[tuple[Level, ...], ...]

    @cached_property
    def live(self) -> list[bool]:
        """Which equations the outputs depend on."""
        needed = set(filter(_is_variable, self.graph.jaxpr.outvars))
        live = []
        for equation in reversed(self.graph.jaxpr.eqns):
            live.append(any(v in needed for v in equation.outvars))
            if live[-1]:
                needed.update(filter(_is_variable, equation.invars))
        return live[::-1]

    def uses(self, variable: Variable) -> list[int]:
        """The live equations that read a variable."""
        equations = enumerate(self.graph.jaxpr.eqns)
        return [i for i, e in equations if self.live[i] and any(v is variable for v in e.invars)]

    @cached_property
    def size(self) -> int:
        """How many equations there are, those inside included."""
        return len(self.nodes) + sum(level.size for levels in self.inside for level in levels)


def _is_variable(v: Any) -> bool:
    return not isinstance(v, _jax.Literal)


def level_of(graph: Any) -> Level:
    """The levels of a whole graph; its nodes bear the labels that they have in it."""
    return _level(graph, (), iter([node.label for node in Graph(graph).nodes]))


def level_inside(graph: Any, node: Node) -> Level:
    """The levels of what the author of a rule wrote, which is in no graph of the user's."""
    return _level(graph, (*node.path, node), None)


def _level(graph: Any, path: tuple[Node, ...], labels: Iterator[str] | None) -> Level:
    nodes, inside = [], []
    for equation in graph.jaxpr.eqns:
        label = equation.primitive.name if labels is None else next(labels)
        node = Node(equation, label, path)
        nodes.append(node)
        graphs = _jax.subgraphs(equation)
        inside.append(tuple(_level(inner, (*path, node), labels) for inner in graphs))
    return Level(graph, tuple(nodes), tuple(inside))
