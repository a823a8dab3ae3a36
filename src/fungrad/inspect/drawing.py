"""A drawing of a graph: what stands in its boxes and circles; picture.py makes an SVG of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fungrad.inspect.layout import Link
from fungrad.inspect.picture import svg


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

    @property
    def note(self) -> str:
        """What there is to say of an array that does not fit: its type, its range, its size."""
        if np.size(self.value) <= 3:
            return ""
        lines = [f"{self.name} {self.value.dtype}{list(self.value.shape)}".strip()]
        for kind, x in {"value": self.value, "gradient": self.gradient}.items():
            if x is not None and getattr(x, "size", 0) and not np.iscomplexobj(x):
                x = np.asarray(x, float)
                rms = np.sqrt(np.mean(x**2))
                bounds = f"from {_number(x.min())} to {_number(x.max())}"
                lines.append(f"{kind}: {bounds}, root mean square {_number(rms)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Operation:
    """A node, by its symbol or name; `folded` if it stands for a scope or a function."""

    symbol: str
    folded: bool = False

    @property
    def cells(self) -> dict[str, str]:
        """Its symbol."""
        return {"symbol": f"▸ {self.symbol}" if self.folded else self.symbol}


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
        return svg(self.items, self.links)

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
        maker = {end: getattr(self.items[start], "symbol", "") for start, end in self.links}
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
