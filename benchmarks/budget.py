"""What a budget of memory costs in time: `fg.grad(save=bytes)` at a scanned model.

The budgets lie between half of what `save="nothing"` plans and all of what `jax.grad` does. Below
them stand `jax.grad` and the manual policies; a policy beats a budget if it needs neither more
memory nor more time, and of one of them less by more than 3 %.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import fungrad as fg
from benchmarks.gradients import SMOKE_CONTENDERS, WIDTH
from benchmarks.measuring import contenders, measure, times
from benchmarks.page import DOCS, FAINT, GRAY
from benchmarks.programs import PROGRAMS, Program, plain
from benchmarks.results import JAX, NOTHING, OURS, Row, machine
from docs.generate import table
from experiments.common.command import choose, command_line
from experiments.common.figures import COLORS, axes

HEAD = ["save", "memory, MB", "of the budget", "time / jax.grad", "beaten by"]

PAGE = """\
# What a budget of memory costs

`fg.grad(loss, save=bytes)` plans within that many bytes of temporary memory. Here at the program
`{program}` of [the benchmarks](benchmarks.md), with budgets from half of what `save="nothing"`
plans to all of what `jax.grad` does, beside the policies of `jax.checkpoint` that a user could
choose by hand. A policy beats a budget if it needs neither more memory nor more time, and of one of
them less by more than 3 %. Measured by `python -m benchmarks.budget --docs`, with JAX {jax} on
{machine}.

![Time against memory: a line through the budgets, a dot for each policy](budgets.svg)

{table}"""


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        program: which program.
        points: how many budgets.
        rounds: how often each gradient is run.
        smoke: the program in a tiny size, two budgets, few others, one round.
        docs: write docs/budgets.md and its figure.
    """

    program: str = "transformer-scanned"
    points: int = 8
    rounds: int = 15
    smoke: bool = False
    docs: bool = False


@dataclass(frozen=True)
class Sweep:
    """What was measured, and which of the contenders are budgets: their bytes, by name."""

    program: str
    row: Row
    budgets: dict[str, int]

    def lines(self) -> Iterator[list[str]]:
        """One line for each contender, as in HEAD."""
        for name, outcome in self.row.outcomes.items():
            if outcome.refused:
                yield [name, "–", "–", "–", f"refused: {outcome.refused}"]
                continue
            memory, time = outcome.median("memory"), self.row.ratio("time", name)
            spent = f"{memory / self.budgets[name]:.2f}" if name in self.budgets else ""
            cells = [f"{memory / 1e6:.3g}", spent, f"{time.median:.2f}" if time else "–"]
            yield [name, *cells, ", ".join(self.beaten_by(name))]

    def beaten_by(self, name: str) -> list[str]:
        """The policies that beat a contender of fungrad's."""
        ours = name in (*self.budgets, OURS, NOTHING)
        return [policy for policy in self.row.policies() if ours and self._beats(policy, name)]

    def _beats(self, policy: str, name: str) -> bool:
        ratios = [self.row.ratio(stage, name, policy) for stage in ("memory", "time")]
        medians = [ratio.median for ratio in ratios if ratio]
        return min(medians) >= 1 and max(medians) > 1.03

    def places(self, names: list[str]) -> tuple[list[float], list[float]]:
        """Megabytes, and time divided by that of `jax.grad`, of those that were measured."""
        found = [
            (self.row.outcomes[name].median("memory") / 1e6, ratio.median)
            for name in names
            if (ratio := self.row.ratio("time", name))
        ]
        return [x for x, _ in found], [y for _, y in found]


