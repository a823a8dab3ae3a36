"""The folder that a run leaves behind: config.json, metrics.json, PNG figures, one index.html.

report = Report("lecture", "The lecture, value by value", lead="...", config=config)
report.section("Forward pass")
report.text("A paragraph; `code` is set in its own type.")
report.table(["value", "fungrad", "seed"], [["x1", "0.7", note("1.0")]], caption="...")
report.figure("loss", figure, caption="...")          # a matplotlib figure, saved as loss.png
report.finish({"largest difference": 1e-16})          # writes the page and names it
"""

from __future__ import annotations

import dataclasses
import html
import json
import math
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.common.command import ExperimentError
from experiments.common.style import CSS

console = Console()


@dataclasses.dataclass(frozen=True)
class Mark:
    """A table cell with a tone: "good", "bad" or "note". The text must speak for itself too."""

    text: str
    tone: str


@dataclasses.dataclass(frozen=True)
class Matrix:
    """A table cell with numbers in rows and columns, to four significant digits.

    Attributes:
        values: a scalar, a vector (one row) or a matrix.
        tone: "", "good", "bad" or "note".
        remark: a line below it.
    """

    values: Any
    tone: str = ""
    remark: str = ""

    @property
    def rows(self) -> list[list[str]]:
        entries = np.atleast_2d(np.asarray(self.values))
        return [[f"{entry:.4g}".replace("-", "−") for entry in row] for row in entries]

    def __str__(self) -> str:
        text = "; ".join("  ".join(row) for row in self.rows)
        return text if np.size(self.values) == 1 else f"({text})"


def good(text: str) -> Mark:
    return Mark(text, "good")


def bad(text: str) -> Mark:
    return Mark(text, "bad")


def note(text: str) -> Mark:
    return Mark(text, "note")


def writable_folder(path: Path | str) -> Path:
    """The folder at `path`, made if need be and tried out by writing one file into it.

    Raises:
        ExperimentError: if it cannot be made or written, before any work is lost.
    """
    path = Path(path).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path, prefix=".write-test-"):
            pass
    except OSError as error:
        raise ExperimentError(
            f"out: the output folder {str(path)!r} cannot be written "
            f"({error.strerror or error}). Give a folder that can, with --out FOLDER."
        ) from error
    return path


