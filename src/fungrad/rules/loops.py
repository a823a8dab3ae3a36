"""While loops, whose number of steps is not known before they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fungrad import _jax
from fungrad.passes import Settings
from fungrad.rulebook import CallRule, Halves
from fungrad.rules.control import Mask, body_activity


def _while_activity(equation: Any, active: Sequence[bool], settings: Settings) -> Mask:
    params = equation.params
    body = _jax.close(params["body_jaxpr"])
    first = params["cond_nconsts"]
    second = first + params["body_nconsts"]
    carry = slice(second - first, len(active) - first)
    inputs, _ = body_activity(body, tuple(active[first:]), carry, settings)
    return (*inputs[carry], *active[:first], *inputs)


def _split_while(equation, active, wanted, settings) -> Halves:
    """c' = while(f)(c)        ∂c'/∂c is a product of as many factors as the loop has iterations"""
    written = any(
        a and _jax.is_reference_type(v.aval) for a, v in zip(active, equation.invars, strict=True)
    )
    if not any(wanted) and not written:

        def forward(*inputs):
            return _jax.bind(equation, _jax.filled(inputs)), []

        return Halves(forward, lambda saved, g: [None] * len(active))
    file, line, _ = _jax.line_of(equation)
    raise ValueError(
        "Reverse-mode differentiation does not work for lax.while_loop, nor for lax.fori_loop with "
        f"bounds that are traced: the while loop at {file}:{line} is differentiated, but how many "
        "values its backward pass needs is not known before it runs. Use lax.scan, or "
        "lax.fori_loop with bounds that are Python integers; or wrap the loop in "
        "jax.lax.stop_gradient if no gradient shall pass"
    )


while_loop = CallRule("while", _split_while, _while_activity)
