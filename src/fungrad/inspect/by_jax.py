"""What `jax.grad` keeps, and the memory that XLA plans for a gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

import jax
from jax.tree_util import tree_flatten, tree_leaves, tree_unflatten

from fungrad import _jax, costs


def _of_active(graph: Any, active: Sequence[bool], wanted: Sequence[bool], values: Sequence[Any]):
    """The wanted outputs of a graph as a function of its active inputs, and these."""

    def chosen(*primals):
        given = iter(primals)
        inputs = [next(given) if a else x for x, a in zip(values, active, strict=True)]
        return list(compress(_jax.evaluate(graph, inputs), wanted))

    return chosen, list(compress(values, active))


def kept_bytes(graph: Any, active: Sequence[bool], wanted: Sequence[bool]) -> int | None:
    """The bytes of the residuals that the backward pass of `jax.vjp` reads, arguments excluded.

    `None` if JAX refuses to differentiate the function.
    """
    tree: Any = None

    def forward(*values):
        nonlocal tree
        function, primals = _of_active(graph, active, wanted, values)
        residuals, tree = tree_flatten(jax.vjp(function, *primals)[1])
        return residuals

    def backward(*values):
        size = len(first.jaxpr.outvars)
        return tree_leaves(tree_unflatten(tree, values[:size])(list(values[size:])))

    g = [_jax.gradient_type(v.aval) for v in compress(graph.jaxpr.outvars, wanted)]
    try:
        first = _jax.trace(forward, graph.in_avals)
        second = _jax.trace(backward, [*first.out_avals, *g])
    except (NotImplementedError, TypeError, ValueError):
        return None
    used = _jax.without_dead_code(second)[0][len(second.consts) :]
    made = {v for e in first.jaxpr.eqns for v in e.outvars}
    outputs = zip(first.jaxpr.outvars, used, strict=False)
    read = [v for v, use in outputs if use is not None and not isinstance(v, _jax.Literal)]
    return int(sum(costs.bytes_of(v.aval) for v in made.intersection(read)))


def planned_bytes(
    graph: Any, active: Sequence[bool], wanted: Sequence[bool], vjp: Callable[..., Any]
) -> int:
    """The temporary memory that XLA plans for the pullback of a graph by a `vjp`."""
    size = len(graph.in_avals)

    def gradient(*values):
        function, primals = _of_active(graph, active, wanted, values[:size])
        return vjp(function, *primals)[1](list(values[size:]))

    g = [_jax.gradient_type(v.aval) for v in compress(graph.jaxpr.outvars, wanted)]
    program = _jax.lowered(gradient, *graph.in_avals, *g)
    return program.compile().memory_analysis().temp_size_in_bytes
