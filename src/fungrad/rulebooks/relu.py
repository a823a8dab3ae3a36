"""Books that change how a gradient passes relu.

They change `jax.nn.relu`, by its name, and a maximum of x and the number 0, as in
`jnp.maximum(x, 0)`; every other maximum keeps its rule. g is the gradient at the output z, x the
input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jax import lax
from jax import numpy as jnp

from fungrad.rulebook import Rule, Rulebook
from fungrad.rules import default

__all__ = ["deconvnet", "guided_relu", "rectified_relu", "redirected_relu"]


def _of_relu(rule: Callable[..., Any]) -> Rulebook:
    usual = default["max"]
    assert isinstance(usual, Rule)

    def maximum(g, z, x, y):
        """z = max(x, y)        as relu's where x or y is the number 0, as usual elsewhere"""
        if _is_zero(y):
            return rule(g, z, x), None
        return (None, rule(g, z, y)) if _is_zero(x) else usual(g, z, x, y)

    return default.replace({"relu": rule, "max": maximum})


def _is_zero(x: Any) -> bool:
    """Whether an operand is the number 0 in the program: rules see such numbers as NumPy arrays."""
    return isinstance(x, np.ndarray) and x.ndim == 0 and x == 0


def _guided(g, z, x):
    """z = max(x, 0)        g ↦ max(g, 0) · diag[x > 0]"""
    return jnp.where((x > 0) & (g > 0), g, lax.full_like(g, 0))


def _deconvolved(g, z, x):
    """z = max(x, 0)        g ↦ max(g, 0)"""
    return lax.max(g, lax.full_like(g, 0))


guided_relu = _of_relu(_guided)
"""Guided backpropagation: at relu, g ↦ max(g, 0) · diag[x > 0]  [springenberg2015]."""

deconvnet = _of_relu(_deconvolved)
"""The deconvolutional network's way back: at relu, g ↦ max(g, 0)  [zeiler2014]."""


# --- Units that are dead ----------------------------------------------------------------------
#
# Where x ≤ 0 relu stops every gradient, and a unit that is off for all inputs stays so. Along −g,
# as a cost is minimised, x rises where g < 0: this part is let through.


def _redirected(g, z, x):
    """z = max(x, 0)        g ↦ g · diag[x > 0] + min(g, 0) · diag[x ≤ 0]"""
    return jnp.where(x > 0, g, lax.min(g, lax.full_like(g, 0)))


def _rectified(g, z, x):
    """z = max(x, 0)        g ↦ g · diag[x > 0], or, if that is 0 in a whole example, min(g, 0)"""
    usual = jnp.where(x > 0, g, lax.full_like(g, 0))
    inside = tuple(range(1 if g.ndim > 1 else 0, g.ndim))
    is_stopped = jnp.all(usual == 0, axis=inside, keepdims=True)
    return jnp.where(is_stopped, lax.min(g, lax.full_like(g, 0)), usual)


redirected_relu = _of_relu(_redirected)
"""Relu whose units wake up: g ↦ g where x > 0, min(g, 0) elsewhere  [olah2017].

For costs that are minimised, as `fungrad.descent` does: a step along −g raises x where it is off
and g < 0; what would push it further down is stopped.
"""

rectified_relu = _of_relu(_rectified)
"""As relu, except in an example of which no gradient gets through: there g ↦ min(g, 0)  [olah2017].

Examples are the entries of the leading axis; an array of one axis is one example. While any unit of
the layer is alive, the gradient is the true one.
"""
