"""A graph made ready for relevance: layers in one piece, normalisations and softmax recognised.

Relevance is defined on layers, a program consists of operations. So, before the backward pass,

1. jits of a few operations, and functions whose author wrote a derivative, are taken apart, unless
   the rulebook has a rule by their name: what an author wrote is no rule of relevance;
2. a product that has a layer's rule (choosing.py) becomes one call with all that shifts and scales
   its output, and the call carries the rule;
3. the operations of a softmax become one call, with Taylor's rule;
4. where a value meets a statistic of itself, the operation carries a rule that holds the latter
   constant; where functions of one and the same number are added, one that shares evenly.

The calls do what the operations did: no value changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from jax.extend.core import Var
from jax.extend.core.primitives import closed_call_p

from fungrad import _jax, passes, placing
from fungrad.passes import Settings
from fungrad.rulebook import Rule, Rulebook
from fungrad.rulebooks.lrp.entering import inner_masks
from fungrad.rulebooks.lrp.extents import axes_after, varying_axes
from fungrad.rulebooks.lrp.layers import SCALES, SHIFTS, Layer, kernel_axes
from fungrad.rulebooks.lrp.statistics import Source, normalises, sources
from fungrad.rulebooks.lrp.structure import Passes, Softmax, evenly

_FEW = 32  # operations, as many as helpers have, but no layer of a model


@_jax.cached_by_graph
def joined(graph: Any, active: tuple[bool, ...], book: Rulebook) -> Any:
    """The graph, ready for relevance, and so the graphs that it holds."""
    settings = Settings(book)
    graph = _taken_apart(graph, book)
    view = _View.of(graph, active, settings)
    equations = [_entered(e, view, settings) for e in graph.jaxpr.eqns]
    equations = [_with_related_operands(e, view) for e in equations]
    for region in (*_softmaxes(view), *_layers(view)):
        equations = _in_one_call(equations, region, graph)
    jaxpr = graph.jaxpr
    constants = dict(zip(jaxpr.constvars, graph.consts, strict=True))
    return _jax.graph_of(jaxpr.invars, jaxpr.outvars, equations, constants, jaxpr.debug_info)


class _View(NamedTuple):
    """What is known about a graph.

    Attributes:
        graph: the graph.
        active: the variables that are differentiated.
        sources: where their values come from.
        makers: the equation that makes a variable.
        users: those that use it.
        uses: how often it is used, as an output too.
    """

    graph: Any
    active: set[Any]
    sources: dict[Any, Source]
    makers: dict[Any, Any]
    users: dict[Any, list[Any]]
    uses: Counter[Any]

    @classmethod
    def of(cls, graph: Any, active: Sequence[bool], settings: Settings) -> _View:
        reached = passes.flow(graph, active, settings)
        makers = {v: e for e in graph.jaxpr.eqns for v in e.outvars}
        users: dict[Any, list[Any]] = {}
        for e in graph.jaxpr.eqns:
            for v in e.invars:
                if not isinstance(v, _jax.Literal):
                    users.setdefault(v, []).append(e)
        used = [v for e in graph.jaxpr.eqns for v in e.invars] + list(graph.jaxpr.outvars)
        uses = Counter(v for v in used if not isinstance(v, _jax.Literal))
        return cls(graph, reached, sources(graph, reached.__contains__), makers, users, uses)

    def is_active(self, variable: Any) -> bool:
        return not isinstance(variable, _jax.Literal) and variable in self.active

    def maker(self, variable: Any) -> Any:
        """The equation that makes a variable, if it carries no rule of its own; else `None`."""
        found = None if isinstance(variable, _jax.Literal) else self.makers.get(variable)
        return None if found is None or placing.carried(found) else found

    def only_user(self, variable: Any) -> Any:
        """The one equation that uses a variable, if it carries no rule of its own; else `None`."""
        found = self.users.get(variable, []) if self.uses[variable] == 1 else []
        return found[0] if found and not placing.carried(found[0]) else None


# --- Calls --------------------------------------------------------------------------------------


def _taken_apart(graph: Any, book: Rulebook) -> Any:
    """The graph with the equations of small calls in their place."""
    names: dict[Any, Any] = {}
    constants = dict(zip(graph.jaxpr.constvars, graph.consts, strict=True))
    equations = []

    def visit(inner: Any, names: dict[Any, Any]) -> None:
        for e in inner.jaxpr.eqns:
            e = e.replace(invars=[_jax.renamed(v, names) for v in e.invars])
            if _is_taken_apart(e, book):
                (inside,) = _jax.subgraphs(e)
                own = dict(zip(inside.jaxpr.invars, e.invars, strict=True))
                for v, value in zip(inside.jaxpr.constvars, inside.consts, strict=True):
                    constants[own.setdefault(v, Var(v.aval))] = value
                visit(inside, own)
                results = [_jax.renamed(v, own) for v in inside.jaxpr.outvars]
                names.update(zip(e.outvars, results, strict=True))
            elif inner is graph:
                equations.append(e)
            else:
                fresh = [Var(v.aval) for v in e.outvars]
                names.update(zip(e.outvars, fresh, strict=True))
                equations.append(e.replace(outvars=fresh))

    visit(graph, names)
    jaxpr = graph.jaxpr
    outputs = [_jax.renamed(v, names) for v in jaxpr.outvars]
    return _jax.graph_of(jaxpr.invars, outputs, equations, constants, jaxpr.debug_info)


def _is_taken_apart(equation: Any, book: Rulebook) -> bool:
    if (
        (_jax.function_name(equation) or "") in book
        or placing.carried(equation)
        or equation.effects
    ):
        return False
    name = equation.primitive.name
    return name in ("custom_jvp_call", "custom_vjp_call") or (
        name == "jit" and _size(equation) <= _FEW
    )


def _size(equation: Any) -> int:
    return sum(max(1, _size(e)) for graph in _jax.subgraphs(equation) for e in graph.jaxpr.eqns)


def _entered(equation: Any, view: _View, settings: Settings) -> Any:
    """The equation with the graphs that it holds made ready too."""
    graphs = _jax.subgraphs(equation)
    if not graphs or placing.carried(equation):
        return equation
    masks = inner_masks(equation, tuple(map(view.is_active, equation.invars)), settings)
    ready = iter([joined(g, m, settings.rules) for g, m in zip(graphs, masks, strict=True)])
    effects = equation.effects
    return _jax.with_subgraphs(equation, lambda _: next(ready)).replace(effects=effects)


class _Region(NamedTuple):
    """Equations that become one call, in order: its first inputs, its output, its rule."""

    equations: list[Any]
    inputs: list[Any]
    output: Any
    rule: Rule


def _in_one_call(equations: list[Any], region: _Region, graph: Any) -> list[Any]:
    """The equations with those of a region in one call, where the last of them was.

    An equation of the region that others need stays as well.
    """
    made = {v for e in region.equations for v in e.outvars}
    used = [v for e in region.equations for v in e.invars if not isinstance(v, _jax.Literal)]
    inputs = list(dict.fromkeys([*region.inputs, *(v for v in used if v not in made)]))
    inside = _jax.graph_of(inputs, [region.output], region.equations, {}, graph.jaxpr.debug_info)
    call = region.equations[0].replace(
        primitive=closed_call_p,
        params={"call_jaxpr": inside},
        invars=inputs,
        outvars=[region.output],
    )
    kept, needed = [], {v for v in graph.jaxpr.outvars if not isinstance(v, _jax.Literal)}
    for e in reversed(equations):
        if region.output in e.outvars:
            e = placing.carrying(call, region.rule)
        elif not made.isdisjoint(e.outvars) and needed.isdisjoint(e.outvars):
            continue
        kept.append(e)
        needed.update(v for v in e.invars if not isinstance(v, _jax.Literal))
    return kept[::-1]


# --- Layers -------------------------------------------------------------------------------------


class AtLayer(NamedTuple):
    """z = W x + b        R ↦ what a rule of formulas.py makes of it"""

    formula: Any

    def __call__(self, g, out, x, kernel, *others, call_jaxpr):
        (R,), (z,) = g, out
        layer = Layer.of(_jax.close(call_jaxpr), z, (x, kernel, *others))
        return self.formula(R, layer), *(None for _ in (kernel, *others))


def _layers(view: _View) -> list[_Region]:
    marked = [e for e in view.graph.jaxpr.eqns if isinstance(_formula(e), AtLayer)]
    return [_layer(product, view) for product in marked]


def _formula(equation: Any) -> Any:
    return getattr(placing.carried(equation), "function", None)


def _layer(product: Any, view: _View) -> _Region:
    """A product and all that shifts and scales its output by constants of its own axes."""
    kernel = 0 if view.is_active(product.invars[1]) else 1
    axes, steps = set(kernel_axes(product, kernel)), [product]
    pending: list[Any] = []
    (output,) = product.outvars
    last = output
    while (step := view.only_user(last)) is not None:
        if _shifts_or_scales(step, last, axes, view):
            steps, pending = [*steps, *pending, step], []
            output = last = step.outvars[0]
        elif (moved := axes_after(step, axes)) is not None:
            axes, last, pending = moved, step.outvars[0], [*pending, step]
        else:
            break
    inputs = [product.invars[1 - kernel], product.invars[kernel]]
    rule = placing.carried(product)
    steps[0] = placing.carrying(product, None)
    return _Region(steps, inputs, output, Rule("closed_call", rule.function))


def _shifts_or_scales(step: Any, value: Any, axes: set[int], view: _View) -> bool:
    """Whether a step shifts or scales by constants that vary along the kernel's axes only."""
    name, operands = step.primitive.name, step.invars
    if name not in SHIFTS + SCALES or step.outvars[0].aval.shape != value.aval.shape:
        return False
    if name == "div" and operands[0] is not value:
        return False
    others = [v for v in operands if v is not value]
    return not any(map(view.is_active, others)) and all(
        varying_axes(v, view.makers) <= axes for v in others
    )


