"""`fg.grad` against `jax.grad` and every manual checkpoint policy, at a score of models.

All are measured in turns within one process, after their gradients were found to agree. A ratio
below 1 means that fungrad is ahead. Times of tracing, lowering and compiling are the processor's,
those of a call the clock's; memory is what XLA plans for temporary values.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import page
from benchmarks.measuring import contenders, measure
from benchmarks.programs import PROGRAMS
from benchmarks.results import (
    JAX,
    NAMING_POLICIES,
    NOTHING,
    OURS,
    POLICIES,
    STAGES,
    Ratio,
    Results,
    Row,
    geometric_mean,
    machine,
    shown,
)
from experiments.common.command import ExperimentError, choose, command_line

SMOKE = ("mlp-scanned", "ode-dynamic", "neuron-eager")
SMOKE_CONTENDERS = (OURS, NOTHING, JAX, "nothing_saveable")

WIDTH = 120
"""Columns, where the output is no terminal that knows its own."""

CONTENDERS = (OURS, NOTHING, JAX, *POLICIES, *NAMING_POLICIES)


@dataclass(frozen=True)
class Config:
    """What is measured, and what is written of it.

    Attributes:
        programs: which programs, by name, apart or with commas between them; all if none is named.
        contenders: which of them take part, named likewise; all if none is named.
        traces: how often each gradient is traced and lowered.
        compiles: how often it is compiled.
        rounds: how often it is run.
        cold: forget before each trace what JAX and fungrad have cached.
        smoke: tiny sizes and one round; a few programs and contenders, unless some are named.
        json: a file to write the samples to.
        read: a file that was so written, to be shown instead of measuring.
        docs: write docs/benchmarks.md and its figure.
    """

    programs: tuple[str, ...] = ()
    contenders: tuple[str, ...] = ()
    traces: int = 5
    compiles: int = 5
    rounds: int = 15
    cold: bool = False
    smoke: bool = False
    json: Path | None = None
    read: Path | None = None
    docs: bool = False


def run(config: Config) -> Results:
    """Measure or read, then show and write.

    Raises:
        ExperimentError: names that are unknown, a file that is not there, or a wrong gradient.
    """
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if config.read and not config.read.exists():
        raise ExperimentError(f"--read: there is no file {config.read}")
    results = Results.read(config.read) if config.read else measured(config, console)
    show(results, console)
    if config.json:
        results.save(config.json)
    if config.docs:
        page.write(results)
    wrong = [
        f"{name}, {contender}: {outcome.refused}"
        for name, row in results.rows.items()
        for contender, outcome in row.outcomes.items()
        if outcome.refused.startswith("wrong")
    ]
    if wrong:
        raise ExperimentError("gradients differ: " + "; ".join(wrong))
    return results


def _chosen(argument: str, given: tuple[str, ...], known) -> list[str]:
    named = [name for entry in given for name in entry.split(",") if name]
    return [choose(argument, name, known) for name in named] or list(known)


def measured(config: Config, console: Console) -> Results:
    """The results of the programs and contenders that were asked for."""
    names, rivals = config.programs, config.contenders
    counts = config.traces, config.compiles, config.rounds
    if config.smoke:
        names, rivals, counts = names or SMOKE, rivals or SMOKE_CONTENDERS, (1, 1, 1)
    names = _chosen("--programs", names, PROGRAMS)
    rivals = _chosen("--contenders", rivals, CONTENDERS)
    rows = {}
    for name in names:
        start = time.perf_counter()
        with console.status(name):
            sized = PROGRAMS[name]
            program = sized(config.smoke)
            known = contenders(program)
            builders = {rival: known[rival] for rival in rivals if rival in known}
            outcomes = measure(program, builders, *counts, cold=config.cold)
            jax.clear_caches()
        console.print(f"[dim]{name}: measured in {time.perf_counter() - start:.0f} s[/dim]")
        sizes = sized.small if config.smoke else sized.full
        rows[name] = Row(sizes, program.scanned, program.of_known_length is not None, outcomes)
    return Results(machine(), jax.__version__, rows)


# ---- the terminal --------------------------------------------------------------------------------


def show(results: Results, console: Console) -> None:
    """The table of ratios, then what was refused."""
    console.print(table(results))
    for name, row in results.rows.items():
        for contender, outcome in row.outcomes.items():
            if outcome.refused:
                console.print(f"{name}: {contender} refused: {escape(outcome.refused)}")


def table(results: Results) -> Table:
    """fungrad / jax.grad at each stage, and fungrad / the fastest manual policy."""
    whole = Table(title=f"fungrad / jax.grad {results.jax}, {results.machine}")
    whole.add_column("program")
    for stage in STAGES:
        whole.add_column(stage, justify="right")
    whole.add_column("fastest manual policy: time, memory")
    for name, row in results.rows.items():
        cells = [_cell(row.ratio(stage), stage == "time") for stage in STAGES]
        star = "*" if row.substitute else ""
        whole.add_row(name + star, *cells, _against(row, row.best("time")))
    whole.add_section()
    means = [geometric_mean(found.values()) for found in _each_stage(results)]
    whole.add_row("geometric mean", *(_colored(mean) for mean in means))
    worst = [
        max((ratio.median for ratio in found.values()), default=math.nan)
        for found in _each_stage(results)
    ]
    whole.add_row("worst", *(_colored(ratio) for ratio in worst))
    if any(row.substitute for row in results.rows.values()):
        whole.caption = "* jax.grad cannot: it runs a scan of the same length. Not in the means."
    return whole


def _each_stage(results: Results):
    return [results.ratios(stage) for stage in STAGES]


def _cell(ratio: Ratio | None, spread: bool) -> str:
    if ratio is None:
        return "–"
    text = _colored(ratio.median)
    return f"{text} [dim]{ratio.low:.2f}–{ratio.high:.2f}[/dim]" if spread else text


def _colored(ratio: float) -> str:
    return f"[{'red' if ratio > 1 else 'green'}]{shown(ratio)}[/]"


def _against(row: Row, policy: str | None) -> str:
    ratios = [row.ratio(stage, OURS, policy) for stage in ("time", "memory")] if policy else [None]
    if None in ratios:
        return "–"
    return ", ".join(_colored(ratio.median) for ratio in ratios) + f" [dim]{policy}[/dim]"


if __name__ == "__main__":
    command_line(run, Config, __doc__)
