"""Images as functions of what is optimised: pixels, Fourier coefficients, phases, weights, latents.

A parameterization of a batch of N images has

    initial(key, count) -> u       a pytree of arrays with the leading axis N, one entry per image
    images(u) -> x[N, H, W, C]     what the model gets
    nearest(u) -> u                the projection after every step
    shown(x) -> [N, H, W, C]       x as images in [0, 1]

and whatever has these four methods can stand where one of the classes below stands. A model that
wants other numbers than those in [0, 1] says so itself: `lambda x: net((x − mean) / deviation)`.

`shape` is [H, W, C] of one image, of any size, grey (C = 1) or colour (C = 3), or with other
channels; `dtype` is the images', JAX's default float type if None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fungrad import layers
from fungrad._arguments import describe
from fungrad.inputs import spectra
from fungrad.inputs.arguments import float_type, image_shape, positive_shape, wide_type
from fungrad.inputs.spaces import Box, Free, Space, checked_space

Shape = Sequence[int]


class Parameterization:
    """What the parameterizations of this module share; see the head of the module."""

    def initial(self, key: jax.Array, count: int) -> Any:
        """u before the first step, for `count` images."""
        raise NotImplementedError

    def images(self, u: Any) -> jax.Array:
        """x[N, H, W, C] for u."""
        raise NotImplementedError

    def nearest(self, u: Any) -> Any:
        """The u to go on from after a step that led to `u`."""
        return u

    def shown(self, x: jax.Array) -> jax.Array:
        """x[N, H, W, C] as images in [0, 1]."""
        return jnp.clip(x, 0.0, 1.0)


# --- Pixels -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Pixels(Parameterization):
    """x = u: every number of the image for itself, in a space.

    Args:
        shape: [H, W, C].
        space: `Box(low, high)`, `Sphere(radius)` or `Free()`.
        start: the image [H, W, C] to start from, in the space's own numbers; None: its middle.
        deviation: of the normal noise that is added to the start.
        dtype: see the head of this module.

    Raises:
        ValueError: a shape that is no [H, W, C], or a start of another shape.
        TypeError: `space` is no space.

    >>> image = Pixels((4, 6, 1))
    >>> image.images(image.initial(jax.random.key(0), 2)).shape
    (2, 4, 6, 1)
    """

    shape: Shape
    space: Space = field(default_factory=Box)
    start: Any = None
    deviation: float = 0.01
    dtype: Any = None

    def __post_init__(self):
        _fix(self, shape=image_shape(self.shape), space=checked_space(self.space))
        if self.start is not None and np.shape(self.start) != self.shape:
            raise ValueError(
                f"start must be an image of shape {list(self.shape)}, got {describe(self.start)}"
            )

    def initial(self, key: jax.Array, count: int) -> jax.Array:
        """The start, and noise: [N, H, W, C]."""
        noise = _noise(key, (count, *self.shape), self.deviation, self.dtype)
        return _started(self.space, self.start, noise)

    def images(self, u: jax.Array) -> jax.Array:
        """The points of the space."""
        return jax.vmap(self.space.point)(u).astype(float_type(self.dtype))

    def nearest(self, u: jax.Array) -> jax.Array:
        """The nearest points in the space."""
        return jax.vmap(self.space.nearest)(u)

    def shown(self, x: jax.Array) -> jax.Array:
        """The space's own view."""
        return jax.vmap(self.space.shown)(x)


# --- Frequencies ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Fourier(Parameterization):
    """x = σ(A · irfft2(F ⊙ u)): Fourier coefficients u, scaled by 1/f, in uncorrelated colours.

    A step of one size in every u moves each frequency as much as photographs have of it:

        F(f) = √(H W) / (4 max(f, 1 / max(H, W))^decay)        f in cycles per pixel

    Args:
        shape: [H, W, C].
        decay: of the magnitudes with the frequency.
        deviation: of the normal u before the first step.
        colours: A, [C, C]; None: `spectra.COLOURS` for C = 3, else the identity.
        dtype: see the head of this module.

    Raises:
        ValueError: a shape that is no [H, W, C], or colours of another shape.

    >>> image = Fourier((17, 23, 3))
    >>> image.images(image.initial(jax.random.key(0), 1)).shape
    (1, 17, 23, 3)

    Source: [olah2017], [mordvintsev2018].
    """

    shape: Shape
    decay: float = 1.0
    deviation: float = 0.01
    colours: Any = None
    dtype: Any = None

    def __post_init__(self):
        shape = image_shape(self.shape)
        _fix(self, shape=shape, colours=spectra.checked_colours(self.colours, shape[2]))

    def initial(self, key: jax.Array, count: int) -> jax.Array:
        """Normal real and imaginary parts: [N, 2, H, W // 2 + 1, C]."""
        shape = (count, 2, *spectra.half_plane(self.shape))
        return _noise(key, shape, self.deviation, self.dtype)

    def images(self, u: jax.Array) -> jax.Array:
        """σ(A · irfft2(F ⊙ u))"""
        height, width, _ = self.shape
        scale = np.sqrt(height * width) * spectra.power_law(height, width, self.decay) / 4
        coefficients = u * jnp.asarray(scale[..., None], u.dtype)
        x = spectra.inverse(coefficients[:, 0], coefficients[:, 1], self.shape)
        x = jax.nn.sigmoid(spectra.coloured(x, self.colours))
        return x.astype(float_type(self.dtype))


