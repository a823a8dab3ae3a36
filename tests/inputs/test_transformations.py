import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fungrad.inputs import transformations as t

KEY = jax.random.key(1)
X = jax.random.uniform(jax.random.key(0), (3, 9, 12, 2))


def test_pad():
    padded = t.pad(2, fill=0.25)(KEY, X)
    assert padded.shape == (3, 13, 16, 2)
    np.testing.assert_array_equal(padded[:, 2:-2, 2:-2], X)
    assert jnp.all(padded[:, :2] == 0.25)


def test_jitter_moves_each_image_by_whole_pixels():
    moved = t.jitter(8)(KEY, X)
    shifts = []
    for before, after in zip(np.asarray(X), np.asarray(moved), strict=True):
        found = [
            (y, x)
            for y in range(-4, 5)
            for x in range(-4, 5)
            if np.array_equal(np.roll(before, (y, x), (0, 1)), after)
        ]
        assert len(found) == 1
        shifts += found
    assert len(set(shifts)) > 1


def test_scale():
    """Twice as large about the middle: a linear image has half the slope."""
    slope = jnp.broadcast_to(jnp.arange(12.0)[:, None], (1, 9, 12, 1)) / 11
    found = t.scale(2.0, 2.0)(KEY, slope)
    np.testing.assert_allclose(found[0, 4, :, 0], 0.5 * slope[0, 4, :, 0] + 0.25, rtol=1e-6)
    np.testing.assert_allclose(t.scale(1.0, 1.0)(KEY, X), X, atol=1e-12)
    small = t.scale(0.5, 0.5, fill=0.7)(KEY, X)
    np.testing.assert_allclose(small[:, 0], 0.7)


def test_rotate():
    np.testing.assert_allclose(t.rotate(0.0)(KEY, X), X, atol=1e-12)
    y, x = jnp.asarray(np.mgrid[-10.0:11.0, -10.0:11.0])
    disc = jnp.exp(-(x**2 + y**2) / 30)[None, ..., None]
    np.testing.assert_allclose(t.rotate(180.0, fill=0.0)(KEY, disc), disc, atol=0.02)
    turned = t.rotate(45.0)(KEY, (x / 20 + 0.5)[None, ..., None])[0, 8:13, 8:13, 0]
    slopes = jnp.gradient(20 * turned)
    np.testing.assert_allclose(slopes[0] ** 2 + slopes[1] ** 2, 1.0, rtol=1e-6)
    assert jnp.abs(slopes[0]).max() > 0.05


def test_crops_are_parts_of_the_image():
    """Of the image whose colours are its coordinates, each crop is a rectangle inside of it."""
    coordinates = np.stack(np.mgrid[:9, :12] / np.array([9, 12])[:, None, None], axis=-1)
    found = t.crops(5, (0.3, 0.6))(KEY, jnp.asarray(coordinates))
    assert found.shape == (5, 9, 12, 2)
    share = (found[:, -2, 5, 0] - found[:, 1, 5, 0]) * 9 / 6
    assert jnp.all((share > 0.29) & (share < 0.61))
    assert jnp.all((found >= 0) & (found <= 11 / 12))
    whole = t.crops(1, (1.0, 1.0))(KEY, X[0])
    np.testing.assert_allclose(whole[0], X[0], atol=1e-12)


def test_chain_returns_to_the_size_at_the_start():
    np.testing.assert_array_equal(t.chain([t.pad(3)])(KEY, X), X)
    np.testing.assert_array_equal(t.chain([])(KEY, X), X)
    assert t.chain([lambda key, x: x[:, ::2]])(KEY, X).shape == X.shape
    standard = jax.jit(t.chain(t.standard))
    np.testing.assert_array_equal(standard(KEY, X), standard(KEY, X))
    for dtype in (X.dtype, jnp.bfloat16):
        changed = jax.eval_shape(standard, KEY, X.astype(dtype))
        assert (changed.shape, changed.dtype) == (X.shape, dtype)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: t.pad(-1), ValueError, "pixels must be a whole number of at least 0, got -1"),
        (lambda: t.jitter(1.5), ValueError, "pixels must be a whole number of at least 0, got 1.5"),
        (lambda: t.scale(1.1, 0.9), ValueError, "0 < low <= high, got low=1.1, high=0.9"),
        (lambda: t.rotate(-1.0), ValueError, "degrees must be a number of at least 0"),
        (lambda: t.checked_transforms([t.jitter(1), 3]), TypeError, "transforms must be functions"),
        (lambda: t.chain([lambda key, x: x[0]])(KEY, X), ValueError, "as many images .N, H, W, C."),
        (lambda: t.chain([lambda key, x: x[:2]])(KEY, X), ValueError, "as they get, got float"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
