import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fungrad as fg
from fungrad.inputs import Fourier, Latent, Pixels, cosine, prompts, spherical

KEY = jax.random.key(0)


def encode(images):
    return jnp.mean(images, axis=(1, 2))


@pytest.mark.parametrize(
    ("image", "steps"),
    [
        (Pixels((9, 11, 3)), 60),
        (Fourier((9, 11, 3), colours=np.eye(3)), 200),
        (Latent(lambda z: jax.nn.sigmoid(z).reshape(-1, 4, 4, 3), (48,)), 120),
    ],
)
def test_weighted_and_negative_prompts(image, steps):
    """Red is asked for, green refused, blue left open: the optimum is found by pixels exactly."""
    similarity = prompts(encode, jnp.eye(3)[:2], [1.0, -0.5], measure=cosine)
    seen = fg.inputs.guide(similarity, image=image, crops=3, steps=steps, key=KEY)
    red, green, blue = seen.image.mean((0, 1))
    assert red > 1.5 * green
    assert red > 1.5 * blue
    np.testing.assert_allclose(seen.activation, similarity(seen.input[None])[0])
    assert seen.history.shape == (steps,)
    assert seen.activation > 0.5


def test_without_crops_the_image_itself_is_seen():
    similarity = prompts(encode, jnp.eye(3)[:1])
    options = {"image": Pixels((4, 4, 3)), "crops": 0, "steps": 3, "key": KEY}
    first, again = (fg.inputs.guide(similarity, **options) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    start = Pixels((4, 4, 3))
    x = start.images(start.initial(jax.random.split(KEY)[0], 1))
    np.testing.assert_allclose(first.history[0], similarity(x)[0])


def test_measures():
    a, b = jax.random.normal(KEY, (2, 5, 7))
    angle = np.arccos(np.sum(a * b, 1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
    np.testing.assert_allclose(cosine(a, b), np.cos(angle))
    np.testing.assert_allclose(spherical(a, b), -(angle**2) / 2)
    for other in (a[0], -a[0], 0 * a[0]):
        for measure in (cosine, spherical):
            assert jnp.all(jnp.isfinite(jax.grad(measure)(a[0], other)))


def test_weights_are_shares():
    x = jax.random.uniform(KEY, (2, 4, 4, 3))
    texts = jnp.eye(3)
    each = jnp.stack([spherical(encode(x), text) for text in texts], axis=1)
    found = prompts(encode, texts, [2.0, 0.0, -1.0])(x)
    np.testing.assert_allclose(found, (2 * each[:, 0] - each[:, 2]) / 3)
    np.testing.assert_allclose(prompts(encode, texts)(x), each.mean(1))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"similarity": lambda x: x.mean()}, ValueError, r"one real number per image, \[16\]"),
        ({"similarity": 3}, TypeError, "similarity must be a function of images"),
        ({"image": np.ones((4, 4, 3))}, TypeError, "image must be a parameterization"),
        ({"crops": -1}, ValueError, "crops must be a whole number of at least 0"),
        ({"crop_sizes": (0.0, 1.0)}, ValueError, "crop_sizes must be two shares"),
        ({"key": None}, ValueError, "key is missing: guide needs one"),
    ],
)
def test_bad_arguments(options, error, message):
    given = {"similarity": lambda x: x.mean((1, 2, 3)), "image": Pixels((4, 4, 3)), "key": KEY}
    given |= options
    with pytest.raises(error, match=message):
        fg.inputs.guide(given.pop("similarity"), **given)


@pytest.mark.parametrize(
    ("texts", "weights", "message"),
    [
        (jnp.ones(3), None, r"texts must be embeddings \[P, D\]"),
        (jnp.eye(3), [1.0], "one number for each of the 3 texts"),
        (jnp.eye(3), [0.0, 0.0, 0.0], "not all 0"),
    ],
)
def test_bad_prompts(texts, weights, message):
    with pytest.raises(ValueError, match=message):
        prompts(encode, texts, weights)
