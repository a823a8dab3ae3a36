"""PyTorch's conventions where a function has a kink: the same gradients as `torch.autograd`.

JAX and PyTorch agree nearly everywhere; the rules here are those of the operations at which they
do not. At all other points they are the usual ones.
"""

from __future__ import annotations

from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from fungrad import placing
from fungrad.graph import Graph, Node
from fungrad.rulebook import Rule, Rulebook
from fungrad.rules import default
from fungrad.steps import sum_to

__all__ = ["torch"]


# --- Primitives -------------------------------------------------------------------------------


def _usual(name: str) -> Rule:
    found = default[name]
    assert isinstance(found, Rule)
    return found


def _where(condition: Any, g: Any) -> Any:
    return jnp.where(condition, g, lax.full_like(g, 0))


def _abs(g, z, x):
    """z = |x|        ∂z/∂x = diag(sign x): 0 at 0"""
    return _where(x != 0, _usual("abs")(g, z, x))


def _clamp(g, z, low, x, high):
    """z = min(max(x, l), h)        ∂z/∂x = diag[l ≤ x ≤ h], ∂z/∂l, ∂z/∂h = what is left"""
    inside = (low <= x) & (x <= high)
    return _where(x < low, g), _where(inside, g), _where(x > high, g)


def _pow(g, z, x, y):
    """z = xʸ        ∂z/∂x = diag(y xʸ⁻¹): 0 where y is 0"""
    usual = _usual("pow")(g, z, x, y)
    by_x = usual[0]() if callable(usual[0]) else usual[0]
    return _where(y != 0, by_x), usual[1]


def _atan2(g, z, y, x):
    """z = arg(x + iy)        as usual, and 0 at x = y = 0"""
    usual = _usual("atan2")(g, z, y, x)
    nowhere = (x == 0) & (y == 0)
    return tuple(_where(~nowhere, by() if callable(by) else by) for by in usual)


def _latest(g, z, x, axis, reverse):
    """zⱼ = max(zⱼ₋₁, xⱼ), or min        ∂zⱼ/∂xᵢ = [i is the latest winner up to j]"""
    places = lax.broadcasted_iota(jnp.int32, x.shape, axis)
    order = x.shape[axis] - 1 - places if reverse else places
    latest = lax.cummax(jnp.where(x == z, order, -1), axis, reverse)
    latest = x.shape[axis] - 1 - latest if reverse else latest
    taken = jax.linear_transpose(lambda x: jnp.take_along_axis(x, latest, axis), x)
    return taken(g)[0]


# --- Functions --------------------------------------------------------------------------------


def _clip(g, z, x, *bounds):
    """z = x inside of bounds        ∂z/∂x = diag[z = x], what is left to the bound that is z"""
    beyond = _where(z != x, g)
    rest = [_where(z == b.astype(z.dtype), beyond) for b in bounds]
    return _where(z == x, g), *(_like(r, b) for r, b in zip(rest, bounds, strict=True))


def _like(g: Any, x: Any) -> Any:
    """The gradient at an input that was broadcast; none at an integer."""
    return sum_to(g, x) if jnp.issubdtype(x.dtype, jnp.floating) else None


def _hard_tanh(g, z, x):
    """z = min(max(x, −1), 1)        ∂z/∂x = diag[−1 < x < 1]"""
    return _where((x > -1) & (x < 1), g)


def _hypot(g, z, x, y):
    """z = √(x² + y²)        ∂z/∂x = diag(x/z): NaN at 0"""
    return _like(g * x / z, x), _like(g * y / z, y)


def _copysign(g, z, x, y):
    """z = |x| sign y        ∂z/∂x = diag(z/x): 0 at 0"""
    return _like(_where(x != 0, g * jnp.sign(x) * jnp.sign(z)), x), None


def _xlogy(g, z, x, y):
    """z = x log y        ∂z/∂x = diag(log y): 0 where x = 0 ≥ y;  ∂z/∂y = diag(x/y)"""
    nowhere = (x == 0) & (y <= 0)
    log = jnp.log(jnp.where(nowhere, lax.full_like(y, 1), y))
    return _like(_where(~nowhere, g * log), x), _like(g * x / y, y)


# --- Inside of functions ----------------------------------------------------------------------


def _root(g, z, x):
    """z = √x        ∂z/∂x = diag(1/2z): 0 at 0, where z is a norm or a deviation"""
    return _where(x != 0, g / (2 * jnp.where(x == 0, lax.full_like(z, 1), z)))


def _slope(g, z, which, scaled, x):
    """z = x or s x        ∂z/∂x = diag([x > 0] + s [x ≤ 0])"""
    return None, _where(x <= 0, g), _where(x > 0, g)


def _median(g, z, x):
    """z = the median of all        ∂z/∂x = [x = z]ᵀ / |{i: xᵢ = z}|"""
    ties = x == z
    return _where(ties, jnp.broadcast_to(g / jnp.sum(ties, dtype=g.dtype), x.shape))


def _inside(graph: Any, book: Rulebook) -> Any:
    """The graph, with other rules in norms and deviations, in leaky_relu, and at medians."""
    whole = Graph(graph)

    def rule_at(node: Node, is_chosen_inside: bool) -> Any:
        around = {call.callee for call in node.path}
        if node.primitive == "sqrt" and not around.isdisjoint(("norm", "_std")):
            return Rule("sqrt", _root)
        if node.primitive == "select_n" and "leaky_relu" in around:
            return Rule("select_n", _slope)
        if node.callee == "median" and _is_one_of_all(node):
            return Rule("median", _median)
        return placing.carried(node.equation)

    return placing.placed(graph, placing.choices(whole, rule_at))


def _is_one_of_all(node: Node) -> bool:
    """Whether a median is that of an odd number of entries, all that there are."""
    (x,), (z,) = node.inputs, node.outputs
    size = 1
    for n in x.shape:
        size *= n
    return z.shape == () and size % 2 == 1


torch = default.replace(
    {
        "abs": _abs,
        "clamp": _clamp,
        "pow": _pow,
        "atan2": _atan2,
        "cummax": _latest,
        "cummin": _latest,
        "clip": _clip,
        "hard_tanh": _hard_tanh,
        "hypot": _hypot,
        "copysign": _copysign,
        "xlogy": _xlogy,
    }
).with_placement(_inside)
"""PyTorch's gradients at kinks.

| function | at | gradient | JAX |
| --- | --- | --- | --- |
| abs, and norms of order 1 | 0 | 0 | 1 |
| clamp, clip | a bound | 1 | 0, ½ |
| leaky_relu | 0 | the slope | 1 |
| hard_tanh | ±1 | 0 | 1 |
| cummax, cummin | ties | to the latest | halves |
| norm, std | 0 | 0 | NaN |
| median of all | ties | evenly | to one |
| x⁰ for a float 0 | 0 | 0 | NaN |
| atan2 | (0, 0) | 0 | NaN |
| hypot | (0, 0) | NaN | ½, since 0.12 NaN |
| copysign | 0 | 0 | 1 |
| xlogy | (0, 0) | 0 by x | −∞ |

Functions go by their name in JAX: `jnp.clip`, `jax.nn.leaky_relu`, `jax.nn.hard_tanh`,
`jnp.linalg.norm`, `jnp.std`, `jnp.median`, `jnp.hypot`, `jnp.copysign`, `jax.scipy.special.xlogy`.
"""
