"""Programs evaluated by another hand: one equation at a time, also inside of calls and loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax

from fungrad import _jax
from fungrad.check.arrays import is_float

Bind = Callable[[Any, Sequence[Any]], list[Any]]

CALLS = frozenset({"jit", "closed_call", "core_call", "checkpoint"})
AUTHORED = frozenset({"custom_jvp_call", "custom_vjp_call"})


def walk(graph: Any, inputs: Sequence[Any], bind: Bind, calls: frozenset[str]) -> list[Any]:
    """The outputs of a program whose equations are evaluated by `bind(equation, inputs)`.

    The calls named, and loops and branches, are entered; any other call is one equation.
    """
    jaxpr = graph.jaxpr
    values = dict(zip(jaxpr.constvars, graph.consts, strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))
    for equation in jaxpr.eqns:
        arguments = [_read(values, v) for v in equation.invars]
        enter = _ENTER.get(equation.primitive.name)
        if equation.primitive.name in calls:
            outputs = walk(_jax.subgraphs(equation)[0], arguments, bind, calls)
        elif enter is not None:
            outputs = enter(equation, arguments, lambda g, xs: walk(g, xs, bind, calls))
        else:
            outputs = bind(equation, arguments)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [_read(values, v) for v in jaxpr.outvars]


def _read(values: dict[Any, Any], variable: Any) -> Any:
    return variable.val if isinstance(variable, _jax.Literal) else values[variable]


def _scan(equation: Any, arguments: Sequence[Any], run: Any) -> list[Any]:
    params, body = equation.params, _jax.subgraphs(equation)[0]
    consts, carry, xs = _jax.scan_operands(params, arguments)

    def step(carry, xs):
        outputs = run(body, [*consts, *carry, *xs])
        return outputs[: len(carry)], outputs[len(carry) :]

    last, stacked = lax.scan(step, carry, xs, params["length"], params["reverse"])
    return [*last, *stacked]


def _while(equation: Any, arguments: Sequence[Any], run: Any) -> list[Any]:
    params = equation.params
    test, body = _jax.close(params["cond_jaxpr"]), _jax.close(params["body_jaxpr"])
    m = params["cond_nconsts"]
    n = m + params["body_nconsts"]
    return lax.while_loop(
        lambda carry: run(test, [*arguments[:m], *carry])[0],
        lambda carry: run(body, [*arguments[m:n], *carry]),
        list(arguments[n:]),
    )


def _cond(equation: Any, arguments: Sequence[Any], run: Any) -> list[Any]:
    branches = [
        lambda *xs, branch=branch: run(_jax.close(branch), xs)
        for branch in equation.params["branches"]
    ]
    return lax.switch(arguments[0], branches, *arguments[1:])


_ENTER = {"scan": _scan, "while": _while, "cond": _cond}


def without_authored_rules(flat: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """The function with every `custom_vjp` in it replaced by what it decorates."""

    def plain(*leaves: Any) -> list[Any]:
        graph = jax.make_jaxpr(flat)(*leaves)
        return walk(graph, leaves, _jax.bind, CALLS | {"custom_vjp_call"})

    return plain


def formats(graph: Any) -> set[Any]:
    """The formats of all floats in a program, those of its inner graphs included."""
    jaxpr = graph.jaxpr
    variables = [*jaxpr.invars, *(v for equation in jaxpr.eqns for v in equation.outvars)]
    types = [v.aval for v in variables if hasattr(v.aval, "dtype") and is_float(v.aval)]
    inner = [part for equation in jaxpr.eqns for part in _jax.subgraphs(equation)]
    return {x.dtype for x in types}.union(*map(formats, inner))


def primitives(graph: Any) -> set[str]:
    """The names of all primitives in a program, those of its inner graphs included."""
    found = {equation.primitive.name for equation in graph.jaxpr.eqns}
    inner = [part for equation in graph.jaxpr.eqns for part in _jax.subgraphs(equation)]
    return found.union(*map(primitives, inner))
