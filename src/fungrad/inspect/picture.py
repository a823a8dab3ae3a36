"""The SVG of a graph.

Boxes hold "name | value | gradient"; the larger the numbers in a cell, the deeper its colour. The
picture leads to the right if that fits on a page, else downwards. It has its own ground and follows
the reader's choice of light or dark; its numbers are rounded, so that the same graph gives the
same text.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fungrad.inspect.blocks import Block, blocks, stacks
from fungrad.inspect.layout import Layout, Link, Point, layout

HEIGHT, MARGIN, PADDING = 28.0, 16.0, 7.0
CHARACTER, BASELINE = 7.25, 4.25  # of 12 px letters of equal width
WIDEST = 1400.0
"""A picture that would be wider leads downwards."""
LEVELS, SWATCH = 5, 15.0

COLOURS = {  # ground, box, circle, line, ink, gradient
    "light": ("#fdfdfb", "#ffffff", "#e6ebf4", "#8d919c", "#1c1d21", "#8f2213"),
    "dark": ("#16171b", "#202228", "#2c3a52", "#747884", "#e7e7ea", "#ffb7a3"),
}
SHADES = {  # by magnitude: values, gradients; NaN and infinite numbers
    "light": ("#2f6fd0", "#e8622a", "#c026d3"),
    "dark": ("#4d8df0", "#e8562a", "#e45af5"),
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
.fungrad-graph .of-value {{ fill: {6} }}
.fungrad-graph .of-gradient {{ fill: {7} }}
.fungrad-graph .of-nothing {{ fill: {8}; fill-opacity: .6 }}
"""


def svg(items: Sequence[Any], links: Sequence[Link]) -> str:
    """The picture of boxes and operations, and the links between them."""
    return "\n".join(_Picture(items, links).lines()) + "\n"


class _Picture:
    """Sizes, places and colours of the items."""

    def __init__(self, items: Sequence[Any], links: Sequence[Link]):
        self.items, self.links = items, links
        self.is_box = [hasattr(item, "value") for item in items]
        self.scales = {
            kind: _Scale([getattr(x, kind) for x, b in zip(items, self.is_box, strict=True) if b])
            for kind in ("value", "gradient")
        }
        self.blocks, self.placed = self._laid_out(down=False)
        self.down = self.placed.size[0] > WIDEST
        if self.down:
            self.blocks, self.placed = self._laid_out(down=True)

    def _align(self, group: Sequence[int]) -> None:
        """Gives the cells of boxes below each other the same widths."""
        columns = {kind: 0.0 for i in group for kind in self.cells[i]}
        kinds = [kind for kind in ("name", "value", "gradient") if kind in columns]
        for i in group:
            self.cells[i] = {kind: self.cells[i].get(kind, "") for kind in kinds}
            for kind, text in self.cells[i].items():
                columns[kind] = max(columns[kind], _cell_width(text))
        for i in group:
            self.widths[i] = [columns[kind] for kind in kinds]

    def _laid_out(self, down: bool) -> tuple[list[Block], Layout]:
        self.cells = [item.cells for item in self.items]
        self.widths = [[*map(_cell_width, cells.values())] for cells in self.cells]
        for group in stacks(self.is_box, self.links, down=down):
            self._align(group)
        sizes = [(max(HEIGHT, sum(widths)), HEIGHT) for widths in self.widths]
        found, links = blocks(sizes, self.is_box, self.links, down=down)
        return found, layout([block.size for block in found], links, down=down)

    def lines(self) -> Iterator[str]:
        """The text of the SVG."""
        legend = [*self._legend(self.placed.size[1] + MARGIN + HEIGHT / 2)]
        width = max(self.placed.size[0], self.legend_width) + 2 * MARGIN
        height = self.placed.size[1] + HEIGHT + 3 * MARGIN
        light, dark = (STYLE.format(*COLOURS[theme], *SHADES[theme]) for theme in COLOURS)
        yield (
            '<svg xmlns="http://www.w3.org/2000/svg" class="fungrad-graph" role="img" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">'
        )
        yield "<title>A graph with name | value | gradient on its edges</title>"
        yield f"<style>\n{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n</style>"
        yield f'<rect class="ground" width="{width:.0f}" height="{height:.0f}" rx="8"/>'
        yield f'<g transform="translate({MARGIN:.0f} {MARGIN:.0f})">'
        for route in self.placed.routes:
            yield from _link(route, self.down)
        for block, (x, y) in zip(self.blocks, self.placed.centers, strict=True):
            for i, (dx, dy) in zip(block.items, block.offsets, strict=True):
                yield from self._item(i, (x + dx, y + dy))
        yield from legend
        yield "</g>\n</svg>"

    def _item(self, i: int, center: Point) -> Iterator[str]:
        item, shape = self.items[i], "box" if self.is_box[i] else "circle"
        note = getattr(item, "note", "")
        if note:
            yield f"<g><title>{_escaped(note)}</title>"
        numbers = {kind: getattr(item, kind, None) for kind in ("value", "gradient")}
        levels = {kind: self.scales[kind].colour(x) for kind, x in numbers.items()}
        yield from _cells(shape, self.cells[i], self.widths[i], center, levels)
        if note:
            yield "</g>"

    @property
    def legend_width(self) -> float:
        """How far the legend reaches."""
        bars = sum(scale.width for scale in self.scales.values())
        return bars + sum(map(_cell_width, ("name", "value", "gradient")))

    def _legend(self, y: float) -> Iterator[str]:
        texts = {kind: kind for kind in ("name", "value", "gradient")}
        widths = [*map(_cell_width, texts)]
        yield from _cells("box", texts, widths, (sum(widths) / 2, y), {})
        x = sum(widths)
        for kind, scale in self.scales.items():
            yield from scale.bar(kind, x, y)
            x += scale.width


