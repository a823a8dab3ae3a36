import json

import jax
import numpy as np
import pytest

from experiments import demo
from experiments.common import learning, worked_example
from experiments.common.report import Report

from .test_report import check_page


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    with jax.enable_x64(False):
        return demo.run(demo.Config(smoke=True, out=tmp_path_factory.mktemp("demo")))


def test_smoke(smoke):
    names = ["worked-example", "digits", "visualizations", "adversarial", "robustness"]
    assert check_page(smoke).files == [f"{name}.png" for name in names]
    assert (smoke.parent / "checkpoint").is_dir()


def test_gradients_are_those_of_jax(smoke):
    """Entries of these gradients are of order 0.1."""
    differences = json.loads((smoke.parent / "metrics.json").read_text())["gradient_differences"]
    for name, limit in (("float32", 1e-6), ("float64", 1e-15)):
        assert list(differences[name]) == [f"params[{i}].{p}" for i in range(3) for p in "Wb"]
        assert max(differences[name].values()) < limit
    assert max(differences["wrong rule"].values()) > 1e-5


def test_the_network_learns_the_digits(tmp_path):
    report = Report("demo", "Digits", folder=tmp_path)
    trained, test = demo.train(report, demo.Config())
    assert test["accuracy"] >= 0.98
    again = learning.measures(trained.apply, trained.params, trained.digits, trained.digits.test)
    assert again == test


def test_worked_example():
    """The lecture's numbers, and the slips in them."""
    steps = {step.name: step for step in worked_example.steps()}
    remarks = {name: step.agreement().remark for name, step in steps.items() if step.printed}
    rounded = "from factors that were rounded before"
    assert {name: remark for name, remark in remarks.items() if remark} == {
        "x₁": "the line above prints (1, 0.2)",
        "∂L/∂x₁": rounded,
        "∂L/∂W₀": rounded,
        "∂L/∂W₁": "written with the factor −0.1186; it is −0.1869",
    }
    x2 = np.tanh([0.7, 0.3])
    error = x2[0] - x2[1] - 0.5
    np.testing.assert_allclose(steps["L"].value, [[error**2 / 2]], rtol=1e-5)
    np.testing.assert_allclose(steps["∂L/∂W₁"].value[:, 0], error * x2, rtol=1e-5)
    assert steps["L after the step"].value < steps["L"].value
