"""Join, then cut: how a sub-graph that is differentiated is divided into two programs.

1. Join. The forward pass and the backward pass of the sub-graph are traced together as one
   graph, (inputs, g) -> (outputs, gradients), and what is dead in it is dropped.
2. Cut. What the outputs need is the forward half. The backward half is what the gradients need;
   it stops at the values that cross the cut, which the forward half saves.

Inputs cross for free, for whoever calls the halves has them. A value that is cheaper to repeat
than to keep does not cross: a broadcast, for one. Which values may cross at all is the caller's
choice, `save`: so the halves of `jax.checkpoint` are the same cut with another set of values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fungrad import _jax, interning, passes
from fungrad.passes import Settings
from fungrad.rulebook import Halves

REPEATED = frozenset({"broadcast_in_dim", "iota", "copy", "squeeze", "expand_dims"})
"""Primitives whose output is as good as their input: mere layout, never worth keeping."""


@dataclass(frozen=True)
class Cut:
    """The two halves of a differentiated sub-graph.

    Attributes:
        forward: graph of the inputs in `reads` -> kept outputs, saved values.
        reads: which inputs of the sub-graph the forward half reads.
        backward: graph of the free inputs, saved values, gradients in `takes` -> gradients.
        free: the inputs of the sub-graph that the backward half reads again.
        takes: which of the wanted outputs' gradients the backward half reads.
        gives: which of the active inputs get a gradient; the others' is zero.
        outputs: the types of the sub-graph's outputs.
        kept: which of them the forward half returns; the others are unknown.
        saved: the types of the saved values.
        repeats: whether the backward half does again what the forward half did.
    """

    forward: Any
    reads: tuple[int, ...]
    backward: Any
    free: tuple[int, ...]
    takes: tuple[int, ...]
    gives: tuple[bool, ...]
    outputs: tuple[Any, ...]
    kept: tuple[bool, ...]
    saved: tuple[Any, ...]
    repeats: bool

    def halves(
        self,
        active: Sequence[bool],
        wanted: Sequence[bool],
        ahead: Callable[..., Any],
        behind: Callable[..., Any],
    ) -> Halves:
        """The halves as functions; `ahead` and `behind` call a graph on its inputs."""

        def forward(*inputs):
            answers = ahead(self.forward, _jax.filled([inputs[i] for i in self.reads]))
            free = _jax.filled([inputs[i] for i in self.free])
            kept = iter(answers)
            outputs = [
                next(kept) if keep else _jax.Unknown(aval)
                for keep, aval in zip(self.kept, self.outputs, strict=True)
            ]
            return outputs, [*free, *kept]

        def backward(saved, g, *references):
            arriving = [entry for entry, w in zip(g, wanted, strict=True) if w]
            arriving += references
            types = [v.aval for v in self.backward.jaxpr.invars[len(saved) :]]
            built = [
                _jax.zeros_of(aval) if arriving[i] is None else arriving[i]
                for i, aval in zip(self.takes, types, strict=True)
            ]
            answers = iter(behind(self.backward, [*saved, *built]))
            gradients = iter([next(answers) if gives else None for gives in self.gives])
            return [next(gradients) if a else None for a in active]

        return Halves(forward, backward)


@dataclass
class Joint:
    """The joint graph, with its dead code dropped.

    `inputs` and `g` hold the variables in place, `None` where nothing reads them any more; `g` ends
    with the gradient references of the active references. `late` are the backward pass's effects.
    """

    constants: dict[Any, Any]
    inputs: list[Any]
    g: list[Any]
    outputs: list[Any]
    gradients: list[Any]
    gives: tuple[bool, ...]
    equations: list[Any]
    late: set[int]
    info: Any
    producer: dict[Any, int] = field(default_factory=dict)

    def __post_init__(self):
        for i, equation in enumerate(self.equations):
            self.producer.update((v, i) for v in equation.outvars)


def join(
    graph: Any,
    active: Sequence[bool],
    wanted: Sequence[bool],
    kept: Sequence[bool],
    settings: Settings,
) -> Joint:
    """Trace forward and backward of a graph as one graph.

    Args:
        active: which inputs are differentiated.
        wanted: at which outputs a gradient arrives.
        kept: which outputs the forward half must return.
    """
    inputs, outputs = graph.jaxpr.invars, graph.jaxpr.outvars
    steps = passes.plan(graph, active, wanted, settings)
    references = passes.references(graph, active)
    gives: list[bool] = []
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
        gives[:] = [entry is not None for entry in gradients]
        shown = [out for out, keep in zip(record.outputs, kept, strict=True) if keep]
        return [*shown, *(entry for entry in gradients if entry is not None)]

    arriving = [v for v, w in zip(outputs, wanted, strict=True) if w] + references
    joint = _jax.trace(both, [*_jax.input_types(graph), *map(_type_of_g, arriving)])
    variables, results, equations = _jax.without_dead_code(joint)
    n = len(joint.consts)
    constants = {v: c for v, c in zip(variables[:n], joint.consts, strict=True) if v is not None}
    return Joint(
        constants,
        variables[n : n + len(inputs)],
        variables[n + len(inputs) :],
        results[: sum(kept)],
        results[sum(kept) :],
        tuple(gives),
        equations,
        _jax.effectful_after(joint, ends[-1], equations) if joint.jaxpr.effects else set(),
        joint.jaxpr.debug_info,
    )


def _type_of_g(variable: Any) -> Any:
    return _jax.gradient_type(variable.aval)


@interning.cached_by_content
def split(
    graph: Any,
    active: tuple[bool, ...],
    wanted: tuple[bool, ...],
    kept: tuple[bool, ...],
    settings: Settings,
    invariant: tuple[bool, ...] | None = None,
) -> Cut:
    """Join a graph's passes and cut the joint graph in two.

    Args:
        active, wanted, kept: as for `join`.
        settings: the rules, and what may be saved: `None` or "everything" lets all values of the
            forward pass cross, "nothing" only the inputs; a policy of `jax.checkpoint` decides
            for each equation.
        invariant: inputs that stay the same from call to call (a loop's constants): what
            depends on nothing else is never saved, for it would be saved once per call.
    """
    joint = join(graph, active, wanted, kept, settings)
    # Effects are run once, in the half of the pass that has them, and in the order of the graph.
    acting = {i for i, e in enumerate(joint.equations) if _jax.is_effectful(e)}
    early = acting - joint.late
    ahead = _needed(joint, [*joint.outputs, *_read_by(joint, early)], set()) | early
    loose = _depending_on_none_but(joint, invariant) if invariant else set()

    def may_cross(i: int) -> bool:
        if i in acting:
            return True
        return i not in loose and _saveable(joint.equations[i], settings.save)

    crossing = {v for i in ahead if may_cross(i) for v in joint.equations[i].outvars}
    late = joint.late
    behind = _needed(joint, [*joint.gradients, *_read_by(joint, late)], crossing) | late
    outputs = tuple(v.aval for v in graph.jaxpr.outvars)
    return _cut(joint, ahead, behind, outputs, kept)


def _is_dear(equation: Any) -> bool:
    return equation.primitive.name not in REPEATED


def _saveable(equation: Any, save: Any) -> bool:
    if save is None or save == "everything":
        return _is_dear(equation)
    if save == "nothing":
        return False
    return _jax.policy_saves(save, equation)


def _needed(joint: Joint, targets: Sequence[Any], given: set[Any]) -> set[int]:
    """The equations that compute `targets`, the values in `given` being at hand."""
    found: set[int] = set()
    waiting = list(targets)
    while waiting:
        variable = waiting.pop()
        if isinstance(variable, _jax.Literal) or variable in given:
            continue
        i = joint.producer.get(variable)
        if i is not None and i not in found:
            found.add(i)
            waiting.extend(joint.equations[i].invars)
    return found


def _read_by(joint: Joint, which: set[int]) -> list[Any]:
    return [v for i in which for v in joint.equations[i].invars]


def _depending_on_none_but(joint: Joint, invariant: Sequence[bool]) -> set[int]:
    varying = {
        v for v, stays in zip(joint.inputs, invariant, strict=True) if v is not None and not stays
    }
    varying |= {v for v in joint.g if v is not None}
    found: set[int] = set()
    for i, equation in enumerate(joint.equations):
        reads = (v for v in equation.invars if not isinstance(v, _jax.Literal))
        if _jax.is_effectful(equation) or any(v in varying for v in reads):
            varying.update(equation.outvars)
        else:
            found.add(i)
    return found


def _cut(
    joint: Joint,
    ahead: set[int],
    behind: set[int],
    outputs: tuple[Any, ...],
    kept: tuple[bool, ...],
) -> Cut:
    first = [e for i, e in enumerate(joint.equations) if i in ahead]
    repeated = {i for i in ahead & behind if _is_dear(joint.equations[i])}
    second = [
        _jax.in_scope(e, "rematted_computation") if i in repeated else e
        for i, e in enumerate(joint.equations)
        if i in behind
    ]
    read_first = _reads(first, joint.outputs)
    read_second = _reads(second, joint.gradients)
    made = {v for e in second for v in e.outvars}
    # A variable that both halves compute (a broadcast that is repeated) does not cross.
    saved = [v for e in first for v in e.outvars if v in read_second - made]
    reads = [i for i, v in enumerate(joint.inputs) if v is not None and v in read_first]
    free = [i for i, v in enumerate(joint.inputs) if v is not None and v in read_second]
    takes = [i for i, v in enumerate(joint.g) if v is not None and v in read_second]
    constants = joint.constants
    forward = _jax.graph_of(
        [joint.inputs[i] for i in reads],
        [*joint.outputs, *saved],
        first,
        {v: c for v, c in constants.items() if v in read_first},
        joint.info,
    )
    backward = _jax.graph_of(
        [*(joint.inputs[i] for i in free), *saved, *(joint.g[i] for i in takes)],
        joint.gradients,
        second,
        {v: c for v, c in constants.items() if v in read_second},
        joint.info,
    )
    return Cut(
        forward,
        tuple(reads),
        backward,
        tuple(free),
        tuple(takes),
        joint.gives,
        outputs,
        kept,
        tuple(v.aval for v in saved),
        bool(repeated),
    )


def _reads(equations: Sequence[Any], outputs: Sequence[Any]) -> set[Any]:
    every = [v for e in equations for v in e.invars] + list(outputs)
    return {v for v in every if not isinstance(v, _jax.Literal)}