class _Scale:
    """Colours for magnitudes, the logarithms of root mean squares, between those of a picture."""

    def __init__(self, arrays: Sequence[Any]):
        found = [m for m in map(magnitude, arrays) if 0 < m < math.inf]
        self.low, self.high = (min(found), max(found)) if found else (1.0, 1.0)

    def colour(self, x: Any) -> int:
        """From 0, for zeros and what is no number, to `LEVELS`; −1 for NaN and infinite numbers."""
        m = magnitude(x)
        if not math.isfinite(m):
            return -1
        if m == 0:
            return 0
        if self.high == self.low:
            return (LEVELS + 1) // 2
        share = math.log(m / self.low) / math.log(self.high / self.low)
        return 1 + min(LEVELS - 1, int(share * LEVELS))

    @property
    def texts(self) -> tuple[str, str]:
        """Its ends, with one digit."""
        return f"{self.low:.1g}", f"{self.high:.1g}"

    @property
    def width(self) -> float:
        """That of its bar; nothing if all magnitudes are the same."""
        if self.low == self.high:
            return 0.0
        return LEVELS * SWATCH + sum(_cell_width(text) for text in self.texts) + 2 * PADDING

    def bar(self, kind: str, x: float, y: float) -> Iterator[str]:
        """The colours from the smallest magnitude to the largest."""
        if self.width == 0:
            return
        x += 2 * PADDING
        low, high = self.texts
        css = "gradient" if kind == "gradient" else "name"
        yield _text(css, low, x + _cell_width(low) / 2, y)
        x += _cell_width(low)
        for level in range(1, LEVELS + 1):
            yield _shade(kind, level, x, y - HEIGHT / 4, SWATCH, HEIGHT / 2)
            x += SWATCH
        yield _text(css, high, x + _cell_width(high) / 2, y)


def magnitude(x: Any) -> float:
    """The root mean square of an array; NaN or infinite if an entry is; 0 of what is no number.

    >>> magnitude(np.array([3.0, -3.0])), magnitude(None)
    (3.0, 0.0)
    """
    if x is None or not isinstance(getattr(x, "dtype", None), np.dtype | None) or np.size(x) == 0:
        return 0.0
    with np.errstate(all="ignore"):
        sizes = np.abs(np.asarray(x, complex if np.iscomplexobj(x) else float))
        largest = float(np.max(sizes))
        if not math.isfinite(largest) or largest == 0:
            return largest
        return largest * float(np.sqrt(np.mean((sizes / largest) ** 2)))


# --- Elements -----------------------------------------------------------------------------------


def _cell_width(text: str) -> float:
    return len(text) * CHARACTER + 2 * PADDING


def _text(kind: str, text: str, x: float, y: float) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y + BASELINE:.1f}">{_escaped(text)}</text>'


def _shade(kind: str, level: int, left: float, top: float, width: float, height: float) -> str:
    opacity = "" if level < 0 else f' fill-opacity="{0.5 * level / LEVELS:.2f}"'
    css = f"of-{kind}" if level >= 0 else "of-nothing"
    return (
        f'<rect class="{css}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{height:.0f}"{opacity}/>'
    )


def _cells(
    shape: str,
    cells: dict[str, str],
    widths: Sequence[float],
    center: Point,
    levels: dict[str, int],
) -> Iterator[str]:
    """A box or circle with its cells from left to right."""
    (x, y), width = center, max(HEIGHT, sum(widths))
    left, top, radius = x - width / 2, y - HEIGHT / 2, 5 if shape == "box" else HEIGHT / 2
    yield (
        f'<rect class="{shape}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{HEIGHT:.0f}" rx="{radius:.0f}"/>'
    )
    widths = widths if len(widths) > 1 else [width]
    edge = x - sum(widths) / 2
    for i, ((kind, text), own) in enumerate(zip(cells.items(), widths, strict=True)):
        level = levels.get(kind, 0)
        if level and text:
            yield _shade(kind, level, edge + 0.5, top + 0.5, own - 1, HEIGHT - 1)
        if i > 0:
            yield f'<path class="line" d="M {edge:.1f} {top:.1f} v {HEIGHT:.0f}"/>'
        if text:
            yield _text(kind, text, edge + own / 2, y)
        edge += own


def _link(route: list[Point], down: bool) -> Iterator[str]:
    """Level through a column, a curve from one to the next, and the tip of an arrow."""
    path = "M {:.1f} {:.1f}".format(*route[0])
    for i, ((x, y), (to_x, to_y)) in enumerate(pairwise(route)):
        middle = ((x + to_x) / 2, (y + to_y) / 2)
        if i % 2 == 0:
            path += f" V {to_y:.1f}" if down else f" H {to_x:.1f}"
        elif down:
            path += f" C {x:.1f} {middle[1]:.1f} {to_x:.1f} {middle[1]:.1f} {to_x:.1f} {to_y:.1f}"
        else:
            path += f" C {middle[0]:.1f} {y:.1f} {middle[0]:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
    yield f'<path class="line" d="{path}"/>'
    tip = "l -3.5 -7 h 7 z" if down else "l -7 -3.5 v 7 z"
    yield '<path class="tip" d="M {:.1f} {:.1f} {}"/>'.format(*route[-1], tip)


def _escaped(text: str) -> str:
    """As it stands in XML, which knows no control characters."""
    return html.escape(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "\ufffd", text))
