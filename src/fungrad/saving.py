"""Join, then cut: how a sub-graph that is differentiated is divided into two programs.

1. Join. The forward pass and the backward pass of the sub-graph are traced together as one
   graph, (inputs, g) -> (outputs, gradients), and what is dead in it is dropped (joint.py).
2. Cut. What the outputs need is the forward half. The backward half is what the gradients need;
   it stops at the values that cross the cut, which the forward half saves.

Inputs cross for free, for whoever calls the halves has them. Which of the other values cross is
the caller's choice, `save`. Left alone, it is the cheapest one: of all ways to part the graph the
minimum cut, in which a value that is kept costs its bytes, and an equation that is repeated the
operations that it takes (costs.py). `jax.checkpoint` is the same with its author's policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fungrad import _jax, interning
from fungrad.costs import Effort
from fungrad.crossing import cheapest
from fungrad.joint import Joint, join
from fungrad.passes import Settings
from fungrad.replay import in_time
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
        tied: whether that is done when its time has come (replay.py), or whenever XLA likes.
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
    tied: bool

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


@interning.cached_by_content
def split(
    graph: Any,
    active: tuple[bool, ...],
    wanted: tuple[bool, ...],
    kept: tuple[bool, ...],
    settings: Settings,
    invariant: tuple[bool, ...] | None = None,
    stacked: tuple[bool, ...] | None = None,
    apart: bool = False,
) -> Cut:
    """Join a graph's passes and cut the joint graph in two.

    Args:
        active, wanted, kept: as for `join`.
        settings: the rules, and what may be saved: `None` or an `Effort` asks for the minimum cut,
            "everything" lets all values of the forward pass cross, "nothing" only the inputs; a
            policy of `jax.checkpoint` decides for each equation.
        invariant: inputs that stay the same from call to call (a loop's constants): what
            depends on nothing else is never saved, for it would be saved once per call.
        stacked: inputs that are not at hand later (a loop's carry), so that to keep one costs
            as much as to keep any other value.
        apart: whether the halves are run in different loops or branches, so that what is saved
            must be copied, and what is repeated cannot be merged with its first computation.
    """
    effort = Effort() if settings.save is None else settings.save
    inside = getattr(effort, "inside", None) or settings.save
    joint = join(graph, active, wanted, kept, settings._replace(save=inside), apart)
    # Effects are run once, in the half of the pass that has them, and in the order of the graph.
    acting = {i for i, e in enumerate(joint.equations) if _jax.is_effectful(e)}
    early, late = acting - joint.late, joint.late
    ahead = joint.needed([*joint.outputs, *joint.read_by(early)]) | early
    loose = _loose(joint, invariant, acting) if invariant else set()
    after = joint.depending_on([v for v in joint.g if v is not None], late)
    if isinstance(effort, Effort):
        crossing = cheapest(joint, ahead, after, loose, stacked or (), effort, apart)
        ahead |= joint.needed(crossing)
    else:
        saved = {
            i
            for i in ahead
            if i in acting or (i not in loose and _saveable(joint.equations[i], effort))
        }
        crossing = {v for i in saved for v in joint.equations[i].outvars}
    behind = joint.needed([*joint.gradients, *joint.read_by(late)], crossing) | late
    outputs = tuple(v.aval for v in graph.jaxpr.outvars)
    tied = after if isinstance(effort, Effort) and not apart else None
    return _cut(joint, ahead, behind, tied, outputs)


def _loose(joint: Joint, invariant: Sequence[bool], acting: set[int]) -> set[int]:
    """The equations that depend on nothing but inputs that stay the same."""
    inputs = zip(joint.inputs, invariant, strict=True)
    varying = [v for v, stays in inputs if v is not None and not stays]
    varying += [v for v in joint.g if v is not None]
    return set(range(len(joint.equations))) - joint.depending_on(varying, acting)


def _is_dear(equation: Any) -> bool:
    return equation.primitive.name not in REPEATED


def _saveable(equation: Any, save: Any) -> bool:
    if save == "everything":
        return _is_dear(equation)
    graphs = _jax.subgraphs(equation)
    if save == "nothing":  # but what a loop keeps has been decided inside
        return bool(graphs)
    inside = (e for graph in graphs for e in graph.jaxpr.eqns)
    return _jax.policy_saves(save, equation) or any(_saveable(e, save) for e in inside)


def _cut(
    joint: Joint,
    ahead: set[int],
    behind: set[int],
    tied: set[int] | None,
    outputs: tuple[Any, ...],
) -> Cut:
    first = [joint.equations[i] for i in sorted(ahead)]
    repeated = {i for i in ahead & behind if _is_dear(joint.equations[i])}
    for i in repeated:
        joint.equations[i] = _in_scope(joint.equations[i], "rematted_computation")
    if tied is None:
        second = [joint.equations[i] for i in sorted(behind)]
    else:
        second = in_time(joint, behind, repeated, tied)
    read_first = _reads(first, joint.outputs)
    read_second = _reads(second, joint.gradients)
    # A variable that both halves compute (a broadcast that is repeated) does not cross.
    crossing = read_second.difference(v for e in second for v in e.outvars)
    saved = [v for e in first for v in e.outvars if v in crossing]
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
        joint.kept,
        tuple(v.aval for v in saved),
        bool(repeated),
        tied is not None,
    )


def _in_scope(equation: Any, name: str) -> Any:
    """The equation in another `jax.named_scope`, which profiles show."""
    source = equation.source_info
    return equation.replace(source_info=source.replace(name_stack=source.name_stack.extend(name)))


def _reads(equations: Sequence[Any], outputs: Sequence[Any]) -> set[Any]:
    every = [v for e in equations for v in e.invars] + list(outputs)
    return {v for v in every if not isinstance(v, _jax.Literal)}
