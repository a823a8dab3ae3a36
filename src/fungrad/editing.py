"""A graph run again, with a visit at some of its nodes that may look at a value or change it.

What `nodes` is made of. The graph is evaluated equation by equation; a call that holds none of the
nodes is emitted as it is, one that does is emitted anew, with

- what the visits look at as outputs more: those of a scan come stacked along a leading axis, those
  of a branch that is not taken are zero;
- what they insert as inputs more: a scan takes one slice of it per iteration.

The nodes are those of one call of the graph: a function that is called twice has its nodes twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jax import lax
from jax import numpy as jnp
from jax.tree_util import tree_flatten, tree_leaves, tree_structure, tree_unflatten

from fungrad import _jax
from fungrad.graph import Graph, Node
from fungrad.passes import read

Seen = dict[str, list[Any]]


@dataclass(frozen=True)
class Visitor:
    """What happens at the nodes that are visited.

    Attributes:
        visit: `(node, outputs, slices, iteration) -> outputs, seen` is called with the values of
            the node, what is inserted there, and the iteration of each scan around it.
        rejoin: `(call, body, inputs) -> outputs, seen` is called where a node is in a function
            whose author wrote its derivative: by `call`, the function, and `body`, its graph with
            the visits, both functions of lists.
        counts: whether visits ask for the iteration.
    """

    visit: Callable[..., tuple[list[Any], Seen]]
    rejoin: Callable[..., tuple[list[Any], Seen]]
    counts: bool = False


@dataclass(frozen=True)
class _Place:
    """A node, whether it is visited, and the graphs that it holds."""

    node: Node
    is_visited: bool
    inside: tuple[_Inside, ...]

    @property
    def labels(self) -> set[str]:
        own = {self.node.label} if self.is_visited else set()
        return own.union(*(inner.labels for inner in self.inside))


@dataclass(frozen=True)
class _Inside:
    """A graph, its places, and the labels of those that are visited."""

    graph: Any
    places: tuple[_Place, ...]

    @property
    def labels(self) -> set[str]:
        return set().union(*(place.labels for place in self.places))


def _inside(graph: Any, nodes: Iterator[Node], visited: set[int]) -> _Inside:
    """The places of a graph; `nodes` are its nodes, those of inner graphs included, in order."""
    places = []
    for _ in graph.jaxpr.eqns:
        node = next(nodes)
        inner = tuple(_inside(each, nodes, visited) for each in node.graphs)
        places.append(_Place(node, id(node) in visited, inner))
    return _Inside(graph, tuple(places))


def run(
    graph: Graph,
    inputs: Sequence[Any],
    nodes: Sequence[Node],
    visitor: Visitor,
    slices: dict[str, list[Any]] | None = None,
) -> tuple[list[Any], Seen]:
    """The graph's outputs, and what was seen at its nodes, by label.

    Args:
        nodes: those of the graph that are visited.
        slices: by label, what is inserted there, stacked along the scans around it.

    Raises:
        NotImplementedError: a node is in a graph that cannot be entered.
    """
    for node in nodes:
        refuse_unreachable(node)
    whole = _inside(graph.jaxpr, iter(graph.nodes), set(map(id, nodes)))
    return _Run(visitor, slices or {}).through(whole, inputs)


def is_reachable(node: Node) -> bool:
    """Whether all graphs around a node can be entered."""
    return all(call.primitive in _CALLS for call in node.path)


def refuse_unreachable(node: Node) -> None:
    """An error that names the call that cannot be entered, if there is one around the node."""
    for call in node.path:
        if call.primitive not in _CALLS:
            hint = "a scan, or a fori_loop of a fixed number of steps, can be entered"
            why = f"a loop of unknown length has no axis to stack values along; {hint}"
            why = why if call.primitive == "while" else "its graph is run in a way of its own"
            raise NotImplementedError(
                f"node {node.label!r} is inside the {call.primitive!r} at "
                f"{call.file}:{call.line}, where nodes cannot be read or replaced: {why}. "
                f"Select the node {call.label!r} itself, or one outside"
            )


def steps_around(node: Node) -> tuple[int, ...]:
    """The lengths of the scans around a node, outermost first."""
    return tuple(call.params["length"] for call in node.path if call.primitive == "scan")


def stacked_type(node: Node, aval: Any) -> Any:
    """The type of one value per iteration of the scans around a node."""
    for length in reversed(steps_around(node)):
        aval = _jax.stacked_type(aval, length)
    return aval


@dataclass(frozen=True)
class _Run:
    """How a graph is run: `slices` are those of the present iteration of the scans around it."""

    visitor: Visitor
    slices: dict[str, list[Any]]
    iteration: tuple[Any, ...] = ()

    def through(self, inside: _Inside, inputs: Sequence[Any]) -> tuple[list[Any], Seen]:
        jaxpr, seen = inside.graph.jaxpr, {}
        values = dict(zip(jaxpr.constvars, inside.graph.consts, strict=True))
        values.update(zip(jaxpr.invars, inputs, strict=True))
        for place in inside.places:
            equation, node = place.node.equation, place.node
            arguments = [read(values, v) for v in equation.invars]
            if any(inner.labels for inner in place.inside):
                with _jax.place_of(equation):
                    outputs, inner = _CALLS[node.primitive](self, place, arguments)
                seen |= inner
            else:
                outputs = _jax.bind(equation, arguments)
            if place.is_visited:
                with _jax.place_of(equation):
                    inserted = self.slices.get(node.label, [])
                    outputs, own = self.visitor.visit(node, outputs, inserted, self.iteration)
                seen |= own
            values.update(zip(equation.outvars, outputs, strict=True))
        return [read(values, v) for v in jaxpr.outvars], seen


@dataclass(frozen=True)
class _Traced:
    """A graph with visits: (constants, inputs) -> outputs, and what was seen."""

    graph: Any
    constants: list[Any]
    seen: Any

    @classmethod
    def of(cls, step: Callable[[Sequence[Any]], tuple[list[Any], Seen]], types: Sequence[Any]):
        structure: list[Any] = []

        def flat(*values):
            outputs, seen = step(values)
            structure.append(tree_structure(seen))
            return [*outputs, *tree_leaves(seen)]

        graph, constants = _jax.open_constants(_jax.trace(flat, types))
        return cls(graph, constants, structure[-1])

    def parted(self, answers: Sequence[Any]) -> tuple[list[Any], Seen]:
        """The outputs, and what was seen."""
        size = len(answers) - self.seen.num_leaves
        return list(answers[:size]), tree_unflatten(self.seen, answers[size:])

    @property
    def seen_types(self) -> Seen:
        return self.parted([v.aval for v in self.graph.jaxpr.outvars])[1]


def _traced(running: _Run, inside: _Inside) -> _Traced:
    types = _jax.input_types(inside.graph)
    return _Traced.of(lambda values: running.through(inside, values), types)


# --- Calls ------------------------------------------------------------------------------------


def _through_call(running: _Run, place: _Place, arguments: list[Any]):
    return running.through(place.inside[0], arguments)


def _through_jit(running: _Run, place: _Place, arguments: list[Any]):
    params, traced = place.node.params, _traced(running, place.inside[0])
    inputs, outputs = _jax.jit_places(params)
    inputs = [_jax.ANYWHERE] * len(traced.constants) + inputs
    outputs = outputs + [_jax.ANYWHERE] * traced.seen.num_leaves
    arguments = [*traced.constants, *arguments]
    return traced.parted(_jax.call_jit(params, inputs, outputs, traced.graph, arguments))


def _through_checkpoint(running: _Run, place: _Place, arguments: list[Any]):
    equation, traced = place.node.equation, _traced(running, place.inside[0])
    params = {**equation.params, "jaxpr": traced.graph.jaxpr}
    if isinstance(guards := params["prevent_cse"], tuple):  # one per input
        params["prevent_cse"] = (True,) * len(traced.constants) + guards
    return traced.parted(equation.primitive.bind(*traced.constants, *arguments, **params))


def _through_custom(running: _Run, place: _Place, arguments: list[Any]):
    def call(inputs):
        return _jax.bind(place.node.equation, inputs)

    def body(inputs):
        return running.through(place.inside[0], inputs)

    return running.visitor.rejoin(call, body, arguments)


def _through_scan(running: _Run, place: _Place, arguments: list[Any]):
    params, (inside,) = place.node.params, place.inside
    inserted = {label: x for label, x in running.slices.items() if label in inside.labels}
    counter = [lax.iota(jnp.int32, params["length"])] if running.visitor.counts else []
    leaves, tree = tree_flatten((inserted, counter))

    def step(values):
        slices, counter = tree_unflatten(tree, values[len(arguments) :])
        iteration = (*running.iteration, *counter)
        within = replace(running, slices={**running.slices, **slices}, iteration=iteration)
        return within.through(inside, values[: len(arguments)])

    types = [*_jax.input_types(inside.graph)]
    types += [_jax.slice_type(_jax.type_of(x)) for x in leaves]
    traced = _Traced.of(step, types)
    consts, carry, xs = _jax.scan_operands(params, arguments)
    operands = _jax.ScanOperands([*traced.constants, *consts], carry, [*xs, *leaves])
    return traced.parted(_jax.call_scan(params, traced.graph, operands, params["reverse"]))


def _through_cond(running: _Run, place: _Place, arguments: list[Any]):
    """Each branch returns what is seen in any of them: zeros for what is not in itself."""
    index, *operands = arguments
    branches = [_traced(running, inside) for inside in place.inside]
    types = {label: avals for branch in branches for label, avals in branch.seen_types.items()}
    constants = [x for branch in branches for x in branch.constants]
    every = [_jax.type_of(x) for x in (*constants, *operands)]

    def complete(branch, start):
        def step(values):
            own = values[start : start + len(branch.constants)]
            answers = _jax.evaluate(branch.graph, [*own, *values[len(constants) :]])
            outputs, seen = branch.parted(answers)
            return outputs, {k: seen.get(k) or list(map(_jax.filler, types[k])) for k in types}

        return _Traced.of(step, every)

    starts = [sum(len(b.constants) for b in branches[:i]) for i in range(len(branches))]
    traced = [complete(*each) for each in zip(branches, starts, strict=True)]
    graphs = [branch.graph for branch in traced]
    answers = _jax.call_cond(place.node.params, index, graphs, [*constants, *operands])
    return traced[0].parted(answers)


_CALLS = {
    "jit": _through_jit,
    "closed_call": _through_call,
    "core_call": _through_call,
    "eval_jaxpr": _through_call,
    "checkpoint": _through_checkpoint,
    "remat2": _through_checkpoint,
    "custom_jvp_call": _through_custom,
    "custom_vjp_call": _through_custom,
    "scan": _through_scan,
    "cond": _through_cond,
}
