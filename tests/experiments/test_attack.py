import json
import sys
import types

import jax.numpy as jnp
import pytest

from experiments import attack
from experiments.common.command import ExperimentError

from .test_report import check_page


def test_smoke(tmp_path):
    page = attack.run(attack.Config(smoke=True, norms=("inf",), out=tmp_path))
    assert check_page(page).files == ["curves.png", "images.png"]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["distances"]["FMN, L∞"]["ratio"] >= 1 - 1e-4
    quartiles = metrics["robust_accuracy"]
    assert quartiles["PGD, inf"][0] <= quartiles["FGSM, inf"][0]


def test_a_users_model(monkeypatch):
    module = types.ModuleType("somebodys")
    module.network = lambda: {"model": (lambda w, x: x @ w, jnp.eye(2)), "x": jnp.eye(2),
                              "labels": jnp.array([0, 1])}  # fmt: skip
    module.nothing = lambda: 3
    monkeypatch.setitem(sys.modules, "somebodys", module)
    victim = attack.own(attack.Config("somebodys:network"))
    assert victim.model(victim.x).argmax(axis=1).tolist() == victim.labels.tolist()
    with pytest.raises(ExperimentError, match="must return a dictionary with 'model', 'x'"):
        attack.own(attack.Config("somebodys:nothing"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "logistc"}, "model: unknown name 'logistc'. Did you mean 'logistic'"),
        ({"norms": ("3",)}, "norms: unknown name '3'"),
        ({"steps": 0}, "steps: got 0, expected at least 1"),
        ({"model": "nowhere.at:all"}, "model: 'nowhere.at:all' cannot be imported"),
    ],
)
def test_bad_options(change, message, tmp_path):
    with pytest.raises(ExperimentError, match=message):
        attack.run(attack.Config(**change, out=tmp_path / "run"))