@dataclass(frozen=True, eq=False)
class MaCo(Parameterization):
    """x = σ(A · irfft2(S ⊙ exp(i u))): only the phases u are free, the magnitudes S are given.

    No frequency can grow beyond its share in photographs. S is scaled so that what enters A has
    mean 0 and deviation 1.

    Args:
        shape: [H, W, C].
        magnitudes: S, [H, W // 2 + 1] or [H, W // 2 + 1, C], such as those of photographs by
            `spectra.magnitudes`; None: 1 / f.
        colours: A, [C, C]; None: `spectra.COLOURS` for C = 3, else the identity.
        dtype: see the head of this module.

    Raises:
        ValueError: a shape that is no [H, W, C]; magnitudes or colours of another shape;
            magnitudes that are negative, not finite, or all zero.

    >>> image = MaCo((8, 8, 1))
    >>> image.images(image.initial(jax.random.key(0), 1)).shape
    (1, 8, 8, 1)

    Source: [fel2023].
    """

    shape: Shape
    magnitudes: Any = None
    colours: Any = None
    dtype: Any = None

    def __post_init__(self):
        shape = image_shape(self.shape)
        given = spectra.power_law(*shape[:2]) if self.magnitudes is None else self.magnitudes
        _fix(
            self,
            shape=shape,
            magnitudes=spectra.standardised(given, shape),
            colours=spectra.checked_colours(self.colours, shape[2]),
        )

    def initial(self, key: jax.Array, count: int) -> jax.Array:
        """Phases, uniform in [−π, π]: [N, H, W // 2 + 1, C]."""
        shape = (count, *spectra.half_plane(self.shape))
        return jax.random.uniform(key, shape, wide_type(self.dtype), -np.pi, np.pi)

    def images(self, u: jax.Array) -> jax.Array:
        """σ(A · irfft2(S ⊙ exp(i u)))"""
        phases = spectra.hermitian(u, self.shape[1])
        size = jnp.asarray(self.magnitudes, u.dtype)
        x = spectra.inverse(size * jnp.cos(phases), size * jnp.sin(phases), self.shape)
        x = jax.nn.sigmoid(spectra.coloured(x, self.colours))
        return x.astype(float_type(self.dtype))


# --- Networks ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CPPN(Parameterization):
    """A small network from the coordinates of a pixel to its colour; u are its weights.

        h₀ = (x, y, r),    h_l = (sin W_l h_{l−1}, cos W_l h_{l−1}),    colour = σ(W_L h_{L−1} + b)

    x and y go from −√3 to √3 along the longer side. The image has no pixels of its own: the same u
    fill any other size.

    Args:
        shape: [H, W, C].
        width: the number of rows of each W_l.
        depth: L − 1, the number of hidden layers.
        colours: what the colours are multiplied by, [C, C], as in `Fourier`.
        dtype: see the head of this module.

    Raises:
        ValueError: a shape that is no [H, W, C], a width or depth that is no positive integer.

    >>> image = CPPN((5, 7, 3))
    >>> image.images(image.initial(jax.random.key(0), 1)).shape
    (1, 5, 7, 3)

    Source: [stanley2007], [mordvintsev2018].
    """

    shape: Shape
    width: int = 16
    depth: int = 4
    colours: Any = None
    dtype: Any = None

    def __post_init__(self):
        shape = image_shape(self.shape)
        _fix(self, shape=shape, colours=spectra.checked_colours(self.colours, shape[2]))
        for name in ("width", "depth"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} must be a positive integer, got {getattr(self, name)!r}")

    def initial(self, key: jax.Array, count: int) -> list[jax.Array]:
        """W₁, ..., W_L drawn by N(0, 1/n), and b = 0, each with the leading axis N."""
        sizes = [3, *[2 * self.width] * self.depth]
        rows = [*[self.width] * self.depth, self.shape[2]]
        keys = jax.random.split(key, len(sizes))
        drawn = [
            _noise(k, (count, m, n), n**-0.5, self.dtype)
            for k, m, n in zip(keys, rows, sizes, strict=True)
        ]
        return [*drawn, jnp.zeros((count, self.shape[2]), drawn[0].dtype)]

    def images(self, u: list[jax.Array]) -> jax.Array:
        """The network at every pixel's coordinates."""
        x = jax.vmap(self._image)(u)
        return x.astype(float_type(self.dtype))

    def _image(self, u: list[jax.Array]) -> jax.Array:
        *hidden, last, b = u
        h = jnp.asarray(_coordinates(*self.shape[:2]), b.dtype)
        for W in hidden:
            h = layers.linear(h, W)
            h = jnp.concatenate([jnp.sin(h), jnp.cos(h)], axis=-1)
        return jax.nn.sigmoid(spectra.coloured(layers.linear(h, last, b), self.colours))


