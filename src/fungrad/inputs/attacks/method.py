"""What all methods share: a value with a norm and sizes that are checked when it is made."""

from __future__ import annotations

import dataclasses
import numbers
from dataclasses import dataclass
from typing import ClassVar

import jax

from fungrad.inputs.attacks.problem import Problem
from fungrad.inputs.constraints import INFINITY, NORMS


@dataclass(frozen=True)
class Method:
    """A way to attack: immutable, hashable, and without random numbers of its own.

    Attributes:
        norm: 1, 2 or ∞, in which the change is measured.
    """

    norm: float = INFINITY

    norms: ClassVar[tuple[float, ...]] = NORMS
    counts: ClassVar[tuple[str, ...]] = ("steps", "restarts")
    positive: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        name = type(self).__name__
        if self.norm not in NORMS:
            raise ValueError(f'norm must be 1, 2 or float("inf"), got {self.norm!r} for {name}')
        if self.norm not in self.norms:
            known = " or ".join(f"{norm:g}" for norm in self.norms)
            raise ValueError(
                f"norm must be {known} for {name}, which has no other; got {self.norm:g}"
            )
        object.__setattr__(self, "norm", INFINITY if self.norm == INFINITY else int(self.norm))
        for field in dataclasses.fields(self):
            self._check(field.name, getattr(self, field.name))

    def _check(self, field: str, value: object) -> None:
        name = type(self).__name__
        integral = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if field in self.counts and not (integral and value >= 1):  # type: ignore[operator]
            raise ValueError(f"{field} must be a positive integer for {name}, got {value!r}")
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if field in self.positive and not (real and 0 < value < INFINITY):  # type: ignore[operator]
            raise ValueError(f"{field} must be a positive number for {name}, got {value!r}")


@dataclass(frozen=True)
class BallMethod(Method):
    """A method that looks for the criterion inside a ball of given size."""

    def find(self, problem: Problem, epsilon: jax.Array) -> jax.Array:
        """δ [N, D] in the ball and the box; the best that was found."""
        raise NotImplementedError


@dataclass(frozen=True)
class MinimumNormMethod(Method):
    """A method that looks for the smallest change with which the criterion holds."""

    def find(self, problem: Problem) -> jax.Array:
        """δ [N, D] in the box, with which the criterion holds, or 0 where none was found."""
        raise NotImplementedError
