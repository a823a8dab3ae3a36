"""Calls of Python, and other effects: run once, in the forward pass, without a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import checkify

from fungrad import _jax
from fungrad.passes import Settings
from fungrad.rulebook import CallRule, Halves, no_gradient

# --- Python that is told something ------------------------------------------------------------

_TOLD = "it tells Python something, and returns nothing"

debug_callback = no_gradient(
    "debug_callback",
    reason=_TOLD,
    example=lambda draw: (lambda x: jax.debug.callback(lambda x: None, x), draw.uniform(3)),
)
debug_print = no_gradient(
    "debug_print",
    reason=_TOLD,
    example=lambda draw: (lambda x: jax.debug.print("{}", x), draw.uniform(3)),
)
check = no_gradient(
    "check",
    reason="it notes an error, and returns nothing",
    example=lambda draw: (
        lambda x: checkify.check(jnp.all(x < 2), "x = {x}", x=x),
        draw.uniform(3),
    ),
)

# --- Python that is asked something -----------------------------------------------------------


def _refused(primitive: str, words: str) -> CallRule:
    """Python code has no derivative that one could read: a gradient at its output is an error."""

    def split(equation: Any, active: Any, wanted: Any, settings: Any) -> Halves:
        """out = what Python returns        ∂out/∂in is known to nobody: an error, in JAX's words"""
        file, line, _ = _jax.line_of(equation)
        raise ValueError(f"{words} (The callback is at {file}:{line}.)")

    return CallRule(primitive, split, _activity)


def _activity(equation: Any, active: Sequence[bool], settings: Settings) -> tuple[bool, ...]:
    return tuple(_jax.is_differentiable(v.aval) for v in equation.outvars)


pure_callback = _refused(
    "pure_callback",
    "Pure callbacks do not support JVP. "
    "Please use `jax.custom_jvp` to use callbacks while taking gradients.",
)
io_callback = _refused("io_callback", "IO callbacks do not support JVP.")