def _coordinates(height: int, width: int) -> np.ndarray:
    """(x, y, r) of every pixel's middle, [H, W, 3]."""
    reach = np.sqrt(3) / max(height, width)
    y, x = (reach * (2 * np.arange(size) + 1 - size) for size in (height, width))
    x, y = np.meshgrid(x, y)
    return np.stack([x, y, np.hypot(x, y)], axis=-1)


@dataclass(frozen=True, eq=False)
class Latent(Parameterization):
    """x = generator(z): the latent z of a generator, such as a VAE's decoder.

    Args:
        generator: `generator(z[N, ...]) -> images[N, H, W, C]` in [0, 1]; if it takes no batch,
            `generator(z[...]) -> image[H, W, C]`.
        shape: the shape of one z.
        space: where z lies, as in `Pixels`; `Sphere(√n)` is where normal z of n numbers are.
        start: the z to start from; None: 0 and the noise.
        deviation: of the normal noise that is added to the start.
        dtype: the latent's.

    Raises:
        TypeError: the generator is no function or does not return images; `space` is no space.
        ValueError: a shape of no positive integers, or a start of another shape.

    >>> image = Latent(lambda z: jax.nn.sigmoid(z).reshape(-1, 4, 4, 1), (16,))
    >>> image.images(image.initial(jax.random.key(0), 2)).shape
    (2, 4, 4, 1)

    Source: [nguyen2016].
    """

    generator: Callable[[jax.Array], jax.Array]
    shape: Shape
    space: Space = field(default_factory=Free)
    start: Any = None
    deviation: float = 1.0
    dtype: Any = None

    def __post_init__(self):
        if not callable(self.generator):
            raise TypeError(f"generator must be a function of latents, got {self.generator!r}")
        shape = (self.shape,) if isinstance(self.shape, int) else self.shape
        _fix(self, shape=positive_shape("shape", shape), space=checked_space(self.space))
        if self.start is not None and np.shape(self.start) != self.shape:
            raise ValueError(
                f"start must be a latent of shape {list(self.shape)}, got {describe(self.start)}"
            )
        _fix(self, generator=self._of_batch())

    def _of_batch(self) -> Callable[[jax.Array], jax.Array]:
        """The generator as a function of a batch, whichever of the two it is."""
        found: list[Any] = []
        for lead in ((2,), ()):
            z = jax.ShapeDtypeStruct((*lead, *self.shape), float_type(self.dtype))
            try:
                out = jax.eval_shape(self.generator, z)
            except Exception as error:  # every library refuses a wrong shape in its own way
                found.append(error)
                continue
            shape = getattr(out, "shape", ())
            if len(shape) == 3 + len(lead) and shape[: len(lead)] == lead:
                return self.generator if lead else jax.vmap(self.generator)
            found.append(out)
        raise TypeError(
            f"generator must make images [N, H, W, C] of N latents {list(self.shape)}, or one "
            f"[H, W, C] of one of them, got {found[0]} and {found[1]}"
        )

    def initial(self, key: jax.Array, count: int) -> jax.Array:
        """The start, and noise: [N, ...]."""
        noise = _noise(key, (count, *self.shape), self.deviation, self.dtype)
        return _started(self.space, self.start, noise)

    def images(self, u: jax.Array) -> jax.Array:
        """The generator's images."""
        return self.generator(jax.vmap(self.space.point)(u).astype(float_type(self.dtype)))

    def nearest(self, u: jax.Array) -> jax.Array:
        """The nearest points in the space."""
        return jax.vmap(self.space.nearest)(u)


# --- Arguments --------------------------------------------------------------------------------


def checked_parameterization(image: Any) -> Any:
    """The parameterization, refused unless it has what `Parameterization` names."""
    needed = ("initial", "images", "nearest", "shown")
    if isinstance(image, type) or not all(callable(getattr(image, name, None)) for name in needed):
        given = describe(image) if isinstance(image, np.ndarray | jax.Array) else repr(image)
        raise TypeError(
            "image must be a parameterization: Pixels(shape), Fourier(shape), MaCo(shape), "
            f"CPPN(shape) or Latent(generator, shape), got {given}"
        )
    return image


def _fix(instance: Any, **values: Any) -> None:
    """Sets attributes of a frozen dataclass, while it is made."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def _noise(key: jax.Array, shape: Shape, deviation: float, dtype: Any) -> jax.Array:
    return deviation * jax.random.normal(key, shape, wide_type(dtype))


def _started(space: Space, start: Any, noise: jax.Array) -> jax.Array:
    if start is None:
        return jax.vmap(space.start)(noise)
    return jax.vmap(space.nearest)(jnp.asarray(start, noise.dtype) + noise)
