import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.common.command import ExperimentError, choose

ROOT = Path(__file__).parents[2]


def run(*command):
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("name", ["demo", "optimizers", "train"])
def test_help_documents_every_option(name):
    shown = run(f"experiments.{name}", "--help")
    assert shown.returncode == 0, shown.stderr
    for option in ("--seed", "--smoke", "--out", "The output folder."):
        assert option in shown.stdout


def test_an_error_is_one_line_and_exit_status_2():
    shown = run("experiments.train", "--data", "irs")
    assert shown.returncode == 2
    assert shown.stderr.splitlines() == [
        "error data: unknown name 'irs'. Did you mean 'iris'? "
        "Known: breast_cancer, diabetes, digits, iris, wine."
    ]


def test_choose():
    assert choose("data", "b", ("a", "b")) == "b"
    with pytest.raises(ExperimentError, match=r"data: unknown name 'x'\. Known: a, b\."):
        choose("data", "x", ("b", "a"))
