"""A story as HTML for a notebook: formulas in their letters, numbers in matrices; no script."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import numpy as np

from fungrad.inspect.story.numerals import array, fits, number, size
from fungrad.inspect.story.text import says_more, sizes_of, values_of

STYLE = """\
.fungrad-story { font: 14px/1.5 ui-sans-serif, system-ui, sans-serif; }
.fungrad-story > table { border-collapse: collapse; }
.fungrad-story > table > tbody > tr > td { padding: 3px 14px 3px 0; vertical-align: middle;
  text-align: left; }
.fungrad-story .local > td { opacity: .7; font-size: 13px; }
.fungrad-story .local .size { opacity: .6; }
.fungrad-story .size { white-space: nowrap; opacity: .6; }
.fungrad-story .matrix { display: inline-table; border-collapse: separate; border-spacing: 0;
  margin: 0 4px;
  vertical-align: middle; border-left: 1.5px solid; border-right: 1.5px solid;
  border-radius: 6px; }
.fungrad-story .matrix td { padding: 0 7px; text-align: right; border: 0;
  font-variant-numeric: tabular-nums; }
"""


def html(story: Any) -> str:
    """The story as one element, with its style."""
    parts = [f'<div class="fungrad-story"><style>{STYLE}</style>']
    parts.append(f"<h4>The story of {escape(story.function)}</h4>")
    parts += _table("Forward", (row for s in story.forward for row in _forward(s)))
    parts += _table("Backward", (row for s in story.steps for row in _backward(s)))
    if story.updates:
        heading = f"Updates, η = {number(story.updates[0].eta)}"
        rows = (_row(s.formula, _matrix(s.value), size(s.shape)) for s in story.updates)
        parts += _table(heading, rows)
    return "\n".join([*parts, "</div>"])


def _table(heading: str, rows: Iterator[str]) -> Iterator[str]:
    yield f"<h5>{heading}</h5>\n<table>"
    yield from rows
    yield "</table>"


def _row(formula: str, numbers: str, sizes: str, kind: str = "") -> str:
    start = f'<tr class="{kind}">' if kind else "<tr>"
    equals = f"= {numbers}" if numbers else ""
    cells = f"<td>{escape(formula)}</td><td>{equals}</td>"
    return f'{start}{cells}<td class="size">{escape(sizes)}</td></tr>'


def _forward(step: Any) -> Iterator[str]:
    values = values_of(step)
    sizes = " and ".join(size(getattr(x, "shape", ())) for x in values)
    yield _row(step.formula, " and ".join(map(_matrix, values)), sizes)


def _backward(step: Any) -> Iterator[str]:
    yield _row(step.formula, _matrix(step.value) if step.contributions else "", sizes_of(step))
    for part in step.contributions:
        if says_more(part):
            text = part.letters
            text += f" = {part.local}" if part.local else ""
            shown = part.jacobian is not None and fits(part.jacobian)
            numbers = _matrix(part.jacobian) if shown else ""
            yield _row(text, numbers, size(part.size), "local")


def _matrix(x: Any) -> str:
    plain = not isinstance(getattr(x, "dtype", None), np.dtype | None)
    if plain or not fits(x) or np.size(x) <= 1 or np.ndim(x) > 2:
        return escape(array(x))
    rows = np.reshape(x, (-1, 1)) if np.ndim(x) == 1 else np.asarray(x)
    body = "".join(
        "<tr>" + "".join(f"<td>{number(entry)}</td>" for entry in row) + "</tr>" for row in rows
    )
    return f'<table class="matrix">{body}</table>'
