"""How long `fg.grad` and `jax.grad` take under jit: to trace, lower, compile, run; and the memory.

Both are measured in turns, within one process, and the table shows medians, fungrad's / JAX's, with
their ratio: below 1 fungrad is ahead. Every round traces a function that JAX has not seen. Times
are those of the processor, but for the run, which is timed by the clock.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

import fungrad as fg
from benchmarks.programs import PROGRAMS, Program, plain
from experiments.common.command import choose, command_line

GRADS = {"fungrad": fg.grad, "JAX": jax.grad}
STAGES = {"trace": "ms", "lower": "ms", "compile": "ms", "run": "ms", "memory": "kB"}
Measured = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        programs: which programs; all if none is named.
        rounds: how often each is traced and lowered.
        compiled: how often each is compiled, and then run `rounds` times; 0 leaves that out.
        cold: forget what JAX and fungrad have cached before each round.
    """

    programs: tuple[str, ...] = ()
    rounds: int = 20
    compiled: int = 1
    cold: bool = False


def measure(program: Program, rounds: int, compiled: int, cold: bool = False) -> Measured:
    """The median of each stage for each of `GRADS`, in milliseconds and kilobytes."""
    samples: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in GRADS}
    for i in range(-1, rounds):
        for name, grad in GRADS.items():
            found = samples[name] if i >= 0 else defaultdict(list)
            if cold:
                jax.clear_caches()
            gradient = jax.jit(grad(program.loss(plain)))
            traced = _timed(found["trace"], lambda f=gradient: f.trace(*program.arguments))
            lowered = _timed(found["lower"], traced.lower)
            if 0 <= i < compiled:
                executable = _timed(found["compile"], lowered.compile)
                for _ in range(rounds):
                    _timed(found["run"], partial(_run, executable, program), time.perf_counter)
                memory = executable.memory_analysis()
                found["memory"].append(memory.temp_size_in_bytes / 1e3)
    return {
        name: {stage: statistics.median(times) for stage, times in found.items()}
        for name, found in samples.items()
    }


def _run(executable: Any, program: Program) -> None:
    jax.block_until_ready(executable(*program.arguments))


def _timed(times: list[float], work: Callable[[], Any], clock=time.process_time) -> Any:
    """The result of `work`; how many milliseconds it took is noted."""
    gc.collect()
    gc.disable()
    try:
        start = clock()
        result = work()
        times.append(1e3 * (clock() - start))
    finally:
        gc.enable()
    return result


def table(measured: dict[str, Measured]) -> Table:
    """One row per program, one column per stage."""
    shown = Table(title=f"fungrad / JAX {jax.__version__}, {jax.default_backend()}")
    shown.add_column("program")
    stages = [stage for stage in STAGES if all(stage in m["JAX"] for m in measured.values())]
    for stage in stages:
        shown.add_column(f"{stage}, {STAGES[stage]}", justify="right")
    for name, found in measured.items():
        cells = [_cell(found["fungrad"][stage], found["JAX"][stage]) for stage in stages]
        shown.add_row(name, *cells)
    return shown


def _cell(ours: float, theirs: float) -> str:
    ratio = ours / theirs if theirs else 1.0
    color = "green" if ratio <= 1 else "red"
    return f"{ours:.3g} / {theirs:.3g}  [{color}]{ratio:.2f}[/{color}]"


def run(config: Config) -> None:
    names = [choose("--programs", name, PROGRAMS) for name in config.programs] or list(PROGRAMS)
    console = Console()
    measured = {}
    for name in names:
        with console.status(name):
            how = (config.rounds, config.compiled, config.cold)
            measured[name] = measure(PROGRAMS[name](), *how)
    console.print(table(measured))


if __name__ == "__main__":
    command_line(run, Config, __doc__)
