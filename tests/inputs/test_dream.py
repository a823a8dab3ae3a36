import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

import fungrad as fg

from . import models

KEY = jax.random.key(0)
PHOTOGRAPH = skimage.data.astronaut()[60:80, 200:226]


def test_the_layer_sees_more():
    options = {"octaves": 2, "steps": 3, "jitter": 4, "key": KEY}
    dreamt = fg.inputs.dream(models.nhwc, "h", PHOTOGRAPH, **options)
    again = fg.inputs.dream(models.nhwc, "h", PHOTOGRAPH / 255.0, **options)
    np.testing.assert_allclose(again.image, dreamt.image, atol=1e-6)

    def strength(x):
        return jnp.mean(jnp.square(fg.values(models.nhwc, "h")(x[None])[1]["h"]))

    np.testing.assert_allclose(strength(dreamt.image), dreamt.activation)
    assert dreamt.activation > 1.1 * strength(PHOTOGRAPH / 255.0)
    assert dreamt.history.shape == (6,)
    assert dreamt.image.shape == PHOTOGRAPH.shape
    assert jnp.all((dreamt.image >= 0) & (dreamt.image <= 1))
    # The photograph is still there: what was added is small beside it.
    assert jnp.abs(dreamt.image - PHOTOGRAPH / 255.0).mean() < 0.1


def test_no_steps_return_the_photograph():
    """Detail is re-injected: what the small octaves cannot hold is not lost."""
    x = jax.random.uniform(KEY, (9, 11, 3))
    dreamt = fg.inputs.dream(models.nhwc, "h", x, octaves=3, steps=0, key=KEY)
    np.testing.assert_allclose(dreamt.image, x, atol=1e-12)


def test_guided_by_another_image():
    """The mean over positions of the best match among the guide's values."""
    guide = skimage.data.coffee()[::40, ::40] / 255.0
    dreamt = fg.inputs.dream(models.nhwc, "h", PHOTOGRAPH, guide=guide, octaves=1, steps=2, key=KEY)
    h, other = (
        fg.values(models.nhwc, "h")(x[None])[1]["h"].reshape(-1, 5) for x in (dreamt.image, guide)
    )
    np.testing.assert_allclose(dreamt.activation, (h @ other.T).max(axis=1).mean())
    assert dreamt.history[1] > dreamt.history[0]


def test_a_model_of_one_size_sees_octaves_enlarged():
    apply, params = fg.models.cnn((8, 8, 1), key=KEY)
    grey = skimage.data.camera()[100:108, 200:208]
    dreamt = fg.inputs.dream(
        lambda x: apply(params, x), "h2", grey, octaves=2, steps=2, jitter=2, key=KEY
    )
    assert dreamt.image.shape == (8, 8, 1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"image": 2.0 * np.ones((4, 4, 3))}, ValueError, r"image must be in \[0, 1\], got 2.0"),
        ({"image": np.full((4, 4, 3), np.nan)}, ValueError, r"image must be in \[0, 1\], got nan"),
        ({"image": np.ones((4, 4, 3), int)}, TypeError, "floats in .* or bytes"),
        ({"image": np.ones((1, 4, 4, 3))}, ValueError, r"one image \[H, W, C\]"),
        ({"octaves": 0}, ValueError, "octaves must be at least 1"),
        ({"octaves": 9}, ValueError, "leave no pixels of an image of 4 × 4"),
        ({"octave_scale": 1.0}, ValueError, "octave_scale must be a number above 1"),
        ({"rate": 0.0}, ValueError, "rate must be a positive number"),
        ({"guide": np.ones((4, 4, 1))}, ValueError, "guide must have the image's 3 channels"),
        ({"where": "nowhere"}, LookupError, "no node matches 'nowhere'"),
        ({"steps": 1.5}, TypeError, "steps must be a whole number"),
    ],
)
def test_bad_arguments(options, error, message):
    given = {"where": "h", "image": np.ones((4, 4, 3)), "octaves": 1, "key": KEY} | options
    with pytest.raises(error, match=message):
        fg.inputs.dream(models.nhwc, **given)
