"""Tables in plain text and in Markdown; numbers of bytes as people read them."""

from __future__ import annotations

from collections.abc import Sequence

WIDEST = 36
"""Characters of a cell in plain text; the last cell of a row may be as long as it likes."""


def readable(size: int) -> str:
    """A number of bytes, to three digits.

    >>> readable(999), readable(4_096), readable(53_100_000), readable(999_999)
    ('999 B', '4.1 kB', '53.1 MB', '1 MB')
    """
    number, units = float(size), iter(("B", "kB", "MB", "GB", "TB", "PB"))
    unit = next(units)
    while round(number, 1) >= 1000:
        number, unit = number / 1000, next(units)
    return f"{number:.{0 if number >= 100 else 1}f}".removesuffix(".0") + f" {unit}"


def in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows, their first cells flush right, the others flush left.

    >>> in_columns([("bytes", "value"), ("12 B", "x")])
    ['bytes  value', ' 12 B  x']
    """
    cut = [[_shortened(cell) for cell in row[:-1]] + [row[-1]] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    lines = []
    for first, *rest in cut:
        cells = [cell.ljust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        kept = [cell for cell, width in zip(cells, widths[1:], strict=True) if width]
        lines.append("  ".join([first.rjust(widths[0]), *kept]).rstrip())
    return lines


def _shortened(cell: str) -> str:
    return cell if len(cell) <= WIDEST else cell[: WIDEST - 1] + "…"


def in_markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as a table of a notebook; the first one is its head.

    >>> in_markdown([("bytes", "value"), ("12 B", "a|b")])
    ['| bytes | value |', '| ---: | --- |', '| 12 B | a\\\\|b |']
    """
    head, *rest = (["", *(cell.replace("|", "\\|") for cell in row), ""] for row in rows)
    rule = ["", "---:", *["---"] * (len(head) - 3), ""]
    return [" | ".join(row).strip() for row in (head, rule, *rest)]
