"""What a budget of memory costs in time: `fg.grad(save=bytes)` at a scanned model.

The budgets lie between half of what `save="nothing"` plans and all of what `jax.grad` does. Below
them stand `jax.grad` and the manual policies; a policy beats a budget if it needs neither more
memory nor more time, and of one of them less by more than 3 %.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import jax
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import fungrad as fg
from benchmarks.gradients import SMOKE_CONTENDERS, WIDTH
from benchmarks.measuring import contenders, measure
from benchmarks.programs import PROGRAMS, Program, plain
from benchmarks.results import JAX, NOTHING, OURS, Row, machine
from experiments.common.command import choose, command_line


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        program: which program.
        points: how many budgets.
        rounds: how often each gradient is run.
        smoke: the program in a tiny size, two budgets, few others, one round.
    """

    program: str = "transformer-scanned"
    points: int = 8
    rounds: int = 15
    smoke: bool = False


def run(config: Config) -> Table:
    """Measure all budgets and all policies in turns, and show them."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    sized = PROGRAMS[choose("--program", config.program, PROGRAMS)]
    program = sized(config.smoke)
    points, rounds = (2, 1) if config.smoke else (config.points, config.rounds)
    with console.status(config.program):
        budgets = {f"{b / 1e6:.3g} MB": b for b in between(program, points)}
        spending = {
            name: lambda b=b: fg.grad(program.loss(plain), save=b) for name, b in budgets.items()
        }
        others = contenders(program)
        if config.smoke:
            others = {name: others[name] for name in SMOKE_CONTENDERS}
        outcomes = measure(program, spending | others, 1, 1, rounds)
    row = Row(sized.full, program.scanned, False, outcomes)
    shown = table(row, budgets, f"{config.program}: {machine()}, JAX {jax.__version__}")
    console.print(shown)
    return shown


def between(program: Program, points: int) -> list[int]:
    """Budgets from half of what `save="nothing"` plans to what `jax.grad` does, in equal ratios."""
    ends = []
    for name in (NOTHING, JAX):
        gradient = jax.jit(contenders(program)[name]())
        compiled = gradient.lower(*program.arguments).compile()
        ends.append(compiled.memory_analysis().temp_size_in_bytes)
    least, most = ends
    return [int(b) for b in np.ceil(np.geomspace(least / 2, most, points))]


def table(row: Row, budgets: dict[str, int], title: str) -> Table:
    """One line for each budget, then one for every other contender."""
    shown = Table(title=title)
    for column in ("save", "memory, MB", "of budget", "time / jax.grad", "beaten by"):
        shown.add_column(column, justify="left" if column in ("save", "beaten by") else "right")
    for name, outcome in row.outcomes.items():
        if name == OURS:
            shown.add_section()
        if outcome.refused:
            shown.add_row(name, "–", "–", "–", f"refused: {escape(outcome.refused)}")
            continue
        memory, time = outcome.median("memory"), row.ratio("time", name, JAX)
        spent = f"{memory / budgets[name]:.2f}" if name in budgets else ""
        beaten = ", ".join(p for p in row.policies() if _beats(row, p, name))
        cells = [f"{memory / 1e6:.3g}", spent, f"{time.median:.2f}" if time else "–"]
        shown.add_row(name, *cells, beaten if name in (*budgets, OURS, NOTHING) else "")
    return shown


def _beats(row: Row, policy: str, name: str) -> bool:
    ratios = [row.ratio(stage, name, policy) for stage in ("memory", "time")]
    medians = [ratio.median for ratio in ratios if ratio]
    return min(medians) >= 1 and max(medians) > 1.03


if __name__ == "__main__":
    command_line(run, Config, __doc__)
