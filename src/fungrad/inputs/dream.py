"""Deep dream: what a layer sees in an image shall be there more  [mordvintsev2015]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fungrad.inputs import ascent, transformations
from fungrad.inputs.arguments import checked_key, checked_photograph, checked_steps
from fungrad.inputs.reading import Model, Reading, Where
from fungrad.inputs.visualization import Visualization


def dream(
    model: Model,
    where: Where,
    image: Any,
    *,
    octaves: int = 4,
    octave_scale: float = 1.4,
    steps: int = 10,
    key: jax.Array,
    guide: Any = None,
    rate: float = 0.01,
    jitter: int = 32,
    progress: bool = False,
) -> Visualization:
    """Maximises the mean of h² at a node, from a photograph, at several sizes of it:

        x ← x + rate · g / mean |g|,      g = ∂/∂x mean h(shifted x)²,      0 ≤ x ≤ 1

    first in the smallest octave, the image divided by octave_scale^(octaves − 1). What has been
    added there is enlarged and put into the next octave's image: its detail is its own, and that
    of the photograph is not lost. A model that takes images of one size only sees each octave
    enlarged to that of the image.

    With a `guide`, it is what the node sees in another image that shall be there: with h' its
    values at the positions q, the mean over positions p of max_q h_p · h'_q.

    Args:
        model: any JAX function of a batch x[N, H, W, C].
        where: the node, by a selector or name; of several matches the last. None: the output.
        image: a photograph [H, W, C] (or grey [H, W]) of floats in [0, 1], or of bytes.
        octaves: how many sizes.
        octave_scale: the ratio of one size to the next.
        steps: in each octave.
        key: the same key makes the same image, bit for bit.
        guide: another photograph, of any size.
        rate: the mean change of a number in a step.
        jitter: each step sees the image shifted at random by up to half as many pixels; what
            leaves on one side enters on the other.
        progress: whether to show a progress bar for each octave.

    Returns:
        A `Visualization`: `.image` in [0, 1], `.history` of all octaves' steps, [octaves · steps].

    Raises:
        LookupError: no node matches `where`; the message lists the nearest labels.
        TypeError: an argument is not of its kind.
        ValueError: the image is no image or leaves [0, 1]; the smallest octave has no pixels; a
            number is out of its range.

    >>> import fungrad as fg
    >>> model, params = fg.models.cnn((8, 8, 1), key=jax.random.key(0))
    >>> photograph = jnp.linspace(0.0, 1.0, 64).reshape(8, 8, 1)
    >>> dreamt = dream(
    ...     lambda x: model(params, x), "h1", photograph, octaves=2, steps=3, key=jax.random.key(0)
    ... )
    >>> dreamt.image.shape, len(dreamt.history)
    ((8, 8, 1), 6)
    """
    if not callable(model):
        raise TypeError(f"model must be a function of a batch of images, got {model!r}")
    image = checked_photograph("image", image)
    steps, key = checked_steps(steps), checked_key(key, "dream")
    jitter = checked_steps(jitter, "jitter")
    sizes = _octaves(image.shape, checked_steps(octaves, "octaves"), octave_scale)
    if not 0 < rate < float("inf"):
        raise ValueError(f"rate must be a positive number, got {rate}")
    if guide is not None:
        guide = checked_photograph("guide", guide).astype(image.dtype)
        if guide.shape[2] != image.shape[2]:
            raise ValueError(
                f"guide must have the image's {image.shape[2]} channels, got {list(guide.shape)}"
            )
    any_size = _takes(model, (*sizes, () if guide is None else guide.shape[:2]), image)
    goals = [_Goal(model, where, size, image, guide, any_size) for size in sizes]

    detail = jnp.zeros((*sizes[0], image.shape[2]), image.dtype)
    history = []
    for goal, own in zip(goals, jax.random.split(key, len(goals)), strict=True):
        base = _resized(image, goal.size)
        climbed = ascent.ascend(
            goal.shifted(jitter),
            jnp.clip(base + _resized(detail, goal.size), 0.0, 1.0),
            optimizer=normalized_gradient(rate),
            steps=steps,
            key=own,
            nearest=lambda x: jnp.clip(x, 0.0, 1.0),
            progress=progress,
        )
        detail = climbed.params - base
        history.append(climbed.history)
    x = climbed.params
    return Visualization(
        image=x,
        history=jnp.concatenate([jnp.asarray(h) for h in history]),
        activation=jax.jit(goals[-1])(x),
        input=x,
        params=x[None],
        stopped_because=climbed.stopped_because,
    )


def normalized_gradient(rate: float) -> optax.GradientTransformation:
    """u = −rate · g / mean |g|: steps that are equally long, however small the gradient is.

    >>> steps = normalized_gradient(0.5)
    >>> steps.update(jnp.array([3.0, -1.0]), steps.init(jnp.zeros(2)))[0].tolist()
    [-0.75, 0.25]
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def step(g: jax.Array) -> jax.Array:
            size = jnp.mean(jnp.abs(g))
            return -rate * g / jnp.where(size > 0, size, jnp.ones_like(size))

        return jax.tree.map(step, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


class _Goal:
    """What is maximised in one octave: x[h, w, C] -> scalar."""

    def __init__(
        self,
        model: Model,
        where: Where,
        size: tuple[int, int],
        image: jax.Array,
        guide: jax.Array | None,
        any_size: bool,
    ):
        self.where, self.size = where, size
        self.seen = size if any_size else image.shape[:2]
        channels = image.shape[2]
        shape = jax.ShapeDtypeStruct((1, *self.seen, channels), image.dtype)
        self.reading = Reading(model, [where], shape)
        self.features = None
        if guide is not None:
            guide = guide if any_size else _resized(guide, image.shape[:2])
            shape = jax.ShapeDtypeStruct((1, *guide.shape), image.dtype)
            h = jax.jit(Reading(model, [where], shape))(guide[None])[where]
            self.features = h.reshape(-1, h.shape[-1])

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.reading(_resized(x, self.seen)[None])[self.where]
        if self.features is None:
            return jnp.mean(jnp.square(h))
        return jnp.mean(jnp.max(h.reshape(-1, h.shape[-1]) @ self.features.T, axis=1))

    def shifted(self, pixels: int) -> Any:
        """`(x, key) -> scalar`, of the image shifted at random."""
        shift = transformations.jitter(pixels)

        def value(x: jax.Array, key: jax.Array) -> jax.Array:
            return self(shift(key, x[None])[0])

        return value


def _octaves(shape: Sequence[int], octaves: int, ratio: float) -> list[tuple[int, int]]:
    """The sizes (h, w), the smallest first."""
    if octaves < 1:
        raise ValueError(f"octaves must be at least 1, got {octaves}")
    if not 1 < ratio < float("inf"):
        raise ValueError(f"octave_scale must be a number above 1, got {ratio}")
    height, width = shape[:2]
    sizes = [(round(height / ratio**i), round(width / ratio**i)) for i in range(octaves)][::-1]
    if min(sizes[0]) < 1:
        raise ValueError(
            f"octaves = {octaves} with octave_scale = {ratio} leave no pixels of an image of "
            f"{height} × {width}; ask for fewer octaves"
        )
    return sizes


def _takes(model: Model, sizes: Sequence[Sequence[int]], image: jax.Array) -> bool:
    """Whether the model takes images of all these sizes, or only those of the image's."""
    others = [size for size in sizes if size and tuple(size) != image.shape[:2]]
    try:
        for size in others:
            jax.eval_shape(model, jax.ShapeDtypeStruct((1, *size, image.shape[2]), image.dtype))
    except Exception:  # every library refuses a wrong size in its own way
        return False
    return True


def _resized(x: jax.Array, size: Sequence[int]) -> jax.Array:
    """[h, w, C] of another size, without aliasing."""
    return x if x.shape[:2] == tuple(size) else jax.image.resize(x, (*size, x.shape[2]), "linear")
