"""How operations are written, by their primitives: z = f(x, y), and the Jacobian by each operand.

Elementwise primitives are written as the Jacobian line of their rule has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fungrad.inspect.programs import Operation, Value
from fungrad.inspect.story.jacobians import Local, diagonal, grouped, identity, matrix
from fungrad.inspect.story.known import SYMBOLS
from fungrad.rulebook import Rule
from fungrad.rules import default


@dataclass(frozen=True)
class Operand:
    """What an operation reads: its letters and shape, and the input of the unit that it is."""

    text: str
    shape: tuple[int, ...]
    source: Value | None


def elementwise(operation: Operation, operands: Sequence[Operand], z: str, out: Any):
    """By the Jacobian line of the rule: z = tanh x, ∂z/∂x = diag(1 − z²)."""
    rule = default.find(operation.equation)
    if not isinstance(rule, Rule) or not rule.broadcasts:
        return None
    letters = rule.positional[2 : 2 + len(operands)]
    if len(letters) != len(operands):
        return None
    symbol = SYMBOLS.get(operation.primitive, operation.primitive)
    text = symbol if "{" in symbol else f"{symbol}({', '.join(['{}'] * len(operands))})"
    text = text.format(
        *(
            grouped(o.text) if "{} " in symbol or " {}" in symbol or symbol[0] in "{−" else o.text
            for o in operands
        )
    )
    words = {**{a: o.text for a, o in zip(letters, operands, strict=True)}, "z": z}
    locals = []
    for letter, operand in zip(letters, operands, strict=True):
        found = re.search(rf"∂z/∂{letter} = (−?)(diag\((.*?)\)|I)(?= {{2}}|$)", rule.jacobian)
        if found is None:
            locals.append(None)
        elif found[2] == "I":
            locals.append(identity(out, operand.shape, found[1]))
        else:
            d = found[1] + with_words(found[3], words)
            others = [o.shape for o in operands if o is not operand]
            scalar = (
                bool(others)
                and all(int(np.prod(s)) == 1 for s in others)
                and (operation.primitive in ("mul", "div"))
            )
            locals.append(diagonal(d, out, operand.shape, scalar))
    return text, locals


def with_words(text: str, words: dict[str, str]) -> str:
    """A formula in x, y, z with the names in their places; eˣ is exp(x)."""
    text = text.replace("e⁻ˣ", "exp(−x)").replace("eˣ", "exp(x)")
    replaced = re.sub(
        r"\b([a-z])(?=[²³\b]|\W|$)",
        lambda m: words.get(m[1], m[1]),
        text,
    )
    return replaced


def product(operation: Operation, operands: Sequence[Operand], z: str, out: Any):
    """z = x · y: of vectors and matrices, one axis of each summed over."""
    a, b = operands
    (a_axes, b_axes), batch = operation.equation.params["dimension_numbers"]
    ranks = len(a.shape), len(b.shape)
    if any(batch) or len(a_axes) != 1 or max(ranks) > 2:
        return None
    if ranks == (1, 1):
        return f"{a.text}ᵀ {b.text}", (matrix(f"{b.text}ᵀ"), matrix(f"{a.text}ᵀ"))
    if ranks == (1, 2):
        text, (by_b, by_a) = _of_vector(b, a, b_axes[0] == 1)
        return text, (by_a, by_b)
    if ranks == (2, 1):
        return _of_vector(a, b, a_axes[0] == 1)
    return _of_matrices(a, b, a_axes[0] == 1, b_axes[0] == 0)


def _of_vector(W: Operand, x: Operand, plain: bool):
    """z = W x, or Wᵀ x."""
    w = grouped(W.text) if plain else f"{grouped(W.text)}ᵀ"
    v = grouped(x.text)
    by_W = f"I ⊗ {v}ᵀ" if plain else f"{v}ᵀ ⊗ I"
    step = (lambda g: f"{v} · {g}") if plain else (lambda g: f"({v} · {g})ᵀ")
    return f"{w} {v}", (Local(by_W, step), matrix(w))


def _of_matrices(A: Operand, B: Operand, a_plain: bool, b_plain: bool):
    """Z = A B, each of them transposed or not."""
    a = grouped(A.text) + ("" if a_plain else "ᵀ")
    b = grouped(B.text) + ("" if b_plain else "ᵀ")
    by_A = Local(
        f"I ⊗ {_transposed(b)}" if a_plain else "", _turned(lambda g: f"{b} · {g}", a_plain)
    )
    by_B = Local(f"{a} ⊗ I" if b_plain else "", _turned(lambda g: f"{g} · {a}", b_plain))
    return f"{a} {b}", (by_A, by_B)


def _transposed(text: str) -> str:
    return text[:-1] if text.endswith("ᵀ") else f"{text}ᵀ"


def _turned(step: Callable[[str], str], plain: bool) -> Callable[[str], str]:
    return step if plain else lambda g: f"({step(g)})ᵀ"


def _sum(operation: Operation, operands: Sequence[Operand], z: str, out: Any):
    (x,) = operands
    axes = operation.equation.params["axes"]
    if len(axes) == len(x.shape):
        return f"Σ {grouped(x.text)}", (Local("1ᵀ", lambda g: f"{g} · 1ᵀ"),)
    listed = ", ".join(map(str, axes))
    return f"Σ[axis {listed}] {grouped(x.text)}", (
        Local("", lambda g: f"{g} repeated along axis {listed}"),
    )


def _power(operation: Operation, operands: Sequence[Operand], z: str, out: Any):
    (x,), y = operands, operation.equation.params.get("y", 2)
    base = grouped(x.text)
    if y == 2:
        return f"{base}²", (diagonal(f"2 {base}", out, x.shape),)
    power = {3: f"{base}²", 1: "1"}.get(y, f"{base}^{y - 1}".replace("-", "−"))
    text = f"{base}³" if y == 3 else f"{base}^{y}".replace("-", "−")
    return text, (diagonal(f"{y} {power}".replace("-", "−"), out, x.shape),)


def _largest(operation: Operation, operands: Sequence[Operand], z: str, out: Any):
    """max(x, c) with a number c, such as relu."""
    x, y = operands
    if y.source is not None or x.source is None:
        return None
    relation = ">" if operation.primitive == "max" else "<"
    slope = diagonal(f"[{x.text} {relation} {y.text}]", out, x.shape)
    return f"{operation.primitive}({x.text}, {y.text})", (slope, None)


def _turn(operation: Operation, operands: Sequence[Operand], z: str, out: Any):
    (x,) = operands
    return f"{grouped(x.text)}ᵀ", (Local("", lambda g: f"({g})ᵀ"),)


def _choice(operation: Operation, operands: Sequence[Operand], z: str, out: Any):
    if len(operands) != 3:
        return None
    which, no, yes = operands
    locals = (
        None,
        diagonal(f"1 − {which.text}", out, no.shape),
        diagonal(which.text, out, yes.shape),
    )
    return f"{yes.text} where {which.text} else {no.text}", locals


WRITERS: dict[str, Callable[..., Any]] = {
    "dot_general": product,
    "reduce_sum": _sum,
    "integer_pow": _power,
    "square": _power,
    "max": _largest,
    "min": _largest,
    "transpose": _turn,
    "select_n": _choice,
}
