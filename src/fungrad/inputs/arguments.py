"""The arguments that optimising images has in common, checked before any work is done."""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fungrad._arguments import describe, values_pass
from fungrad.descent import problem


def checked_steps(steps: Any, name: str = "steps") -> int:
    """A whole number of at least 0."""
    try:
        number = operator.index(steps)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {steps!r}") from None
    if number < 0 or isinstance(steps, bool):
        raise ValueError(f"{name} must be a whole number of at least 0, got {steps!r}")
    return number


def checked_key(key: Any, needed_by: str) -> jax.Array:
    """A typed key."""
    found = problem.checked_key(key, needed_by)
    assert found is not None  # what is needed and missing has been refused
    return found


def checked_photograph(name: str, image: Any) -> jax.Array:
    """An image [H, W, C] of floats in [0, 1]; bytes are divided by 255, [H, W] is grey.

    Raises:
        TypeError: it holds no floats or bytes.
        ValueError: it is no image, or has numbers outside of [0, 1].
    """
    if np.ndim(image) not in (2, 3) or 0 in np.shape(image):
        raise ValueError(f"{name} must be one image [H, W, C], or [H, W], got {describe(image)}")
    dtype = jnp.result_type(image)
    if dtype == jnp.uint8:
        image = jnp.asarray(image).astype(float) / 255
    elif not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"{name} must be floats in [0, 1] or bytes, got {describe(image)}; "
            "skimage.util.img_as_float makes floats of it"
        )
    values_pass(name, image, lambda x: (x >= 0) & (x <= 1), "in [0, 1]")
    image = jnp.asarray(image)
    return image if image.ndim == 3 else image[..., None]


def float_type(dtype: Any) -> Any:
    """The dtype; None is JAX's default float type."""
    dtype = jnp.dtype(jnp.result_type(float) if dtype is None else dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be a floating-point type, got {dtype}")
    return dtype


def wide_type(dtype: Any) -> Any:
    """At least float32: steps and sums are too fine for half precision."""
    dtype = float_type(dtype)
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


def positive_shape(name: str, shape: Any) -> tuple[int, ...]:
    """A tuple of positive numbers."""
    try:
        sizes = tuple(map(operator.index, shape))
    except TypeError:
        raise TypeError(f"{name} must be a tuple of whole numbers, got {shape!r}") from None
    if not sizes or min(sizes) < 1:
        raise ValueError(f"{name} must hold positive numbers, got {shape!r}")
    return sizes


def image_shape(shape: Any) -> tuple[int, ...]:
    """[H, W, C] of one image."""
    sizes = positive_shape("shape", shape)
    if len(sizes) != 3:
        hint = {2: "; a grey image is (H, W, 1)", 4: "; it has no batch axis"}.get(len(sizes), "")
        raise ValueError(f"shape must be one image's [H, W, C], got {list(sizes)}{hint}")
    return sizes
