import json

import numpy as np
import pytest

from experiments import guide
from experiments.common.command import ExperimentError
from experiments.guidance import captions

from .test_report import check_page


def test_smoke(tmp_path):
    page = guide.run(guide.Config(("a seven", "a one:-0.5"), smoke=True, out=tmp_path))
    assert check_page(page).files == ["examples.png", "your-prompt.png"]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics["similarity"]["a seven + a one:-0.5"]) == ["pixels", "Fourier", "latent"]


def test_captions():
    """What is drawn is what is said: two small crosses are two, and less ink than large ones."""
    drawn = captions.pairs(300)
    assert drawn.images.shape == (300, 16, 16, 1)
    ink = np.asarray(drawn.images.sum((1, 2, 3)))
    said = ["".join(f" {captions.WORDS[t]}" for t in row) for row in np.asarray(drawn.tokens)]
    for shape in captions.SHAPES:
        sizes = [
            np.mean([i for i, s in zip(ink, said, strict=True) if shape in s and size in s])
            for size in ("small", "large")
        ]
        assert sizes[0] < sizes[1]
    assert (
        captions.tokens("A seven, slanted").tolist() == captions.tokens("a seven slanted").tolist()
    )


def test_weights():
    assert guide.weighted("a one, slanted") == ("a one, slanted", 1.0)
    assert guide.weighted("a one:-0.5") == ("a one", -0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": ("a dog",)}, "prompt: unknown name 'dog'"),
        ({"prompt": ("a very large round circle",)}, "has 5 words, expected 1 to 3"),
        ({"prompt": ("a one:heavy",)}, "'heavy' after the colon .* is no weight"),
        ({"steps": 0}, "steps: got 0, expected at least 1"),
        ({"clip": "./nowhere"}, "prompt: a published CLIP needs one"),
        ({"clip": "./nowhere", "prompt": ("a rose",)}, "clip: .*nowhere"),
    ],
)
def test_bad_options(change, message, tmp_path):
    with pytest.raises(ExperimentError, match=message):
        guide.run(guide.Config(**change, out=tmp_path))
