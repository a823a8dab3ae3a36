"""The tables of docs/seeds.md: every place where a seed errs, what is right, and why."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.lecture_examples import EXAMPLES
from experiments.lecture_examples.record import JAX

HEAD = ["line", "quantity", "the seed has", "right", "why", "kind"]


def remarks(seed: str) -> Iterator[list[str]]:
    """The rows of a seed's table, in the order of its examples."""
    rows = (row for each in EXAMPLES if each.seed == seed for row in each.rows(JAX))
    for row in rows:
        if remark := row.remark:
            printed = row.printed.replace("-", "−") if row.kind == "digits" else row.printed
            cells = row.lines, row.quantity, printed, remark.right, remark.why, remark.kind
            yield [as_markdown(cell) for cell in cells]


def as_markdown(text: str) -> str:
    """Markdown that shows the text as it is."""
    for character in "\\*_<[":
        text = text.replace(character, f"\\{character}")
    return text
