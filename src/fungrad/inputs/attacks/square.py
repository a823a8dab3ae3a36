"""The black box: a random search that asks for logits alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fungrad.inputs.attacks.method import BallMethod
from fungrad.inputs.attacks.problem import Problem
from fungrad.inputs.constraints import INFINITY, Room, lengths, project

# The share of an image that a window covers is halved after these of 10000 queries.
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass(frozen=True)
class Square(BallMethod):
    """Random search in windows; a change is kept if it raises the margin.

        p = ∞: a window of δ becomes ±ε, one sign for each channel
        p = 2, 1: a window gets a peak of random sign on top of what it had, and all of the length
                  that the ball has left, with that of another window, which becomes 0

    Windows are squares of images [H, W] or [H, W, C], and intervals of anything else. The first one
    covers 0.8 of the image, and less and less in the course of the search; δ begins as stripes.
    Examples for which the criterion holds ask no more. No gradient is taken: what this attack finds
    and others do not has been hidden from gradients.

    Attributes:
        norm: 1, 2 or ∞.
        steps: the most queries for each example.
        share: of the image, that the first window covers.

    >>> Square(steps=100).share
    0.8

    Source: [andriushchenko2020]; for p = 1 [croce2021].
    """

    steps: int = 5000
    share: float = 0.8

    counts: ClassVar[tuple[str, ...]] = ("steps",)
    positive: ClassVar[tuple[str, ...]] = ("share",)

    def find(self, problem: Problem, epsilon: jax.Array) -> jax.Array:
        """δ [N, D], the last that was kept."""
        shape, room = image_shape(problem.shape), problem.room
        sizes = jnp.asarray(window_sizes(self.steps, self.share, shape))

        def fits(delta):
            return project(delta, self.norm, epsilon, room)

        def change(key, size, delta):
            if self.norm == INFINITY:
                return _signs(key, size, delta, epsilon, shape)
            return _peak(key, size, delta, epsilon, shape, self.norm)

        def go_on(state):
            return (state[0] < self.steps) & jnp.any(state[2] <= 0)

        def ask(state):
            step, delta, margin = state
            proposed = jax.vmap(change, (0, None, 0))(problem.draw(step), sizes[step], delta)
            proposed = fits(proposed)
            reached = problem.margin(proposed)
            keep = (margin <= 0) & (reached > margin)
            delta = jnp.where(keep[:, None], proposed, delta)
            return step + 1, delta, jnp.where(keep, reached, margin)

        start = fits(self._stripes(problem, room, epsilon, shape))
        return lax.while_loop(go_on, ask, (1, start, problem.margin(start)))[1]

    def _stripes(self, problem: Problem, room: Room, epsilon, shape) -> jax.Array:
        """±ε for each column and channel; for p = 1 and 2 as long as the ball is wide."""

        def stripes(key):
            columns = jax.random.rademacher(key, (1, *shape[1:]), room.below.dtype)
            return jnp.broadcast_to(columns, shape).ravel()

        signs = jax.vmap(stripes)(problem.draw(0))
        return epsilon * signs / lengths(signs, self.norm)[:, None]


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(H, W, C) of one example; what is no image is one row.

    >>> image_shape((8, 8)), image_shape((8, 8, 3)), image_shape((64,))
    ((8, 8, 1), (8, 8, 3), (1, 64, 1))
    """
    if len(shape) == 2:
        return (*shape, 1)
    return shape if len(shape) == 3 else (1, int(np.prod(shape)), 1)  # type: ignore[return-value]


def window_sizes(steps: int, share: float, shape: tuple[int, int, int]) -> np.ndarray:
    """The sides of the windows, [steps]."""
    height, width, _ = shape
    query = np.arange(steps) * 10000 // steps
    halvings = np.searchsorted(HALVED_AFTER, query, side="left")
    area = share / 2.0**halvings * height * width
    side = np.sqrt(area) if height > 1 else area
    return np.clip(np.round(side), 1, width if height == 1 else min(height, width)).astype(np.int32)


def _window(key: jax.Array, size: jax.Array, shape: tuple[int, int, int]):
    """A random window [H, W, 1], and each entry's distance from its middle."""
    high, wide = jnp.minimum(size, shape[0]), jnp.minimum(size, shape[1])
    of_row, of_column = jax.random.split(key)
    top = jax.random.randint(of_row, (), 0, shape[0] - high + 1, jnp.int32)
    left = jax.random.randint(of_column, (), 0, shape[1] - wide + 1, jnp.int32)
    rows = jnp.arange(shape[0], dtype=jnp.int32)[:, None, None] - top
    columns = jnp.arange(shape[1], dtype=jnp.int32)[None, :, None] - left
    inside = (rows >= 0) & (rows < high) & (columns >= 0) & (columns < wide)
    from_middle = jnp.maximum(jnp.abs(2 * rows - high + 1), jnp.abs(2 * columns - wide + 1))
    return inside, from_middle / 2


def _signs(key, size, delta, epsilon, shape) -> jax.Array:
    """δ [D] with ±ε in a window."""
    place, sign = jax.random.split(key)
    inside, _ = _window(place, size, shape)
    signs = jax.random.rademacher(sign, (1, 1, shape[2]), delta.dtype)
    return jnp.where(inside, epsilon * signs, delta.reshape(shape)).ravel()


def _peak(key, size, delta, epsilon, shape, norm) -> jax.Array:
    """δ [D] with a peak in one window, and nothing in another."""
    places, sign = jax.random.split(key)
    first, second = jax.random.split(places)
    inside, from_middle = _window(first, size, shape)
    emptied = _window(second, size, shape)[0] & ~inside
    old = delta.reshape(shape)

    def length(values):
        return lengths(values.reshape(1, -1), norm)[0]

    def scaled(values):
        size = length(values)
        return values / jnp.where(size > 0, size, 1)

    signs = jax.random.rademacher(sign, (1, 1, shape[2]), delta.dtype)
    peak = jnp.where(inside, signs / (1 + from_middle.astype(delta.dtype)) ** 2, 0)
    new = scaled(scaled(peak) + scaled(jnp.where(inside, old, 0)))
    rest = jnp.where(inside | emptied, 0, old)
    left = jnp.maximum(epsilon**norm - length(rest) ** norm, 0) ** (1 / norm)
    return (rest + left * new).ravel()
