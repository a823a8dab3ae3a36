"""What the models share: a function that knows its configuration, and parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fungrad import layers
from fungrad._arguments import describe, floating


class Model:
    """A model's `apply`: a pure function `(params, x) -> scores` that knows its configuration.

    CLIP takes images and tokens, `(params, images, tokens)`.

    Models of equal configurations are equal and hash alike, so a model can be a static argument
    of `jax.jit`.

    Attributes:
        config: what builds it again: `fungrad.models.build(**config, key=key)`.

    >>> Model(lambda params, x: params * x, name="scale")(2.0, 3.0)
    6.0
    """

    def __init__(self, function: Callable[..., Any], **config: Any):
        self._function = function
        self._config = config
        self.__name__ = config["name"]

    @property
    def config(self) -> dict[str, Any]:
        return dict(self._config)

    def __call__(self, params: Any, *inputs: Any, **options: Any) -> Any:
        return self._function(params, *inputs, **options)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Model) and self._config == other._config

    def __hash__(self) -> int:
        return hash(_frozen(self._config))

    def __repr__(self) -> str:
        options = [f"{name}={value!r}" for name, value in self._config.items() if name != "name"]
        return f"{self.__name__}({', '.join(options)})"


def _frozen(value):
    """The value with tuples in the place of dictionaries, which have no hash."""
    if isinstance(value, dict):
        return tuple((name, _frozen(entry)) for name, entry in value.items())
    return value


class Linear(NamedTuple):
    """The parameters of `fungrad.layers.linear` or `conv`: `linear(x, *parameters)`.

    Attributes:
        W: [m, n], or [h, w, n, m] of a convolution.
        b: [m], or None for no bias.
    """

    W: jax.Array
    b: jax.Array | None


class Norm(NamedTuple):
    """The parameters of `fungrad.layers.layer_norm`.

    Attributes:
        scale: [n].
        shift: [n].
    """

    scale: jax.Array
    shift: jax.Array


def initial_linear(key, outputs, inputs, *, bias=True, initializer=None, dtype=float):
    """W [outputs, inputs] drawn by the initializer, b = 0.

    The default keeps the variance of what flows through ReLU layers: w ~ N(0, 2/n). [he2015]
    """
    draw = initializer or jax.nn.initializers.he_normal(in_axis=-1, out_axis=-2)
    b = jnp.zeros(outputs, dtype) if bias else None
    return Linear(draw(key, (outputs, inputs), dtype), b)


def initial_head(key, outputs, inputs, *, bias=True, dtype=float):
    """The linear layer of the scores, or None where the model has no scores."""
    if outputs is None:
        return None
    return initial_linear(key, outputs, inputs, bias=bias, dtype=dtype)


def initial_norm(width, dtype=float):
    """γ = 1, β = 0."""
    return Norm(jnp.ones(width, dtype), jnp.zeros(width, dtype))


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


def positive_or_none(name, size):
    """The size, refused unless it is a positive integer or None."""
    return None if size is None else positive(name, size)[0]


def whether(name, value):
    """The value, refused unless it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return value


def in_format_of(parameter, x, image):
    """The images in the parameter's dtype; refused unless they are [..., H, W, C] of that size.

    A size that is None may be any.
    """
    x = floating("x", x)
    wanted = ", ".join("any" if size is None else str(size) for size in image)
    sizes = zip(x.shape[-3:], image, strict=False)
    if x.ndim < 3 or any(size not in (given, None) for given, size in sizes):
        raise ValueError(f"x must be images [..., H, W, C] of ({wanted}), got {describe(x)}")
    return x.astype(parameter.dtype)
