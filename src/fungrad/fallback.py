"""JAX's own rule at one node, where no rule is written by hand, and what is said about it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import jax

from fungrad import _jax
from fungrad.rulebook import Gap, Halves


class MissingRuleError(NotImplementedError):
    """A primitive has no hand-written rule, and the rulebook is strict."""


class MissingRuleWarning(UserWarning):
    """A primitive has no hand-written rule, so that JAX's own rule is used at that node."""


def by_jax(
    equation: Any,
    gap: Gap | None,
    active: Sequence[bool],
    wanted: Sequence[bool],
    settings: Any,
) -> Halves:
    """JAX's own rule at one node, for a primitive that has none of ours."""
    _announce_missing(equation, gap, settings)

    def forward(*inputs):
        inputs = _jax.filled(inputs)

        def run(chosen):
            given = iter(chosen)
            whole = [next(given) if a else x for x, a in zip(inputs, active, strict=True)]
            outputs = _jax.bind(equation, whole)
            return [out for out, w in zip(outputs, wanted, strict=True) if w], outputs

        chosen = [x for x, a in zip(inputs, active, strict=True) if a]
        _, pullback, outputs = jax.vjp(run, chosen, has_aux=True)
        unknown = [_jax.Unknown(v.aval) for v in equation.outvars]
        return unknown if settings.linear else outputs, [pullback]

    def backward(saved, g):
        (pullback,) = saved
        due = zip(equation.outvars, g, wanted, strict=True)
        built = [_jax.zeros(v.aval) if entry is None else entry for v, entry, w in due if w]
        gradients = iter(*pullback(built))
        return [next(gradients) if a else None for a in active]

    return Halves(forward, backward)


def _announce_missing(equation: Any, gap: Gap | None, settings: Any) -> None:
    file, line, _ = _jax.line_of(equation)
    place = f"the primitive {equation.primitive.name!r} at {file}:{line} has no hand-written rule"
    if gap is not None:
        place = f"{place} ({gap.reason})"
    if settings.rules.strict:
        raise MissingRuleError(f"{place}; give it one with rules.replace, or use a lenient book")
    if gap is None:
        message = f"{place}; JAX's own is used there"
        warnings.warn(message, MissingRuleWarning, stacklevel=3)
