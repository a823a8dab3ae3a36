import json

import pytest

from experiments import visualize
from experiments.common.command import ExperimentError

from .test_report import check_page


def test_smoke(tmp_path):
    options = {"model": "digits", "where": "h1", "unit": 3, "smoke": True}
    page = visualize.run(visualize.Config(**options, out=tmp_path))
    assert check_page(page).files == ["channels.png"]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert len(metrics["activations"]["h1"]) == 1


def test_bad_options(tmp_path):
    for change, message in (
        ({"steps": 0}, "steps: got 0, expected at least 1"),
        ({"model": "digit"}, "model: unknown name 'digit'"),
        ({"model": "digits", "where": "h9", "smoke": True}, "where: no node matches 'h9'"),
    ):
        with pytest.raises(ExperimentError, match=message):
            visualize.run(visualize.Config(**change, out=tmp_path))