class Report:
    """The output of one run, in `folder` (`runs/NAME` unless told otherwise)."""

    def __init__(
        self,
        name: str,
        title: str,
        *,
        lead: str = "",
        config: Any = None,
        folder: Path | str | None = None,
    ):
        self.name, self.title, self.lead, self.config = name, title, lead, config
        self.folder = writable_folder(Path("runs", name) if folder is None else folder)
        self.page = self.folder / "index.html"
        self.sections: list[str] = []
        self.body: list[str] = []
        self.started = time.perf_counter()
        # A page or numbers of an earlier run must not pass for this run's if it fails half-way.
        for stale in (self.page, self.folder / "metrics.json"):
            stale.unlink(missing_ok=True)
        self.write_json("config.json", plain(config))

    # --- what the page is made of ---------------------------------------------------------------

    def section(self, title: str) -> None:
        self.sections.append(title)
        self.body.append(f'<h2 id="{slug(title)}">{inline(title)}</h2>')

    def subsection(self, title: str) -> None:
        self.body.append(f"<h3>{inline(title)}</h3>")

    def text(self, text: str) -> None:
        """Paragraphs, separated by blank lines; `code` in backticks."""
        paragraphs = re.split(r"\n\s*\n", text.strip())
        self.body += [f"<p>{inline(paragraph)}</p>" for paragraph in paragraphs]

    def code(self, text: str, *, caption: str = "") -> None:
        """Fixed-width lines: a program, or a computation written out."""
        block = f"<pre>{html.escape(text.rstrip())}</pre>"
        self.body.append(f"<figure>{block}{figcaption(caption)}</figure>")

    def cards(self, values: Mapping[str, str], *, top: bool = False) -> None:
        """The few numbers to see first, large; here, or at the top of the page."""
        cards = [
            f"<div><dt>{inline(key)}</dt><dd>{inline(value)}</dd></div>"
            for key, value in values.items()
        ]
        self.body.insert(0 if top else len(self.body), f'<dl class="cards">{"".join(cards)}</dl>')

    def table(
        self, header: Sequence[str], rows: Iterable[Sequence[Any]], *, caption: str = ""
    ) -> None:
        """Cells are text, numbers (four digits), `good`/`bad`/`note` marks, or a `Matrix`."""
        head = "".join(f"<th>{inline(cell)}</th>" for cell in header)
        lines = "".join(f"<tr>{''.join(map(table_cell, row))}</tr>" for row in rows)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
        self.body.append(f'<figure class="table"><div>{table}</div>{figcaption(caption)}</figure>')

    def figure(self, name: str, figure: Any, *, caption: str) -> Path:
        """Save the matplotlib figure as `name.png`, close it, and show it with its caption."""
        import matplotlib.pyplot as plt

        path = self.folder / f"{name}.png"
        figure.savefig(path, dpi=144)
        width = round(figure.get_size_inches()[0] * 96)
        plt.close(figure)
        alt = html.escape(re.sub(r"\s+", " ", caption), quote=True)
        image = f'<img src="{path.name}" alt="{alt}" width="{width}">'
        self.body.append(f"<figure>{image}{figcaption(caption)}</figure>")
        return path

    def checkpoint(self, *, resume: bool = False) -> Path:
        """The folder for the run's checkpoint; an earlier run's is removed unless we resume it."""
        path = self.folder / "checkpoint"
        if path.exists() and not resume:
            shutil.rmtree(path)
        return path

    # --- what is written ------------------------------------------------------------------------

    def finish(self, metrics: Mapping[str, Any]) -> Path:
        """Write metrics.json and then index.html, and name the page; returns its path."""
        seconds = time.perf_counter() - self.started
        self.write_json("metrics.json", plain({**metrics, "seconds": seconds}))
        self.page.write_text(self.document(seconds), encoding="utf-8")
        console.print(f"[bold]{self.name}[/bold]: {seconds:.1f} s, page:")
        print(self.page.resolve(), flush=True)  # on its own line, never wrapped
        return self.page

    def document(self, seconds: float) -> str:
        links = [f'<a href="#{slug(title)}">{inline(title)}</a>' for title in self.sections]
        contents = f"<nav>{''.join(links)}</nav>" if len(links) > 2 else ""
        config = html.escape(json.dumps(plain(self.config), indent=2, ensure_ascii=False))
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta name="color-scheme" content="light dark">'
            f"<title>{html.escape(self.title)} · fungrad</title><style>{CSS}</style></head><body>\n"
            f'<header><p class="kicker">fungrad · experiments.{html.escape(self.name)}</p>'
            f'<h1>{inline(self.title)}</h1><p class="lead">{inline(self.lead)}</p>{contents}'
            f"</header>\n<main>\n{chr(10).join(self.body)}\n</main>\n"
            f"<footer><p>{html.escape(environment())} · {seconds:.1f} s</p>"
            f"<details><summary>config.json</summary><pre>{config}</pre></details></footer>\n"
            f"</body></html>\n"
        )

    def write_json(self, name: str, value: Any) -> None:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        (self.folder / name).write_text(text + "\n", encoding="utf-8")


# --- small pieces -------------------------------------------------------------------------------


def inline(text: str) -> str:
    """Escaped text in which `code` becomes a code element."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(str(text)))


def slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def figcaption(caption: str) -> str:
    return f"<figcaption>{inline(caption)}</figcaption>" if caption else ""


def table_cell(value: Any) -> str:
    if isinstance(value, Matrix):
        lines = "".join(
            f"<tr>{''.join(f'<td>{entry}</td>' for entry in row)}</tr>" for row in value.rows
        )
        brackets = "matrix" if np.size(value.values) > 1 else "scalar"
        matrix = f'<table class="{brackets} {value.tone}"><tbody>{lines}</tbody></table>'
        return f"<td>{matrix}{figcaption(value.remark)}</td>"
    if isinstance(value, Mark):
        return f'<td><span class="{value.tone}">{inline(value.text)}</span></td>'
    if isinstance(value, int | float | np.number):
        shown = f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
        return f'<td class="number">{shown}</td>'
    return f"<td>{inline(value)}</td>"


def plain(value: Any) -> Any:
    """Dataclasses, arrays, paths and non-finite numbers as JSON can hold them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def environment() -> str:
    import jax

    backend = jax.devices()[0].platform
    python = platform.python_version()
    return f"Python {python} · JAX {metadata.version('jax')} · {backend}"
