"""How relevance passes whatever is no layer: one rule for each kind of operation.

| operation | R ↦ |
| --- | --- |
| sums of what is differentiated | in proportion to the terms |
| products of two such factors | evenly, each factor half of what the term gets |
| a function of one such number, be it with constants | R |
| choices (maximum, pooling, select) | to what was chosen |
| moves (reshape, transpose, slice, gather, concatenate, ...) | along with the entry |

A sum's rule is x ⊙ (R / z) · ∂z/∂x: the usual rule of the primitive, applied to R / z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
from jax import numpy as jnp

from fungrad import _jax
from fungrad.graph import Selector
from fungrad.rulebook import Rule
from fungrad.rulebooks.lrp.formulas import ratio
from fungrad.rulebooks.lrp.layers import TAP
from fungrad.rules import default

SUMS = ("add", "add_any", "sub", "reduce_sum", "reduce_window_sum", "cumsum", "scatter-add")
PRODUCTS = ("dot_general", "conv_general_dilated", "ragged_dot_general")
STEPS = ("round", "floor", "ceil", "sign")
CASTS = {"convert_element_type", "reduce_precision", "real", "imag", "complex", "conj"}

FUNCTIONS = {r.primitive for r in default if isinstance(r, Rule) and r.broadcasts} - {
    *SUMS,
    *CASTS,
    *("max", "min", "select_n"),
}
"""The primitives that are functions of numbers, entry by entry."""


@dataclass(frozen=True)
class InProportion:
    """z = A x        R ↦ x ⊙ Aᵀ(R / z), each of n factors of a product 1/n of it"""

    usual: Rule
    stabilizer: float

    def __call__(self, R, z, *inputs, active, **params):
        several = sum(active) if self.usual.primitive in PRODUCTS else 1
        if sum(active) == 1 and self.usual.primitive in ("add", "sub", "add_any"):
            return tuple(R if a else None for a in active)
        answers = self.usual(ratio(R, z, self.stabilizer) / several, z, *inputs, **params)
        answers = answers if isinstance(answers, tuple | list) else (answers,)
        terms = zip(inputs, answers, active, strict=True)
        return tuple(_times(x, s) if a and s is not None else None for x, s, a in terms)


def _times(x: Any, s: Any) -> Any:
    return lambda: x * (s() if callable(s) else s)


def evenly(R, z, *inputs, active):
    """z = f(x₁, …, xₙ), entry by entry        R ↦ R / n to each that is differentiated"""
    part = R if sum(active) == 1 else R / sum(active)
    return tuple(part if a else None for a in active)


@dataclass(frozen=True)
class Average:
    """z = A x, a sum and a scale by constants        R ↦ x ⊙ Aᵀ(R / z)"""

    stabilizer: float

    def __call__(self, g, out, x, *constants, call_jaxpr):
        (R,), (z,), graph = g, out, _jax.close(call_jaxpr)
        transposed = jax.linear_transpose(lambda x: _jax.evaluate(graph, [x, *constants])[0], x)
        return x * transposed(ratio(R, z, self.stabilizer))[0], *(None for _ in constants)


@dataclass(frozen=True)
class Winner:
    """z = max(x, y)        R ↦ R to x, if y is constant; else to the greater, halves to equals"""

    usual: Rule

    def __call__(self, R, z, x, y, *, active):
        return evenly(R, z, x, y, active=active) if sum(active) == 1 else self.usual(R, z, x, y)


@dataclass(frozen=True)
class Select:
    """z = the case that `which` says        R ↦ R to it; where it is a constant 0, to the others

    A mask that is such a 0 takes no relevance, as a factor 0 takes none; other constants take it.
    But where x itself says which (`by_value`), z is a function of x, such as a clipped one, and no
    constant takes any.
    """

    by_value: bool = False

    def __call__(self, R, z, which, *cases, active):
        which = jnp.asarray(which, jnp.int32)
        none, idle = jnp.zeros_like(R), jnp.zeros(which.shape, bool)
        rows = list(zip(cases, active[1:], strict=True))
        for i, (case, is_active) in enumerate(rows):
            if not is_active:
                idle = idle | ((which == i) & (self.by_value | (case == 0)))
        rest = jnp.where(idle, R / sum(active), none)
        chosen = (jnp.where(which == i, R, none) for i in range(len(rows)))
        return None, *(R + rest if a else None for R, a in zip(chosen, active[1:], strict=True))


@dataclass(frozen=True)
class Passes:
    """z = x / s, s a statistic of x        R ↦ R to x

    What normalises is held constant: a mean that is subtracted, a deviation or norm that divides
    [achtibat2024].
    """

    operand: int

    def __call__(self, R, z, x, y):
        return (R, None) if self.operand == 0 else (None, R)


@dataclass(frozen=True)
class Softmax:
    """s = softmax x along axes        R ↦ x ⊙ (R − s Σ R)  [achtibat2024]

    Taylor's rule: x ⊙ (R / s) · ∂s/∂x. A masked entry, x = −∞, gets nothing.
    """

    axes: tuple[int, ...]

    def __call__(self, g, out, x, *constants):
        (R,), (s,) = g, out
        finite = jnp.where(jnp.isfinite(x), x, jnp.zeros_like(x))
        share = finite * (R - s * jnp.sum(R, self.axes, keepdims=True))
        return share, *(None for _ in constants)


def tap(R, z, x, beside):
    """z = x, read beside        R ↦ R to both: the nodes of fungrad.nodes"""
    return R, R


def rules(stabilizer: float) -> dict[str | Selector, Any]:
    """The rules, by the names of primitives; denominators are kept away from 0 by `stabilizer`."""
    found: dict[str | Selector, Any] = dict.fromkeys(sorted(FUNCTIONS), evenly)
    found |= dict.fromkeys(STEPS, evenly)
    for name in (*SUMS, *PRODUCTS):
        found[name] = InProportion(_usual(name), stabilizer)
    found |= {name: Winner(_usual(name)) for name in ("max", "min")}
    return {**found, "select_n": Select(), TAP: tap}


def _usual(name: str) -> Rule:
    usual = default[name]
    assert isinstance(usual, Rule)
    return usual
