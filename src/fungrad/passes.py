"""The two passes over a graph: forward in program order, backward in reverse.

Forward keeps the value of every edge that the backward pass may read. Backward walks the
differentiated equations from last to first; at each, `g_in = g_out · ∂out/∂in`, and where an edge
forks, the gradients of its branches are added:

    ∂J/∂x = Σ over the uses u of x:  ∂J/∂u · ∂u/∂x

A gradient that is `None` is a zero that is never built. What happens at one equation
is in steps.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax.ref

from fungrad import _jax, formats, teaching
from fungrad.fallback import by_jax
from fungrad.rulebook import CallRule, Halves, Rule, Rulebook
from fungrad.steps import Step, pull_back


class Settings(NamedTuple):
    """What a differentiation is done with.

    Attributes:
        rules: the rulebook.
        save: what the forward pass may save (saving.py).
        linear: the graph is a tangent graph, linear in what is differentiated. Then the values of
            the differentiated edges are unknown and no rule needs them, and a custom function in
            it is its own derivative, so that it is differentiated through its body.
        filled: the same within a loop or a branch, where zeros stand for the unknown values.
        missed: `(equation, gap, active, wanted, settings) -> Halves`, called at an equation that
            has no hand-written rule; `None` is JAX's own rule, with a warning if it is no gap.
    """

    rules: Rulebook
    save: Any = None
    linear: bool = False
    filled: bool = False
    missed: Callable[..., Halves] | None = None

    def within(self) -> Settings:
        """The same for the body of a loop or of a branch, which returns every output."""
        return self._replace(linear=False, filled=self.linear or self.filled)


# --- Which equations are differentiated -----------------------------------------------------


def flow(graph: Any, active: Sequence[bool], settings: Settings) -> set[Any]:
    """The variables that depend differentiably on the active inputs.

    Among them is a reference to which an active value is ever written.
    """
    reached = {v for v, a in zip(graph.jaxpr.invars, active, strict=True) if a}
    for equation in graph.jaxpr.eqns:
        inputs = tuple(_is_in(v, reached) for v in equation.invars)
        if any(inputs):
            reaches = _flow_through(equation, inputs, settings)
            size = len(equation.outvars)
            reached.update(v for v, a in zip(equation.outvars, reaches, strict=False) if a)
            inside = zip(equation.invars, reaches[size:], strict=False)
            reached.update(v for v, a in inside if a and _jax.is_reference_type(v.aval))
    return reached


def activity(graph: Any, active: tuple[bool, ...], settings: Settings) -> tuple[bool, ...]:
    """Which outputs of the graph depend differentiably on the active inputs."""
    return reach(graph, active, settings)[: len(graph.jaxpr.outvars)]


@_jax.cached_by_graph
def reach(graph: Any, active: tuple[bool, ...], settings: Settings) -> tuple[bool, ...]:
    """Which outputs depend differentiably on the active inputs; then, which inputs are active.

    Among the latter are references to which the graph writes something active.
    """
    reached = flow(graph, active, settings)
    return tuple(_is_in(v, reached) for v in (*graph.jaxpr.outvars, *graph.jaxpr.invars))


def _flow_through(equation: Any, active: tuple[bool, ...], settings: Settings) -> Sequence[bool]:
    rule = settings.rules.find(equation)
    if isinstance(rule, CallRule):
        return rule.activity(equation, active, settings)
    if isinstance(rule, Rule) and rule.reason is not None:
        return [False] * len(equation.outvars)
    return [_jax.is_differentiable(v.aval) for v in equation.outvars]


def _is_in(variable: Any, variables: set[Any]) -> bool:
    return not isinstance(variable, _jax.Literal) and variable in variables


def _brings(equation: Any, needed: set[Any]) -> bool:
    """Whether a gradient arrives at an equation: at an output, or at a reference that it uses."""
    if any(v in needed for v in equation.outvars):
        return True
    return bool(equation.effects) and any(
        _is_in(v, needed) and _jax.is_reference_type(v.aval) for v in equation.invars
    )


def references(graph: Any, active: Sequence[bool]) -> list[Any]:
    """The active inputs of the graph that are references; none if it uses none."""
    if not graph.jaxpr.effects:
        return []
    inputs = zip(graph.jaxpr.invars, active, strict=True)
    return [v for v, a in inputs if a and _jax.is_reference_type(v.aval)]


def refuse_writes_outside(graph: Any, active: Sequence[bool], settings: Settings) -> None:
    """An active value that is written to a reference of elsewhere would take its gradient along."""
    outside = [v for v in graph.jaxpr.constvars if _jax.is_reference_type(v.aval)]
    reached = flow(graph, active, settings) if outside else set()
    for variable in outside:
        if variable in reached:
            uses = [e for e in graph.jaxpr.eqns if variable in e.invars]
            file, line, _ = _jax.line_of(uses[-1])
            raise ValueError(
                "performing a set/swap operation with a differentiated value on a "
                f"non-differentiated array reference of type {variable.aval} (last used at "
                f"{file}:{line}). Move the array reference to be an argument of the differentiated "
                "function? Or make it inside, with jax.new_ref; or write "
                "jax.lax.stop_gradient of the value; or make it with kind='no_grad_no_remat', if "
                "no gradient shall flow through it"
            )


def receivers(
    graph: Any, active: Sequence[bool], wanted: Sequence[bool], settings: Settings
) -> tuple[bool, ...]:
    """Which active inputs of the graph a gradient that arrives at the wanted outputs may reach."""
    reached = flow(graph, active, settings)
    needed = _needed_at_outputs(graph, active, wanted, reached)
    for equation in reversed(graph.jaxpr.eqns):
        if _brings(equation, needed):
            needed.update(v for v in equation.invars if _is_in(v, reached))
    return tuple(v in needed for v in graph.jaxpr.invars)


def _needed_at_outputs(
    graph: Any, active: Sequence[bool], wanted: Sequence[bool], reached: set[Any]
) -> set[Any]:
    """Where gradients arrive from outside: at outputs, and in references that come from there."""
    outputs = zip(graph.jaxpr.outvars, wanted, strict=True)
    return {v for v, w in outputs if w and _is_in(v, reached)} | {*references(graph, active)}


def plan(
    graph: Any, active: Sequence[bool], wanted: Sequence[bool], settings: Settings
) -> list[Step | None]:
    """For each equation the step of the backward pass, `None` where no gradient passes.

    Args:
        active: which inputs of the graph are differentiated.
        wanted: at which outputs of the graph a gradient may arrive.
    """
    reached = flow(graph, active, settings)
    needed = _needed_at_outputs(graph, active, wanted, reached)
    steps: list[Step | None] = []
    for equation in reversed(graph.jaxpr.eqns):
        step = None
        brings = tuple(v in needed for v in equation.outvars)
        takes = tuple(_is_in(v, reached) for v in equation.invars)
        rule = settings.rules.find(equation) if any(takes) else None
        # A call may have outputs that do not depend on its unknown inputs: it must be split.
        in_part = (settings.linear or settings.filled) and isinstance(rule, CallRule)
        if in_part or (any(takes) and _brings(equation, needed)):
            needed.update(v for v, a in zip(equation.invars, takes, strict=True) if a)
            halves = None
            with teaching.At(graph, equation, rule, "the derivative"):
                if isinstance(rule, CallRule):
                    halves = rule.split(equation, takes, brings, settings)
                elif not isinstance(rule, Rule):
                    missed = settings.missed or by_jax
                    rule, halves = None, missed(equation, rule, takes, brings, settings)
            held = zip(equation.invars, takes, strict=True) if equation.effects else ()
            held = (v for v, a in held if a and _jax.is_reference_type(v.aval))
            step = Step(equation, rule, takes, brings, halves, tuple(held))
        steps.append(step)
    return steps[::-1]


# --- Forward ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """What a forward pass leaves behind.

    Attributes:
        outputs: the values of the graph's outputs.
        values: the value of every edge that a step may read.
        saved: per step that is a call, what its forward half saved.
    """

    outputs: list[Any]
    values: dict[Any, Any]
    saved: dict[int, list[Any]]


def forward(graph: Any, inputs: Sequence[Any], steps: Sequence[Step | None]) -> Record:
    """Evaluate the graph in program order; a differentiated call runs its forward half."""
    values: dict[Any, Any] = dict(zip(graph.jaxpr.constvars, graph.consts, strict=True))
    values.update(zip(graph.jaxpr.invars, inputs, strict=True))
    saved: dict[int, list[Any]] = {}
    for i, (equation, step) in enumerate(zip(graph.jaxpr.eqns, steps, strict=True)):
        arguments = [read(values, v) for v in equation.invars]
        if step is not None and step.halves is not None:
            by = teaching.At(graph, equation, step.rule, "the forward pass")
            with by, _jax.place_of(equation):
                outputs, saved[i] = step.halves.forward(*arguments)
        elif any(isinstance(x, _jax.Unknown) for x in arguments):
            outputs = [_jax.Unknown(v.aval) for v in equation.outvars]
        else:
            outputs = _jax.bind(equation, arguments)
        values.update(zip(equation.outvars, outputs, strict=True))
    outputs = [read(values, v) for v in graph.jaxpr.outvars]
    return Record(outputs, _that_steps_read(steps, values), saved)


def read(values: dict[Any, Any], variable: Any) -> Any:
    """The value of a variable or literal; what was never computed is `Unknown`."""
    if isinstance(variable, _jax.Literal):
        return variable.val
    value = values.get(variable)
    return _jax.Unknown(variable.aval) if value is None else value


def _that_steps_read(steps: Sequence[Step | None], values: dict[Any, Any]) -> dict[Any, Any]:
    variables = {
        v
        for step in steps
        if step is not None and step.halves is None
        for v in (*step.equation.invars, *step.equation.outvars)
        if not isinstance(v, _jax.Literal)
    }
    return {v: values[v] for v in variables if not isinstance(values[v], _jax.Unknown)}


# --- Backward ---------------------------------------------------------------------------------


def backward(
    graph: Any,
    steps: Sequence[Step | None],
    record: Record,
    g: Sequence[Any],
    active: Sequence[bool],
    held: Sequence[Any] = (),
) -> list[Any]:
    """The gradients at the graph's active inputs, given those at its outputs (`None` is zero).

    A reference R has another one, G, to the gradient at what it holds: `held` are those of the
    graph's active references, whose gradients are not returned but left there. Rules are not asked
    for the gradients of inputs that are not active.
    """
    gradients: dict[Any, Any] = {}
    value_of = partial(read, record.values)
    passive = {v for v, a in zip(graph.jaxpr.invars, active, strict=True) if not a}
    for variable, entry in zip(graph.jaxpr.outvars, g, strict=True):
        if entry is not None and not isinstance(variable, _jax.Literal):
            _accumulate(gradients, variable, entry)
    mutable = references(graph, active)
    gradients.update(zip(mutable, held, strict=False))
    for i, step in reversed(list(enumerate(steps))):
        if step is None:
            continue
        arriving = [gradients.pop(v, None) for v in step.equation.outvars]
        unread = gradients.keys().isdisjoint(step.references)
        if unread and all(entry is None for entry in arriving):
            continue
        by = teaching.At(graph, step.equation, step.rule, "the backward pass")
        with by, _jax.place_of(step.equation):
            for variable in step.references:
                if variable not in gradients:
                    gradients[variable] = gradient_reference(variable.aval)
            own = [gradients[variable] for variable in step.references]
            takes = zip(step.equation.invars, step.active, strict=True)
            asked = tuple([a and v not in passive for v, a in takes])
            saved = record.saved.get(i, ())
            answers = pull_back(step, value_of, saved, arriving, own, asked)
            for variable, answer in zip(step.equation.invars, answers, strict=True):
                if answer is None:
                    continue
                if variable in step.references:
                    jax.ref.addupdate(gradients[variable], (), answer)
                else:
                    _accumulate(gradients, variable, answer)
    kept = [v for v, a in zip(graph.jaxpr.invars, active, strict=True) if a]
    return [None if v in mutable else gradients.get(v) for v in kept]


def gradient_reference(aval: Any) -> Any:
    """A reference to the gradient, zero so far, at the value that a reference refers to."""
    return jax.new_ref(_jax.zeros(aval.inner_aval), memory_space=aval.memory_space)


def _accumulate(gradients: dict[Any, Any], variable: Any, g: Any) -> None:
    other = gradients.get(variable)
    gradients[variable] = g if other is None else formats.add(other, g, variable.aval.dtype)
