"""Functions of shards: one operation of all devices, in which what went wrong is looked for.

Forward and backward pass of the body are read as one graph, which all devices run once more,
handing out every value in it. What is to blame is the first equation that makes something that is
not finite of what is: no more than that can be said, since devices exchange values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jax import lax

from fungrad import _jax, passes
from fungrad.graph import Node
from fungrad.inspect.diagnosis.record import Gradients, Part
from fungrad.inspect.diagnosis.trails import Mark
from fungrad.inspect.diagnosis.values import Operation, Value, first, literal, not_finite


class Sharded(Part):
    """A shard_map."""

    def run(self) -> list[Value]:
        """Those of all devices."""
        op = Operation(self.place(), self.inputs, self._bind)
        op.look_inside = lambda: _culprit(self, [None] * len(self.equation.outvars))
        return op.outputs()

    def gradient(self, g: Sequence[Value | None], takes: tuple[bool, ...]) -> Operation:
        """The rule, by which all devices run the backward pass of the body."""
        op = super().gradient(g, takes)
        op.look_inside = lambda: _culprit(self, g)
        return op


def _culprit(part: Part, g: Gradients | Sequence[Value | None]) -> Mark | None:
    """The entry, of what all devices have in a row, that is first to blame."""
    params, body = part.equation.params, part.inside[0].graph
    active = part.frame.takes(part.equation)
    arriving = [(v, entry) for v, entry in zip(body.jaxpr.outvars, g, strict=True) if entry]
    brings = [entry is not None for entry in g]

    forward: list[int] = []

    def both(*shards):
        steps = passes.plan(body, active, brings, part.where.settings)
        record = passes.forward(body, shards[: len(active)], steps)
        forward[:] = [_jax.equations_so_far()]
        given = iter(shards[len(active) :])
        entries = [next(given) if b else None for b in brings]
        gradients = passes.backward(body, steps, record, entries, active)
        return [*record.outputs, *(x for x in gradients if x is not None)]

    types = [v.aval for v in body.jaxpr.invars]
    types += [_jax.gradient_type(v.aval) for v, _ in arriving]
    specs = [*params["in_specs"]]
    specs += [s.to_ct_spec() for s, b in zip(params["out_specs"], brings, strict=True) if b]
    with _jax.inside_shard_map(params):
        graph = _jax.trace(both, types)
        every = _jax.trace(lambda *shards: _all_values(graph, shards), types)
    arrays = [value.array for value in part.inputs] + [entry.array for _, entry in arriving]
    rows = [_jax.spec_of_shards(params, aval) for aval in every.out_avals]
    found = iter(_jax.call_shard_map(params, every, specs, rows, arrays))
    values = dict(zip(graph.jaxpr.constvars, map(Value, graph.consts), strict=True))
    values.update(zip(graph.jaxpr.invars, map(Value, arrays), strict=True))
    for position, equation in enumerate(graph.jaxpr.eqns):
        inputs = [
            Value(literal(v), name="a literal") if isinstance(v, _jax.Literal) else values[v]
            for v in equation.invars
        ]
        node = Node(equation, equation.primitive.name, (*part.node.path, part.node))
        place = replace(part.place(position >= forward[0]), node=node)
        op = Operation(place, inputs, _no_more)
        for i, variable in enumerate(equation.outvars):
            values[variable] = Value(next(found), op, i)
            mask = not_finite(values[variable].array)
            if mask.any() and not any(not_finite(x.array).any() for x in inputs):
                return Mark(values[variable], first(mask))
    return None


def _all_values(graph: Any, shards: Sequence[Any]) -> list[Any]:
    """Every value that the equations make; a scalar with an axis, for rows to lie along."""
    values = dict(zip(graph.jaxpr.constvars, graph.consts, strict=True))
    values.update(zip(graph.jaxpr.invars, shards, strict=True))
    found = []
    for equation in graph.jaxpr.eqns:
        outputs = _jax.bind(equation, [passes.read(values, v) for v in equation.invars])
        values.update(zip(equation.outvars, outputs, strict=True))
        found += [x if x.shape else lax.expand_dims(x, [0]) for x in outputs]
    return found


def _no_more(*arrays: Any) -> list[Any]:
    raise NotImplementedError("what devices do together is not done again one by one")
