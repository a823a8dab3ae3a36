"""A drawing of a graph: what stands in its boxes and circles, and the SVG that shows it.

Boxes hold "name | value | gradient". The picture has its own ground and follows the reader's
choice of light or dark; its numbers are rounded, so that the same graph gives the same text.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fungrad.inspect.layout import Link, Point, layout

HEIGHT, MARGIN, PADDING = 28.0, 16.0, 7.0
CHARACTER, BASELINE = 7.25, 4.25  # of 12 px letters of equal width

COLOURS = {  # ground, box, circle, line, ink, gradient
    "light": ("#fdfdfb", "#ffffff", "#e6ebf4", "#8d919c", "#1c1d21", "#a8321f"),
    "dark": ("#16171b", "#202228", "#2c3a52", "#747884", "#e7e7ea", "#ff9d84"),
}
STYLE = """\
.fungrad-graph .ground {{ fill: {0} }}
.fungrad-graph .box {{ fill: {1}; stroke: {3} }}
.fungrad-graph .circle {{ fill: {2}; stroke: {3} }}
.fungrad-graph .line {{ fill: none; stroke: {3} }}
.fungrad-graph .tip {{ fill: {3} }}
.fungrad-graph text {{
  fill: {4}; font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  text-anchor: middle;
}}
.fungrad-graph .gradient {{ fill: {5} }}
"""


@dataclass(frozen=True)
class Box:
    """An edge: its name ("" if it has none), its value, its gradient where it can have one."""

    name: str
    value: Any
    gradient: Any = None

    @property
    def cells(self) -> dict[str, str]:
        """What stands in it, from left to right."""
        shape = "×".join(map(str, np.shape(self.value)))
        name = f"{self.name} [{shape}]" if shape else self.name
        gradient = "" if self.gradient is None else numbers(self.gradient)
        cells = {"name": name.strip(), "value": numbers(self.value), "gradient": gradient}
        return {kind: text for kind, text in cells.items() if text}


@dataclass(frozen=True)
class Operation:
    """A node, by its symbol or name."""

    symbol: str

    @property
    def cells(self) -> dict[str, str]:
        """Its symbol."""
        return {"symbol": self.symbol}


@dataclass(frozen=True)
class Drawing:
    """The picture of a graph; a notebook shows it, `str` lists its boxes.

    Attributes:
        items: boxes and operations in program order, the inputs first.
        links: pairs (from, to) of indices of items.
    """

    items: tuple[Box | Operation, ...]
    links: tuple[Link, ...]

    @cached_property
    def svg(self) -> str:
        """The picture."""
        return "\n".join(_svg(self.items, self.links)) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the picture to a file whose name ends in .svg."""
        if Path(path).suffix != ".svg":
            raise ValueError(f"path must end in .svg, the one format that is drawn, got {path}")
        Path(path).write_text(self.svg, "utf-8")

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        boxes = sum(isinstance(item, Box) for item in self.items)
        return f"Drawing({boxes} edges, {len(self.items) - boxes} nodes)"

    def __str__(self) -> str:
        maker = {end: self.items[start].cells.get("symbol", "") for start, end in self.links}
        rows = [("edge", "value", "gradient")]
        for i, item in enumerate(self.items):
            if isinstance(item, Box):
                name = f"{maker.get(i, '')} {item.cells.get('name', '')}".strip()
                rows.append((name, item.cells["value"], item.cells.get("gradient", "")))
        wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (f"{name:<{wide[0]}}  {x:>{wide[1]}} | {g:<{wide[2]}}" for name, x, g in rows)
        return "\n".join(line.rstrip(" |") for line in lines)


def numbers(x: Any) -> str:
    """An array in a few characters: four digits of a number, the first numbers of an array.

    >>> numbers(-0.123456), numbers([1.0, 2.5]), numbers([[1, 2], [3, 4]])
    ('−0.1235', '1, 2.5', '1, 2, …')
    """
    if not isinstance(getattr(x, "dtype", None), np.dtype | None):
        return str(x.dtype)  # random keys
    flat = np.ravel(np.asarray(x))
    shown = [_number(entry) for entry in flat[: 3 if flat.size <= 3 else 2]]
    return ", ".join(shown + ["…"] * (flat.size > 3)) or "empty"


def _number(x: Any) -> str:
    if np.iscomplexobj(x):
        return f"{complex(x):.3g}".replace("-", "−")
    if x.dtype == bool or np.issubdtype(x.dtype, np.integer):
        return str(x).replace("-", "−")
    return f"{float(x) + 0.0:.4g}".replace("-", "−")  # −0 + 0 is 0


# --- SVG ----------------------------------------------------------------------------------------


def _svg(items: tuple[Box | Operation, ...], links: tuple[Link, ...]) -> Iterator[str]:
    placed = layout([(_width(item.cells), HEIGHT) for item in items], links)
    legend = {"name": "name", "value": "value", "gradient": "gradient"}
    width = max(placed.size[0], _width(legend)) + 2 * MARGIN
    height = placed.size[1] + HEIGHT + 3 * MARGIN
    light, dark = (STYLE.format(*colours) for colours in COLOURS.values())
    yield (
        '<svg xmlns="http://www.w3.org/2000/svg" class="fungrad-graph" role="img" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">'
    )
    yield "<title>A graph with name | value | gradient on its edges</title>"
    yield f"<style>\n{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n</style>"
    yield f'<rect class="ground" width="{width:.0f}" height="{height:.0f}" rx="8"/>'
    yield f'<g transform="translate({MARGIN:.0f} {MARGIN:.0f})">'
    for route in placed.routes:
        yield from _link(route)
    for item, center in zip(items, placed.centers, strict=True):
        yield from _item("box" if isinstance(item, Box) else "circle", item.cells, center)
    yield from _item("box", legend, (_width(legend) / 2, placed.size[1] + MARGIN + HEIGHT / 2))
    yield "</g>\n</svg>"


def _width(cells: dict[str, str]) -> float:
    return max(HEIGHT, sum(map(_cell_width, cells.values())))


def _cell_width(text: str) -> float:
    return len(text) * CHARACTER + 2 * PADDING


def _item(shape: str, cells: dict[str, str], center: Point) -> Iterator[str]:
    (x, y), width = center, _width(cells)
    left, top, radius = x - width / 2, y - HEIGHT / 2, 5 if shape == "box" else HEIGHT / 2
    yield (
        f'<rect class="{shape}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{HEIGHT:.0f}" rx="{radius:.0f}"/>'
    )
    edge = x - sum(map(_cell_width, cells.values())) / 2
    for i, (kind, text) in enumerate(cells.items()):
        middle, base = edge + _cell_width(text) / 2, y + BASELINE
        if i > 0:
            yield f'<path class="line" d="M {edge:.1f} {top:.1f} v {HEIGHT:.0f}"/>'
        yield f'<text class="{kind}" x="{middle:.1f}" y="{base:.1f}">{html.escape(text)}</text>'
        edge += _cell_width(text)


def _link(route: list[Point]) -> Iterator[str]:
    """Level through a column, a curve from one to the next, and the tip of an arrow."""
    path = "M {:.1f} {:.1f}".format(*route[0])
    for i, ((x, y), (to_x, to_y)) in enumerate(pairwise(route)):
        middle = (x + to_x) / 2
        curve = f" C {middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
        path += curve if i % 2 else f" H {to_x:.1f}"
    yield f'<path class="line" d="{path}"/>'
    yield '<path class="tip" d="M {:.1f} {:.1f} l -7 -3.5 v 7 z"/>'.format(*route[-1])
