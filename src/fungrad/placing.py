"""Which replacement counts at a node, and how a rule that was chosen for it gets there.

A selector knows a node by the calls around it; the passes see one equation at a time, in graphs
that are cut, traced and kept by themselves. So nodes are selected once, in the whole graph, and the
equations that are selected carry their rules from then on, through whatever is done to the graph:
what is kept by the identity of a graph, or by what it says, is kept apart for other rules.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from fungrad import _jax
from fungrad.graph import Graph, Node
from fungrad.selector import Selector

Choices = tuple[tuple[int, Any, tuple[Any, ...]], ...]
"""For equations of a graph, by index: the rule, or `None`, and the choices in the graphs inside."""


@dataclass(frozen=True)
class _Carrier:
    """An equation's settings, as JAX sees them, with a rule, as a rulebook sees it."""

    settings: Any
    rule: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.settings, name)


def carried(equation: Any) -> Any:
    """The rule that the equation carries, or `None`."""
    return getattr(equation.ctx, "rule", None)


def carrying(equation: Any, rule: Any) -> Any:
    """The equation with a rule that it carries; with none, if that is `None`."""
    settings = getattr(equation.ctx, "settings", equation.ctx)
    return equation.replace(ctx=settings if rule is None else _Carrier(settings, rule))


def with_subgraphs(equation: Any, change: Callable[[Any], Any]) -> Any:
    """The equation with each graph that it holds changed, and the effects that are left."""

    def changed(value):
        if isinstance(value, tuple | list):
            entries = map(changed, value) if any(map(_jax.is_graph, value)) else value
            return getattr(value, "_make", type(value))(entries)
        opened = _jax.is_graph(value) and not hasattr(value, "consts")
        graph = change(_jax.close(value)) if _jax.is_graph(value) else value
        return graph.jaxpr if opened else graph

    new = equation.replace(params={k: changed(v) for k, v in equation.params.items()})
    kinds = {type(effect) for graph in _jax.subgraphs(new) for effect in graph.jaxpr.effects}
    return new.replace(effects={e for e in equation.effects if type(e) in kinds})


@_jax.cached_by_graph
def placed(graph: Any, choices: Choices) -> Any:
    """The graph whose equations carry the rules that were chosen, and no others."""
    chosen = {i: (rule, inside) for i, rule, inside in choices}
    equations = []
    for i, equation in enumerate(graph.jaxpr.eqns):
        rule, inside = chosen.get(i, (None, ()))
        if carried(equation) is not rule:
            equation = carrying(equation, rule)
        graphs = _jax.subgraphs(equation)
        pairs = zip(graphs, inside or ((),) * len(graphs), strict=True)
        changed = [placed(*each) for each in pairs]
        if not all(map(operator.is_, changed, graphs)):
            given, effects = iter(changed), equation.effects
            equation = with_subgraphs(equation, lambda _, given=given: next(given))
            equation = equation.replace(effects=effects)
        equations.append(equation)
    same = all(map(operator.is_, equations, graph.jaxpr.eqns))
    return graph if same else graph.replace(jaxpr=graph.jaxpr.replace(eqns=equations))


def choices(graph: Graph, rule_at: Callable[[Node, bool], Any]) -> Choices:
    """The choices in a graph; `rule_at(node, whether any was made in the graphs that it holds)`."""
    nodes = iter(graph.nodes)

    def within(graph: Any) -> Choices:
        rows = []
        for i, equation in enumerate(graph.jaxpr.eqns):
            node = next(nodes)
            inside = tuple(map(within, _jax.subgraphs(equation)))
            rule = rule_at(node, any(inside))
            if rule is not None or any(inside):
                rows.append((i, rule, inside))
        return tuple(rows)

    return within(graph.jaxpr)


# --- Which replacement counts -----------------------------------------------------------------


class _Candidate(NamedTuple):
    """A replacement that fits a node: the ids of all that it fits, its fields, where it stands."""

    where: set[int]
    size: int
    order: int
    key: str | Selector


def selected(
    graph: Graph, keys: Mapping[str | Selector, Any], name_at: Callable[[Node], str | None]
) -> dict[int, Selector]:
    """By the ids of nodes, the selector that counts there; none where a name does.

    Of the keys that fit a node, those are left out whose nodes are more than another's, and among
    them all those of the other. Of the rest, one with more fields counts, and of as many, a later
    one.

    Args:
        keys: names and selectors, in order.
        name_at: which of the names fits a node.

    Raises:
        LookupError: a selector matches no node of the graph.
    """
    fitting: dict[int, list[_Candidate]] = {id(node): [] for node in graph.nodes}
    named: dict[str | None, set[int]] = {}
    for node in graph.nodes:
        named.setdefault(name_at(node), set()).add(id(node))
    for order, key in enumerate(keys):
        if isinstance(key, Selector):
            candidate = _Candidate(set(map(id, graph.find(key))), _size(key), order, key)
        else:
            candidate = _Candidate(named.get(key, set()), 1, order, key)
        for node in candidate.where:
            fitting[node].append(candidate)
    counting = {node: _narrowest(found).key for node, found in fitting.items() if found}
    return {node: key for node, key in counting.items() if isinstance(key, Selector)}


def _narrowest(candidates: list[_Candidate]) -> _Candidate:
    least = [c for c in candidates if not any(other.where < c.where for other in candidates)]
    return max(least, key=lambda c: (c.size, c.order))


def _size(selector: Selector) -> int:
    """How many fields a selector has, in all its parts."""
    parts = [getattr(selector, entry.name) for entry in fields(selector)]
    return sum(
        _size(part) if isinstance(part, Selector) else 1 for part in parts if part is not None
    )
