import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fungrad import inputs
from fungrad.inputs.parameterizations import checked_parameterization

KEY = jax.random.key(0)


def decoder(z):
    return jax.nn.sigmoid(z).reshape(-1, 2, 3, 1)


PARAMETERIZATIONS = {
    "pixels": lambda **o: inputs.Pixels((17, 23, 3), **o),
    "fourier": lambda **o: inputs.Fourier((17, 23, 3), **o),
    "grey fourier": lambda **o: inputs.Fourier((4, 6, 1), **o),
    "maco": lambda **o: inputs.MaCo((17, 23, 3), **o),
    "cppn": lambda **o: inputs.CPPN((17, 23, 3), **o),
    "latent": lambda **o: inputs.Latent(decoder, (6,), **o),
    "latent of one": lambda **o: inputs.Latent(lambda z: decoder(z)[0], 6, **o),
}


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_images(name):
    """Every image of a batch for itself, in [0, 1], of the dtype that was asked for."""
    image = PARAMETERIZATIONS[name]()
    u = image.initial(KEY, 2)
    x = image.images(image.nearest(u))
    assert x.dtype == jnp.float64
    assert jnp.all((x >= 0) & (x <= 1))
    assert not jnp.allclose(x[0], x[1])
    second = image.images(jax.tree.map(lambda leaf: leaf[1:], u))
    np.testing.assert_allclose(second[0], x[1], rtol=1e-12)
    np.testing.assert_array_equal(image.shown(x), x)

    half = PARAMETERIZATIONS[name](dtype=jnp.bfloat16)
    u = half.initial(KEY, 1)
    assert {leaf.dtype for leaf in jax.tree.leaves(u)} == {jnp.dtype("float32")}
    assert half.images(u).dtype == jnp.bfloat16


def test_pixels_start_where_they_are_told_to():
    photograph = jnp.linspace(0, 1, 12).reshape(2, 2, 3)
    image = inputs.Pixels((2, 2, 3), start=photograph, deviation=0.0)
    np.testing.assert_array_equal(image.images(image.initial(KEY, 1))[0], photograph)
    latent = inputs.Latent(decoder, 6, start=jnp.arange(6.0), deviation=0.0)
    np.testing.assert_array_equal(latent.initial(KEY, 1)[0], jnp.arange(6.0))


def test_steps_in_fourier_space_are_large_at_low_frequencies():
    """One step of the same size everywhere changes frequencies by 1/f."""
    image = inputs.Fourier((16, 16, 1))
    u = jnp.zeros((1, 2, 16, 9, 1)).at[0, 0].set(0.01)
    spectrum = np.abs(np.fft.rfft2(image.images(u)[0, ..., 0] - 0.5))
    np.testing.assert_allclose(spectrum[0, 8] / spectrum[0, 2], 1 / 4, rtol=1e-2)


def test_only_phases_are_free_in_maco():
    image = inputs.MaCo((9, 12, 1), magnitudes=np.random.default_rng(0).uniform(1, 2, (9, 7)))
    x = np.asarray(image.images(image.initial(KEY, 1)))[0]
    spectrum = np.abs(np.fft.rfft2(np.log(x / (1 - x)), axes=(0, 1)))
    np.testing.assert_allclose(spectrum, image.magnitudes, atol=1e-9)


def test_a_cppn_has_no_pixels():
    """The same weights make the same image at twice the size, where pixels' middles meet."""
    small, large = inputs.CPPN((5, 5, 1)), inputs.CPPN((15, 15, 1))
    u = small.initial(KEY, 1)
    np.testing.assert_allclose(large.images(u)[0, 1::3, 1::3], small.images(u)[0], rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: inputs.Pixels((8, 8)), ValueError, r"\[H, W, C\], got \[8, 8\]; a grey image is"),
        (lambda: inputs.Fourier((1, 8, 8, 3)), ValueError, "it has no batch axis"),
        (lambda: inputs.MaCo((8, 0, 3)), ValueError, "must hold positive numbers"),
        (lambda: inputs.CPPN("8x8"), TypeError, "tuple of whole numbers, got '8x8'"),
        (lambda: inputs.CPPN((8, 8, 1), depth=0), ValueError, "depth must be a positive integer"),
        (lambda: inputs.Pixels((2, 2, 1), space=3), TypeError, "space must be Box"),
        (lambda: inputs.Pixels((2, 2, 1), start=np.ones(4)), ValueError, "start must be an image"),
        (lambda: inputs.Pixels((2, 2, 1), dtype=int).initial(KEY, 1), TypeError, "floating-point"),
        (lambda: inputs.Latent(3, (4,)), TypeError, "generator must be a function"),
        (lambda: inputs.Latent(jnp.sin, (4,)), TypeError, r"must make images \[N, H, W, C\]"),
        (lambda: inputs.Latent(decoder, (6,), start=np.ones(5)), ValueError, "start must be a lat"),
        (lambda: checked_parameterization(np.ones((4, 4, 1))), TypeError, "image must be a par"),
        (lambda: checked_parameterization(inputs.Pixels), TypeError, "got <class"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
