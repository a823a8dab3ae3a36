"""A local Jacobian in letters, and what becomes of a gradient that passes it.

The lecture's layout: a gradient is a row, ∂J/∂W of a matrix W [m × n] is [n × m]. With g = ∂J/∂z,

    z = f(x) entry by entry     ∂z/∂x = diag(f′(x))     g · diag(f′(x)); of matrices g ⊙ f′(x)ᵀ
    z = W x                     ∂z/∂x = W               g · W
                                ∂z/∂vec(W) = I ⊗ xᵀ     x · g
    Z = A B                     ∂Z/∂vec(A) = I ⊗ Bᵀ     B · g
                                ∂Z/∂vec(B) = A ⊗ I      g · A
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Local(NamedTuple):
    """A local Jacobian in letters.

    Attributes:
        text: what ∂z/∂x is, "" if no more can be said than that.
        step: the contribution to the gradient, a function of the letters of g.
        claim: the same in numbers, if it is to be compared with what the step really does.
    """

    text: str
    step: Callable[[str], str]
    claim: Callable[[Any], Any] | None = None


def grouped(text: str) -> str:
    """The text in parentheses, if it is more than one factor."""
    depth = 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character in " −/" and depth == 0:
            return f"({text})"
    return text


def identity(out: tuple[int, ...], shape: tuple[int, ...], sign: str = "") -> Local:
    """z = ±x, x broadcast to z."""
    summed = total(out, shape)
    if shape == out or not summed:
        return Local(f"{sign}I", lambda g: f"{sign}{g}")
    if len(out) == 1:
        return Local(f"{sign}1", lambda g: f"{sign}{g} · 1")
    return Local("", lambda g: f"{sign}{summed} {g}")


def diagonal(d: str, out: tuple[int, ...], shape: tuple[int, ...], scalar: bool = False) -> Local:
    """z = f(x) entry by entry, x broadcast to z; `scalar`: the slope d is one number."""
    d, summed = grouped(d), total(out, shape)
    inner = d[1:-1] if d.startswith("(") and d.endswith(")") and grouped(d[1:-1]) == d else d
    size = int(np.prod(out))
    if size == 1 and shape == out:
        return Local(inner, lambda g: f"{g} · {d}")
    if scalar and shape == out:
        return Local(f"{d} I", lambda g: f"{d} · {g}")
    if shape == out and len(out) == 1:
        return Local(f"diag({inner})", lambda g: f"{g} · diag({inner})")
    inner = re.sub(r"([^\W\d]\w*|\)) (?=[\w(])", r"\1 ⊙ ", inner)  # not a product of matrices
    d = grouped(inner)
    transposed = f"{d}ᵀ" if len(out) == 2 else d
    if shape == out:
        return Local("diag(vec(" + inner + "))", lambda g: f"{g} ⊙ {transposed}")
    if int(np.prod(shape)) == 1 and len(out) <= 2 and not scalar:
        return (
            Local(inner, lambda g: f"{g} · {d}")
            if len(out) == 1
            else Local(f"vec({inner})", lambda g: f"tr({g} · {d})")
        )
    return Local("", lambda g: f"{summed} {g} ⊙ {transposed}")


def matrix(text: str) -> Local:
    """z and x are vectors, ∂z/∂x is written out."""
    return Local(text, lambda g: f"{g} · {grouped(text)}")


def total(out: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Σ over the axes of z that x does not have."""
    added = len(out) - len(shape)
    axes = [i for i, n in enumerate(out) if i < added or shape[i - added] != n]
    if not axes or int(np.prod(shape)) == int(np.prod(out)):
        return ""
    if len(axes) == len(out):
        return "Σ"
    return f"Σ[axis {', '.join(map(str, axes))}]"
