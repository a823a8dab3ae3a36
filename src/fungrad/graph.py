"""A function as a graph: a node is an operation, an edge is a value, a call holds a sub-graph.

`trace` reads a function into a `Graph`; `name` gives an edge a name of its own.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from jax.ad_checkpoint import checkpoint_name
from jax.tree_util import tree_map

from fungrad import _jax
from fungrad._flat import Flat
from fungrad.selector import Selector, as_selector


@dataclass(frozen=True, eq=False)
class Edge:
    """A value that flows between nodes: an input, a constant, or an output of a node."""

    variable: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return self.variable.aval.shape

    @property
    def dtype(self) -> Any:
        return self.variable.aval.dtype

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Edge) and self.variable is other.variable

    def __hash__(self) -> int:
        return id(self.variable)

    def __repr__(self) -> str:
        return f"Edge({self.dtype}{list(self.shape)})"


@dataclass(frozen=True, eq=False)
class Node:
    """One operation of a graph.

    Attributes:
        equation: the equation of the jaxpr.
        label: unique in the graph and the same at every trace of the same function.
        path: the calls around it, outermost first.
    """

    equation: Any
    label: str
    path: tuple[Node, ...] = ()

    @property
    def primitive(self) -> str:
        return self.equation.primitive.name

    @property
    def name(self) -> str | None:
        """The name that `fungrad.name` or `checkpoint_name` gave to its value."""
        return _given_name(self.equation)

    @property
    def callee(self) -> str | None:
        """The name of the jitted or custom function that it calls.

        `None` where that is but the body of a call of the same name: of JAX's relu, which is a
        custom function of a jitted one, the outer call counts.
        """
        name = _jax.function_name(self.equation)
        around = self.path[-1] if self.path else None
        if around is None or name is None or name != around.callee:
            return name
        return None if [len(g.jaxpr.eqns) for g in around.graphs] == [1] else name

    @property
    def file(self) -> str:
        return self._place[0]

    @property
    def line(self) -> int:
        return self._place[1]

    @property
    def function(self) -> str:
        """The name of the innermost function of the user's that holds it."""
        return self._place[2].rsplit(".", 1)[-1]

    @property
    def library_function(self) -> str | None:
        """The library's function that its line calls, if that is no jit: softmax, of JAX's."""
        frames, library = _jax.calls_of(self.equation)
        name = library[-1][0].co_name if frames and library else None
        return None if any(name == call.callee for call in self.path) else name

    @cached_property
    def _place(self) -> tuple[str, int, str]:
        place = _jax.line_of(self.equation)
        # Operations inside a library's own jit have no user frame: the call's line is theirs.
        return place if place[1] or not self.path else self.path[-1]._place

    @cached_property
    def scope(self) -> str:
        """The `jax.named_scope` path, that of the calls around it first."""
        stacks = [_jax.scope_of(node.equation) for node in (*self.path, self)]
        parts = "/".join(map(_without_transforms, stacks)).split("/")
        return "/".join(part for part in parts if part)

    @property
    def inputs(self) -> list[Edge]:
        return [Edge(v) for v in self.equation.invars if not isinstance(v, _jax.Literal)]

    @property
    def outputs(self) -> list[Edge]:
        return [Edge(v) for v in self.equation.outvars]

    @property
    def params(self) -> dict[str, Any]:
        return self.equation.params

    @property
    def graphs(self) -> list[Any]:
        """The sub-graphs that a call holds: one, or one per branch."""
        return _jax.subgraphs(self.equation)

    def __repr__(self) -> str:
        return f"Node({self.label!r}, {os.path.basename(self.file)}:{self.line})"


def _without_transforms(scope: str) -> str:
    """`vmap(block0)/attn` is `block0/attn`."""
    while (bare := re.sub(r"\b\w+\(([^()]*)\)", r"\1", scope)) != scope:
        scope = bare
    return scope


