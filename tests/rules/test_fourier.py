"""Fourier transforms: every type, several axes, even and odd lengths, norms, and dct."""

import itertools
from functools import partial

import jax
import pytest
from jax import numpy as jnp

import fungrad as fg
from tests.rules.grids import (
    STRICT,
    assert_agree,
    assert_differences,
    complex_normal,
    normal,
    stacked,
)

LENGTHS = (1, 2, 3, 6, 7)


def transforms():
    for name, n in itertools.product(("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"), LENGTHS):
        real = name in ("rfft", "ihfft")
        yield partial(getattr(jnp.fft, name), n=n), (normal if real else complex_normal)(2, 5)
    for name, shape in itertools.product(("fftn", "ifftn", "rfftn", "irfftn"), ((3, 4), (2, 5))):
        array = normal if name == "rfftn" else complex_normal
        yield getattr(jnp.fft, name), array(2, *shape)
        yield partial(getattr(jnp.fft, name), axes=(2, 0), norm="ortho"), array(*shape, 3)


def test_transforms():
    assert_agree(transforms())


def test_transforms_second_and_third_order():
    assert_agree(list(transforms())[::4], times=2)
    assert_agree(list(transforms())[::9], times=3)


def test_transforms_vmap():
    assert_agree(stacked(list(transforms())[::3]), batched=True)


def test_cosine_transforms_and_convolutions():
    transforms = [jax.scipy.fft.dct, jax.scipy.fft.idct, partial(jax.scipy.fft.dctn, norm="ortho")]
    assert_agree([(f, normal(3, 5)) for f in transforms])
    convolve = partial(jax.scipy.signal.fftconvolve, mode="same")
    assert_agree(
        [(convolve, normal(6), normal(3)), (convolve, complex_normal(6), complex_normal(3))]
    )


@pytest.mark.parametrize("kind", ["fft", "rfft", "irfft"])
def test_transforms_of_single_precision(kind):
    x = normal(6, dtype="float32")
    got = fg.grad(lambda x: jnp.sum(jnp.abs(getattr(jnp.fft, kind)(x))), rules=STRICT)(x)
    assert got.dtype == "float32"


def test_differences():
    assert_differences(lambda x: jnp.abs(jnp.fft.rfft2(x)), normal(3, 4))
    assert_differences(lambda x: jnp.fft.irfft(jax.lax.complex(x, 2 * x), n=5), normal(3))
