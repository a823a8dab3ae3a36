"""Penalties R(x) of one image x[H, W, C], to be subtracted from an objective.

    penalty = 0.1 * total_variation + 0.01 * l2        and then        penalty(image) -> scalar

They are sums, not means. Any other function of an image serves as a penalty too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


class Penalty:
    """A function of an image that may be multiplied by a number and added to another one."""

    def __init__(self, function: Callable[[jax.Array], jax.Array], name: str):
        self._function = function
        self.__name__ = name
        self.__doc__ = function.__doc__

    def __call__(self, image: jax.Array) -> jax.Array:
        return self._function(jnp.asarray(image))

    def __add__(self, other: Callable[[jax.Array], jax.Array]) -> Penalty:
        if not callable(other):
            return NotImplemented
        return Penalty(lambda x: self(x) + other(x), f"{self} + {getattr(other, '__name__', '?')}")

    def __mul__(self, factor: float) -> Penalty:
        return Penalty(lambda x: self(x) * factor, f"{factor:g}·{self}")

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return self.__name__


def _total_variation(x: jax.Array) -> jax.Array:
    """Σ |x_{i+1,j} − x_{ij}| + |x_{i,j+1} − x_{ij}| over pixels and channels.

    >>> float(total_variation(jnp.array([[0.0, 1.0], [1.0, 3.0]])[..., None]))
    6.0

    Source: [rudin1992].
    """
    return jnp.abs(x[1:] - x[:-1]).sum() + jnp.abs(x[:, 1:] - x[:, :-1]).sum()


def _l1(x: jax.Array) -> jax.Array:
    """Σ |x|

    >>> float(l1(jnp.array([[[-1.0], [2.0]]])))
    3.0
    """
    return jnp.abs(x).sum()


def _l2(x: jax.Array) -> jax.Array:
    """Σ x²

    >>> float(l2(jnp.array([[[-1.0], [2.0]]])))
    5.0
    """
    return jnp.square(x).sum()


def _blur(x: jax.Array) -> jax.Array:
    """Σ (x − b * x)², b the binomial window (1, 4, 6, 4, 1) / 16 both ways: what blurring takes.

    The border repeats the outermost pixels.

    >>> float(blur(jnp.ones((3, 3, 1))))
    0.0
    """
    return jnp.square(x - _blurred(x)).sum()


def _blurred(x: jax.Array) -> jax.Array:
    height, width, _ = x.shape
    window = np.array([1, 4, 6, 4, 1]) / 16
    x = jnp.pad(x, ((2, 2), (2, 2), (0, 0)), "edge")
    rows = [float(w) * x[i : i + height] for i, w in enumerate(window)]
    x = functools.reduce(jnp.add, rows)
    columns = [float(w) * x[:, j : j + width] for j, w in enumerate(window)]
    return functools.reduce(jnp.add, columns)


total_variation = Penalty(_total_variation, "total_variation")
l1 = Penalty(_l1, "l1")
l2 = Penalty(_l2, "l2")
blur = Penalty(_blur, "blur")
