"""Both passes of a function, recorded equation by equation at concrete values.

A frame is one run of a graph, a part one equation in it. Most parts are one operation forward and
one backward; those that hold a graph are entered (calls.py, loops.py), so that whatever happens
happens at an equation with a source line.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fungrad import _jax, passes
from fungrad.fallback import MissingRuleWarning, by_jax
from fungrad.graph import Node
from fungrad.inspect.diagnosis.levels import Level
from fungrad.inspect.diagnosis.values import Operation, Place, Value, literal
from fungrad.passes import Settings
from fungrad.rulebook import CallRule
from fungrad.steps import Step

Gradients = list[Value | None]


@dataclass(frozen=True)
class Where:
    """Around a graph that is run: loops and branches, and by which rules it is differentiated.

    `enter` makes the part for an equation of a frame.
    """

    settings: Settings
    enter: Callable[[Frame, int], Part]
    iteration: tuple[int, ...] = ()
    branches: tuple[int, ...] = ()
    is_backward: bool = False
    order: tuple[int, ...] = ()

    def at(self, node: Node, i: int, is_backward: bool = False) -> Place:
        """The place of a node, the i-th of the graph, in one of the passes."""
        order = (*self.order, i)
        behind = self.is_backward or is_backward
        return Place(node, self.iteration, self.branches, behind, order)


class Frame:
    """One run of a graph: every value in it, and once `pull` was called, every gradient.

    Attributes:
        level: the graph and its nodes.
        where: what is around it.
        values: by variable.
        outputs: those of the graph.
        reached: the variables that depend differentiably on the active inputs.
        parts: for each equation, how it was run.
        gradients: by variable, once they are known.
        terms: by variable, what was added up to its gradient.
    """

    def __init__(self, level: Level, inputs: Sequence[Value], active: Sequence[bool], where: Where):
        self.level, self.where, self.active = level, where, tuple(active)
        jaxpr = level.graph.jaxpr
        self.reached = passes.flow(level.graph, self.active, where.settings)
        self.values: dict[Any, Value] = dict(zip(jaxpr.invars, inputs, strict=True))
        for variable, x in zip(jaxpr.constvars, level.graph.consts, strict=True):
            self.values[variable] = Value(x, name="a constant that the function closes over")
        self.gradients: dict[Any, Value] = {}
        self.terms: dict[Any, list[Value]] = {v: [] for v in self.reached}
        self.parts: list[Part] = []
        for i, equation in enumerate(jaxpr.eqns):
            part = where.enter(self, i)
            self.parts.append(part)
            outputs = part.push([self.read(v) for v in equation.invars])
            self.values.update(zip(equation.outvars, outputs, strict=True))
        self.outputs = [self.read(v) for v in jaxpr.outvars]
        self.pulled: Gradients | None = None

    def read(self, variable: Any) -> Value:
        """The value of a variable or a literal."""
        if isinstance(variable, _jax.Literal):
            return Value(literal(variable), name="a literal")
        return self.values[variable]

    def takes(self, equation: Any) -> tuple[bool, ...]:
        """Which inputs of an equation are differentiated."""
        return tuple(not isinstance(v, _jax.Literal) and v in self.reached for v in equation.invars)

    def pull(self, g: Sequence[Value | None]) -> Gradients:
        """The gradients at the inputs, given those at the outputs."""
        jaxpr = self.level.graph.jaxpr
        for variable, entry in zip(jaxpr.outvars, g, strict=True):
            self._add(variable, entry)
        for i, equation in reversed(list(enumerate(jaxpr.eqns))):
            arriving = [self._total(v, i) for v in equation.outvars]
            takes = self.takes(equation)
            if any(takes) and any(entry is not None for entry in arriving):
                answers = self.parts[i].pull(arriving, takes)
                for variable, taken, answer in zip(equation.invars, takes, answers, strict=True):
                    self._add(variable, answer if taken else None)
        self.pulled = [self._total(v, None) for v in jaxpr.invars]
        return self.pulled

    def _add(self, variable: Any, g: Value | None) -> None:
        if g is not None and not isinstance(variable, _jax.Literal) and variable in self.terms:
            self.terms[variable].append(g)

    def _total(self, variable: Any, maker: int | None) -> Value | None:
        terms = self.terms.get(variable, [])
        if len(terms) > 1:
            i = self.level.uses(variable)[-1] if maker is None else maker
            place = self.where.at(self.level.nodes[i], i, is_backward=True)
            # Of several terms that are to blame, that of the earliest equation is to be found.
            (total,) = Operation(place, terms[::-1], _sum, ["g"] * len(terms)).outputs()
            self.gradients[variable] = total
        elif terms:
            self.gradients[variable] = terms[0]
        return self.gradients.get(variable)


def _sum(*terms: Any) -> list[Any]:
    total = terms[0]
    for term in terms[1:]:
        total = _jax.add(total, term)
    return [total]


# --- How an equation is run -------------------------------------------------------------------


class Part:
    """How an equation is run and differentiated: here, as one operation.

    Attributes:
        frame: the run of the graph that it is in.
        node: its node, the i-th of its graph.
        within: what is around the graphs that it holds.
        inputs, outputs: its values, once it was run.
    """

    def __init__(self, frame: Frame, i: int):
        self.frame, self.where, self.i = frame, frame.where, i
        self.node, self.inside = frame.level.nodes[i], frame.level.inside[i]
        self.equation = self.node.equation
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.within = replace(frame.where, order=(*frame.where.order, i))

    def place(self, is_backward: bool = False) -> Place:
        """Where it is, in one of the passes."""
        return self.where.at(self.node, self.i, is_backward)

    def push(self, inputs: Sequence[Value]) -> list[Value]:
        """The outputs."""
        self.inputs = list(inputs)
        self.outputs = self.run()
        return self.outputs

    def run(self) -> list[Value]:
        """The outputs, of the inputs that are known by now."""
        return Operation(self.place(), self.inputs, self._bind).outputs()

    def _bind(self, *arrays: Any) -> list[Any]:
        return _jax.bind(self.equation, arrays)

    def pull(self, g: Sequence[Value | None], takes: tuple[bool, ...]) -> Gradients:
        """One gradient per input."""
        op = self.gradient(g, takes)
        answers: Gradients = [None] * len(takes)
        for target, value in zip(op.targets, op.outputs(), strict=True):
            answers[target] = value if value.array is not None else None
        return answers

    def gradient(self, g: Sequence[Value | None], takes: tuple[bool, ...]) -> Operation:
        """The equation's rule as an operation on gradients, outputs and inputs."""
        return rule_applied(self, g, takes)


