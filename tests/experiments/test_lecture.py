import dataclasses
import json

import jax
import pytest

from experiments import lecture
from experiments.common.command import ExperimentError

from .test_report import check_page


def test_smoke(tmp_path):
    page = lecture.run(lecture.Config(smoke=True, out=tmp_path))
    assert check_page(page).files == ["tanh-network.png", "neuron.png", "one-step.png"]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["verdicts"]) <= {"agrees", *lecture.TITLES}
    assert sum(metrics["verdicts"].values()) == len(metrics["values"])
    assert metrics["largest_difference_from_jax"] < 1e-12
    assert {value["seed"] for value in metrics["values"]} == set(lecture.SEEDS)
    assert json.loads((tmp_path / "config.json").read_text())["smoke"] is True


def test_a_difference_that_no_remark_explains_is_shown():
    """If fungrad came to differ from a seed that is right, the page would say so."""
    (example,) = [each for each in lecture.EXAMPLES if each.name == "one_step"]
    with jax.enable_x64(True):
        rows = example.rows(lecture.FUNGRAD)
    assert {row.verdict for row in rows} == {"agrees", "rounding"}
    changed = dataclasses.replace(rows[0], value=rows[0].value * 1.01)
    assert changed.verdict == "unexplained"
    assert lecture.seed_cell(changed).tone == "bad"


@pytest.mark.parametrize(
    ("seeds", "message"),
    [(("000", "007"), "seeds: unknown name '007'"), ((), "seeds: got none, expected some of 000")],
)
def test_bad_options(tmp_path, seeds, message):
    with pytest.raises(ExperimentError, match=message):
        lecture.run(lecture.Config(seeds=seeds, out=tmp_path))
