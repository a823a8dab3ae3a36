import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from fungrad.inputs import spectra

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(8, 8, 1), (7, 10, 3), (17, 23, 3)])
def test_a_real_image_has_the_standardised_magnitudes(shape):
    """Even and odd sizes: the columns that mirror themselves keep their magnitudes too."""
    magnitudes = spectra.standardised(RANDOM.uniform(1, 2, spectra.half_plane(shape)), shape)
    phases = RANDOM.uniform(-np.pi, np.pi, (1, *spectra.half_plane(shape)))
    phases = np.asarray(spectra.hermitian(jnp.asarray(phases), shape[1]))
    x = spectra.inverse(magnitudes * np.cos(phases), magnitudes * np.sin(phases), shape)[0]
    found = np.abs(np.fft.rfft2(x, axes=(0, 1)))
    np.testing.assert_allclose(found, magnitudes, atol=1e-11)
    np.testing.assert_allclose(np.mean(x, axis=(0, 1)), 0, atol=1e-14)
    np.testing.assert_allclose(np.mean(np.square(x)), 1)


def test_frequencies():
    np.testing.assert_allclose(spectra.frequencies(4, 6)[2], np.hypot(0.5, np.arange(4) / 6))
    assert spectra.power_law(8, 4, 2.0)[0].tolist() == [64.0, 16.0, 4.0]


def test_colours_are_those_of_photographs():
    """Photographs' colours have the covariance A Aᵀ, but for its size, to within a tenth."""
    photographs = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    covariance = sum(np.cov(image.reshape(-1, 3).T / 255.0) for image in photographs)
    ours = spectra.COLOURS @ spectra.COLOURS.T
    cosine = np.sum(covariance * ours) / np.linalg.norm(covariance) / np.linalg.norm(ours)
    assert cosine > 0.99


def test_magnitudes_of_photographs_fall_with_the_frequency():
    photographs = [skimage.data.astronaut() / 255.0, skimage.data.coffee() / 255.0]
    found = spectra.magnitudes(photographs, (32, 48, 3))
    f = spectra.frequencies(32, 48)
    means = [found[(f > low) & (f < 2 * low)].mean() for low in (0.03, 0.06, 0.12, 0.24)]
    assert means == sorted(means, reverse=True)
    assert found.shape == (32, 25, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectra.standardised(np.ones((4, 4)), (4, 4, 1)), r"shape \[4, 3\] or"),
        (lambda: spectra.standardised(-np.ones((4, 3)), (4, 4, 1)), "not negative"),
        (lambda: spectra.standardised(np.zeros((4, 3)), (4, 4, 1)), "not all zero"),
        (lambda: spectra.checked_colours(np.eye(3), 1), r"a matrix \[1 × 1\]"),
        (lambda: spectra.magnitudes([], (4, 4, 1)), "at least one image"),
        (lambda: spectra.magnitudes([np.ones((4, 4))], (4, 4, 1)), r"images \[h, w, 1\]"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