def rule_applied(part: Part, g: Sequence[Value | None], takes: tuple[bool, ...]) -> Operation:
    """The rule of an equation: from gradients, outputs and inputs to gradients at inputs."""
    equation, settings = part.equation, part.where.settings
    brings = tuple(entry is not None for entry in g)
    step = _step(equation, takes, brings, settings)
    variables = list(dict.fromkeys(v for v in equation.invars if not isinstance(v, _jax.Literal)))
    outs = [v for v, b in zip(equation.outvars, brings, strict=True) if b]
    info = part.frame.level.graph.jaxpr.debug_info
    alone = _jax.graph_of(variables, outs, [equation], {}, info)
    active = [v in part.frame.reached for v in variables]
    arriving = [entry for entry in g if entry is not None]
    known = [part.frame.values[v] for v in variables]
    values = [*arriving, *part.outputs, *known]
    roles = ["g"] * len(arriving) + ["out"] * len(part.outputs) + ["in"] * len(known)

    def run(*arrays):
        n, m = len(arriving), len(arriving) + len(part.outputs)
        record = passes.Record([], dict(zip(variables, arrays[m:], strict=True)), {})
        if step.halves is not None:
            whole = [passes.read(record.values, v) for v in equation.invars]
            _, record.saved[0] = step.halves.forward(*whole)
        record.values.update(zip(equation.outvars, arrays[n:m], strict=True))
        return passes.backward(alone, [step], record, arrays[:n], active)

    asked = [v for v, a in zip(variables, active, strict=True) if a]
    targets = [equation.invars.index(v) for v in asked]
    return Operation(part.place(is_backward=True), values, run, roles, targets)


def _step(equation: Any, takes: tuple[bool, ...], brings: tuple[bool, ...], settings) -> Step:
    rule = settings.rules.find(equation)
    halves = None
    if isinstance(rule, CallRule):
        halves = rule.split(equation, takes, brings, settings)
    elif rule is None or not hasattr(rule, "function"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingRuleWarning)
            rule, halves = None, by_jax(equation, rule, takes, brings, settings)
    return Step(equation, rule, takes, brings, halves)
