"""Programs evaluated by another hand: one equation at a time, also inside of calls and loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import lax

from fungrad import _jax
from fungrad.check.arrays import is_float

CALLS = frozenset({"jit", "closed_call", "core_call", "checkpoint"})
AUTHORED = frozenset({"custom_jvp_call", "custom_vjp_call"})


def _same(x: Any) -> Any:
    """The value itself."""
    return x


@dataclass(frozen=True)
class Hand:
    """How the equations of a program are evaluated.

    Attributes:
        bind: an equation and its inputs -> its outputs.
        calls: the calls that are entered, as loops and branches are; any other is one equation.
        constant: the value of a literal, or of a constant of the program -> what stands for it.
        inside: the number of an iteration of a loop -> the hand that evaluates it.
    """

    bind: Callable[[Any, Sequence[Any]], list[Any]]
    calls: frozenset[str] = CALLS | AUTHORED
    constant: Callable[[Any], Any] = _same
    inside: Callable[[Any], Hand] | None = None

    def outputs(self, graph: Any, inputs: Sequence[Any]) -> list[Any]:
        """The outputs of a program."""
        jaxpr = graph.jaxpr
        values = dict(zip(jaxpr.constvars, map(self.constant, graph.consts), strict=True))
        values.update(zip(jaxpr.invars, inputs, strict=True))

        def read(variable):
            if isinstance(variable, _jax.Literal):
                aval: Any = variable.aval
                return self.constant(np.asarray(variable.val, aval.dtype))
            return values[variable]

        for equation in jaxpr.eqns:
            arguments = list(map(read, equation.invars))
            name = equation.primitive.name
            if name in self.calls:
                outputs = self.outputs(_jax.subgraphs(equation)[0], arguments)
            else:
                evaluate = _ENTER.get(name, Hand._bound)
                outputs = evaluate(self, equation, arguments)
            values.update(zip(equation.outvars, outputs, strict=True))
        return list(map(read, jaxpr.outvars))

    def _bound(self, equation: Any, arguments: Sequence[Any]) -> list[Any]:
        return self.bind(equation, arguments)

    def at(self, iteration: Any) -> Hand:
        """The hand in an iteration of a loop."""
        return self if self.inside is None else self.inside(iteration)


def _scan(hand: Hand, equation: Any, arguments: Sequence[Any]) -> list[Any]:
    params, body = equation.params, _jax.subgraphs(equation)[0]
    consts, carry, xs = _jax.scan_operands(params, arguments)

    def step(counted, xs):
        i, carry = counted
        outputs = hand.at(i).outputs(body, [*consts, *carry, *xs])
        return (i + np.uint32(1), outputs[: len(carry)]), outputs[len(carry) :]

    start = (np.uint32(0), list(carry))
    (_, last), stacked = lax.scan(step, start, xs, params["length"], params["reverse"])
    return [*last, *stacked]


def _while(hand: Hand, equation: Any, arguments: Sequence[Any]) -> list[Any]:
    params = equation.params
    test, body = _jax.close(params["cond_jaxpr"]), _jax.close(params["body_jaxpr"])
    m = params["cond_nconsts"]
    n = m + params["body_nconsts"]

    def goes_on(counted):
        i, carry = counted
        return hand.at(i).outputs(test, [*arguments[:m], *carry])[0]

    def step(counted):
        i, carry = counted
        return i + np.uint32(1), hand.at(i).outputs(body, [*arguments[m:n], *carry])

    return lax.while_loop(goes_on, step, (np.uint32(0), list(arguments[n:])))[1]


def _cond(hand: Hand, equation: Any, arguments: Sequence[Any]) -> list[Any]:
    branches = [
        lambda *xs, branch=branch: hand.outputs(_jax.close(branch), xs)
        for branch in equation.params["branches"]
    ]
    return lax.switch(arguments[0], branches, *arguments[1:])


_ENTER = {"scan": _scan, "while": _while, "cond": _cond}


def without_authored_rules(flat: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """The function with every `custom_vjp` in it replaced by what it decorates."""

    def plain(*leaves: Any) -> list[Any]:
        graph = jax.make_jaxpr(flat)(*leaves)
        return Hand(_jax.bind, CALLS | {"custom_vjp_call"}).outputs(graph, leaves)

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
