"""Random changes `(key, images[N, H, W, C]) -> images`: what survives them is no accident.

Every image draws its own. Only `pad` changes the size; before the model sees them, images that have
grown are cut about their middle and images that have shrunk are resized, to the size asked for.
What lies beyond an image's border has the value `fill`, middle grey unless told otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from fungrad._arguments import describe
from fungrad.inputs.arguments import wide_type

Transformation = Callable[[jax.Array, jax.Array], jax.Array]


def _each(change: Transformation) -> Transformation:
    def changed(key: jax.Array, images: jax.Array) -> jax.Array:
        return jax.vmap(change)(jax.random.split(key, images.shape[0]), images)

    return changed


def _check_whole(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} must be a whole number of at least 0, got {value!r}")


def pad(pixels: int, fill: float = 0.5) -> Transformation:
    """A border of so many pixels on all four sides.

    >>> pad(1)(jax.random.key(0), jnp.ones((1, 2, 2, 1))).shape
    (1, 4, 4, 1)
    """
    _check_whole("pixels", pixels)

    def padded(key: jax.Array, images: jax.Array) -> jax.Array:
        borders = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))
        return jnp.pad(images, borders, constant_values=jnp.asarray(fill, images.dtype))

    return padded


def jitter(pixels: int) -> Transformation:
    """A shift by whole pixels, at random by up to half of `pixels` in each direction.

    What leaves on one side enters on the other; after `pad` that is the border.

    >>> jitter(4)(jax.random.key(0), jnp.ones((1, 8, 8, 1))).shape
    (1, 8, 8, 1)
    """
    _check_whole("pixels", pixels)

    def shift(key: jax.Array, image: jax.Array) -> jax.Array:
        down, right = jax.random.randint(key, (2,), -(pixels // 2), pixels - pixels // 2 + 1)
        return jnp.roll(image, (down, right), (0, 1))

    return _each(shift)


def scale(low: float = 0.9, high: float = 1.1, fill: float = 0.5) -> Transformation:
    """Larger or smaller about the middle, by a factor between `low` and `high`.

    >>> scale(2.0, 2.0)(jax.random.key(0), jnp.ones((1, 8, 8, 1))).shape
    (1, 8, 8, 1)
    """
    if not 0 < low <= high < math.inf:
        raise ValueError(f"scale needs factors 0 < low <= high, got low={low}, high={high}")

    def scaled(key: jax.Array, image: jax.Array) -> jax.Array:
        factor = jax.random.uniform(key, (), wide_type(image.dtype), low, high)
        middle = 0.5 * jnp.asarray(image.shape[:2], factor.dtype)
        return resampled(image, factor, middle * (1 - factor), fill)

    return _each(scaled)


def rotate(degrees: float = 10.0, fill: float = 0.5) -> Transformation:
    """A turn about the middle by an angle between −degrees and degrees.

    >>> rotate(90.0)(jax.random.key(0), jnp.ones((1, 8, 8, 1))).shape
    (1, 8, 8, 1)
    """
    if not 0 <= degrees < math.inf:
        raise ValueError(f"degrees must be a number of at least 0, got {degrees}")

    def rotated(key: jax.Array, image: jax.Array) -> jax.Array:
        dtype, (height, width, _) = wide_type(image.dtype), image.shape
        angle = jax.random.uniform(key, (), dtype, -degrees, degrees) * (math.pi / 180)
        y = jnp.arange(height, dtype=dtype)[:, None] - 0.5 * (height - 1)
        x = jnp.arange(width, dtype=dtype) - 0.5 * (width - 1)
        rows = jnp.cos(angle) * y - jnp.sin(angle) * x + 0.5 * (height - 1)
        columns = jnp.sin(angle) * y + jnp.cos(angle) * x + 0.5 * (width - 1)

        def channel(plane: jax.Array) -> jax.Array:
            return map_coordinates(plane, [rows, columns], order=1, cval=fill)

        turned = jax.vmap(channel, in_axes=-1, out_axes=-1)(image.astype(dtype))
        return turned.astype(image.dtype)

    return _each(rotated)


standard = (pad(12), jitter(8), scale(0.9, 1.1), rotate(10.0), jitter(4))
"""What makes pictures of larger networks robust [olah2017]: `transforms=standard`."""


# --- Resampling -------------------------------------------------------------------------------


def resampled(image: jax.Array, factor: Any, offset: Any, fill: float = 0.5) -> jax.Array:
    """z[p] = x[(p − offset) / factor] by linear interpolation, in the image's own [H, W, C]."""
    dtype = wide_type(image.dtype)
    factors = jnp.broadcast_to(jnp.asarray(factor, dtype), (2,))
    moved = jax.image.scale_and_translate(
        image.astype(dtype) - fill,  # beyond the border is 0
        image.shape,
        (0, 1),
        factors,
        jnp.asarray(offset, dtype),
        "linear",
        antialias=True,
    )
    return (moved + fill).astype(image.dtype)


def crops(count: int, sizes: tuple[float, float]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`(key, image[H, W, C]) -> [count, H, W, C]`: random parts of an image, resized to its size.

    A part's height and width are a share of the image's, the same for both, uniform in `sizes`.
    """

    def crop(key: jax.Array, image: jax.Array) -> jax.Array:
        share_key, place_key = jax.random.split(key)
        dtype = wide_type(image.dtype)
        share = jax.random.uniform(share_key, (), dtype, *sizes)
        room = (1 - share) * jnp.asarray(image.shape[:2], dtype)
        corner = jax.random.uniform(place_key, (2,), dtype) * room
        return resampled(image, 1 / share, -corner / share)

    def cut(key: jax.Array, image: jax.Array) -> jax.Array:
        return jax.vmap(crop, in_axes=(0, None))(jax.random.split(key, count), image)

    return cut


def chain(transforms: Sequence[Transformation]) -> Transformation:
    """One after the other, and back to the size at the start."""

    def all_of_them(key: jax.Array, images: jax.Array) -> jax.Array:
        size = images.shape[1:3]
        for transform, own in zip(transforms, jax.random.split(key, len(transforms)), strict=True):
            images = _as_many(images, transform(own, images))
        return _fitted(images, size)

    return all_of_them if transforms else lambda key, images: images


def _as_many(images: jax.Array, changed: Any) -> jax.Array:
    """What a transformation has made of `images`, refused unless that are as many images."""
    if jnp.ndim(changed) != 4 or jnp.shape(changed)[0] != images.shape[0]:
        raise ValueError(
            f"transforms must return as many images [N, H, W, C] as they get, "
            f"got {describe(changed)} for {describe(images)}; each gets all images at once"
        )
    return changed


def _fitted(images: jax.Array, size: Sequence[int]) -> jax.Array:
    """Cut about the middle where larger than `size`, then resized where smaller."""
    for axis, wanted in enumerate(size, start=1):
        if (extra := images.shape[axis] - wanted) > 0:
            images = jax.lax.slice_in_dim(images, extra // 2, extra // 2 + wanted, axis=axis)
    shape = (images.shape[0], *size, images.shape[3])
    return images if images.shape == shape else jax.image.resize(images, shape, "linear")


# --- Arguments --------------------------------------------------------------------------------


def checked_transforms(transforms: Any) -> tuple[Transformation, ...]:
    """A sequence of functions, or one of them alone."""
    transforms = (transforms,) if callable(transforms) else tuple(transforms)
    for transform in transforms:
        if not callable(transform):
            raise TypeError(
                "transforms must be functions (key, images[N, H, W, C]) -> images, such as "
                f"fungrad.inputs.jitter(8), got {transform!r}"
            )
    return transforms
