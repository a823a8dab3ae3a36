"""A graph run again, with a visit at some of its nodes that may look at a value or change it.

What `nodes` is made of. The graph is evaluated equation by equation; a call that holds none of the
nodes is emitted as it is, one that does is emitted anew, with

- what the visits look at as outputs more: those of a loop come stacked along a leading axis, those
  of a branch that is not taken are zero;
- what they insert as inputs more: a loop takes one slice of it per iteration.

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
from fungrad.rules.calls import jit_places
from fungrad.rules.loops import choose, divided

Seen = dict[str, list[Any]]


@dataclass(frozen=True)
class Visitor:
    """What happens at the nodes that are visited.

    Attributes:
        visit: `(node, outputs, slices, iteration) -> outputs, seen` is called with the values of
            the node, what is inserted there (nothing in steps of a while loop that are more), and
            the iteration of each loop around it.
        rejoin: `(call, body, inputs) -> outputs, seen` is called where a node is in a function
            whose author wrote its derivative: by `call`, the function, and `body`, its graph with
            the visits, both functions of lists.
        counts: whether visits ask for the iteration.
        renames: whether the name of a node goes over to what the visit makes of its value.
        max_steps: how many steps of a while loop are visited; `None`: all of them, but what is
            seen is stacked along those for which something is inserted.
    """

    visit: Callable[..., tuple[list[Any], Seen]]
    rejoin: Callable[..., tuple[list[Any], Seen]]
    counts: bool = False
    renames: bool = False
    max_steps: int | None = None


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
        nodes: those of the graph that are visited; `refusal` has none of them.
        slices: by label, what is inserted there, stacked along the loops around it.
    """
    whole = _inside(graph.jaxpr, iter(graph.nodes), set(map(id, nodes)))
    return _Run(visitor, slices or {}).through(whole, inputs)


def refusal(node: Node) -> NotImplementedError | None:
    """The error that names the call around a node that cannot be entered, if there is one."""
    for call in node.path:
        if call.primitive not in _CALLS:
            why = "its graph is run in a way of its own"
            if call.primitive == "shard_map":
                why = "each device has its own. Ask inside, jax.shard_map(fungrad.values(f), ...)"
            return NotImplementedError(
                f"node {node.label!r} is inside the {call.primitive!r} at {call.file}:{call.line}, "
                f"where nodes cannot be read or replaced: {why}. Or select the node "
                f"{call.label!r} itself, or one outside"
            )
    return None


def steps_around(node: Node, max_steps: int | None = None) -> tuple[Any, ...]:
    """The lengths of the loops around a node, outermost first; that of a while is `max_steps`."""
    lengths = {"scan": lambda call: call.params["length"], "while": lambda call: max_steps}
    return tuple(lengths[c.primitive](c) for c in node.path if c.primitive in lengths)


def stacked_type(aval: Any, steps: Sequence[int]) -> Any:
    """The type of one value per iteration of loops of so many steps."""
    for length in reversed(steps):
        aval = _jax.stacked_type(aval, length)
    return aval


@dataclass(frozen=True)
class _Run:
    """How a graph is run: `slices` are those of the present iteration of the loops around it."""

    visitor: Visitor
    slices: dict[str, list[Any]]
    iteration: tuple[Any, ...] = ()

    def at(self, slices: dict[str, list[Any]], *counter: Any) -> _Run:
        """In a loop, at one iteration, which has these slices."""
        slices, iteration = self.slices | slices, (*self.iteration, *counter)
        return replace(self, slices=slices, iteration=iteration)

    def through(self, inside: _Inside, inputs: Sequence[Any]) -> tuple[list[Any], Seen]:
        jaxpr, seen = inside.graph.jaxpr, {}
        values = dict(zip(jaxpr.constvars, inside.graph.consts, strict=True))
        values.update(zip(jaxpr.invars, inputs, strict=True))
        for place in inside.places:
            equation, node = place.node.equation, place.node
            arguments = [read(values, v) for v in equation.invars]
            named_anew = place.is_visited and self.visitor.renames and node.name is not None
            if any(inner.labels for inner in place.inside):
                with _jax.place_of(equation):
                    outputs, inner = _CALLS[node.primitive](self, place, arguments)
                seen |= inner
            else:
                outputs = arguments if named_anew else _jax.bind(equation, arguments)
            if place.is_visited:
                with _jax.place_of(equation):
                    inserted = self.slices.get(node.label, [])
                    outputs, own = self.visitor.visit(node, outputs, inserted, self.iteration)
                    outputs = _jax.bind(equation, outputs) if named_anew else outputs
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
    inputs, outputs = jit_places(params)
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
        return running.at(slices, *counter).through(inside, values[: len(arguments)])

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


