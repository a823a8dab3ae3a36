"""A story in plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fungrad.inspect.story.numerals import array, fits, number, size

SIZES_AT, WIDEST = 56, 96
"""The column in which sizes stand, and the length of a line that is worth two."""


def text(story: Any) -> str:
    """All of it: forward, backward, updates."""
    lines = [f"The story of {story.function}", "", "Forward"]
    for step in story.forward:
        lines += _forward(step)
    lines += ["", "Backward"]
    for step in story.steps:
        lines += _backward(step)
    if story.updates:
        lines += ["", f"Updates, η = {number(story.updates[0].eta)}"]
    for step in story.updates:
        lines += _update(step)
    return "\n".join(lines)


def sizes_of(step: Any) -> str:
    """[1 × n] = [1 × m] · [m × n]; of a matrix the size alone, for its Jacobian is by vec."""
    own = size(step.shape)
    if len(step.contributions) != 1 or not step.contributions[0].of_vectors:
        return own
    m, n = step.contributions[0].size
    return f"{own} = {size((1, m))} · {size((m, n))}" if (m, n) != (1, 1) else own


def says_more(part: Any) -> bool:
    """Whether a local Jacobian is worth a line: the identity is not, nor a number that is shown."""
    if part.local in ("I", "−I") or (part.size == (1, 1) and not part.local):
        return False
    return part.jacobian is None or part.local != array(part.jacobian)


def values_of(step: Any) -> Sequence[Any]:
    """The arrays that a forward step makes."""
    return step.value if isinstance(step.value, tuple) else (step.value,)


def _with_sizes(line: str, sizes: str) -> str:
    return f"{line:<{SIZES_AT - 2}}  {sizes}"


def _forward(step: Any) -> list[str]:
    values = values_of(step)
    numbers = " and ".join(map(array, values))
    sizes = " and ".join(size(getattr(x, "shape", ())) for x in values)
    return [_with_sizes(f"  {step.formula} = {numbers}", sizes)]


def _backward(step: Any) -> list[str]:
    left, *_ = step.formula.partition(" = ")
    terms = [part.formula for part in step.contributions]
    lines = _sum(f"  {left} = ", step.formula.removeprefix(f"{left} = "), terms)
    lines[0] = _with_sizes(lines[0], sizes_of(step))
    if len(terms) > 1 and fits(step.value):
        numbers = [array(part.value) for part in step.contributions]
        lines += _sum("    = ", " + ".join(numbers), numbers)
    if step.contributions:
        lines.append(f"    = {array(step.value)}")
    return lines + [_local(part) for part in step.contributions if says_more(part)]


def _sum(left: str, whole: str, terms: Sequence[str]) -> list[str]:
    """A sum in one line, or with a line for each of its terms."""
    if len(left + whole) <= WIDEST or len(terms) < 2:
        return [left + whole]
    first, *rest = terms
    plus = " " * (len(left) - 2) + "+ "
    return [left + first, *(plus + term for term in rest)]


def _local(part: Any) -> str:
    line = f"    {part.letters}" + (f" = {part.local}" if part.local else "")
    if part.jacobian is not None and fits(part.jacobian):
        line += f" = {array(part.jacobian)}"
    return _with_sizes(line, size(part.size))


def _update(step: Any) -> list[str]:
    line = _with_sizes(f"  {step.formula}", size(step.shape))
    if not fits(step.value):
        return [line, f"    = {array(step.value)}"]
    before, g, eta = array(step.before), array(step.gradient), number(abs(step.eta))
    sign = "-" if step.eta < 0 else "+"
    return [line, f"    = {before} {sign} {eta} · {g}", f"    = {array(step.value)}"]
