"""benchmarks.tracing measures every stage for both, and shows what it has found."""

import io

import pytest
from rich.console import Console

from benchmarks import tracing
from benchmarks.programs import PROGRAMS
from experiments.common.command import ExperimentError


def test_every_stage_is_measured_and_shown():
    measured = tracing.measure(PROGRAMS["mlp-scanned"](small=True), rounds=1, compiled=1)
    assert set(measured) == {"fungrad", "JAX"}
    for found in measured.values():
        assert set(found) == set(tracing.STAGES)
        assert all(value >= 0 for value in found.values())
    console = Console(file=io.StringIO(), width=200)
    console.print(tracing.table({"mlp": measured}))
    shown = console.file.getvalue()
    assert all(f"{stage}, {unit}" in shown for stage, unit in tracing.STAGES.items())


def test_compilation_may_be_left_out():
    measured = tracing.measure(PROGRAMS["mlp"](small=True), rounds=1, compiled=0, cold=True)
    assert set(measured["JAX"]) == {"trace", "lower"}


def test_an_unknown_program_is_named():
    with pytest.raises(ExperimentError, match="unknown name 'mpl'"):
        tracing.run(tracing.Config(programs=("mpl",)))
