import json

import pytest

from experiments import optimizers
from experiments.common.command import ExperimentError

from .test_report import check_page


def test_smoke(tmp_path):
    page = optimizers.run(optimizers.Config(smoke=True, out=tmp_path))
    names = ["batch-size", "gradient-noise", "valley", "momentum", "orders", "landscapes"]
    assert check_page(page).files == [f"{name}.png" for name in names]
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == [
        "batch-128",
        "batch-8",
    ]

    metrics = json.loads((tmp_path / "metrics.json").read_text())
    noise = metrics["gradient_noise"]["relative_error"]
    assert noise == sorted(noise, reverse=True)
    assert metrics["valley"]["α = 0.9"] < metrics["valley"]["α = 0"] < metrics["valley"]["α = 0.99"]
    gap = metrics["order"]["gap"]
    assert gap["Newton-CG"] < gap["gradient descent"] < gap["SPSA"]
    assert metrics["landscapes"]["stairs: ⌊2 |θ|⌋ / 2"]["gradient descent"] == 1.5


def test_bad_options(tmp_path):
    with pytest.raises(ExperimentError, match="steps: got 0, expected at least 1"):
        optimizers.run(optimizers.Config(steps=0, out=tmp_path))
