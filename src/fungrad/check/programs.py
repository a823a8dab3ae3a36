"""Programs evaluated by another hand: one equation at a time, also inside of calls and loops."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from fungrad import _jax
from fungrad.check.arrays import inner, is_float, widest
from fungrad.graph import is_custom_jvp, place_of_custom_jvp

_CALLS = frozenset({"jit", "closed_call", "core_call", "remat2"})
_AUTHORED = frozenset({"custom_jvp_call", "custom_vjp_call"})
_CONVERGED = 1e-3  # of what a loop carries
_JAXS_OWN = str(Path(jax.__file__).parent)


def _same(x: Any) -> Any:
    """The value itself."""
    return x


def _is_call(equation: Any) -> bool:
    """Whether an equation only calls a program that it holds."""
    return equation.primitive.name in _CALLS | _AUTHORED


@dataclass(frozen=True)
class Hand:
    """How the equations of a program are evaluated.

    Attributes:
        bind: an equation and its inputs -> its outputs.
        enters: a call -> whether it is entered, as loops and branches are, or is one equation.
        constant: the value of a literal, or of a constant of the program -> what stands for it.
        inside: the number of an iteration of a loop -> the hand that evaluates it.
        goes_on: while loops that have converged are given as many iterations again.
    """

    bind: Callable[[Any, Sequence[Any]], list[Any]]
    enters: Callable[[Any], bool] = _is_call
    constant: Callable[[Any], Any] = _same
    inside: Callable[[Any], Hand] | None = None
    goes_on: bool = False

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
            if self.enters(equation):
                outputs = self.outputs(_jax.subgraphs(equation)[0], arguments)
            else:
                evaluate = _ENTER.get(equation.primitive.name, Hand._bound)
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

    def tested(i, carry):
        return hand.at(i).outputs(test, [*arguments[:m], *carry])[0]

    def step(state):
        i, goes_on, carry = state
        after = hand.at(i).outputs(body, [*arguments[m:n], *carry])
        if goes_on.ndim:  # of a batch, each example has a count of its own
            pairs = zip(after, carry, strict=True)
            after = [jnp.where(_along(goes_on, y), x, y) for x, y in pairs]
        return i + np.uint32(1), goes_on & tested(i + np.uint32(1), after), after

    carry, first = list(arguments[n:]), np.uint32(0)
    start = first, jnp.asarray(tested(first, carry)), carry
    count, _, carry = lax.while_loop(lambda state: jnp.any(state[1]), step, start)
    if not hand.goes_on:
        return carry
    return _gone_on(lambda carry: hand.outputs(body, [*arguments[m:n], *carry]), count, carry)


def _gone_on(body: Callable[..., list[Any]], count: Any, carry: list[Any]) -> list[Any]:
    """The floats that a loop carries after `count` more iterations, if they hardly move.

    A loop that ends when it has converged is as far from its limit as they move then.
    """
    places = [i for i, x in enumerate(carry) if is_float(x)]

    def finite(carry):
        return jnp.all(jnp.stack([jnp.all(jnp.isfinite(carry[i])) for i in places]))

    def step(_, carry):
        after = body(carry)
        return [jnp.where(finite(after), x, y) for x, y in zip(after, carry, strict=True)]

    if not places:
        return carry
    further = lax.fori_loop(np.uint32(0), count, step, carry)
    moved = [jnp.max(jnp.abs(widest(further[i]) - widest(carry[i])), initial=0.0) for i in places]
    sizes = [jnp.max(jnp.abs(widest(carry[i])), initial=0.0) for i in places]
    hardly = jnp.max(jnp.stack(moved)) <= _CONVERGED * jnp.max(jnp.stack(sizes))
    return [
        jnp.where(hardly, y, x) if i in places else x
        for i, (x, y) in enumerate(zip(carry, further, strict=True))
    ]


def _along(mask: Any, x: Any) -> Any:
    """The mask along the leading axes of x."""
    return mask.reshape(*mask.shape, *[1] * (jnp.ndim(x) - mask.ndim))


def _cond(hand: Hand, equation: Any, arguments: Sequence[Any]) -> list[Any]:
    branches = [
        lambda *xs, branch=branch: hand.outputs(_jax.close(branch), xs)
        for branch in equation.params["branches"]
    ]
    return lax.switch(arguments[0], branches, *arguments[1:])


_ENTER = {"scan": _scan, "while": _while, "cond": _cond}


def without_authored_rules(flat: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """The function with what authors wrote the derivative of differentiated through its body.

    But for the bodies that JAX cannot differentiate, such as while loops, and for JAX's own
    `custom_jvp` functions.
    """

    def plain(*leaves: Any) -> list[Any]:
        return _PLAIN.outputs(jax.make_jaxpr(flat)(*leaves), leaves)

    return plain


def _is_entered(equation: Any) -> bool:
    if equation.primitive.name not in _AUTHORED:
        return _is_call(equation)
    body = _jax.subgraphs(equation)[0]
    if is_custom_jvp(equation):
        places = place_of_custom_jvp(equation), body.jaxpr.debug_info.func_src_info
        if all(_JAXS_OWN in place for place in places):
            return False
    return _has_gradient(body)


@_jax.cached_by_graph  # or each body would be looked at twice for each one that it is inside of
def _has_gradient(graph: Any) -> bool:
    """Whether JAX can differentiate a program, without its authors' rules where that can be."""
    types = [v.aval for v in graph.jaxpr.invars]
    floats, others = ([x if is_float(x) == kind else None for x in types] for kind in (True, False))

    def total(floats, others):
        inputs = [y if x is None else x for x, y in zip(floats, others, strict=True)]
        found = [z for z in _PLAIN.outputs(graph, inputs) if is_float(z)]
        return inner(found, found)

    try:
        jax.eval_shape(jax.grad(total), floats, others)
    except Exception:  # of any type: it is JAX's
        return False
    return True


_PLAIN = Hand(_jax.bind, _is_entered)

_HELD = "held"
_NUMERICAL = re.compile(r"jax[/\\]_src[/\\](numpy|scipy|nn|ops|lax[/\\]linalg)")


def _is_stop(equation: Any) -> bool:
    """Whether it is a `stop_gradient` of the user's: those in JAX's functions change no slope."""
    if equation.primitive.name != "stop_gradient":
        return False
    _, inside = _jax.calls_of(equation)
    return not any(_NUMERICAL.search(code.co_filename) for code, _ in inside)


def stops(graph: Any) -> bool:
    """Whether a program, or an inner graph of it, stops gradients."""
    inner = [part for equation in graph.jaxpr.eqns for part in _jax.subgraphs(equation)]
    return any(map(_is_stop, graph.jaxpr.eqns)) or any(map(stops, inner))


def held(function: Callable[..., list[Any]], points: Sequence[Any]) -> Callable[..., list[Any]]:
    """The function with what it stops, by `stop_gradient`, held at its value at `points`.

    The slopes of that are what a gradient means. It is evaluated at both points side by side.
    """
    program = jax.make_jaxpr(function)(*points)

    def bind(equation, arguments):
        if _is_stop(equation):
            return [lax.all_gather(x, _HELD)[1] for x in arguments]
        return _jax.bind(equation, arguments)

    def at(*moved):
        both = [jnp.stack([x, y]) for x, y in zip(moved, map(jnp.asarray, points), strict=True)]
        outputs = jax.vmap(lambda *xs: Hand(bind).outputs(program, xs), axis_name=_HELD)(*both)
        return [z[0] for z in outputs]

    return at


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
