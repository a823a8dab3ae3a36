"""Examples of rules: a rule names the points at which it is to be tested, and draws them here.

An example is a function with its arguments. A rule gives its examples lazily, as a function of a
`Draw`, in the shortest of these forms:

- the arguments alone, `draw.uniform(3)` or a tuple of several: of `jax.lax.NAME`, NAME being the
  rule's primitive;
- a tuple that begins with a function, `(function, *arguments)`;
- a list or generator of such; `draw.kink(...)` marks points where the derivative is a convention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp


class Draw:
    """Random arguments for examples, the same ones for the same seed.

    Floats are float64 where JAX's 64-bit mode is on, float32 otherwise.

    >>> draw = Draw(seed=0)
    >>> draw.uniform(2, 3).shape, draw.positive(3).min() >= 0.5
    ((2, 3), Array(True, dtype=bool))
    """

    def __init__(self, seed: int = 0):
        self._seed = seed
        self._random = np.random.default_rng(seed)

    def uniform(self, *shape: int, low: float = -1.0, high: float = 1.0) -> jax.Array:
        """Floats between low and high."""
        return jnp.asarray(self._random.uniform(low, high, shape))

    def positive(self, *shape: int) -> jax.Array:
        """Floats between 0.5 and 2."""
        return self.uniform(*shape, low=0.5, high=2.0)

    def complex(self, *shape: int) -> jax.Array:
        """Complex numbers between 0.5 and 1 in size, in every direction."""
        size, angle = self._random.uniform(0.5, 1, shape), self._random.uniform(-3, 3, shape)
        return jnp.asarray(size * np.exp(1j * angle))

    def integers(self, *shape: int, low: int = 0, high: int = 5) -> jax.Array:
        """Integers from low to high − 1."""
        return jnp.asarray(self._random.integers(low, high, shape))

    def boolean(self, *shape: int) -> jax.Array:
        """Truth values."""
        return jnp.asarray(self._random.integers(0, 2, shape) == 1)

    def permutation(self, n: int) -> jax.Array:
        """The integers 0, 1, …, n − 1 in another order."""
        return jnp.asarray(self._random.permutation(n))

    def values(self, *numbers: float) -> jax.Array:
        """These floats."""
        return jnp.asarray(np.asarray(numbers, float))

    def key(self) -> jax.Array:
        """A key of `jax.random`."""
        return jax.random.key(self._seed)

    def kink(self, *example: Any) -> Kink:
        """An example at points where the function has no derivative, or an infinite one."""
        return Kink(example)


@dataclass(frozen=True)
class Kink:
    """An example, in one of the forms above, at which the gradient is a convention."""

    example: tuple[Any, ...]


@dataclass(frozen=True)
class Example:
    """A function and arguments at which it emits the rule's primitive.

    Attributes:
        function: any JAX function.
        arguments: its arguments, arrays.
        kink: whether the gradient at these arguments is a convention.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    kink: bool = False


def examples(rule: Any, seed: int = 0) -> list[Example]:
    """The examples of a rule, drawn.

    Raises:
        ValueError: the rule has none.

    >>> from fungrad.rules.elementwise import tanh
    >>> [example.arguments[0].dtype.kind for example in examples(tanh)]
    ['f', 'c']
    """
    given = rule.example(Draw(seed)) if rule.example is not None else []
    several = list(given) if isinstance(given, list | Iterator) else [given]
    if not several:
        raise ValueError(
            f"the rule of {rule.primitive!r} has no example; give it one, such as "
            "example=lambda draw: draw.uniform(3)"
        )
    return [_expand(rule.primitive, one) for one in several]


def _expand(primitive: str, given: Any) -> Example:
    kink = isinstance(given, Kink)
    given = given.example if kink else given
    parts = given if isinstance(given, tuple) else (given,)
    if not callable(parts[0]):
        parts = (getattr(jax.lax, primitive), *parts)
    return Example(parts[0], parts[1:], kink)
