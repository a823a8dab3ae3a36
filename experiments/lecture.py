"""The lectures and exercises of the seeds, every worked value beside the seed's own.

    python -m experiments.lecture

Each system runs with fungrad, and once more with JAX as a witness. A number that the seed prints
agrees if it is the computed one within the digits shown; a formula, if it gives the same numbers.
Where the seed errs the page says what is right, and why.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.progress import track

from experiments.common.command import ExperimentError, choose, command_line
from experiments.common.report import Matrix, Report, console
from experiments.lecture_examples import EXAMPLES, SEEDS
from experiments.lecture_examples.pictures import PICTURES
from experiments.lecture_examples.record import FUNGRAD, JAX, Example, Row

# The colour of a verdict; "unexplained": fungrad differs from a seed that should be right.
TONES = {"agrees": "good", "slip": "bad", "unexplained": "bad"}
TITLES = {
    "slip": "slips",
    "rounding": "wrong last digits",
    "damage": "damaged by extraction",
    "convention": "other conventions",
}
SMALL = 4  # entries of a formula that the page still writes out


@dataclass(frozen=True)
class Config:
    """Which seeds, and where to."""

    seeds: tuple[str, ...] = tuple(SEEDS)
    """The seeds to work through: 000 001 002 003 004."""
    smoke: bool = False
    """A run of seconds: the first two examples of each seed."""
    out: Path = Path("runs/lecture")
    """The output folder."""


@dataclass(frozen=True)
class Worked:
    """An example with its rows, and how far JAX is from fungrad in them."""

    example: Example
    rows: list[Row]
    apart: float


def run(config: Config) -> Path:
    """Work through the seeds and write the page; returns its path."""
    seeds = list(dict.fromkeys(choose("seeds", seed, SEEDS) for seed in config.seeds))
    if not seeds:
        raise ExperimentError(f"seeds: got none, expected some of {', '.join(SEEDS)}.")
    report = Report(
        "lecture",
        "The lectures, value by value",
        lead="Every number and every formula that the five seeds work out, computed again by "
        "fungrad. Where a seed errs, the right value stands below it, with the reason.",
        config=config,
        folder=config.out,
    )
    chosen = [example for seed in seeds for example in of_seed(seed, config.smoke)]
    with jax.enable_x64(True):
        worked = [work(example) for example in track(chosen, "examples", console=console)]
        for seed in seeds:
            show_seed(report, seed, [each for each in worked if each.example.seed == seed])
    rows = [row for each in worked for row in each.rows]
    counts, apart = Counter(row.verdict for row in rows), max(each.apart for each in worked)
    report.cards(cards(counts, apart), top=True)
    console.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return report.finish(
        {
            "verdicts": counts,
            "largest_difference_from_jax": apart,
            "values": [plain_row(each.example, row) for each in worked for row in each.rows],
        }
    )


def of_seed(seed: str, smoke: bool) -> list[Example]:
    """The examples of a seed; in a smoke run the first two."""
    examples = [example for example in EXAMPLES if example.seed == seed]
    return examples[:2] if smoke else examples


def work(example: Example) -> Worked:
    """Run one example with fungrad and with JAX."""
    rows, witness = example.rows(FUNGRAD), example.rows(JAX)
    pairs = [(a.value, b.value) for a, b in zip(rows, witness, strict=True) if a.value is not None]
    return Worked(example, rows, max(float(np.max(np.abs(a - b), initial=0.0)) for a, b in pairs))


# --- the page -------------------------------------------------------------------------------------


def show_seed(report: Report, seed: str, worked: list[Worked]) -> None:
    title, _, contents = SEEDS[seed].partition(": ")
    report.section(f"{seed} · {title}")
    if contents:
        report.text(f"{contents[:1].upper()}{contents[1:]}.")
    for each in worked:
        report.subsection(each.example.title)
        report.text(each.example.lead)
        if picture := PICTURES.get(each.example.name):
            name = each.example.name.replace("_", "-")
            report.figure(name, picture.draw(each.rows), caption=picture.caption)
        report.table(
            ["line", "quantity", "the seed", "fungrad"],
            [
                [unbroken(row.lines), row.quantity, seed_cell(row), our_cell(row)]
                for row in each.rows
            ],
            caption=f"Lines {each.example.lines}. Between fungrad and JAX: {each.apart:.1g}.",
        )


def unbroken(lines: str) -> str:
    """A range of lines that no line break cuts."""
    return lines.replace("-", "\u2060–\u2060")


@dataclass(frozen=True)
class Written(Matrix):
    """A cell whose entries are texts already."""

    @property
    def rows(self) -> list[list[str]]:
        return [list(row) for row in self.values]


def seed_cell(row: Row) -> Written:
    """What the seed prints, in the colour of the verdict, and below it what is right."""
    entries = np.array([[row.printed]])
    if row.kind == "digits":
        entries = signed([line.split() for line in row.printed.strip("[]").split(";")])
    remark = ""
    if row.remark:
        kind = "right" if row.verdict == "slip" else row.verdict
        remark = f"{kind}: {row.remark.right} — {row.remark.why}"
    return Written(entries, TONES.get(row.verdict, "note"), remark)


def signed(entries: list[list[str]]) -> np.ndarray:
    """Numbers with a true minus sign."""
    return np.array([[entry.replace("-", "−") for entry in row] for row in entries])


def our_cell(row: Row) -> Any:
    """fungrad's value, with one digit more than the seed's; of a large one only its distance."""
    if row.value is None:
        return ""
    if row.kind == "size":
        return size_of(row.value.astype(int))
    if row.kind == "formula" and row.value.size > SMALL:
        return f"{size_of(row.value.shape)}, {distance(row)}"
    places = 5 if row.kind == "formula" else decimals(row.printed) + 1
    places = 0 if np.all(row.value == np.round(row.value)) else places
    entries = [[f"{entry:.{places}f}" for entry in line] for line in np.atleast_2d(row.value)]
    differs = row.kind == "formula" and not row.agrees
    return Written(signed(entries), remark=distance(row) if differs else "")


def decimals(printed: str) -> int:
    """The most digits after the point of the numbers that are printed."""
    return max(len(tail) for tail in re.findall(r"\d+\.?(\d*)", printed))


def size_of(shape: Any) -> str:
    return f"[{' × '.join(map(str, shape)) or '1'}]"


def distance(row: Row) -> str:
    """How far the seed's formula is from fungrad's value."""
    if row.reading.shape != row.value.shape:
        return f"the seed's is {size_of(row.reading.shape)}"
    apart = np.max(np.abs(row.reading - row.value))
    return f"{apart:.2g} apart" if apart else "equal"


def cards(counts: Counter[str], apart: float) -> dict[str, str]:
    total = sum(counts.values())
    return {
        "values and statements": str(total),
        "agree": str(counts["agrees"]),
        **{title: str(counts[kind]) for kind, title in TITLES.items()},
        "fungrad − JAX, at most": f"{apart:.1g}",
    }


def plain_row(example: Example, row: Row) -> dict[str, Any]:
    """A row as metrics.json holds it."""
    remark = {} if row.remark is None else {"right": row.remark.right, "why": row.remark.why}
    return {
        "seed": example.seed,
        "lines": row.lines,
        "quantity": row.quantity,
        "printed": row.printed,
        "value": row.value,
        "verdict": row.verdict,
        **remark,
    }


if __name__ == "__main__":
    command_line(run, Config, __doc__)
