"""A budget of memory: the least effort whose gradient XLA plans to compute within it.

How much memory a gradient takes is known when XLA has planned it, and not before: it fuses
operations, chooses layouts and shares buffers. So efforts are tried, by compiling the gradient.
What counts is the temporary memory, besides that of arguments and results.
"""

from __future__ import annotations

from typing import Any

from fungrad import _jax, interning, saving
from fungrad.costs import NEVER, Effort
from fungrad.passes import Settings

_IN_PARTS = {"operands": True, "parts": 4}
LADDER = (
    Effort(),
    Effort(operands=True),
    Effort(4.0, operands=True, parts=16),
    Effort(NEVER, operands=True, parts=16),
    Effort(NEVER, operands=True, parts=8),
    Effort(NEVER, **_IN_PARTS),
    *(Effort(thrift, **_IN_PARTS, levels=k) for k in (2, 3) for thrift in (1.0, NEVER)),
    *(Effort(NEVER, **_IN_PARTS, levels=k) for k in (4, 6, 8, 12)),
    Effort(NEVER, **_IN_PARTS, dear=True),
)
"""Efforts, each of which takes less memory and more time than the one before it, as a rule."""


@interning.cached_by_content
def effort_within(
    graph: Any,
    active: tuple[bool, ...],
    wanted: tuple[bool, ...],
    kept: tuple[bool, ...],
    settings: Settings,
) -> Effort:
    """The first effort of the ladder that keeps to the budget `settings.save`, in bytes.

    Raises:
        ValueError: none does.
    """
    budget = settings.save
    peaks: dict[str, int] = {}  # by the program: some efforts come to the same
    for effort in LADDER:
        program = _program(graph, active, wanted, kept, settings._replace(save=effort))
        text = program.as_text()
        if text not in peaks:
            peaks[text] = program.compile().memory_analysis().temp_size_in_bytes
        if peaks[text] <= budget:
            return effort
    raise ValueError(
        f"save={budget:,} bytes: the gradient cannot be computed in as little memory; the least "
        f"that XLA plans for it is save={min(peaks.values()):,} bytes"
    )


def _program(graph: Any, active: Any, wanted: Any, kept: Any, settings: Settings) -> Any:
    """The program, lowered, that computes a graph's value and gradient."""
    cut = saving.split(graph, active, wanted, kept, settings)
    halves = cut.halves(active, wanted, _jax.evaluate, _jax.evaluate)

    def gradient(inputs, g):
        outputs, saved = halves.forward(*inputs)
        return outputs, halves.backward(saved, g)

    inputs = [v.aval for v in graph.jaxpr.invars]
    outputs = zip(graph.jaxpr.outvars, wanted, strict=True)
    g = [_jax.gradient_type(v.aval) if w else None for v, w in outputs]
    return _jax.lowered(gradient, inputs, g)