# --- While loops ------------------------------------------------------------------------------
#
# A loop of N steps c ↦ f(c) has no axis to stack along, for N is not known. So the first T of them
# are a scan, and the loop goes on from there:
#
#     c_T = scan(c ↦ f(c) if p(c) else c)(c₀)        c_N = while(p, f)(c_T)
#
# A step that is not taken is like a branch that is not taken: what is seen there is zero.


class _While:
    """A while loop and its operands: `known` to the condition, `consts` of the body, the carry."""

    def __init__(self, running: _Run, place: _Place, arguments: list[Any]):
        params = place.node.params
        k, n = params["cond_nconsts"], params["body_nconsts"]
        self.known, self.consts, self.carry = arguments[:k], arguments[k:][:n], arguments[k + n :]
        self.condition, self.body = divided(params, place.inside)
        self.running, self.node = running, place.node
        labels = self.condition.labels | self.body.labels
        self.slices = {label: x for label, x in running.slices.items() if label in labels}

    def length(self) -> int:
        """For how many steps there are slices."""
        lengths = {len(x) for entries in self.slices.values() for x in entries}
        if len(lengths) > 1:
            raise ValueError(
                f"in the while loop at {self.node.file}:{self.node.line} arrays are inserted for "
                f"{sorted(lengths)} iterations; give all of them as many"
            )
        return max(lengths, default=0)

    def going(self, running: _Run, carry: list[Any]) -> tuple[Any, Seen]:
        (going,), seen = running.through(self.condition, [*self.known, *carry])
        return going, seen

    def first(self, steps: int) -> tuple[list[Any], Seen]:
        """The carry after so many steps, if there are so many, and what was seen in them."""

        def step(state, scanned):
            alive, carry = state
            running = self.running.at(*scanned)
            going, tested = self.going(running, carry)
            zeros = {label: list(map(jnp.zeros_like, x)) for label, x in tested.items()}
            tested = {k: choose(jnp.any(alive), tested[k], zeros[k]) for k in tested}
            going, traced = going & alive, _traced(running, self.body)
            # Under vmap steps that are not taken are computed too, and must not make NaN of zeros.
            sound = choose(going, carry, list(map(lax.stop_gradient, self.carry)))

            def take(_, carry):
                inputs = [*traced.constants, *self.consts, *carry]
                return traced.parted(_jax.evaluate(traced.graph, inputs))

            def stay(carry, _):
                types = traced.seen_types.items()
                return carry, {label: list(map(_jax.filler, avals)) for label, avals in types}

            new, seen = lax.cond(jnp.any(going), take, stay, carry, sound)
            return (going, choose(going, new, carry) if going.ndim else new), tested | seen

        start = jnp.ones(self.condition.graph.out_avals[0].shape, bool)
        scanned = (self.slices, lax.iota(jnp.int32, steps))
        (_, carry), seen = lax.scan(step, (start, self.carry), scanned)
        return carry, seen

    def rest(self, carry: list[Any], steps: int) -> list[Any]:
        """The carry at the end, from the one after so many steps on, for which nothing is left."""
        running = replace(self.running, slices={})

        def step(run):
            i, going, carry = run
            new, _ = running.at({}, i).through(self.body, [*self.consts, *carry])
            new = choose(going, new, carry) if going.ndim else new
            return i + 1, self.going(running.at({}, i + 1), new)[0], new

        i = jnp.int32(steps)
        run = (i, self.going(running.at({}, i), carry)[0], carry)
        return lax.while_loop(lambda run: jnp.any(run[1]), step, run)[-1]


def _through_while(running: _Run, place: _Place, arguments: list[Any]):
    loop, max_steps = _While(running, place, arguments), running.visitor.max_steps
    steps = max_steps or loop.length()
    carry, seen = loop.first(steps) if steps else (loop.carry, {})
    if max_steps is None:
        return loop.rest(carry, steps), seen
    return _jax.bind(place.node.equation, [*loop.known, *loop.consts, *carry]), seen


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
    "while": _through_while,
}
