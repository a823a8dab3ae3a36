"""What the models share: a function that knows its configuration, and first parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fungrad import layers


class Model:
    """A model's `apply`: a pure function `(params, x) -> scores` that knows its configuration.

    Models of equal configurations are equal and hash alike, so a model can be a static argument
    of `jax.jit`.

    Attributes:
        config: what builds it again: `fungrad.models.build(**config, key=key)`.

    >>> Model(lambda params, x: params * x, name="scale")(2.0, 3.0)
    6.0
    """

    def __init__(self, function: Callable[[Any, Any], Any], **config: Any):
        self._function = function
        self._config = config
        self.__name__ = config["name"]

    @property
    def config(self) -> dict[str, Any]:
        return dict(self._config)

    def __call__(self, params: Any, x: Any) -> Any:
        return self._function(params, x)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Model) and self._config == other._config

    def __hash__(self) -> int:
        return hash(tuple(self._config.items()))

    def __repr__(self) -> str:
        options = [f"{name}={value!r}" for name, value in self._config.items() if name != "name"]
        return f"{self.__name__}({', '.join(options)})"


class Linear(NamedTuple):
    """The parameters of `fungrad.layers.linear` or `conv`: `linear(x, *parameters)`.

    Attributes:
        W: [m, n], or [h, w, n, m] of a convolution.
        b: [m].
    """

    W: jax.Array
    b: jax.Array


def initial_linear(key, outputs, inputs, *, initializer=None, dtype=float):
    """W [outputs, inputs] drawn by the initializer, b = 0.

    The default keeps the variance of what flows through ReLU layers: w ~ N(0, 2/n). [he2015]
    """
    draw = initializer or jax.nn.initializers.he_normal(in_axis=-1, out_axis=-2)
    return Linear(draw(key, (outputs, inputs), dtype), jnp.zeros(outputs, dtype))


def activation_of(activation):
    """The function by its name in `fungrad.layers.activations`, or the function that it is."""
    if callable(activation):
        return activation
    if activation not in layers.activations:
        names = ", ".join(layers.activations)
        raise ValueError(f"activation must be a function or one of {names}, got {activation!r}")
    return layers.activations[activation]


def positive(name, *sizes):
    """The sizes as a tuple, each of them refused unless it is a positive integer."""
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(f"{name} must be positive integers, got {', '.join(map(repr, sizes))}")
    return tuple(sizes)
