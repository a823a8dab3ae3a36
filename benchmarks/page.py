"""docs/benchmarks.md and its figure, written from results."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from benchmarks.measuring import SHORTEST
from benchmarks.results import (
    JAX,
    NOTHING,
    OURS,
    STAGES,
    Ratio,
    Results,
    Row,
    geometric_mean,
    shown,
)
from docs.generate import table
from experiments.common.figures import COLORS

DOCS = Path(__file__).parents[1] / "docs"

PAGE = """\
# Benchmarks

`fg.grad` against `jax.grad`, and against `jax.grad` with every policy of `jax.checkpoint` that a
user could choose by hand. All numbers are ratios: below 1, fungrad is ahead. Measured with JAX
{jax} on {machine}, in float32.

![Time against memory of each program, both as ratios to jax.grad]({figure})

Each panel is one program, and its axes are time per call and temporary memory, both divided by
those of `jax.grad`, which is the cross at (1, 1). The dot is `fg.grad` as it comes; the pale line
joins those manual policies that no other manual policy beats in both; the pale dots are the others.

## Against jax.grad

{against_jax}
Time per call is given as the median ratio and its quartiles.{star}

## Against the manual policies

The policy is put around each block of the model (each layer, each residual block, the body of a
scan; the whole loss, or its costly part, where there are no blocks). *Fastest* is the policy whose
gradient takes the least time at that program, *leanest* the one with the least memory; the pairs
are time and memory of `fg.grad` divided by those of the policy. The last column compares
`fg.grad(save="nothing")` with `nothing_saveable`.

{against_policies}
All of them, divided by `jax.grad` without a policy, time and memory:

{policies}
## What is measured

- **trace**: `jax.jit(grad(loss)).trace` of a program that neither has seen before (another multiple
  of the loss at each round); **again**: of a new function that says the same as an earlier one;
  **lower** and **compile**: the next two stages of `jit`. The processor's time, so that a busy
  machine disturbs them little; medians over rounds, the first of which does not count.
- **memory**: `memory_analysis().temp_size_in_bytes` of the compiled gradient: what XLA plans for
  temporary values, without arguments and results.
- **time**: of a call of the compiled gradient, by the clock, until its result is there
  (`neuron-eager`: of a call without `jit`). Calls of less than {shortest} ms are repeated, and
  their mean is taken.

All contenders are measured in one process, in turns, in another order each round; a ratio is the
median of the ratios of the rounds, so that whatever slows the machine for a while slows both.
Before they are timed, their gradients are compared with those of `jax.grad`. A geometric mean is
that of the column's medians.

{sizes}
{refused}## Reproduce

    make bench                                              # all of it, about a quarter of an hour
    make bench BENCH="--programs lstm --rounds 5"           # a part
    make bench BENCH="--docs"                               # all of it, and this page
    .venv/bin/python -m benchmarks.budget --docs            # what a budget of memory costs in time

