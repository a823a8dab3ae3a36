"""The sweep of budgets: budgets and policies stand side by side, and the dominated are named."""

import jax

from benchmarks import budget
from benchmarks.gradients import SMOKE_CONTENDERS
from benchmarks.results import JAX, OURS, Outcome, Row


def outcome(memory, time):
    return Outcome({"memory": [memory], "time": [time]})


def test_budgets_and_others_are_measured_and_written(tmp_path):
    sweep = budget.run(budget.Config(program="mlp-scanned", smoke=True))
    assert list(sweep.row.outcomes) == [*sweep.budgets, *SMOKE_CONTENDERS]
    least, most = sweep.budgets
    assert sweep.row.outcomes[least].refused.startswith("ValueError: save=")
    assert not sweep.row.outcomes[most].refused
    budget.write(sweep, tmp_path)
    text = (tmp_path / "budgets.md").read_text("utf-8")
    assert jax.__version__ in text
    assert all(f"| {name} |" in text for name in sweep.row.outcomes)
    assert "<svg" in (tmp_path / "budgets.svg").read_text("utf-8")


def test_a_policy_beats_what_it_is_nowhere_behind():
    outcomes = {
        "8 B": outcome(8, 1.0),
        OURS: outcome(9, 1.0),
        JAX: outcome(20, 1.0),
        "dots_saveable": outcome(8, 0.96),
        "nothing_saveable": outcome(4, 1.1),
    }
    sweep = budget.Sweep("mlp", Row({}, True, False, outcomes), {"8 B": 8})
    assert sweep.beaten_by("8 B") == ["dots_saveable"]
    assert sweep.beaten_by(JAX) == []
    lines = {line[0]: line[1:] for line in sweep.lines()}
    assert lines["8 B"][1:] == ["1.00", "1.00", "dots_saveable"]


def test_a_budget_that_is_refused_says_why():
    row = Row({}, True, False, {"1 B": Outcome(refused="ValueError: the least possible is 2 B")})
    (line,) = budget.Sweep("mlp", row, {"1 B": 1}).lines()
    assert line[-1] == "refused: ValueError: the least possible is 2 B"
