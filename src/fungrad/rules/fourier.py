"""Fourier transforms: products with symmetric matrices, so that each is its own gradient's kin.

F[j,k] = ωʲᵏ, ω = exp(−2πi/n), is symmetric, and F⁻¹ = F̄/n. With several axes F is the Kronecker
product of theirs, and n the product of their lengths.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from jax import lax
from jax.extend.core.primitives import fft_p

from fungrad.rulebook import rule

RFFT, IRFFT = lax.FftType.RFFT, lax.FftType.IRFFT


def _examples(draw):
    def transform(kind, *lengths):
        return partial(fft_p.bind, fft_type=getattr(lax.FftType, kind), fft_lengths=lengths)

    for kind in ("FFT", "IFFT"):
        yield transform(kind, 3), draw.complex(2, 3)
        yield transform(kind, 2, 3), draw.complex(2, 3)
    for lengths in ((4,), (3,), (1,), (2, 3), (3, 2, 4)):
        yield transform("RFFT", *lengths), draw.uniform(*lengths)
        half = *lengths[:-1], lengths[-1] // 2 + 1
        yield transform("IRFFT", *lengths), draw.complex(*half)


@rule("fft", example=lambda draw: list(_examples(draw)))
def fft(g, z, x, *, fft_type, fft_lengths):
    """z = F x, or F⁻¹x        ∂z/∂x = F or F⁻¹, as Fᵀ = F; for a real x (or z) its half of F"""
    # A real x has z[n−k] = z̄[k] along the last axis, so RFFT keeps the first half of z only, and
    # IRFFT rebuilds the other half. Let w[k] = 1 where n − k is k itself modulo n, else 2. Then
    #     RFFT   ∂L/∂x[j] = Re Σₖ g[k] ωʲᵏ = IRFFT(n/w · ḡ)[j], the sum over half of the k
    #     IRFFT  z[j] = 1/n Re Σₖ w[k] x[k] ω⁻ʲᵏ, so ∂L/∂x[k] = w[k]/n Σⱼ g[j] ω⁻ʲᵏ
    transform = partial(fft_p.bind, fft_lengths=fft_lengths)
    n = math.prod(fft_lengths)
    if fft_type == RFFT:
        weighted = lax.mul(g, _along_last(n / _weights(fft_lengths[-1]), g))
        return transform(lax.conj(weighted), fft_type=IRFFT)
    if fft_type == IRFFT:
        spectrum = transform(g, fft_type=RFFT)
        return lax.conj(lax.mul(spectrum, _along_last(_weights(fft_lengths[-1]) / n, spectrum)))
    return transform(g, fft_type=fft_type)


def _weights(n):
    """How often a whole spectrum of length n holds each entry of the half: once or twice."""
    k = np.arange(n // 2 + 1)
    return np.where((k == 0) | (2 * k == n), 1, 2)


def _along_last(weights, spectrum):
    weights = weights.astype(spectrum.dtype)
    return lax.broadcast_in_dim(weights, spectrum.shape, [spectrum.ndim - 1])
