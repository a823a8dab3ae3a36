import json
from dataclasses import replace

import pytest

from experiments import train
from experiments.common.command import ExperimentError

from .test_report import check_page


def metrics_of(page):
    metrics = json.loads((page.parent / "metrics.json").read_text())
    assert metrics.pop("seconds") > 0
    return metrics


@pytest.mark.parametrize(
    ("data", "model", "optimizer", "figures"),
    [
        ("iris", "mlp", "sgd", {"loss", "confusion"}),
        ("digits", "cnn", "adam", {"loss", "confusion", "mistakes"}),
        ("breast_cancer", "attention", "lion", {"loss", "confusion"}),
        ("diabetes", "logistic", "lbfgs", {"loss", "predictions"}),
    ],
)
def test_smoke(data, model, optimizer, figures, tmp_path):
    page = train.run(
        train.Config(
            data, model, optimizer, epochs=1, batch_size=256, smoke=True, out=tmp_path / "run"
        )
    )
    assert check_page(page).files == [f"{name}.png" for name in sorted(figures, key=figure_order)]
    assert metrics_of(page)["steps"] > 0
    assert (page.parent / "checkpoint").is_dir()


def test_adversarial_training_is_measured_under_attack(tmp_path):
    page = train.run(
        train.Config("iris", "logistic", epochs=3, batch_size=50, adversarial=0.5, out=tmp_path)
    )
    test = metrics_of(page)["test"]
    assert 0 < test["robust"] <= test["accuracy"]
    assert "accuracy under attack" in page.read_text()


def figure_order(name):
    return ("loss", "confusion", "predictions", "mistakes").index(name)


def test_iris_is_learnt_by_the_network_of_seed_004(tmp_path):
    """ReLU, softmax, negative log-likelihood, SGD: at least 97 % of the training flowers."""
    metrics = metrics_of(train.run(train.Config(out=tmp_path)))
    assert metrics["train"]["accuracy"] >= 0.97
    assert metrics["test"]["accuracy"] >= 0.94


def test_a_resumed_run_ends_where_an_uninterrupted_one_ends(tmp_path):
    config = train.Config("wine", "logistic", "adam", epochs=4, out=tmp_path / "whole")
    whole = metrics_of(train.run(config))
    parts = replace(config, out=tmp_path / "parts")
    train.run(replace(parts, epochs=2))
    assert metrics_of(train.run(replace(parts, resume=True)))["test"] == whole["test"]

    for change, message in [
        ({"seed": 1}, "resume: .* was made with seed = 0, and 1 was given"),
        ({"epochs": 1}, "resume: .* has made 32 steps, more than the 8 asked for"),
        ({"out": tmp_path / "none"}, "resume: there is no checkpoint in .*none"),
    ]:
        with pytest.raises(ExperimentError, match=message):
            train.run(replace(parts, **{"resume": True, **change}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "irs"}, "data: unknown name 'irs'"),
        ({"model": "transformer"}, "model: unknown name 'transformer'. Known: attention, cnn, l"),
        ({"optimizer": "adm"}, "optimizer: unknown name 'adm'"),
        ({"model": "cnn"}, "model: 'cnn' needs images"),
        ({"epochs": 0}, "epochs: got 0, expected at least 1"),
        ({"adversarial": -1.0}, "adversarial: got -1.0, expected at least 0"),
        ({"data": "diabetes", "adversarial": 0.1}, "adversarial: 'diabetes' has no classes"),
        ({"batch_size": 0}, "batch_size: got 0, expected at least 1"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(change, message, tmp_path):
    with pytest.raises(ExperimentError, match=message):
        train.run(replace(train.Config(out=tmp_path / "run"), **change))
    assert not (tmp_path / "run").exists()
