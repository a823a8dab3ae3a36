"""Functions whose author wrote the derivative: jax.custom_jvp, jax.custom_vjp, one in the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from operator import not_
from typing import Any

import jax

from fungrad import _jax
from fungrad.graph import place_of_custom_jvp
from fungrad.passes import Settings
from fungrad.rulebook import CallRule, Halves
from fungrad.rules.calls import graph_inside, passed_through


def _activity_outside(equation: Any, active: Sequence[bool], settings: Settings):
    """What only the function's author knows: every output that could depend on the inputs does."""
    return tuple(_jax.is_differentiable(v.aval) for v in equation.outvars)


def _with_errors(equation: Any, inputs: Sequence[Any], outputs: list[Any]) -> list[Any]:
    """The outputs; checkify's errors lead them, but are outputs of the function itself alone."""
    missing = len(outputs) < len(equation.outvars)
    return _jax.evaluate(graph_inside(equation), inputs) if missing else outputs


def _split_custom_jvp(equation, active, wanted, settings) -> Halves:
    """out = f(x), ṫ = ∂f/∂x · t by its author        g · ∂f/∂x: the passes over t ↦ ṫ, linear in t

    The author's graph is (x, t) -> (f(x), ∂f/∂x · t). Its second part is linear in the tangents t,
    so the gradient of g · (∂f/∂x · t) with respect to t is g · ∂f/∂x, and t itself is not needed.
    """
    if settings.linear:
        return passed_through(graph_inside(equation), active, wanted, settings)
    graph, tangents, has_tangent = authors_graph(equation, active)
    outputs = len(has_tangent)
    _refuse_derivative_of_one_value(equation, graph.out_avals[:outputs])
    hidden = equation.params["num_consts"]
    known = (False,) * (len(active) - hidden)
    asked = known + tuple(isinstance(t, _jax.Unknown) for t in tangents)
    brings = (False,) * outputs + tuple(compress(wanted[-outputs:], has_tangent))
    both = passed_through(graph, asked, brings, settings._replace(linear=True))

    def forward(*values):
        answers, saved = both.forward(*values[hidden:], *tangents)
        return _with_errors(equation, values, answers[:outputs]), saved

    def backward(saved, g, *references):
        arriving = compress(g[-outputs:], has_tangent)
        gradients = both.backward(saved, [None] * outputs + list(arriving))
        given = iter([x for x, a in zip(gradients, asked, strict=True) if a])
        return [None] * hidden + [next(given) if a else None for a in active[hidden:]]

    return Halves(forward, backward)


def authors_graph(equation: Any, active: Sequence[bool]) -> tuple[Any, list[Any], list[bool]]:
    """What the author of a custom_jvp function wrote, as one graph.

    Returns:
        The graph (inputs, tangents) -> (outputs, those of their tangents that are there), without
        the values that the function closes over; the tangents, unknown at the active inputs, zeros
        at the others, or left out if the author asked for symbolic zeros; and which outputs have a
        tangent.
    """
    graph, left_out, has_tangent = _jax.custom_jvp_function(equation, active)
    hidden = equation.params["num_consts"]
    tangents = [
        _jax.Unknown(v.aval.to_tangent_aval()) if a else _jax.tangent_zero(v.aval, symbolic=False)
        for v, a, out in zip(equation.invars[hidden:], active[hidden:], left_out, strict=True)
        if not out
    ]
    return graph, tangents, list(has_tangent)


def _refuse_derivative_of_one_value(equation, types) -> None:
    """Of one value for all examples, only the sum of their gradients would arrive."""
    shapes = [v.aval.shape for v in equation.outvars[len(equation.outvars) - len(types) :]]
    if shapes != [aval.shape for aval in types]:
        raise TypeError(
            f"the custom_jvp function {place_of_custom_jvp(equation)} is differentiated under "
            "a vmap, where its value is the same for all examples and its derivative is not; make "
            "its value depend on the example too, such as by adding 0 * x"
        )


custom_jvp = CallRule(
    "custom_jvp_call",
    _split_custom_jvp,
    _activity_outside,
    example=lambda draw: (jax.nn.relu, draw.uniform(3)),
)


def _split_custom_vjp(equation, active, wanted, settings) -> Halves:
    """out = f(x)        g · ∂out/∂x as its author wrote it"""

    def forward(*inputs):
        inputs = _jax.filled(inputs)
        outputs, residuals = _jax.run_custom_forward(equation, inputs, active)
        return _with_errors(equation, inputs, outputs), residuals

    def backward(saved, g, *references):
        return _jax.run_custom_backward(equation, saved, g)

    return Halves(forward, backward, any_format=True)


def _custom_vjp_example(draw):
    @jax.custom_vjp
    def square(x):
        return x * x

    square.defvjp(lambda x: (x * x, x), lambda x, g: (2 * g * x,))
    return square, draw.uniform(3)


custom_vjp = CallRule(
    "custom_vjp_call", _split_custom_vjp, _activity_outside, example=_custom_vjp_example
)


def _split_custom_lin(equation, active, wanted, settings) -> Halves:
    """ṫ = ∂f/∂x · t, f a custom_vjp function        ∂ṫ/∂t = ∂f/∂x, as its author wrote g · ∂f/∂x

    It stands where a custom_jvp rule asks for forward mode: J alone is there, and not J · t.
    """
    residuals, absent = (equation.params[name] for name in ("num_res", "in_zeros"))
    if not (settings.linear or settings.filled):
        file, line, _ = _jax.line_of(equation)
        raise NotImplementedError(
            "Differentiation rule for 'custom_lin' not implemented: a custom_vjp function has no "
            f"forward mode, which {file}:{line} asks for; ask for reverse mode, or write its "
            "derivative with jax.custom_jvp or fungrad.custom"
        )

    def forward(*inputs):
        unknown = [_jax.Unknown(v.aval) for v in equation.outvars]
        return unknown if settings.linear else _jax.filled(unknown), list(inputs[:residuals])

    def backward(saved, g):
        gradients = _jax.run_custom_backward(equation, saved, g)
        return [None] * residuals + list(compress(gradients, map(not_, absent)))

    return Halves(forward, backward, any_format=True)


custom_lin = CallRule("custom_lin", _split_custom_lin, _activity_outside)
