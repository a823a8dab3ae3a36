"""Calls that bear a mark for somebody else: for XLA, for vmap, for whoever transposes.

To the passes they are plain calls, whose derivative is that of the function that is called; the
author of a linear call wrote its transpose.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import linear_call
from jax.experimental import xla_metadata

from fungrad import _jax
from fungrad.rulebook import CallRule, Halves, rule
from fungrad.rules.calls import activity_inside, cut_of, graph_inside, halves_of

metadata: Any = xla_metadata  # JAX before 0.11 lacks some of it


def _split(equation, active, wanted, settings) -> Halves:
    """out = f(x)        ∂out/∂x = ∂f/∂x, by the passes over f's own graph"""
    return halves_of(graph_inside(equation), active, wanted, settings)


call = CallRule("call", _split, activity_inside)

# XLA may have its own code for the function; vmap its author's; the halves are without the mark.
# JAX cannot differentiate the first two in reverse, nor the third twice: see test_marked.py.
composite = CallRule("composite", _split, activity_inside)

custom_vmap = CallRule("custom_vmap_call", _split, activity_inside)

remat_opt = CallRule("remat_opt", _split, activity_inside)

program_order = CallRule("program_order", _split, activity_inside)


def _split_metadata(equation, active, wanted, settings) -> Halves:
    """out = f(x)        ∂out/∂x = ∂f/∂x: each half bears the metadata that was given for it"""
    own, of_gradient = equation.params["xla_metadata"], equation.params["ad_metadata"]
    cut = cut_of(graph_inside(equation), active, wanted, settings)

    def under(chosen):
        params = {"xla_metadata": chosen, "ad_metadata": of_gradient}
        return lambda graph, values: equation.primitive.bind(*values, jaxpr=graph, **params)

    behind = under(own if of_gradient == "same" else of_gradient)
    return cut.halves(active, wanted, under(own), behind)


xla_metadata_call = CallRule(
    "xla_metadata_call",
    _split_metadata,
    activity_inside,
    example=lambda draw: (metadata.xla_metadata_call(jnp.sin, a="b"), draw.uniform(3)),
)


def _halves(draw):
    def by(r, x):
        return x / r

    return lambda x: linear_call(by, by, lax.full_like(x, 2), x), draw.uniform(3)


@rule("linear_call", example=_halves)
def linear(g, out, *inputs, callee, transpose_thunk, num_callee_consts, num_res):
    """out = f(r, x), linear in x        ∂out/∂x as its author wrote it"""
    transpose, constants = transpose_thunk()
    closed_over, residuals = inputs[:num_callee_consts], inputs[num_callee_consts:][:num_res]

    def by_residual():
        raise ValueError(
            "linear_call(f, transpose, r, x) has no derivative by r, nor by what f closes over, as "
            "in JAX: differentiate it by x, or hold r back with jax.lax.stop_gradient"
        )

    answers = linear_call(
        lambda r, g: _jax.evaluate(transpose, [*constants, *r, *g]),
        lambda r, x: _jax.evaluate(callee, [*closed_over, *r, *x]),
        residuals,
        [lax.full(z.shape, 0, z.dtype) if y is None else y for y, z in zip(g, out, strict=True)],
    )
    return *(by_residual for _ in range(num_callee_consts + num_res)), *answers


# --- What waits for a gradient (replay.py) ------------------------------------------------------


@rule("arrival", example=lambda draw: (lambda x: _jax.arrival_p.bind(x, place=0), draw.uniform(3)))
def arrival(g, z, x):
    """z = x        ∂z/∂x = I"""
    return g


@rule(
    "awaiting", example=lambda draw: (lambda x: _jax.awaiting_p.bind(x, place=0), draw.uniform(3))
)
def awaiting(g, z, x):
    """z = x        ∂z/∂x = I"""
    return g
