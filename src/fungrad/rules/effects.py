"""What a loop that is replayed may not do twice."""

from __future__ import annotations

from typing import Any

from fungrad import _jax, placing


def without_prints(graph: Any) -> Any:
    """The graph without what is done for its effect alone: equations of no output, in calls too."""
    if not graph.jaxpr.effects:
        return graph
    jaxpr = graph.jaxpr
    left = [e for e in jaxpr.eqns if e.outvars or not e.effects or _uses_reference(e)]
    left = [placing.with_subgraphs(e, without_prints) if _jax.subgraphs(e) else e for e in left]
    constants = dict(zip(jaxpr.constvars, graph.consts, strict=True))
    return _jax.graph_of(jaxpr.invars, jaxpr.outvars, left, constants, jaxpr.debug_info)


def refuse_effects(graph: Any, loop: Any) -> None:
    """What happens once must not happen again; references within the graph are its own affair."""
    for equation in graph.jaxpr.eqns:
        if _jax.is_effectful(equation) and not _uses_reference(equation):
            raise ValueError(
                f"{_differentiated(loop)}, but {equation.primitive.name} in its body is to be run "
                "once: it has an effect besides its value. Use jax.pure_callback, if the value is "
                "all that it is for, or lax.scan, which saves the value"
            )


def refuse_references(loop: Any) -> None:
    """What a reference from outside holds at a step is not there to be read again."""
    if any(_jax.is_reference_type(v.aval) for v in loop.invars):
        raise ValueError(
            f"{_differentiated(loop)}, but it uses a mutable array reference from outside, and "
            "what that held at each step is not kept. Carry the value through the loop, or use "
            "lax.scan"
        )


def _differentiated(loop: Any) -> str:
    file, line, _ = _jax.line_of(loop)
    return (
        f"the while loop at {file}:{line} is differentiated, so that its steps are run again in "
        "the backward pass"
    )


def _uses_reference(equation: Any) -> bool:
    return any(_jax.is_reference_type(v.aval) for v in (*equation.invars, *equation.outvars))
