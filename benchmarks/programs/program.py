"""What a program is: a loss whose blocks can be wrapped, its arguments, and two sizes of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

FORMAT = np.float32

Wrap = Callable[..., Callable[..., Any]]
"""What is put around each block: `plain`, or `jax.checkpoint` with a policy."""


def plain(block: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """The block as it is."""
    return block


class Program(NamedTuple):
    """A loss with its arguments, the first of which is differentiated.

    Attributes:
        loss: what wraps each block ↦ the loss, a function that JAX has not seen before.
        arguments: the loss's.
        scanned: whether its blocks are the body of a scan.
        names: the values that `jax.ad_checkpoint.checkpoint_name` names in it.
        of_known_length: the same loss in a form that `jax.grad` takes, where it refuses `loss`.
        eager: whether it is called without `jit`.
    """

    loss: Callable[[Wrap], Callable[..., Any]]
    arguments: tuple[Any, ...]
    scanned: bool = False
    names: tuple[str, ...] = ()
    of_known_length: Callable[[Wrap], Callable[..., Any]] | None = None
    eager: bool = False


class Sized(NamedTuple):
    """A program to be built: `full` are the sizes measured, `small` those of a quick look."""

    build: Callable[..., Program]
    full: dict[str, int]
    small: dict[str, int]

    def __call__(self, small: bool = False) -> Program:
        program = self.build(**(self.small if small else self.full))
        return program._replace(arguments=jax.device_put(program.arguments))


def generator() -> np.random.Generator:
    """Where numbers come from: NumPy, since JAX would compile once for each of their shapes."""
    return np.random.default_rng(0)


def normal(draw: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Normal numbers of deviation `scale`."""
    return np.asarray(scale * draw.standard_normal(shape), FORMAT)


def matrix(draw: np.random.Generator, outputs: int, inputs: int, *stacked: int) -> np.ndarray:
    """Weights [..., outputs, inputs] that keep the variance of what they are applied to."""
    return normal(draw, *stacked, outputs, inputs, scale=1 / math.sqrt(inputs))


def unstacked(stacked: Any, depth: int) -> list[Any]:
    """The parameters of each layer, out of those of all layers in one."""
    return [jax.tree.map(lambda w, i=i: w[i], stacked) for i in range(depth)]
