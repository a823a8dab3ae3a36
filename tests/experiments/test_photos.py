import jax
import numpy as np
import pytest

import fungrad as fg
from experiments.common import photos
from experiments.common.command import ExperimentError


def test_photos_are_images():
    for name in photos.NAMES:
        image = photos.photo(name)
        assert image.shape[0] == photos.HEIGHT
        assert image.shape[2] == 3
        assert 0 <= image.min() < 0.2 < 0.7 < image.max() <= 1


def test_what_is_tested_was_not_seen():
    """Mirrored or not, no row of pixels of the right part is in a piece of the left part."""
    seen, unseen = (photos.pieces(30, seen=part).x for part in (True, False))
    flat = photos.NAMES.index("astronaut")
    left, right = (
        {row.tobytes() for piece in np.asarray(part)[flat::10] for row in piece}
        for part in (seen, unseen)
    )
    assert not left & right


def test_the_network_learns():
    trained = photos.train(steps=6, count=20)
    assert trained.history[-1] < trained.history[0]
    assert 0 <= trained.accuracy <= 1
    _, nodes = fg.values(photos.logits, "stage2")(trained.params, photos.pieces(2, seen=True).x)
    assert nodes["stage2"].shape == (2, 24, 24, 32)


def test_the_size_of_an_image_is_free():
    params = photos.initial(jax.random.key(0))
    x = photos.photo("cat")[None, :96, :70]
    assert photos.logits(params, x).shape == (1, 10)


def test_a_users_photo(tmp_path):
    import matplotlib.image

    matplotlib.image.imsave(tmp_path / "high.png", np.eye(96)[:, :64], cmap="gray")
    assert photos.read_photo(tmp_path / "high.png").shape == (288, 192, 3)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ExperimentError, match="cannot be read as an image"):
        photos.read_photo(tmp_path / "text.png")
    with pytest.raises(ExperimentError, match="cannot be read as an image"):
        photos.read_photo(tmp_path / "none.png")
