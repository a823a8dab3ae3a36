"""From recorded passes to findings: what is wrong with outputs and gradients, and why."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from fungrad import _jax
from fungrad.inspect.diagnosis import cures
from fungrad.inspect.diagnosis.blocking import underflow_behind, verdict_on
from fungrad.inspect.diagnosis.causes import reason_of
from fungrad.inspect.diagnosis.examples import example_of
from fungrad.inspect.diagnosis.facts import Facts, figure, rule_of, shown
from fungrad.inspect.diagnosis.levels import Level
from fungrad.inspect.diagnosis.record import Frame
from fungrad.inspect.diagnosis.report import Finding, Index
from fungrad.inspect.diagnosis.trails import Mark, Trail, is_all_zero, trails_to, worst_entries
from fungrad.inspect.diagnosis.values import Entry, Place, Value, not_finite
from fungrad.inspect.diagnosis.zeros import blocks_of
from fungrad.rulebook import Rulebook


def findings_of(
    frame: Frame, names: Sequence[str], gradients: Sequence[Value | None], results: int
) -> list[Finding]:
    """All that is wrong, what was born first coming first; then the gradients that are zero."""
    rules, level = frame.where.settings.rules, frame.level
    sick: list[tuple[Any, Finding]] = []
    for value in frame.outputs[:results]:
        trail = _trail_to(value)
        if trail is not None and not trail.is_harmless:
            sick.append(_of_trail(trail, "the output", None, level, rules))
    for name, g in zip(names, gradients, strict=True):
        trail = None if g is None else _trail_to(g)
        if trail is not None:
            sick.append(_of_trail(trail, f"the gradient of {name}", name, level, rules))
    zero = [
        _of_zero(frame, i, name, rules)
        for i, (name, g) in enumerate(zip(names, gradients, strict=True))
        if frame.active[i] and frame.outputs and (g is None or is_all_zero(g.array))
    ]
    return [finding for _, finding in sorted(sick, key=lambda pair: pair[0])] + zero


def _trail_to(value: Value) -> Trail | None:
    """The trail to the first origin of what is not finite in a value."""
    if not not_finite(value.array).any():
        return None
    found = [trails_to(value, entry) for entry in worst_entries(value.array)]
    return min(chain.from_iterable(found), key=_when)


def _when(trail: Trail) -> tuple[Any, ...]:
    """When what a trail leads to was born; a NaN that was given comes first, an infinity last."""
    birth = trail.birth
    kind = 1 if not trail.is_given else 0 if trail.end.is_nan else 2
    if birth is None or birth.op is None:
        return (kind,)
    place = birth.op.place
    return kind, place.is_backward, place.order, place.iteration


def _of_trail(
    trail: Trail, subject: str, argument: str | None, level: Level, rules: Rulebook
) -> tuple[Any, Finding]:
    first, birth = trail.marks[0], trail.birth
    kind = "nan" if first.is_nan else "inf"
    entry, given = first.entry, trail.end.value if trail.is_given else None
    if given is not None and given.is_argument and (trail.end.is_nan or birth is None):
        number, where = figure(trail.end.number), _at(trail.end.entry)
        cause = f"the argument {given.name} holds {number}{where}"
        place = _place_fields(birth, level)
        return _when(trail), Finding(
            kind, subject, argument, entry, cause, cures.CLEAN_DATA, **place, way=_way(trail)
        )
    if birth is None:
        cause = f"{trail.end.value.name or 'a constant'} is {figure(trail.end.number)}"
        return _when(trail), Finding(kind, subject, argument, entry, cause, cures.CLEAN_DATA)
    facts = Facts(birth, rules)
    cause, cure = reason_of(facts)
    if underflow := underflow_behind(facts.op):
        cause, cure = f"{cause}; {underflow}", f"{cures.WIDER_OR_SCALED}; or {cure}"
    if given is not None and not birth.is_nan:
        cause = f"{facts.primitive} hands on an infinity"
    if given is not None:
        what = f"the argument {given.name}" if given.is_argument else given.name
        cause += f" ({what} holds {figure(trail.end.number)}{_at(trail.end.entry)})"
    rule = facts.rule
    return _when(trail), Finding(
        kind,
        subject,
        argument,
        entry,
        cause,
        cure,
        **_place_fields(birth, level),
        rule=rule.jacobian if rule is not None else None,
        numbers=facts.numbers,
        result=_result(facts),
        masked_by=_masked_by(trail),
        way=_way(trail),
    )


def _at(entry: Entry) -> str:
    return f" at {list(entry)}" if entry else ""


def _result(facts: Facts) -> str:
    if facts.is_pull:
        names = facts.names[facts.op.roles.index("in") :] if "in" in facts.op.roles else []
        target = facts.node.equation.invars[facts.op.targets[facts.mark.value.index]]
        known = list(
            dict.fromkeys(v for v in facts.node.equation.invars if not isinstance(v, _jax.Literal))
        )
        name = names[known.index(target)] if names else "in"
        return f"∂J/∂{name} = {figure(facts.number)}"
    return figure(facts.number)


def _place_fields(birth: Mark | None, level: Level) -> dict[str, Any]:
    if birth is None or birth.op is None:
        return {}
    node, index = birth.op.place.node, birth.value.index
    if birth.op.targets:
        variable = node.equation.invars[birth.op.targets[index]]
    else:
        variable = node.equation.outvars[min(index, len(node.equation.outvars) - 1)]
    at_entry = np.shape(birth.value.array) == variable.aval.shape
    example = example_of(level, node, variable, birth.entry) if at_entry else None
    return fields_of(birth.op.place, example)


def fields_of(place: Place, example: Index = None) -> dict[str, Any]:
    """The fields of a finding that say where it is."""
    node = place.node
    return {
        "node": node.label,
        "file": node.file,
        "line": node.line or None,
        "function": node.function,
        "is_backward": place.is_backward,
        "iteration": _index(place.iteration),
        "branch": _index(place.branches),
        "example": example,
    }


def _index(index: tuple[int, ...]) -> Index:
    return None if not index else index[0] if len(index) == 1 else index


def _way(trail: Trail) -> tuple[tuple[str, int], ...]:
    """The source lines on a trail, the origin's first; the last of many are left out."""
    places = [mark.op.place.node for mark in reversed(trail.marks) if mark.op is not None]
    lines = [(node.file, node.line) for node in places if node.line]
    return tuple(dict.fromkeys(lines))[:8]


