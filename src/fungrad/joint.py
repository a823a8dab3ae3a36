"""The joint graph: the forward and the backward pass of a sub-graph, traced as one."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

from fungrad import _jax, formats, passes
from fungrad.passes import Settings


@dataclass
class Joint:
    """The joint graph, with its dead code dropped.

    `inputs` and `g` hold the variables in place, `None` where nothing reads them any more; `g` ends
    with the gradient references of the active references. `outputs` are those that are `kept`.
    `late` are the backward pass's effects.
    """

    constants: dict[Any, Any]
    inputs: list[Any]
    g: list[Any]
    outputs: list[Any]
    gradients: list[Any]
    kept: tuple[bool, ...]
    gives: tuple[bool, ...]
    equations: list[Any]
    late: set[int]
    info: Any
    producer: dict[Any, int] = field(default_factory=dict)

    def __post_init__(self):
        for i, equation in enumerate(self.equations):
            self.producer.update((v, i) for v in equation.outvars)

    def needed(self, targets: Iterable[Any], given: Container[Any] = ()) -> set[int]:
        """The equations that compute `targets`, the values in `given` being at hand."""
        found: set[int] = set()
        waiting = list(targets)
        while waiting:
            variable = waiting.pop()
            if isinstance(variable, _jax.Literal) or variable in given:
                continue
            i = self.producer.get(variable)
            if i is not None and i not in found:
                found.add(i)
                waiting.extend(self.equations[i].invars)
        return found

    def read_by(self, which: Iterable[int]) -> list[Any]:
        """What equations read."""
        return [v for i in which for v in self.equations[i].invars]

    def depending_on(self, sources: Iterable[Any], effects: set[int]) -> set[int]:
        """The equations that read `sources`, however indirectly, and those in `effects`."""
        varying = set(sources)
        found: set[int] = set()
        for i, equation in enumerate(self.equations):
            reads = (v for v in equation.invars if not isinstance(v, _jax.Literal))
            if i in effects or any(v in varying for v in reads):
                varying.update(equation.outvars)
                found.add(i)
        return found


def join(
    graph: Any,
    active: Sequence[bool],
    wanted: Sequence[bool],
    kept: Sequence[bool],
    settings: Settings,
    apart: bool = False,
) -> Joint:
    """Trace forward and backward of a graph as one graph.

    Args:
        active: which inputs are differentiated.
        wanted: at which outputs a gradient arrives.
        kept: which outputs the forward half must return, if it knows them.
        apart: whether gradients must have the formats of their values, as in loops and branches.
    """
    inputs, outputs = graph.jaxpr.invars, graph.jaxpr.outvars
    steps = passes.plan(graph, active, wanted, settings)
    references = passes.references(graph, active)
    gives: list[bool] = []
    shown: list[bool] = []
    ends: list[int] = []

    def both(*arguments):
        given = iter(arguments[len(inputs) :])
        g = [next(given) if w else None for w in wanted]
        values = arguments[: len(inputs)]
        if settings.linear:
            values = [
                _jax.Unknown(v.aval) if a else x
                for v, x, a in zip(inputs, values, active, strict=True)
            ]
        record = passes.forward(graph, values, steps)
        ends.append(_jax.equations_so_far())
        gradients = passes.backward(graph, steps, record, g, active, list(given))
        if apart:
            gradients = formats.due(
                [v for v, a in zip(inputs, active, strict=True) if a], gradients
            )
        gives[:] = [entry is not None for entry in gradients]
        # An integer that an unknown tangent was rounded to is unknown, too.
        known = (not isinstance(out, _jax.Unknown) for out in record.outputs)
        shown[:] = [keep and is_known for keep, is_known in zip(kept, known, strict=True)]
        return [
            *compress(record.outputs, shown),
            *(entry for entry in gradients if entry is not None),
        ]

    arriving = [v for v, w in zip(outputs, wanted, strict=True) if w] + references
    joint = _jax.trace(both, [*_jax.input_types(graph), *map(_type_of_g, arriving)])
    variables, results, equations = _jax.without_dead_code(joint)
    n = len(joint.consts)
    constants = {v: c for v, c in zip(variables[:n], joint.consts, strict=True) if v is not None}
    return Joint(
        constants,
        variables[n : n + len(inputs)],
        variables[n + len(inputs) :],
        results[: sum(shown)],
        results[sum(shown) :],
        tuple(shown),
        tuple(gives),
        equations,
        _effectful_after(joint, ends[-1], equations) if joint.jaxpr.effects else set(),
        joint.jaxpr.debug_info,
    )


def _type_of_g(variable: Any) -> Any:
    return _jax.gradient_type(variable.aval)


def _effectful_after(graph: Any, size: int, equations: Sequence[Any]) -> set[int]:
    """Which of the graph's live equations are effectful and stand after the first `size` of all."""
    # An equation that loses dead outputs is another one, from the same source.
    early = {id(e.source_info) for e in graph.jaxpr.eqns[:size]}
    return {
        i
        for i, e in enumerate(equations)
        if _jax.is_effectful(e) and id(e.source_info) not in early
    }


def renamed(variable: Any, names: dict[Any, Any]) -> Any:
    """The variable, or what stands in its place; a literal has no name."""
    return variable if isinstance(variable, _jax.Literal) else names.get(variable, variable)
