"""Functions that are known by name: their symbol, and their Jacobian in letters and in numbers.

The numbers are there to be compared with the gradient that the step really has: what another
function of the same name does is not told by these formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, softmax

from fungrad.notation import log_softmax_jacobian, softmax_jacobian

SYMBOLS = {
    "add": "{} + {}",
    "add_any": "{} + {}",
    "sub": "{} − {}",
    "mul": "{} · {}",
    "div": "{} / {}",
    "neg": "−{}",
    "logistic": "σ",
    "gt": "{} > {}",
    "lt": "{} < {}",
    "ge": "{} ≥ {}",
    "le": "{} ≤ {}",
    "eq": "{} = {}",
    "ne": "{} ≠ {}",
}
"""How elementwise primitives are written; the others by their name."""


class Slope(NamedTuple):
    """A Jacobian: `text` in letters, `array` in numbers.

    Attributes:
        is_diagonal: text and array are its diagonal.
        of_rows: z[i] depends on row i of x alone; the rows of the array are those of ∂z[i]/∂x[i],
            and the text is the array transposed.
    """

    text: str
    array: Any
    is_diagonal: bool = False
    of_rows: bool = False


Known = tuple[str, Sequence[Slope | None]]


def _softmax(z: str, names: Sequence[str], out: Any, x: Any, *_: Any) -> Known | None:
    if out.ndim != 1:
        return None
    return f"softmax({names[0]})", [Slope(f"diag({z}) − {z} {z}ᵀ", softmax_jacobian(out))]


def _log_softmax(z: str, names: Sequence[str], out: Any, x: Any, *_: Any) -> Known | None:
    if out.ndim != 1:
        return None
    jacobian = log_softmax_jacobian(np.exp(out))
    return f"log softmax({names[0]})", [Slope(f"I − 1 exp({z})ᵀ", jacobian)]


def _logsumexp(z: str, names: Sequence[str], out: Any, x: Any, *_: Any) -> Known | None:
    if x.ndim != 1:
        return None
    return f"log Σ exp({names[0]})", [Slope(f"softmax({names[0]})ᵀ", softmax(x)[None])]


def _relu(z: str, names: Sequence[str], out: Any, x: Any, *_: Any) -> Known:
    return f"relu({names[0]})", [Slope(f"[{names[0]} > 0]", x > 0, True)]


def _sigmoid(z: str, names: Sequence[str], out: Any, x: Any, *_: Any) -> Known:
    return f"σ({names[0]})", [Slope(f"{z} (1 − {z})", out * (1 - out), True)]


def _mean(z: str, names: Sequence[str], out: Any, x: Any, *_: Any) -> Known | None:
    if out.ndim:
        return None
    return f"mean({names[0]})", [Slope(f"1ᵀ/{x.size}", np.full((1, x.size), 1 / x.size))]


def _norm(z: str, names: Sequence[str], out: Any, x: Any, *_: Any) -> Known | None:
    if out.ndim or x.ndim != 1 or out == 0:
        return None
    return f"‖{names[0]}‖", [Slope(f"{names[0]}ᵀ/{z}", (x / out)[None])]


def _squared_error(z: str, names: Sequence[str], out: Any, p: Any, y: Any = None) -> Known | None:
    if y is None or p.shape != y.shape:
        return None
    first, second = names[:2]
    slope = 2 * (p - y)
    return f"({first} − {second})²", [
        Slope(f"2 ({first} − {second})", slope, True),
        Slope(f"−2 ({first} − {second})", -slope, True),
    ]


def _cross_entropy(z: str, names: Sequence[str], out: Any, x: Any, y: Any = None) -> Known | None:
    """l = −log(yᵀ softmax(x)): ∂l/∂x = softmax(x)ᵀ − yᵀ; of a batch so in each row."""
    if x.ndim > 2 or out.shape != x.shape[:-1]:
        return None
    p, told = softmax(x, axis=-1), f"cross_entropy({', '.join(names)})"
    if y is None:  # the label is a number in the source: the class of this loss
        label = np.argmin(np.abs(out[..., None] + np.log(np.maximum(p, 1e-300))), axis=-1)
        y, word = label, f"e[{label}]"
    else:
        word = names[1] if y.shape == x.shape else f"e[{names[1]}]"
    if y.shape != x.shape:
        y = np.eye(x.shape[-1])[np.asarray(y, int) % x.shape[-1]]
    if y.shape != x.shape:
        return None
    text, slope = f"(softmax({names[0]}) − {word})ᵀ", p - y
    by_x = Slope(text, slope, of_rows=True) if x.ndim == 2 else Slope(text, slope[None])
    return told, [by_x, *[None] * (len(names) - 1)]


def _binary_cross_entropy(
    z: str, names: Sequence[str], out: Any, x: Any, y: Any = None
) -> Known | None:
    if y is None or x.shape != y.shape:
        return None
    slope = Slope(f"σ({names[0]}) − {names[1]}", expit(x) - y, True)
    return f"binary_cross_entropy({', '.join(names)})", [slope, None]


def _where(z: str, names: Sequence[str], out: Any, *inputs: Any) -> Known | None:
    if len(inputs) != 3 or {x.shape for x in inputs} != {out.shape}:
        return None
    (yes, no, which), mask = names, inputs[2]
    slopes = [Slope(which, mask, True), Slope(f"1 − {which}", 1 - mask, True)]
    return f"where({which}, {yes}, {no})", [*slopes, None]


FUNCTIONS: dict[str, Callable[..., Known | None]] = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "mean": _mean,
    "norm": _norm,
    "where": _where,
    "squared_error": _squared_error,
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": _binary_cross_entropy,
}