# --- Values and their statistics ----------------------------------------------------------------


def _with_related_operands(equation: Any, view: _View) -> Any:
    """The equation, with a rule for operands of which one is made of the other, if they are."""
    name = equation.primitive.name
    if name not in ("add", "sub", "mul", "div") or placing.carried(equation):
        return equation
    if not all(map(view.is_active, equation.invars)):
        return equation
    first, second = (view.sources[v] for v in equation.invars)
    rule = None
    if name != "add" and normalises(second, first):
        rule = Passes(0)
    elif name in ("sub", "mul") and normalises(first, second):
        rule = Passes(1)
    elif name in ("add", "sub") and first.unit is second.unit:
        rule = evenly
    return equation if rule is None else placing.carrying(equation, Rule(name, rule, True))


# --- Softmax ------------------------------------------------------------------------------------


def _softmaxes(view: _View) -> list[_Region]:
    divisions = [e for e in view.graph.jaxpr.eqns if e.primitive.name == "div"]
    found = [_softmax(e, view) for e in divisions if all(map(view.is_active, e.invars))]
    return [region for region in found if region is not None]


def _softmax(division: Any, view: _View) -> _Region | None:
    """exp(x − m) / Σ exp(x − m), masked or not, from x on; `None` if it is another division."""
    top, bottom = division.invars
    total, behind = _past(bottom, ("broadcast_in_dim", "reshape", "add", "max"), view)
    if total is None or total.primitive.name != "reduce_sum" or placing.carried(division):
        return None
    power, masks = _past(top, ("select_n", "mul"), view)
    same, others = _past(total.invars[0], ("select_n", "mul"), view)
    if power is None or power is not same or power.primitive.name != "exp":
        return None
    steps, x = [power, *masks, *others, total, *behind, division], power.invars[0]
    shift = view.maker(x)
    if shift is not None and shift.primitive.name == "sub" and _is_shift(shift, view):
        steps, x = [shift, *steps], shift.invars[0]
    order = {v: i for i, e in enumerate(view.graph.jaxpr.eqns) for v in e.outvars}
    steps = sorted({id(e): e for e in steps}.values(), key=lambda e: order[e.outvars[0]])
    rule = Rule("closed_call", Softmax(tuple(total.params["axes"])))
    return _Region(steps, [x], division.outvars[0], rule)


def _past(variable: Any, names: tuple[str, ...], view: _View) -> tuple[Any, list[Any]]:
    """The equation behind those of the given names that have one active operand, and these."""
    steps: list[Any] = []
    while (maker := view.maker(variable)) is not None and maker.primitive.name in names:
        operands = [v for v in maker.invars if view.is_active(v)]
        if len(operands) != 1:
            return None, []
        (variable,), steps = operands, [*steps, maker]
    return maker, steps


def _is_shift(difference: Any, view: _View) -> bool:
    """Whether a constant, or a statistic, is subtracted from what is differentiated."""
    x, m = difference.invars
    if not view.is_active(m):
        return True
    return view.is_active(x) and normalises(view.sources[m], view.sources[x])
