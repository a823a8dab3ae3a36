"""A story in LaTeX: as a Markdown page, or the formulas alone."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from fungrad.inspect.story.numerals import array, fits, number, size
from fungrad.inspect.story.text import says_more, sizes_of, values_of

LETTERS = r"[^\W\d²³ᵀ][^\W²³ᵀ]*"
NAME = rf"(?:vec\([^()]*\)|\([^()]*\)|{LETTERS}(?:\.\w+)*(?:\[[^\]]*\])?)"
GREEK = "alpha beta gamma delta epsilon eta theta kappa lambda mu nu rho sigma tau phi psi omega"
OPERATORS = {"tanh", "sinh", "cosh", "sin", "cos", "tan", "exp", "log", "max", "min"}
WORDS = {"repeated", "along", "axis", "elsewhere", "at", "as", "to", "broadcast", "where", "else"}
SYMBOLS = {
    "·": r"\cdot ",
    "⊙": r"\odot ",
    "⊗": r"\otimes ",
    "×": r"\times ",
    "Σ": r"\sum ",
    "ᵀ": r"^\top ",
    "²": "^2",
    "³": "^3",
    "‖": r"\|",
    "−": "-",
    "σ": r"\sigma ",
    "η": r"\eta ",
    "π": r"\pi ",
    "√": r"\surd ",
    "≥": r"\ge ",
    "≤": r"\le ",
    "≠": r"\ne ",
    "…": r"\dots ",
    "½": r"\tfrac12 ",
    "∂": r"\partial ",
    "_": r"\_",
}


def tex(text: str) -> str:
    r"""A formula of the story in LaTeX.

    >>> tex("∂J/∂x2 = ∂J/∂x3 · W1")
    '\\frac{\\partial J}{\\partial x_{2}} = \\frac{\\partial J}{\\partial x_{3}} \\cdot  W_{1}'
    """
    parts = re.split(rf"(∂{NAME}/∂{NAME})", text)
    return "".join(_fraction(part) if i % 2 else _plain(part) for i, part in enumerate(parts))


def _fraction(text: str) -> str:
    above, below = re.fullmatch(rf"∂({NAME})/∂({NAME})", text).groups()  # type: ignore[union-attr]
    return rf"\frac{{\partial {_plain(above)}}}{{\partial {_plain(below)}}}"


def _plain(text: str) -> str:
    words = re.split(f"({LETTERS})", text)
    marks = ("".join(SYMBOLS.get(c, c) for c in word) for word in words[::2])
    names = [*map(_word, words[1::2]), ""]
    return "".join(mark + name for mark, name in zip(marks, names, strict=True))


def _word(word: str) -> str:
    """x12 is a letter with an index, theta a Greek one, tanh an operator, loss a word."""
    if word in OPERATORS:
        return rf"\{word} "
    if word in WORDS:
        return rf"\text{{ {word} }}"
    stem, index = re.fullmatch(r"(.*?)_?(\d*)", word).groups()  # type: ignore[union-attr]
    index = f"_{{{index}}}" if index and stem else ""
    stem = stem if index or stem else word
    if any(c in SYMBOLS for c in stem):
        return "".join(SYMBOLS.get(c, c) for c in stem) + index
    if stem in GREEK.split():
        return rf"\{stem}{index} " if not index else rf"\{stem}{index}"
    return (stem if len(stem) == 1 else rf"\operatorname{{{stem}}}") + index


def matrix(x: Any) -> str:
    r"""Numbers as a matrix; a vector is a column.

    >>> matrix(np.array([[1.0, -0.5]]))
    '\\begin{pmatrix} 1 & -0.5 \\end{pmatrix}'
    """
    if not isinstance(getattr(x, "dtype", None), np.dtype | None):
        return rf"\text{{{x.dtype}}}"
    if np.size(x) == 1 and fits(x):
        return array(x)
    if not fits(x) or np.ndim(x) > 2:
        return rf"\text{{{array(x)}}}"
    rows = np.reshape(x, (-1, 1)) if np.ndim(x) == 1 else np.asarray(x)
    body = r" \\ ".join(" & ".join(map(number, row)) for row in rows)
    return rf"\begin{{pmatrix}} {body} \end{{pmatrix}}"


def _equations(story: Any) -> list[tuple[str, list[str]]]:
    """Headings, and the formulas below each."""
    forward = [
        rf"{tex(s.formula)} = {', '.join(map(matrix, values_of(s)))} \qquad {_sizes(s)}"
        for s in story.forward
    ]
    sections = [("Forward", forward), ("Backward", [_step(step) for step in story.steps])]
    if story.updates:
        heading = f"Updates, η = {number(story.updates[0].eta)}"
        sections.append((heading, [_update(step) for step in story.updates]))
    return sections


def _sizes(step: Any) -> str:
    return ", ".join(tex(size(getattr(x, "shape", ()))) for x in values_of(step))


def _step(step: Any) -> str:
    formula = tex(step.formula)
    formula += f" = {matrix(step.value)}" if step.contributions else ""
    lines = [rf"{formula} \qquad {tex(sizes_of(step))}"]
    for part in step.contributions:
        if says_more(part):
            local = tex(part.letters)
            local += f" = {tex(part.local)}" if part.local else ""
            if part.jacobian is not None and fits(part.jacobian):
                local += f" = {matrix(part.jacobian)}"
            lines.append(rf"\qquad {local} \qquad {tex(size(part.size))}")
    if len(lines) == 1:
        return lines[0]
    return r"\begin{gathered} " + r" \\ ".join(lines) + r" \end{gathered}"


def _update(step: Any) -> str:
    return rf"{tex(step.formula)} = {matrix(step.value)} \qquad {tex(size(step.shape))}"


def markdown(story: Any) -> str:
    """The story as a Markdown page."""
    lines = [f"### The story of {story.function}"]
    for heading, formulas in _equations(story):
        lines += [f"**{heading}**", *(f"$$ {formula} $$" for formula in formulas)]
    return "\n\n".join(lines) + "\n"


def document(story: Any) -> str:
    """The formulas one after the other, for a page of LaTeX with amsmath."""
    lines = []
    for heading, formulas in _equations(story):
        title = heading.replace("η", r"$\eta$")
        lines += [rf"\paragraph{{{title}}}"]
        lines += [rf"\[ {formula} \]" for formula in formulas]
    return "\n".join(lines) + "\n"
