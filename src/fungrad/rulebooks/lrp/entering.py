"""Which inputs of the graphs inside a call are differentiated."""

from __future__ import annotations

from typing import Any

from fungrad import _jax
from fungrad.passes import Settings
from fungrad.rules.control import body_activity

Mask = tuple[bool, ...]


def inner_masks(equation: Any, active: Mask, settings: Settings) -> list[Mask]:
    """For each graph that an equation holds, which of its inputs are differentiated.

    The carry of a loop is differentiated if it is at any step. What is not known to hand its inputs
    on to its graph one by one has none.
    """
    graphs, name = _jax.subgraphs(equation), equation.primitive.name
    if name == "scan":
        consts, carry, _ = _jax.scan_operands(equation.params, equation.invars)
        return [_of_body(graphs[0], active, len(consts), len(carry), settings)]
    if name == "cond":
        return [active[1:]] * len(graphs)
    if name == "while":
        skipped, consts = (equation.params[f"{of}_nconsts"] for of in ("cond", "body"))
        inside = _of_body(graphs[1], active[skipped:], consts, len(equation.outvars), settings)
        return [(False,) * len(graphs[0].jaxpr.invars), inside]
    fitting = [len(graph.jaxpr.invars) == len(active) for graph in graphs]
    return [
        active if fit else (False,) * len(g.jaxpr.invars)
        for g, fit in zip(graphs, fitting, strict=True)
    ]


def _of_body(body: Any, active: Mask, consts: int, carry: int, settings: Settings) -> Mask:
    return body_activity(body, active, slice(consts, consts + carry), settings)[0]