def run(config: Config) -> Sweep:
    """Measure all budgets and all policies in turns, and show them."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    program = PROGRAMS[choose("--program", config.program, PROGRAMS)](config.smoke)
    points, rounds = (2, 1) if config.smoke else (config.points, config.rounds)
    with console.status(config.program):
        budgets = {f"{b / 1e6:.3g} MB": b for b in between(program, points)}
        spending = {
            name: lambda factor=1.0, b=b: fg.grad(times(factor, program.loss(plain)), save=b)
            for name, b in budgets.items()
        }
        others = contenders(program)
        if config.smoke:
            others = {name: others[name] for name in SMOKE_CONTENDERS}
        outcomes = measure(program, spending | others, 1, 1, rounds)
    sweep = Sweep(config.program, Row({}, program.scanned, False, outcomes), budgets)
    console.print(on_terminal(sweep))
    if config.docs:
        write(sweep)
    return sweep


def between(program: Program, points: int) -> list[int]:
    """Budgets from half of what `save="nothing"` plans to what `jax.grad` does, in equal ratios."""
    known = contenders(program)
    lowered = (jax.jit(known[name]()).lower(*program.arguments) for name in (NOTHING, JAX))
    least, most = (one.compile().memory_analysis().temp_size_in_bytes for one in lowered)
    return [int(b) for b in np.ceil(np.geomspace(least / 2, most, points))]


def on_terminal(sweep: Sweep) -> Table:
    """Budgets above, every other contender below."""
    shown = Table(title=f"{sweep.program}: {machine()}, JAX {jax.__version__}")
    for title in HEAD:
        shown.add_column(title, justify="left" if title in (HEAD[0], HEAD[-1]) else "right")
    for cells in sweep.lines():
        if cells[0] == OURS:
            shown.add_section()
        shown.add_row(*map(escape, cells))
    return shown


def write(sweep: Sweep, folder: Path = DOCS) -> None:
    """Write budgets.md and budgets.svg to the folder."""
    figure(sweep).savefig(folder / "budgets.svg", metadata={"Date": None})
    lines = table(HEAD, sweep.lines())
    text = PAGE.format(program=sweep.program, jax=jax.__version__, machine=machine(), table=lines)
    (folder / "budgets.md").write_text(text, "utf-8")


def figure(sweep: Sweep) -> Figure:
    """Time against memory: a line through the budgets, a dot for each policy."""
    picture, (plot,) = axes()
    policies = sweep.row.policies()
    plot.plot(*sweep.places(policies), "o", color=FAINT, label="policies chosen by hand")
    _label(plot, policies, *sweep.places(policies))
    plot.plot(*sweep.places([JAX]), "x", color=GRAY, label="jax.grad")
    plot.plot(*sweep.places(list(sweep.budgets)), "o-", color=COLORS[0], label="fg.grad, budgets")
    plot.plot(*sweep.places([OURS]), "o", color=COLORS[1], label="fg.grad, save=None")
    plot.set(xlabel="temporary memory, MB", ylabel="time per call / jax.grad", xscale="log")
    plot.margins(0.15)
    for format_with in (plot.xaxis.set_major_formatter, plot.xaxis.set_minor_formatter):
        format_with("{x:g}")
    picture.legend(loc="outside upper center", ncols=2)
    return picture


def _label(plot: Axes, names: Sequence[str], x: Sequence[float], y: Sequence[float]) -> None:
    """Names beside dots: aslant, for some are near to each other; in lines where they are one."""
    together: dict[tuple[float, float], list[int]] = {}
    for i, place in enumerate(zip(np.round(np.log(x), 1), np.round(y, 1), strict=True)):
        together.setdefault(place, []).append(i)
    middle = np.sqrt(min(x) * max(x))
    for group in together.values():
        i, text = group[0], "\n".join(names[k] for k in group)
        style = {"ha": "left", "rotation": 35} if x[i] < middle else {"ha": "right", "va": "top"}
        plot.annotate(
            text,
            (x[i], y[i]),
            (0, 6) if x[i] < middle else (-8, 3),
            textcoords="offset points",
            rotation_mode="anchor",
            fontsize=7,
            color=GRAY,
            **style,
        )


if __name__ == "__main__":
    command_line(run, Config, __doc__)
