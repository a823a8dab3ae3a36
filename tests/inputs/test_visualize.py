import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fungrad as fg
from fungrad.inputs import Box, Fourier, Free, Latent, Pixels, Sphere, objectives, penalties
from fungrad.inputs import transformations as t

from . import models

KEY = jax.random.key(0)
SHAPE = (5, 7, 3)
W = jax.random.normal(jax.random.key(1), SHAPE)


def linear(x):
    """One unit, w · x."""
    return jnp.einsum("nhwc,hwc->n", x, W.astype(x.dtype))[:, None]


def cosine(a, b):
    return float(jnp.sum(a * b) / jnp.linalg.norm(a) / jnp.linalg.norm(b))


@pytest.mark.parametrize(
    ("image", "penalty", "expected", "shown"),
    [
        (Pixels(SHAPE, Free()), 0.7 * penalties.l2, W / 1.4, 0.5 + W / (2 * jnp.abs(W).max())),
        (Pixels(SHAPE, Box(-1, 1)), None, jnp.sign(W), (W > 0).astype(float)),
        (Pixels(SHAPE, Sphere(3.0)), None, 3 * W / jnp.linalg.norm(W), None),
        (Pixels(SHAPE), 2.0 * penalties.l2, jnp.clip(W / 4, 0, 1), jnp.clip(W / 4, 0, 1)),
    ],
)
def test_exact_optima_of_a_linear_unit(image, penalty, expected, shown):
    """w / 2λ with an L2 penalty, sign w in a box, along w on a sphere."""
    seen = fg.inputs.visualize(linear, None, 0, image=image, penalty=penalty, key=KEY)
    assert cosine(seen.input, expected) > 0.99999
    np.testing.assert_allclose(seen.input, expected, atol=1e-3)
    if shown is not None:
        np.testing.assert_allclose(seen.image, shown, atol=1e-3)
    np.testing.assert_allclose(seen.activation, jnp.sum(seen.input * W))
    assert jnp.all((seen.image >= 0) & (seen.image <= 1))
    assert seen.history.shape == (512,)


@pytest.mark.parametrize(
    "image",
    [
        Fourier((5, 7, 3)),
        Latent(lambda z: jax.nn.sigmoid(z).reshape(5, 7, 3), 105, deviation=0.1),
    ],
)
def test_other_parameterizations_reach_the_optimum(image):
    """x = w / 2λ with w > 0, which has an inverse under both."""
    w = jnp.linspace(0.3, 0.7, 105).reshape(SHAPE)

    def model(x):
        return jnp.einsum("nhwc,hwc->n", x, w)[:, None]

    options = {"penalty": 0.5 * penalties.l2, "optimizer": optax.adam(0.05), "key": KEY}
    seen = fg.inputs.visualize(model, None, 0, image=image, **options)
    assert cosine(seen.image - 0.5, w - 0.5) > 0.999


def test_same_key_same_bits_and_under_jit():
    def see(key):
        return fg.inputs.visualize(
            models.nhwc,
            "h",
            (2, 3, 1),
            image=Pixels((6, 7, 3)),
            transforms=(t.pad(2), t.jitter(2)),
            steps=4,
            key=key,
        )

    first, again, jitted = see(KEY), see(KEY), jax.jit(see)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.history, again.history)
    assert not jnp.array_equal(first.image, jitted(jax.random.key(1)).image)
    compiled = jitted(KEY)
    np.testing.assert_allclose(compiled.image, first.image, atol=1e-12)
    np.testing.assert_allclose(compiled.history, first.history)
    h = fg.values(models.nhwc, "h")(first.image[None])[1]["h"]
    np.testing.assert_allclose(first.activation, h[0, 2, 3, 1])
    assert "6 × 7 × 3; activation " in repr(first)


def test_a_grid_of_units_in_one_program():
    units = [[0, (1, 1, 1)], [np.arange(5.0), objectives.channel(2) - objectives.logit(1)]]
    seen = fg.inputs.visualize(models.nhwc, "h", units, image=Pixels((17, 23, 3)), steps=8, key=KEY)
    assert seen.image.shape == seen.input.shape == (2, 2, 17, 23, 3)
    out, found = fg.values(models.nhwc, "h")(seen.image.reshape(4, 17, 23, 3))
    h = found["h"]
    expected = [
        h[0, ..., 0].mean(),
        h[1, 1, 1, 1],
        (h[2] @ np.arange(5.0)).mean(),
        h[3, ..., 2].mean() - out[3, 1],
    ]
    np.testing.assert_allclose(seen.activation.ravel(), expected)


def test_dead_units_are_rescued():
    """A unit that is off at the grey start, and one that no image wakes."""

    def before(x):
        return models.conv(x, "NHWC").mean((1, 2))

    start = Pixels((6, 7, 3))
    grey = before(start.images(start.initial(KEY, 1)))[0]
    off = (grey + 0.05).at[1].set(99.0)
    assert jnp.all(before(jnp.full((1, 6, 7, 3), 0.5)) < off)
    seen = fg.inputs.visualize(
        lambda x: jax.nn.relu(before(x) - off), None, [2, 1], image=start, steps=60, key=KEY
    )
    assert seen.activation[0] > 0.1
    assert seen.activation[1] == 0
    assert jnp.all(seen.image.std((1, 2, 3)) > 0.3)


def test_dtypes():
    for dtype in (jnp.float32, jnp.bfloat16):
        image = Pixels(SHAPE, dtype=dtype)
        seen = fg.inputs.visualize(linear, None, 0, image=image, steps=40, key=KEY)
        assert seen.input.dtype == dtype
        np.testing.assert_array_equal(seen.image, (W > 0).astype(dtype))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"where": "nowhere"}, LookupError, "no node matches 'nowhere'"),
        ({"unit": 1}, ValueError, r"got 1 for a value of shape \[1\].*at the model's output"),
        ({"image": np.ones(SHAPE)}, TypeError, "image must be a parameterization"),
        ({"penalty": 0.1}, TypeError, "penalty must be a function of an image, got 0.1"),
        ({"penalty": jnp.abs}, TypeError, r"penalty must return one real scalar.*\.sum\(\)"),
        ({"transforms": [3]}, TypeError, "transforms must be functions"),
        ({"steps": -1}, ValueError, "steps must be a whole number of at least 0, got -1"),
        ({"key": None}, ValueError, "key is missing: visualize needs one"),
        ({"key": 0}, TypeError, "key must be one key"),
        ({"optimizer": "adam"}, TypeError, "optimizer must be an optax optimizer"),
        ({"model": 3}, TypeError, "model must be a function of a batch of images"),
    ],
)
def test_bad_arguments_are_refused_before_work_starts(options, error, message):
    model = options.get("model", linear)
    given = {"where": None, "unit": 0, "image": Pixels(SHAPE), "key": KEY} | options
    given.pop("model", None)
    with pytest.raises(error, match=message):
        fg.inputs.visualize(model, **given)