@dataclass(frozen=True, eq=False)
class Graph:
    """A traced function: its nodes, those of inner graphs included, in program order.

    Attributes:
        jaxpr: the closed jaxpr that was read.
    """

    jaxpr: Any

    @cached_property
    def nodes(self) -> list[Node]:
        found: list[Node] = []
        names = Counter(map(_given_name, _equations(self.jaxpr)))
        unique = {name for name, count in names.items() if name is not None and count == 1}
        counts = Counter(unique)

        def visit(graph: Any, path: tuple[Node, ...]) -> None:
            for equation in graph.jaxpr.eqns:
                node = Node(equation, "", path)
                label = node.name if node.name in unique else _label(node, counts)
                node = replace(node, label=label)
                found.append(node)
                for inner in _jax.subgraphs(equation):
                    visit(inner, (*path, node))

        visit(self.jaxpr, ())
        return found

    @cached_property
    def edges(self) -> list[Edge]:
        """Inputs, then constants, then the outputs of the nodes."""
        jaxpr = self.jaxpr.jaxpr
        made = [edge for node in self.nodes for edge in node.outputs]
        return [*map(Edge, jaxpr.invars), *map(Edge, jaxpr.constvars), *made]

    @property
    def inputs(self) -> list[Edge]:
        return [Edge(v) for v in self.jaxpr.jaxpr.invars]

    @property
    def outputs(self) -> list[Edge]:
        return [Edge(v) for v in self.jaxpr.jaxpr.outvars if not isinstance(v, _jax.Literal)]

    def find(self, where: Selector | str | None = None) -> list[Node]:
        """The nodes that are selected, in program order.

        A string is a name that `fungrad.name` or `checkpoint_name` gave; else a label.

        Raises:
            LookupError: nothing matches; the message lists the labels that come nearest.
        """
        selector = as_selector(where)
        found = selector.select(self.nodes)
        found = found or [node for node in self.nodes if node.label == where]
        if not found:
            labels = [node.label for node in self.nodes]
            near = difflib.get_close_matches(selector.sought, labels, 5, 0.3) or labels[:5]
            raise LookupError(f"no node matches {where!r}; the nearest labels are {near}")
        return found

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def __str__(self) -> str:
        rows = [
            f"{'  ' * len(node.path)}{node.label:<24} "
            f"{' '.join(f'{e.dtype}{list(e.shape)}' for e in node.outputs)}"
            f"  {os.path.basename(node.file)}:{node.line}"
            for node in self.nodes
        ]
        return "\n".join(rows)


def _equations(graph: Any) -> Iterator[Any]:
    for equation in graph.jaxpr.eqns:
        yield equation
        for inner in _jax.subgraphs(equation):
            yield from _equations(inner)


def _given_name(equation: Any) -> str | None:
    return equation.params["name"] if equation.primitive.name == "name" else None


def _label(node: Node, counts: Counter[str]) -> str:
    """A label that no node has yet; `counts` tells how many begin with the same word."""
    base = node.name or node.callee or node.primitive
    while True:
        counts[base] += 1
        label = base if counts[base] == 1 else f"{base}:{counts[base] - 1}"
        if label == base or label not in counts:
            return label


def trace(fun: Callable[..., Any]) -> Callable[..., Graph]:
    """Read a function into a graph: `trace(fun)(*args)`.

    Arguments are arrays, or `jax.ShapeDtypeStruct`s; nothing is computed.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> graph = fg.trace(lambda x: jnp.tanh(x) * x)(1.0)
    >>> [node.label for node in graph.nodes]
    ['tanh', 'mul']
    """

    def read(*args: Any, **kwargs: Any) -> Graph:
        flat = Flat(fun, args, kwargs)
        types = [_jax.type_or_struct(leaf) for leaf in flat.leaves]
        return Graph(_jax.trace(flat, types, _jax.source_of(fun)))

    return read


def name(x: Any, label: str) -> Any:
    """`x` itself, its value in the graph named `label`; x may be a pytree.

    Under `jax.vmap` the value in the graph is that of all examples, stacked along a leading axis.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> graph = fg.trace(lambda x: fg.name(jnp.tanh(x), "h") + 1.0)(1.0)
    >>> graph.find("h")[0].name
    'h'
    """
    if not isinstance(label, str) or not label:
        raise TypeError(f"label must be a non-empty string, got {label!r}")
    return tree_map(lambda leaf: checkpoint_name(leaf, label), x)


def is_custom_jvp(equation: Any) -> bool:
    """Whether it calls a function whose author wrote how tangents pass."""
    return "jvp_jaxpr_fun" in equation.params


def place_of_custom_jvp(equation: Any) -> str:
    """The name, file and line of the derivative that an author wrote."""
    return equation.params["jvp_jaxpr_fun"].debug_info.func_src_info
