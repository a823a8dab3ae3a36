"""Other rules for the same functions: rulebooks to give to `rules=`.

Those without parameters are values, those with parameters functions that make one; equal parameters
make equal books. g is the gradient at the output z of a node, x its input.

The books for relu change `jax.nn.relu`, by its name, and a maximum of x and the number 0, as in
`jnp.maximum(x, 0)`; every other maximum keeps its rule.

`scale`, `reverse_gradient`, `clip` and `clip_norm` change a gradient on its way: at `where`, a key
of `fungrad.rules.replace` to nodes of one input and one output of the same shape. Left alone, that
is every edge which `fungrad.name` or `checkpoint_name` gave a name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import lax
from jax import numpy as jnp

from fungrad.graph import Selector
from fungrad.rulebook import Rule, Rulebook
from fungrad.rules import default

__all__ = [
    "clip",
    "clip_norm",
    "deconvnet",
    "guided_relu",
    "reverse_gradient",
    "scale",
    "straight_through",
]


# --- Relu -------------------------------------------------------------------------------------


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


# --- Steps ------------------------------------------------------------------------------------


def _straight(g, z, x):
    """z = a step function of x        g ↦ g"""
    return g


straight_through = default.replace(dict.fromkeys(("round", "floor", "ceil", "sign"), _straight))
"""Straight-through estimator: at round, floor, ceil and sign, g ↦ g  [bengio2013]."""


# --- On the way -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scaled:
    """z = x        g ↦ c g"""

    factor: float

    def __call__(self, g, z, x):
        return g * self.factor


@dataclass(frozen=True)
class _Clipped:
    """z = x        g ↦ min(max(g, −c), c)"""

    value: float

    def __call__(self, g, z, x):
        return jnp.clip(g, -self.value, self.value)


@dataclass(frozen=True)
class _OfBoundedNorm:
    """z = x        g ↦ g · min(1, c/‖g‖)"""

    norm: float

    def __call__(self, g, z, x):
        squares = jnp.sum(g * g)
        # √ has no finite derivative at 0, so what is not clipped does not pass through it.
        exceeds = squares > self.norm**2
        safe = jnp.where(exceeds, squares, lax.full_like(squares, 1))
        return jnp.where(exceeds, g * (self.norm * lax.rsqrt(safe)), g)


def scale(factor: float, where: str | Selector = "name") -> Rulebook:
    """g ↦ factor · g at `where`, the named edges if left alone; shapes stay.

    >>> import fungrad as fg
    >>> book = fg.rulebooks.scale(3.0)
    >>> float(fg.grad(lambda x: 2 * fg.name(x, "h") + x, rules=book)(1.0))
    7.0
    """
    return default.replace({where: _Scaled(float(factor))})


def reverse_gradient(factor: float = 1.0, where: str | Selector = "name") -> Rulebook:
    """g ↦ −factor · g at `where`, the named edges if left alone [ganin2016].

    >>> import fungrad as fg
    >>> float(fg.grad(lambda x: 2 * fg.name(x, "h"), rules=fg.rulebooks.reverse_gradient())(1.0))
    -2.0
    """
    return scale(-factor, where)


def clip(value: float, where: str | Selector = "name") -> Rulebook:
    """g ↦ min(max(g, −value), value), entry by entry, at `where`, the named edges if left alone.

    Raises:
        ValueError: `value` is not positive.

    >>> import fungrad as fg
    >>> float(fg.grad(lambda x: 5 * fg.name(x, "h"), rules=fg.rulebooks.clip(1.0))(1.0))
    1.0
    """
    return default.replace({where: _Clipped(_positive("value", value))})


def clip_norm(norm: float, where: str | Selector = "name") -> Rulebook:
    """g ↦ g · min(1, norm/‖g‖) at `where`, the named edges if left alone [pascanu2013].

    ‖g‖ is the Euclidean norm of all entries at one node (of one example's, under vmap of the
    gradient).

    Raises:
        ValueError: `norm` is not positive.

    >>> import fungrad as fg
    >>> import jax.numpy as jnp
    >>> loss = lambda x: jnp.sum(jnp.array([3.0, 4.0]) * fg.name(x, "h"))
    >>> fg.grad(loss, rules=fg.rulebooks.clip_norm(10.0))(jnp.ones(2)).tolist()
    [3.0, 4.0]
    """
    return default.replace({where: _OfBoundedNorm(_positive("norm", norm))})


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return float(value)
