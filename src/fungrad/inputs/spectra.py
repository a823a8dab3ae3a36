"""Frequencies and colours of photographs, and images from them.

The discrete Fourier transform of a real image is Hermitian, F(−k) = conj F(k), so the half-plane
[H, W // 2 + 1] of `numpy.fft.rfft2` says all. Frequencies f are in cycles per pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fungrad._arguments import describe

# The features I₁, I₂, I₃ into which the colours of photographs decompose almost without
# correlation [ohta1980], as columns, each as long as its deviation relative to the first. The
# deviations, 0.39, 0.14 and 0.04, are those of the colour photographs that come with scikit-image
# and scikit-learn; the principal axes found there are these features to within 13°.
COLOURS = np.array([[1, 1, 1], [1, 0, -2], [1, -1, 1]]) * [3**-0.5, 0.35 * 2**-0.5, 0.1 * 6**-0.5]


# --- Colours ----------------------------------------------------------------------------------


def coloured(x: jax.Array, colours: np.ndarray | None) -> jax.Array:
    """A · x, the colours [..., C] of uncorrelated ones; A = I if None."""
    return x if colours is None else jnp.einsum("...n,mn->...m", x, jnp.asarray(colours, x.dtype))


def checked_colours(colours: Any, channels: int) -> np.ndarray | None:
    """A, [C, C]; that of photographs for three channels unless it is given."""
    if colours is None:
        return COLOURS if channels == 3 else None
    if np.shape(colours) != (channels, channels):
        raise ValueError(
            f"colours must be a matrix [{channels} × {channels}], got {describe(colours)}"
        )
    return np.asarray(colours, float)


# --- Frequencies ------------------------------------------------------------------------------


def half_plane(shape: Sequence[int]) -> tuple[int, ...]:
    """[H, W // 2 + 1, C] for [H, W, C].

    >>> half_plane((17, 23, 3))
    (17, 12, 3)
    """
    height, width, channels = shape
    return height, width // 2 + 1, channels


def frequencies(height: int, width: int) -> np.ndarray:
    """|f| on the half-plane.

    >>> frequencies(4, 4)[0].tolist()
    [0.0, 0.25, 0.5]
    """
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))


def power_law(height: int, width: int, decay: float = 1.0) -> np.ndarray:
    """1 / f^decay on the half-plane, with f at least one cycle per image.

    Photographs have decay 1 to 2.  Source: [field1987].

    >>> power_law(4, 4)[0].tolist()
    [4.0, 4.0, 2.0]
    """
    return np.maximum(frequencies(height, width), 1 / max(height, width)) ** -decay


def inverse(real: jax.Array, imaginary: jax.Array, shape: Sequence[int]) -> jax.Array:
    """The images [N, H, W, C] with the coefficients real + i · imaginary."""
    return jnp.fft.irfft2(lax.complex(real, imaginary), s=tuple(shape[:2]), axes=(1, 2))


def hermitian(phases: jax.Array, width: int) -> jax.Array:
    """Phases [N, H, W // 2 + 1, C] that a real image can have.

    The columns of the half-plane that are their own mirror images need φ(−k) = −φ(k); there stands
    ½ (φ(k) − φ(−k)).
    """
    mirrored = phases[:, -np.arange(phases.shape[1]) % phases.shape[1]]
    return jnp.where(_own_mirrors(width)[:, None], 0.5 * (phases - mirrored), phases)


def _own_mirrors(width: int) -> np.ndarray:
    """Which columns of the half-plane are their own mirror images: 0 and, of even widths, W / 2."""
    return np.arange(width // 2 + 1) % (width / 2) == 0


def magnitudes(photographs: Sequence[Any], shape: Sequence[int], colours: Any = None) -> np.ndarray:
    """The mean magnitude of photographs at each frequency, [H, W // 2 + 1, C].

    Each is cut to the shape's proportions about its middle, resized, taken to uncorrelated colours,
    and faded out towards its border, so that the border is no edge.

    Args:
        photographs: images [h, w, C], each of any size.
        shape: [H, W, C] of the image to come.
        colours: A, as in `Fourier`.

    Raises:
        ValueError: there are none, or one is no [h, w, C].

    >>> noise = np.random.default_rng(0).uniform(size=(9, 12, 1))
    >>> magnitudes([noise], (8, 8, 1)).shape
    (8, 5, 1)
    """
    height, width, channels = shape
    uncoloured = np.eye(channels)
    if (given := checked_colours(colours, channels)) is not None:
        uncoloured = np.linalg.inv(given)
    fade = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]
    total = np.zeros(half_plane(shape))
    for photograph in photographs:
        if np.ndim(photograph) != 3 or np.shape(photograph)[2] != channels:
            raise ValueError(
                f"photographs must be images [h, w, {channels}], got {describe(photograph)}"
            )
        x = jnp.asarray(_proportioned(np.asarray(photograph, np.float32), height / width))
        x = np.asarray(jax.image.resize(x, tuple(shape), "linear"), float) @ uncoloured.T
        total += np.abs(np.fft.rfft2((x - x.mean((0, 1))) * fade[..., None], axes=(0, 1)))
    if not len(photographs):
        raise ValueError("photographs must hold at least one image")
    return total / len(photographs)


def _proportioned(x: np.ndarray, ratio: float) -> np.ndarray:
    """The middle of an image [h, w, C], cut so that h / w is the ratio."""
    height, width = x.shape[:2]
    h, w = min(height, round(width * ratio)), min(width, round(height / ratio))
    top, left = (height - h) // 2, (width - w) // 2
    return x[top : top + max(h, 1), left : left + max(w, 1)]


def standardised(magnitudes: Any, shape: Sequence[int]) -> np.ndarray:
    """Magnitudes [H, W // 2 + 1, C] of images with mean 0 and mean square 1, over all channels.

    By Parseval's theorem the mean square of an image is Σ_k |F(k)|² / (H W)², over the whole plane;
    a column of the half-plane counts twice unless it is its own mirror image.
    """
    height, width, channels = shape
    half = half_plane(shape)
    if np.shape(magnitudes) not in (half, half[:2]):
        raise ValueError(
            f"magnitudes must have shape {list(half[:2])} or {list(half)}, "
            f"got {describe(magnitudes)}"
        )
    given = np.asarray(magnitudes, float).reshape(*half[:2], -1)
    size, own = np.array(np.broadcast_to(given, half)), _own_mirrors(width)
    size[:, own] = 0.5 * (size + size[-np.arange(height) % height])[:, own]  # |F(−k)| = |F(k)|
    size[0, 0] = 0.0
    counts = np.where(own, 1, 2)
    mean_square = np.sum(counts[:, None] * size**2) / (height * width) ** 2 / channels
    if not (np.all(np.isfinite(size)) and np.all(size >= 0) and mean_square > 0):
        raise ValueError(
            "magnitudes must be finite, not negative, and not all zero beside the mean"
        )
    return size / np.sqrt(mean_square)
