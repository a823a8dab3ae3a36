"""When the backward half does again what the forward half did: not merged with it, and not early.

XLA makes one of two equal computations, and does what it can as soon as it can. Either would undo
the cut: what was not kept would be kept after all. So what is repeated reads values that wait for
the gradient that its reader waits for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend.core import Var

from fungrad import _jax, costs
from fungrad.joint import Joint, renamed


def in_time(joint: Joint, behind: set[int], repeated: set[int], after: set[int]) -> list[Any]:
    """The equations of the backward half, those that are repeated in their time.

    The half falls into segments, each of which ends with an operation that is too dear to be fused
    with others. An equation that does not read g is done in the segment of its first reader.

    Args:
        behind: the equations of the backward half.
        repeated: those of them that the forward half has as well.
        after: those that read g, however indirectly.
    """
    segments = _segments(joint, behind, after)
    parts: list[list[int]] = [[] for _ in range(1 + max(segments.values(), default=0))]
    for i in sorted(behind, key=lambda i: (i in after, i)):
        parts[segments[i]].append(i)
    made = {v for i in behind for v in joint.equations[i].outvars}
    repeated = _with_layout(joint, behind, repeated)
    repeated -= _of_inputs(joint, repeated)
    done: list[Any] = []
    arrived: dict[Any, Any] = {}
    for place, part in enumerate(parts):
        again = [i for i in part if i in repeated]
        awaiting: dict[Any, Any] = {}
        known = [v for v in dict.fromkeys(_variables(joint, again)) if v not in made]
        g = _last_arrival(joint, part, segments, after) if known else None
        if g is not None:
            like = joint.equations[again[0]]
            arrival = _waiting(_jax.arrival_p, arrived.get(g, g), place, like)
            arrived[g] = arrival.outvars[0]
            held = [_waiting(_jax.awaiting_p, v, place, like) for v in known]
            awaiting.update((e.invars[0], e.outvars[0]) for e in held)
            done += [arrival, *held]
        for i in part:
            names = awaiting if i in repeated else arrived if i in after else {}
            equation = joint.equations[i]
            done.append(equation.replace(invars=[renamed(v, names) for v in equation.invars]))
    return done


def _waiting(primitive: Any, variable: Any, place: int, like: Any) -> Any:
    """An equation of a primitive that waits, in the scope of another equation."""
    changed = {"primitive": primitive, "params": {"place": place}, "effects": set()}
    return like.replace(invars=[variable], outvars=[Var(variable.aval)], **changed)


def _with_layout(joint: Joint, behind: set[int], repeated: set[int]) -> set[int]:
    """With what rearranges the operands of what is repeated: they would wait for nothing else."""
    found = set(repeated)
    waiting = _variables(joint, list(repeated))
    while waiting:
        i = joint.producer.get(waiting.pop())
        if i in behind and i not in found:
            found.add(i)
            waiting += _variables(joint, [i])
    return found


def _of_inputs(joint: Joint, repeated: set[int]) -> set[int]:
    """Mere rearrangements of inputs, which are there all the time, whoever does them when."""
    inputs = {v for v in joint.inputs if v is not None}
    found = set()
    for i in sorted(repeated):
        if costs.moves(joint.equations[i]) and inputs.issuperset(_variables(joint, [i])):
            found.add(i)
            inputs.update(joint.equations[i].outvars)
    return found


def _variables(joint: Joint, which: Sequence[int]) -> list[Any]:
    return [v for v in joint.read_by(which) if not isinstance(v, _jax.Literal)]


def _segments(joint: Joint, behind: set[int], after: set[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    count = 0
    for i in sorted(behind & after):
        found[i] = count
        count += costs.is_unfused(joint.equations[i])
    first: dict[Any, int] = {}  # for each variable, the segment of its first reader
    for i in sorted(behind, reverse=True):
        equation = joint.equations[i]
        if i not in found:
            found[i] = min((first.get(v, count) for v in equation.outvars), default=count)
        for v in _variables(joint, [i]):
            first[v] = min(first.get(v, count), found[i])
    return found


def _last_arrival(
    joint: Joint, part: Sequence[int], segments: dict[int, int], after: set[int]
) -> Any:
    """Of the gradients that arrive at the readers of what is repeated the one that comes last."""
    made = {v for i in part if i not in after for v in joint.equations[i].outvars}
    waiting = [i for i in part if i in after and made & set(_variables(joint, [i]))]
    waiting = waiting or [i for i in part if i in after]
    seen = set(waiting)
    arriving: dict[Any, int] = {}
    while waiting:
        for v in _variables(joint, [waiting.pop()]):
            source = joint.producer.get(v)
            if source in after and segments.get(source) == segments[part[0]]:
                if source not in seen:
                    seen.add(source)
                    waiting.append(source)
            elif source in after or v in joint.g:
                arriving[v] = -1 if source is None else source
    arrays = [v for v in arriving if not _jax.is_reference_type(v.aval) and v.aval.size]
    return max(arrays, key=lambda v: arriving[v], default=None)
