"""Where the numbers x of an input may lie, and how they are shown as an image in [0, 1].

A space has a starting point for given noise, a map from the numbers u that are optimised to x, a
projection of u after every step, and a view of x in [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp


class Space(Protocol):
    """What `Pixels` and `Latent` ask of a space; all arrays are of one image."""

    def start(self, noise: jax.Array) -> jax.Array:
        """u before the first step, from noise around 0."""
        ...

    def point(self, u: jax.Array) -> jax.Array:
        """x for u."""
        ...

    def nearest(self, u: jax.Array) -> jax.Array:
        """The u to go on from after a step that led to `u`."""
        ...

    def shown(self, x: jax.Array) -> jax.Array:
        """x as an image in [0, 1]."""
        ...


@dataclass(frozen=True)
class Box:
    """low ≤ x ≤ high, by projection after every step; shown as (x − low) / (high − low).

    Raises:
        ValueError: the bounds are not two finite numbers, low < high.

    >>> Box(-1.0, 1.0).nearest(jnp.array([-3.0, 0.5, 2.0])).tolist()
    [-1.0, 0.5, 1.0]
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self):
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(
                f"a box needs finite bounds with low < high, got low={self.low}, high={self.high}"
            )

    def start(self, noise: jax.Array) -> jax.Array:
        """The middle, moved by the noise, in units of the box."""
        return self.nearest(0.5 * (self.low + self.high) + (self.high - self.low) * noise)

    def point(self, u: jax.Array) -> jax.Array:
        """x = u"""
        return u

    def nearest(self, u: jax.Array) -> jax.Array:
        """u, cut off at the bounds."""
        return jnp.clip(u, self.low, self.high)

    def shown(self, x: jax.Array) -> jax.Array:
        """(x − low) / (high − low)"""
        return jnp.clip((x - self.low) / (self.high - self.low), 0.0, 1.0)


@dataclass(frozen=True)
class Sphere:
    """‖x‖ = radius, the Euclidean norm of all numbers of one image: x = radius · u / ‖u‖.

    Shown with 0 as middle grey, as `Free`.

    Raises:
        ValueError: the radius is not a positive number.

    >>> Sphere(10.0).point(jnp.array([3.0, 4.0])).tolist()
    [6.0, 8.0]
    """

    radius: float = 1.0

    def __post_init__(self):
        if not 0 < self.radius < math.inf:
            raise ValueError(f"radius must be a positive number, got {self.radius}")

    def start(self, noise: jax.Array) -> jax.Array:
        """A random direction."""
        return noise / jnp.sqrt(jnp.mean(jnp.square(noise)))

    def point(self, u: jax.Array) -> jax.Array:
        """radius · u / ‖u‖"""
        return self.radius * u / jnp.sqrt(jnp.sum(jnp.square(u)))

    def nearest(self, u: jax.Array) -> jax.Array:
        """u, for only its direction matters."""
        return u

    def shown(self, x: jax.Array) -> jax.Array:
        """½ + x / (2 max |x|)"""
        return _around_grey(x)


@dataclass(frozen=True)
class Free:
    """x is any real array; shown as ½ + x / (2 max |x|), so 0 is middle grey.

    >>> Free().shown(jnp.array([-2.0, 0.0, 1.0])).tolist()
    [0.0, 0.5, 0.75]
    """

    def start(self, noise: jax.Array) -> jax.Array:
        """The noise alone."""
        return noise

    def point(self, u: jax.Array) -> jax.Array:
        """x = u"""
        return u

    def nearest(self, u: jax.Array) -> jax.Array:
        """u"""
        return u

    def shown(self, x: jax.Array) -> jax.Array:
        """½ + x / (2 max |x|)"""
        return _around_grey(x)


def _around_grey(x: jax.Array) -> jax.Array:
    reach = jnp.max(jnp.abs(x))
    return 0.5 + x / (2 * jnp.where(reach > 0, reach, jnp.ones_like(reach)))


def checked_space(space: Any) -> Space:
    """The space, refused unless it has what `Space` names."""
    needed = ("start", "point", "nearest", "shown")
    if isinstance(space, type) or not all(callable(getattr(space, name, None)) for name in needed):
        raise TypeError(f"space must be Box(low, high), Sphere(radius) or Free(), got {space!r}")
    return space
