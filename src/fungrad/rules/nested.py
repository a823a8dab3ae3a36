"""A scan as loops within loops, so that little is kept of it.

A loop of T steps that keeps what it carries before each step keeps T states. As m loops of T / m
steps it keeps m states in the outer loop, and runs one inner loop again at a time, which keeps
T / m states: with m = √T that is 2 √T states, for one more forward pass. With loops nested k deep,

    k · T^(1/k) states, k − 1 more forward passes                          [griewank1992]

down to 2 log₂ T states for log₂ T forward passes.
"""

from __future__ import annotations

import math
from typing import Any

from jax import lax
from jax import numpy as jnp

from fungrad import _jax


def nested(equation: Any, levels: int) -> Any:
    """The graph of a scan as an outer loop of inner loops, and the steps that do not divide evenly.

    Args:
        equation: a scan of at least four steps.
        levels: how deep the loops shall be nested in the end: the outer loop has T^(1/levels)
            steps, or about as many.
    """
    params = equation.params
    steps = params["length"]
    outer = _divisor_near(steps, max(2, round(steps ** (1 / levels))))
    inner = steps // outer
    body = _jax.close(params["jaxpr"])
    first = steps - outer * inner if params["reverse"] else 0

    def loop(length, consts, carry, xs, graph=body):
        operands = _jax.ScanOperands(list(consts), list(carry), list(xs))
        answers = _jax.call_scan(params | {"length": length}, graph, operands, params["reverse"])
        return answers[: len(carry)], answers[len(carry) :]

    def whole(*inputs):
        consts, carry, xs = _jax.scan_operands(params, inputs)
        sizes = len(consts), len(carry)
        chunks = [
            lax.slice_in_dim(x, first, first + outer * inner).reshape(outer, inner, *x.shape[1:])
            for x in xs
        ]

        def step(*values):
            consts, carry, xs = (
                values[: sizes[0]],
                values[sizes[0] : sum(sizes)],
                values[sum(sizes) :],
            )
            carry, ys = loop(inner, consts, carry, xs)
            return [*carry, *ys]

        types = [_jax.type_of(x) for x in (*consts, *carry)]
        types += [_jax.slice_type(_jax.type_of(x)) for x in chunks]
        carry, ys = loop(outer, consts, carry, chunks, _jax.trace(step, types))
        ys = [y.reshape(outer * inner, *y.shape[2:]) for y in ys]
        if (left := steps - outer * inner) > 0:
            place = 0 if params["reverse"] else outer * inner
            rest = [lax.slice_in_dim(x, place, place + left) for x in xs]
            carry, last = loop(left, consts, carry, rest)
            order = slice(None, None, -1 if params["reverse"] else 1)
            ys = [jnp.concatenate([y, z][order]) for y, z in zip(ys, last, strict=True)]
        return [*carry, *ys]

    return _jax.trace(whole, [v.aval for v in equation.invars])


def _divisor_near(number: int, wanted: int) -> int:
    """The divisor within a factor of two that comes nearest by ratio; else the number wanted."""
    near = [d for d in range(-(-wanted // 2), 2 * wanted + 1) if 1 < d < number and number % d == 0]
    return min(near, key=lambda d: abs(math.log(d / wanted)), default=wanted)
