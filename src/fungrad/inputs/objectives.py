"""What an image shall be good at: functions of a model's values, to be maximised.

With h[..., C] the value of one image at a node, positions first, channels last:

    channel(c)          the mean of h[..., c] over positions
    neuron(y, x, c)     h[y, x, c]
    logit(c)            output c of the model
    layer()             the mean of h²                                       deep dream
    direction(d)        the mean over positions of h · d
    match(image)        −the mean of (h − h')², h' the value of that image
    caricature(image)   the mean of h · h', times the cosine between h and h' to a power
    diversity()         −the mean cosine between this image's Gram matrix and the others' in a batch
    function(f)         f(h)

Each is at the node that `visualize` is asked for unless it has a `where=` of its own. They may be
added, subtracted, and multiplied by numbers: `channel(3) - 0.5 * channel(4, where="h2")`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fungrad._arguments import describe, known
from fungrad.inputs.reading import Where

Place = Where | EllipsisType  # `...` is the node that `visualize` is asked for


def _anything(shape: tuple[int, ...]) -> None:
    """Every shape suits."""


@dataclass(frozen=True, eq=False)
class Term:
    """One part of an objective.

    Attributes:
        name: for messages.
        function: `(h[N, ..., C], n, reference[..., C] or None) -> scalar`, of image n.
        where: the node.
        check: `(shape) -> None`, refuses a value of one image that does not suit.
        reference: an image [H, W, C] whose value is asked for too.
        weight: a factor.
    """

    name: str
    function: Callable[[jax.Array, int, Any], jax.Array]
    where: Place = ...
    check: Callable[[tuple[int, ...]], None] = _anything
    reference: Any = None
    weight: Any = 1.0


@dataclass(frozen=True, eq=False)
class Objective:
    """A weighted sum of terms; made by the functions of this module."""

    terms: tuple[Term, ...]

    def __add__(self, other: Objective) -> Objective:
        if not isinstance(other, Objective):
            return NotImplemented
        return Objective((*self.terms, *other.terms))

    def __mul__(self, factor: Any) -> Objective:
        if isinstance(factor, Objective) or np.ndim(factor):
            return NotImplemented
        return Objective(tuple(replace(t, weight=t.weight * factor) for t in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1.0

    def __sub__(self, other: Objective) -> Objective:
        return self + -other if isinstance(other, Objective) else NotImplemented

    def __truediv__(self, divisor: Any) -> Objective:
        return self * (1.0 / divisor)

    def __repr__(self) -> str:
        return " + ".join(f"{term.weight:g}·{term.name}" for term in self.terms)


def _objective(name: str, function: Any, where: Place, check: Any, **options: Any) -> Objective:
    return Objective((Term(name, function, where, check, **options),))


# --- Units ------------------------------------------------------------------------------------


def channel(index: int, *, where: Place = ...) -> Objective:
    """The mean over positions of channel `index`.

    Raises:
        TypeError: the index is no whole number.
        ValueError: when used: there is no such channel.

    >>> channel(3) - 0.5 * channel(4, where="h2")
    1·channel(3) + -0.5·channel(4)
    """
    index = _whole("channel", index)

    def mean(h: jax.Array, n: int, _: Any) -> jax.Array:
        return jnp.mean(h[n, ..., index])

    return _objective(
        f"channel({index})", mean, where, lambda s: _in_range("channel", index, s, -1)
    )


def neuron(*place: int, where: Place = ...) -> Objective:
    """The value at one position and channel: `neuron(y, x, channel)`, in as many axes as there are.

    Raises:
        TypeError: an index is no whole number.
        ValueError: when used: another number of axes, or an index beyond one.

    >>> neuron(0, 2, 5)
    1·neuron(0, 2, 5)
    """
    place = tuple(_whole("neuron", index) for index in place)

    def check(shape: tuple[int, ...]) -> None:
        if len(place) != len(shape):
            raise ValueError(
                f"neuron needs one index for each of the {len(shape)} axes of {list(shape)}, "
                f"positions first, the channel last; got {place}"
            )
        for axis, index in enumerate(place):
            _in_range("neuron", index, shape, axis)

    return _objective(f"neuron{place}", lambda h, n, _: h[(n, *place)], where, check)


def logit(index: int) -> Objective:
    """Output `index` of the model, averaged over positions where it has some.

    >>> logit(7)
    1·channel(7)
    """
    return channel(index, where=None)


def layer(*, where: Place = ...) -> Objective:
    """The mean of h²: whatever is there shall be there more.  Source: [mordvintsev2015].

    >>> layer(where="h2")
    1·layer
    """
    return _objective("layer", lambda h, n, _: jnp.mean(jnp.square(h[n])), where, _anything)


def direction(vector: Any, *, where: Place = ...) -> Objective:
    """The mean over positions of h · d, with d[C], or d[..., C] of h's shape.

    A d with a single one is a channel.

    Raises:
        TypeError: d holds no numbers.
        ValueError: when used: d has another shape.

    >>> direction(np.array([0.6, -0.8]))
    1·direction
    """
    vector = jnp.asarray(vector)
    if vector.ndim == 0 or not jnp.issubdtype(vector.dtype, jnp.number):
        raise TypeError(f"a direction must be an array of numbers [C], got {describe(vector)}")

    def check(shape: tuple[int, ...]) -> None:
        if vector.shape not in (shape, shape[-1:]):
            raise ValueError(
                f"a direction must have shape {list(shape[-1:])} or {list(shape)}, "
                f"got {describe(vector)}"
            )

    def along(h: jax.Array, n: int, _: Any) -> jax.Array:
        return jnp.mean(jnp.sum(h[n] * vector.astype(h.dtype), axis=-1))

    return _objective("direction", along, where, check)


def function(f: Callable[[jax.Array], jax.Array], *, where: Place = ...) -> Objective:
    """f(h), any function of one image's value h[..., C] that returns a scalar.

    >>> function(lambda h: jnp.max(h), where="h1")
    1·function
    """
    return _objective("function", lambda h, n, _: f(h[n]), where, _anything)


# --- Other images -----------------------------------------------------------------------------


def match(image: Any, *, where: Place = ...) -> Objective:
    """−the mean of (h − h')², with h' the value of `image`: what the node remembers of an image.

    Args:
        image: [H, W, C], as the model takes it, of the size of the images that are optimised.
        where: the node.

    >>> match(np.zeros((4, 4, 1)))
    1·match

    Source: [mahendran2015].
    """

    def nearness(h: jax.Array, n: int, reference: jax.Array) -> jax.Array:
        return -jnp.mean(jnp.square(h[n] - reference))

    return _objective("match", nearness, where, _anything, reference=_reference(image))


def caricature(image: Any, power: float = 1.0, *, where: Place = ...) -> Objective:
    """The mean over positions of h · h' max(cos(h, h'), 0.1)^power, h' the value of `image`.

    As `match`, but what the node sees in the image may grow.

    Args:
        image: [H, W, C], as the model takes it, of the size of the images that are optimised.
        power: how much the likeness counts against the strength.
        where: the node.

    >>> caricature(np.zeros((4, 4, 1)))
    1·caricature

    Source: [olah2018].
    """

    def likeness(h: jax.Array, n: int, reference: jax.Array) -> jax.Array:
        h = h[n]
        dots = jnp.sum(h * reference, axis=-1)
        cosines = jnp.sum(_unit(h) * _unit(reference), axis=-1)
        return jnp.mean(dots * jnp.maximum(cosines, 0.1) ** power)

    return _objective("caricature", likeness, where, _anything, reference=_reference(image))


def diversity(*, where: Place = ...) -> Objective:
    """−the mean cosine between an image's Gram matrix Σ_p h_p h_pᵀ and those of its batch.

    Added to each objective of a batch, it makes their images differ: `[channel(3) + diversity()] *
    4`. A batch of one has none.

    >>> channel(3) + 0.1 * diversity()
    1·channel(3) + 0.1·diversity

    Source: [olah2017].
    """

    def difference(h: jax.Array, n: int, _: Any) -> jax.Array:
        h = h.reshape(h.shape[0], -1, h.shape[-1])
        gram = jnp.einsum("npc,npd->ncd", h, h).reshape(h.shape[0], -1)
        gram = _unit(gram)
        others = jnp.sum(gram @ gram[n]) - gram[n] @ gram[n]
        return -others / max(h.shape[0] - 1, 1)

    return _objective("diversity", difference, where, _anything)


def _unit(x: jax.Array) -> jax.Array:
    """x / ‖x‖ along the last axis; 0 where x is."""
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.where(squares > 0, squares, jnp.ones_like(squares)))


def _reference(image: Any) -> jax.Array:
    image = jnp.asarray(image)
    if image.ndim != 3 or not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(
            f"image must be one image of floats [H, W, C], got {describe(image)}; "
            "skimage.util.img_as_float makes floats of a photograph"
        )
    return image


# --- Arguments --------------------------------------------------------------------------------


def as_objective(unit: Any) -> Objective:
    """The objective that a unit stands for.

    A whole number is a channel (or logit), a tuple of them a neuron, an array a direction, a
    function one of the value h[..., C] of an image.

    Raises:
        TypeError: it is none of these.

    >>> as_objective((1, 2, 0))
    1·neuron(1, 2, 0)
    """
    if isinstance(unit, Objective):
        return unit
    if isinstance(unit, tuple):
        return neuron(*unit)
    if np.ndim(unit) == 0 and _is_whole(unit):
        return channel(unit)
    if hasattr(unit, "dtype") and np.ndim(unit):
        return direction(unit)
    if callable(unit):
        return function(unit)  # pyright: ignore[reportArgumentType]
    raise TypeError(
        "unit must be a channel or logit, a neuron (y, x, channel), a direction array [C], an "
        f"objective of fungrad.inputs.objectives, or a list of these, got {unit!r}"
    )


def _is_whole(value: Any) -> bool:
    if hasattr(value, "dtype"):
        return bool(jnp.issubdtype(value.dtype, jnp.integer))
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(name: str, value: Any) -> Any:
    if np.ndim(value) or not _is_whole(value):
        raise TypeError(f"{name} must be given by whole numbers, got {value!r}")
    return operator.index(value) if known(value) else value


def _in_range(name: str, index: Any, shape: tuple[int, ...], axis: int) -> None:
    if known(index) and not -shape[axis] <= index < shape[axis]:
        raise ValueError(
            f"{name} must have indices from 0 to {shape[axis] - 1} where there are {shape[axis]}, "
            f"got {index} for a value of shape {list(shape)} per image"
        )
