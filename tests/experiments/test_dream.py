import json

import pytest

from experiments import dream
from experiments.common.command import ExperimentError

from .test_report import check_page


def test_smoke(tmp_path):
    page = dream.run(dream.Config(where="stage1", octaves=1, smoke=True, out=tmp_path))
    assert check_page(page).files == ["layers.png", "guided.png", "ascent.png"]
    growth = json.loads((tmp_path / "metrics.json").read_text())["growth"]
    assert list(growth) == ["stage1", "guided"]
    assert min(growth.values()) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"photo": "dog"}, "photo: unknown name 'dog'"),
        ({"model": "digits"}, "the digits' network sees no photographs"),
        ({"octaves": 0}, "octaves: got 0, expected at least 1"),
    ],
)
def test_bad_options(change, message, tmp_path):
    with pytest.raises(ExperimentError, match=message):
        dream.run(dream.Config(**change, out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
