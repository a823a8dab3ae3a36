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

from typing import Any

from jax.extend.core import Var
from jax.extend.core.primitives import closed_call_p

from fungrad import _jax, placing
from fungrad.joint import renamed
from fungrad.passes import Settings
from fungrad.rulebook import Rule, Rulebook
from fungrad.rulebooks.lrp.entering import inner_masks
from fungrad.rulebooks.lrp.recognising import averages, layers, softmaxes, with_related_operands
from fungrad.rulebooks.lrp.view import Region, View

_FEW = 32  # operations, as many as helpers have, but no layer of a model


@_jax.cached_by_graph
def joined(graph: Any, active: tuple[bool, ...], book: Rulebook, stabilizer: float) -> Any:
    """The graph, ready for relevance, and so the graphs that it holds.

    Args:
        active: which of its inputs are differentiated.
        stabilizer: keeps the denominators of averages away from 0.
    """
    settings = Settings(book)
    graph = _taken_apart(graph, book)
    view = View.of(graph, active, settings)
    equations = [_entered(e, view, settings, stabilizer) for e in graph.jaxpr.eqns]
    equations = [with_related_operands(e, view) for e in equations]
    for region in (*softmaxes(view), *layers(view), *averages(view, stabilizer)):
        equations = _in_one_call(equations, region, graph)
    jaxpr = graph.jaxpr
    constants = dict(zip(jaxpr.constvars, graph.consts, strict=True))
    return _jax.graph_of(jaxpr.invars, jaxpr.outvars, equations, constants, jaxpr.debug_info)


# --- Calls --------------------------------------------------------------------------------------


def _taken_apart(graph: Any, book: Rulebook) -> Any:
    """The graph with the equations of small calls in their place."""
    names: dict[Any, Any] = {}
    constants = dict(zip(graph.jaxpr.constvars, graph.consts, strict=True))
    equations = []

    def visit(inner: Any, names: dict[Any, Any]) -> None:
        for e in inner.jaxpr.eqns:
            e = e.replace(invars=[renamed(v, names) for v in e.invars])
            if _is_taken_apart(e, book):
                (inside,) = _jax.subgraphs(e)
                own = dict(zip(inside.jaxpr.invars, e.invars, strict=True))
                for v, value in zip(inside.jaxpr.constvars, inside.consts, strict=True):
                    constants[own.setdefault(v, Var(v.aval))] = value
                visit(inside, own)
                results = [renamed(v, own) for v in inside.jaxpr.outvars]
                names.update(zip(e.outvars, results, strict=True))
            elif inner is graph:
                equations.append(e)
            else:
                fresh = [Var(v.aval) for v in e.outvars]
                names.update(zip(e.outvars, fresh, strict=True))
                equations.append(e.replace(outvars=fresh))

    visit(graph, names)
    jaxpr = graph.jaxpr
    outputs = [renamed(v, names) for v in jaxpr.outvars]
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


def _entered(equation: Any, view: View, settings: Settings, stabilizer: float) -> Any:
    """The equation with the graphs that it holds made ready too."""
    graphs = _jax.subgraphs(equation)
    if not graphs or placing.carried(equation):
        return equation
    masks = inner_masks(equation, tuple(map(view.is_active, equation.invars)), settings)
    pairs = zip(graphs, masks, strict=True)
    ready = iter([joined(g, mask, settings.rules, stabilizer) for g, mask in pairs])
    effects = equation.effects
    return placing.with_subgraphs(equation, lambda _: next(ready)).replace(effects=effects)


def _in_one_call(equations: list[Any], region: Region, graph: Any) -> list[Any]:
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
            e = placing.carrying(call, Rule(closed_call_p.name, region.rule))
        elif not made.isdisjoint(e.outvars) and needed.isdisjoint(e.outvars):
            continue
        kept.append(e)
        needed.update(v for v in e.invars if not isinstance(v, _jax.Literal))
    return kept[::-1]