def _masked_by(trail: Trail) -> tuple[str, int] | None:
    """The where that gives the zero gradient that an infinite slope made a NaN of."""
    for mark in reversed(trail.marks):
        op = mark.op
        if op is None or not op.targets or not mark.is_nan:
            continue
        value = next(v for v, role in zip(op.inputs, op.roles, strict=True) if role == "g")
        for _ in range(12):
            value = value.resolved()
            if value.op is None or not value.op.place.is_backward:
                break
            node = value.op.place.node
            if node.primitive == "select_n":
                return node.file, node.line
            arriving = [v for v, r in zip(value.op.inputs, value.op.roles, strict=True) if r == "g"]
            if not arriving:
                break
            value = arriving[0]
        return None
    return None


# --- Zeros ------------------------------------------------------------------------------------


def _of_zero(frame: Frame, i: int, name: str, rules: Rulebook) -> Finding:
    subject = f"the gradient of {name}"
    blocks = blocks_of(frame, i)
    if not blocks:
        variable = frame.level.graph.jaxpr.invars[i]
        read = any(v is variable for e in frame.level.graph.jaxpr.eqns for v in e.invars)
        how = "no output depends on it" if read else "the function does not use it"
        cause = f"the argument {name} is unused: {how}"
        return Finding("unused", subject, name, (), cause, cures.READ_IT)
    verdict = verdict_on(blocks[0], rules)
    rule = rule_of(verdict.place.node, rules)
    return Finding(
        "zero",
        subject,
        name,
        (),
        verdict.cause,
        verdict.cure,
        **fields_of(verdict.place),
        rule=rule.jacobian if rule is not None else None,
        numbers={key: shown(x) for key, x in verdict.numbers.items()},
    )