Where JAX finds an accelerator, it is that which is measured.
"""

STAR = """
At `{name}`, marked \\*, only the run knows the number of steps, and `jax.grad` refuses the loop: in
its place the others run a scan of the same length. It is left out of the means."""


def write(results: Results, folder: Path = DOCS) -> None:
    """Write benchmarks.md and benchmarks.svg to the folder."""
    picture = figure(results)
    picture.savefig(folder / "benchmarks.svg", metadata={"Date": None})
    starred = [name for name, row in results.rows.items() if row.substitute]
    text = PAGE.format(
        jax=results.jax,
        machine=results.machine,
        figure="benchmarks.svg",
        against_jax=against_jax(results),
        star=STAR.format(name=starred[0]) if starred else "",
        against_policies=against_policies(results),
        policies=every_policy(results),
        shortest=f"{1e3 * SHORTEST:.0f}",
        sizes=sizes(results),
        refused=refused(results),
    )
    (folder / "benchmarks.md").write_text(text, "utf-8")


# ---- tables --------------------------------------------------------------------------------------


def against_jax(results: Results) -> str:
    """fungrad / jax.grad at every stage, with the means and the worst of each."""
    rows = [
        [_label(name, row), *(_cell(row.ratio(stage), stage == "time") for stage in STAGES)]
        for name, row in results.rows.items()
    ]
    found = [results.ratios(stage) for stage in STAGES]
    rows.append(
        ["**geometric mean**", *(f"**{shown(geometric_mean(f.values()))}**" for f in found)]
    )
    rows.append(["worst", *map(_worst, found)])
    return table(["program", *STAGES], rows)


def against_policies(results: Results) -> str:
    """fungrad / the fastest policy, / the leanest one; and save="nothing" / nothing_saveable."""
    rows = []
    for name, row in results.rows.items():
        fastest, leanest = (row.best(stage) for stage in ("time", "memory"))
        if fastest and leanest:
            nothing = _pair(row, NOTHING, "nothing_saveable")
            rows.append(
                [
                    _label(name, row),
                    f"`{fastest}`",
                    _pair(row, OURS, fastest),
                    f"`{leanest}`",
                    _pair(row, OURS, leanest),
                    nothing,
                ]
            )
    head = ["program", "fastest", "time, memory", "leanest", "time, memory", 'save="nothing"']
    return table(head, rows)


def every_policy(results: Results) -> str:
    """fungrad and every policy / jax.grad without one."""
    names = dict.fromkeys(name for row in results.rows.values() for name in row.outcomes)
    others = [name for name in names if name != JAX]
    rows = [
        [_label(name, row), *(_pair(row, other, JAX) for other in others)]
        for name, row in results.rows.items()
        if row.policies()
    ]
    return table(["program", *(f"`{other}`" for other in others)], rows)


def sizes(results: Results) -> str:
    """The sizes of each program."""
    described = (
        [
            _label(name, row),
            ", ".join(f"{key} {n}" for key, n in row.sizes.items() if n is not True),
        ]
        for name, row in results.rows.items()
    )
    return table(["program", "sizes"], described)


def refused(results: Results) -> str:
    """What each contender refused, and why."""
    lines = [
        f"- `{contender}` at `{name}`: {outcome.refused}\n"
        for name, row in results.rows.items()
        for contender, outcome in row.outcomes.items()
        if outcome.refused
    ]
    return "Refused:\n\n" + "".join(lines) + "\n" if lines else ""


def _label(name: str, row: Row) -> str:
    return f"`{name}`" + (" \\*" if row.substitute else "")


def _cell(ratio: Ratio | None, spread: bool) -> str:
    if ratio is None:
        return "–"
    return shown(ratio.median) + (f" ({ratio.low:.2f}–{ratio.high:.2f})" if spread else "")


def _pair(row: Row, ours: str, theirs: str) -> str:
    pair = [row.ratio(stage, ours, theirs) for stage in ("time", "memory")]
    return ", ".join(_cell(ratio, False) for ratio in pair) if any(pair) else "–"


def _worst(found: dict[str, Ratio]) -> str:
    if not found:
        return "–"
    name, ratio = max(found.items(), key=lambda item: item[1].median)
    return f"{shown(ratio.median)} `{name}`"


# ---- the figure ----------------------------------------------------------------------------------

COLUMNS = 4
FAINT, GRAY = "#b9bcc6", "#4d4d4d"
OUR_STYLE: dict[str, Any] = dict(color=COLORS[0], markersize=8, label="fg.grad")
MEMORY, TIME = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5), (0.25, 0.5, 0.7, 1, 1.4, 2, 4)


def figure(results: Results) -> Figure:
    """Small multiples: time against memory of every contender, divided by those of `jax.grad`."""
    rows = {name: row for name, row in results.rows.items() if places(row)}
    lines = max(-(-len(rows) // COLUMNS), 1)
    picture = Figure(figsize=(2.6 * COLUMNS, 2.25 * lines + 0.5))
    grid = picture.subplots(lines, COLUMNS, squeeze=False, sharex=True, sharey=True)
    for plot in grid.flat[len(rows) :]:
        plot.set_axis_off()
    for plot, (name, row) in zip(grid.flat, rows.items(), strict=False):
        panel(plot, name + ("*" if row.substitute else ""), places(row))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    picture.legend(handles[::-1], labels[::-1], loc="outside upper center", ncols=3)
    picture.supxlabel("temporary memory / jax.grad", fontsize=11)
    picture.supylabel("time per call / jax.grad", fontsize=11)
    return picture


def places(row: Row) -> dict[str, tuple[float, float]]:
    """(memory, time) of each contender, divided by those of `jax.grad`."""
    ratios = {
        name: (row.ratio("memory", name, JAX), row.ratio("time", name, JAX))
        for name in row.outcomes
    }
    return {name: (m.median, t.median) for name, (m, t) in ratios.items() if m and t}


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other point beats in both coordinates, from left to right."""
    best: list[tuple[float, float]] = []
    for point in sorted(points):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return best


def panel(plot: Axes, title: str, found: dict[str, tuple[float, float]]) -> None:
    """One program: `jax.grad` at (1, 1), the manual policies and their front, and fungrad."""
    plot.set_title(title, fontsize=10)
    plot.set(xscale="log", yscale="log")
    for axis, ticks in ((plot.xaxis, MEMORY), (plot.yaxis, TIME)):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    plot.axhline(1, color=GRAY, linewidth=0.6)
    plot.axvline(1, color=GRAY, linewidth=0.6)
    policies = [place for name, place in found.items() if name not in (OURS, NOTHING, JAX)]
    style: dict[str, Any] = dict(
        color=FAINT, markersize=4, label="jax.grad, policies chosen by hand"
    )
    plot.plot(*_coordinates(policies), "o", **style)
    plot.plot(*_coordinates(front(policies)), color=FAINT, linewidth=1.5)
    plot.plot(1, 1, "x", color=GRAY, markersize=6, label="jax.grad", linestyle="none")
    plot.plot(*_coordinates([found[OURS]] if OURS in found else []), "o", **OUR_STYLE)


def _coordinates(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
