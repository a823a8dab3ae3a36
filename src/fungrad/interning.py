"""Equal graphs are one graph: what was worked out about the first holds for every other.

A function that is traced anew gives a new graph, and what is kept by the identity of a graph would
be lost at each trace. Two graphs are equal if all that they say is: equations with parameters,
types, source lines and scopes. The first one that was met then stands for all of them.

What a graph holds besides are Python functions: derivatives by their author. That of a `custom_jvp`
is as good as its graph, which is read each time; where that graph calls such functions in turn (it
may be the same one), they are known by where they are defined. A graph that holds other functions,
or that refers to arrays or has effects, stands for itself alone.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import jax
import numpy as np

from fungrad import _jax, passes
from fungrad.graph import is_custom_jvp, place_of_custom_jvp
from fungrad.steps import content_of, typed


class _OnlyItself(Exception):
    """A graph that is equal to no other."""


class _Content:
    """What a graph says, and the graph."""

    __slots__ = ("graph", "hash", "rows")

    def __init__(self, rows: Any, graph: Any = None):
        self.rows, self.graph, self.hash = rows, graph, hash(rows)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Content) and self.rows == other.rows


def cached_by_content(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: a cache of `function(graph, active, wanted, kept, settings, ...)`.

    It is keyed by what the graph says. Settings that look on while a graph is read (`missed`) see
    every graph.
    """
    by_identity = _jax.cached_by_graph(function)

    @wraps(function)
    def by_content(graph, active, wanted, kept, settings, *others, **named):
        keeps = _jax.may_keep() and settings.missed is None
        first = _first(graph, active, settings) if keeps else None
        return by_identity(first or graph, active, wanted, kept, settings, *others, **named)

    return by_content


@_jax.cached_by_graph
def _first(graph: Any, active: tuple[bool, ...], settings: passes.Settings) -> Any:
    """The graph of the same content that was met first; `None` if it is this one."""
    functions = any(is_custom_jvp(e) for e in graph.jaxpr.eqns)
    reached = passes.flow(graph, active, settings) if functions else None
    try:
        content = _Content((active, _rows(graph, reached)), graph)
    except (_OnlyItself, TypeError):  # TypeError: a parameter has no hash
        return None
    first = _met(content).graph
    return None if first is graph else first


@_jax.cached_by_value(256)
def _met(content: _Content) -> _Content:
    return content


@_jax.cached_by_graph
def _inside(graph: Any, reads: bool) -> Any:
    """The content of a graph that another one holds; its identity if it is equal to no other."""
    try:
        return _Content(_rows(graph, None, reads))
    except (_OnlyItself, TypeError):
        return weakref.ref(graph)


def _rows(graph: Any, reached: set[Any] | None = None, reads: bool = True) -> Any:
    """All that a graph says.

    Args:
        reached: the variables that are differentiated, if that is known.
        reads: read the graphs of the functions that it holds.
    """
    jaxpr, info = graph.jaxpr, graph.jaxpr.debug_info
    if graph.consts or jaxpr.effects:
        raise _OnlyItself
    number = {v: i for i, v in enumerate(jaxpr.invars)}

    def operands(variables):
        return tuple([_literal(v) if type(v) is _jax.Literal else number[v] for v in variables])

    other = partial(_parameter, reads)
    rows: list[Any] = [(info.func_name, info.arg_names), tuple(v.aval for v in number)]
    for e in jaxpr.eqns:
        source, params = e.source_info, e.params
        if is_custom_jvp(e):
            params = {**params, "jvp_jaxpr_fun": _function(e, reached, reads)}
        rows += (
            (e.primitive, source.traceback, source.name_stack, e.ctx),
            operands(e.invars),
            tuple([(name, typed(value, other)) for name, value in params.items()]),
            tuple([v.aval for v in e.outvars]),
        )
        for v in e.outvars:
            number[v] = len(number)
    return (*rows, operands(jaxpr.outvars))


def _literal(literal: Any) -> Any:
    if np.ndim(literal.val):
        raise _OnlyItself
    return content_of(literal)


_VALUES_THAT_CAN_BE_CALLED = (type, jax.sharding.Mesh, jax.sharding.AbstractMesh)


def _parameter(reads: bool, value: Any) -> Any:
    if isinstance(value, _jax.ClosedJaxpr | _jax.Jaxpr):
        graph = _jax.close(value)
        if graph.consts:
            raise _OnlyItself
        return _inside(graph, reads)
    if callable(value) and not isinstance(value, _VALUES_THAT_CAN_BE_CALLED):
        raise _OnlyItself
    return value


def _function(equation: Any, reached: set[Any] | None, reads: bool) -> Any:
    """What the author of a custom_jvp wrote, read for the inputs that are differentiated.

    Or for all, where that is not known.
    """
    if not reads:
        return place_of_custom_jvp(equation)
    active = [_jax.is_differentiable(v.aval) for v in equation.invars]
    if reached is not None:
        taken = [type(v) is not _jax.Literal and v in reached for v in equation.invars]
        active = taken if any(taken) else active
    try:
        graph, *shown = _jax.custom_jvp_function(equation, active)
    except Exception as error:  # the author's own, whose time has not come
        raise _OnlyItself from error
    return _rows(graph, reads=False), *map(tuple, shown)
