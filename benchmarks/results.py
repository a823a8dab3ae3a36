"""What was measured, and the ratios in which it is told."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import jax

STAGES = ("trace", "again", "lower", "compile", "memory", "time")
OURS, NOTHING, JAX = "fungrad", "fungrad-nothing", "jax"
POLICIES = (
    "everything_saveable",
    "nothing_saveable",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
)
NAMING_POLICIES = ("save_only_these_names", "save_anything_except_these_names")


@dataclass
class Outcome:
    """One contender at one program.

    Attributes:
        samples: of each stage, one number per round: milliseconds, or bytes of memory.
        refused: why there are none.
    """

    samples: dict[str, list[float]] = field(default_factory=dict)
    refused: str = ""

    def median(self, stage: str) -> float:
        return statistics.median(self.samples[stage])


@dataclass
class Row:
    """One program, and how its contenders fared.

    Attributes:
        sizes: of the program.
        scanned: whether its blocks are the body of a scan.
        substitute: whether the others ran a loop of known length in its place.
        outcomes: by contender.
    """

    sizes: dict[str, int]
    scanned: bool
    substitute: bool
    outcomes: dict[str, Outcome]

    def ratio(self, stage: str, ours: str = OURS, theirs: str = JAX) -> Ratio | None:
        """Ours / theirs at a stage, if both were measured there."""
        first, second = (self.outcomes.get(n, Outcome()).samples.get(stage) for n in (ours, theirs))
        return Ratio.of(first, second) if first and second else None

    def policies(self) -> list[str]:
        """The manual policies that were measured."""
        return [
            name
            for name in (*POLICIES, *NAMING_POLICIES)
            if name in self.outcomes and self.outcomes[name].samples.get("time")
        ]

    def best(self, stage: str) -> str | None:
        """The manual policy whose gradient takes the least, of time or of memory."""
        return min(self.policies(), key=lambda p: self.outcomes[p].median(stage), default=None)


class Ratio(NamedTuple):
    """The quartiles of ours / theirs, over rounds in which both had their turn."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
        # A policy is compiled once, others several times: the rounds in common are compared.
        each = [_quotient(a, b) for a, b in zip(ours, theirs, strict=False)]
        if len(each) == 1:
            return cls(*each * 3)
        return cls(*statistics.quantiles(each, n=4, method="inclusive"))


def _quotient(a: float, b: float) -> float:
    return a / b if b else (math.inf if a else 1.0)


@dataclass
class Results:
    """A run: where it took place, and its programs by name."""

    machine: str
    jax: str
    rows: dict[str, Row]

    def ratios(self, stage: str, ours: str = OURS, theirs: str = JAX) -> dict[str, Ratio]:
        """By program; those that the others replaced by a loop of known length are left out."""
        found = {
            name: row.ratio(stage, ours, theirs)
            for name, row in self.rows.items()
            if not row.substitute
        }
        return {name: ratio for name, ratio in found.items() if ratio}

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, path: Path) -> Results:
        found = json.loads(path.read_text("utf-8"))
        for row in found["rows"].values():
            row["outcomes"] = {name: Outcome(**o) for name, o in row["outcomes"].items()}
        rows = {name: Row(**row) for name, row in found.pop("rows").items()}
        return cls(rows=rows, **found)


def geometric_mean(ratios: Iterable[Ratio]) -> float:
    """exp of the mean logarithm of the medians; not a number if there are none."""
    medians = [ratio.median for ratio in ratios]
    if not medians:
        return math.nan
    return math.exp(statistics.fmean(map(math.log, medians))) if all(medians) else 0.0


def shown(ratio: float) -> str:
    """Two decimals, or a dash for what was not measured."""
    return "–" if math.isnan(ratio) else f"{ratio:.2f}"


def machine() -> str:
    """The processor, its cores, and the accelerator if JAX computes on one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    described = f"{_processor()}, {cores} cores"
    device = jax.devices()[0]
    if device.platform == "cpu":
        return described
    return f"{device.device_kind} ({device.platform}) beside {described}"


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    if known.exists():
        model = re.search(r"^model name\s*:\s*(.*)$", known.read_text("utf-8"), re.MULTILINE)
        if model:
            return model[1]
    return platform.processor() or platform.machine()
