"""Which values of a graph are statistics of others: means, deviations, norms, maxima.

An elementwise function u of x and a number that sums over entries of x, such as

    x − mean(x)        x / √mean(x²)        e / Σ e

normalises x. Every value has a `Source`: what it was computed from, how often sums or maxima were
taken on the way, and of which value it is a function entry by entry. Products with kernels, and
whatever else mixes entries, begin anew, so that a gate which is computed by layers is no statistic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fungrad import _jax
from fungrad.rulebooks.lrp.structure import CASTS, FUNCTIONS, STEPS

_MOVES = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "copy", "name"}
_REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod"}
_CHOICES = {"max", "min", "select_n", "gt", "ge", "lt", "le", "eq", "ne", "and", "or", "not"}
_ENTRYWISE = {*FUNCTIONS, *CASTS, *STEPS, *_CHOICES, "add", "sub", "add_any", "stop_gradient"}


class Source(NamedTuple):
    """Where a value comes from.

    Attributes:
        roots: the values that it was computed from, without mixing entries but by sums and maxima.
        reductions: how many of these were taken on the way, at least.
        unit: the value of whose entries its entries are functions, one of one.
    """

    roots: frozenset[Any]
    reductions: int
    unit: Any


def sources(graph: Any, is_active: Callable[[Any], bool]) -> dict[Any, Source]:
    """The sources of the variables of a graph that depend on its active inputs."""
    found: dict[Any, Source] = {}
    for variable in graph.jaxpr.invars:
        if is_active(variable):
            found[variable] = _fresh(variable)
    for equation in graph.jaxpr.eqns:
        variables = [v for v in equation.invars if not isinstance(v, _jax.Literal)]
        known = [found[v] for v in variables if v in found]
        if known:
            found |= {v: _through(equation, v, known) for v in equation.outvars}
    return found


def _fresh(variable: Any) -> Source:
    return Source(frozenset([variable]), 0, variable)


def _through(equation: Any, variable: Any, operands: list[Source]) -> Source:
    name = equation.primitive.name
    roots = frozenset().union(*(source.roots for source in operands))
    reductions = min(source.reductions for source in operands)
    if name in _REDUCTIONS:
        return Source(roots, reductions + 1, variable)
    if name in _MOVES:
        return Source(roots, reductions, variable)
    if name not in _ENTRYWISE:
        return _fresh(variable)
    units = {source.unit for source in operands}
    unit = units.pop() if len(units) == 1 else variable
    return Source(roots, reductions, unit)


def normalises(statistic: Source, value: Source) -> bool:
    """Whether one of two operands is a statistic of the other."""
    return statistic.reductions > value.reductions and not statistic.roots.isdisjoint(value.roots)
