"""The image that a unit of a model likes best: argmax_x objective(x) − R(x)  [erhan2009]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fungrad.inputs import ascent, transformations
from fungrad.inputs.arguments import checked_key, checked_steps, wide_type
from fungrad.inputs.objectives import Objective, Term, as_objective
from fungrad.inputs.parameterizations import checked_parameterization
from fungrad.inputs.reading import Model, Reading, Where
from fungrad.inputs.visualization import Visualization

RATE = 0.05


def visualize(
    model: Model,
    where: Where,
    unit: Any,
    *,
    image: Any,
    penalty: Callable[[jax.Array], jax.Array] | None = None,
    transforms: Sequence[transformations.Transformation] = (),
    optimizer: Any = None,
    steps: int = 512,
    key: jax.Array,
    progress: bool = False,
) -> Visualization:
    """Maximises a unit of a model over images:

        u ← u + step of ∂/∂u [ objective(model(T(x))) − R(x) ],        x = image(u)

    with T drawn anew in every step. Where relu lets no gradient through, as at a unit that is off
    for the first image, the swapped rule of `fungrad.rulebooks.rectified_relu` leads on.

    The exact answers for a linear unit w · x: with the penalty λ Σ x² in `Free()`, x = w / 2λ; in
    `Box(−1, 1)`, x = sign w; on a `Sphere(r)`, x = r w / ‖w‖.

    Args:
        model: any JAX function of a batch x[N, H, W, C].
        where: the node, by a selector or name; of several matches the last. None: the output.
        unit: a channel or logit c; a neuron (y, x, c); a direction [C]; an objective of
            `fungrad.inputs.objectives`; a function of one image's value h[..., C]. A list of
            units, or a list of n lists of m, makes as many images in one compiled program.
            Channels lie on the last axis, at a convolution on the one that its dimension numbers
            name; a channel's value is its mean over positions.
        image: `Pixels(shape)`, `Fourier(shape)`, `MaCo(shape)`, `CPPN(shape)` or
            `Latent(generator, shape)`.
        penalty: R, a function of one image x[H, W, C] as the model gets it; see
            `fungrad.inputs.penalties`.
        transforms: T, functions (key, images[N, H, W, C]) -> images, one after the other; see
            `fungrad.inputs.transformations`.
        optimizer: as for `fungrad.descent.minimize`; Adam with rate 0.05 if None.
        steps: how many.
        key: the same key makes the same image, bit for bit.
        progress: whether to show a progress bar.

    Returns:
        A `Visualization`: `.image` in [0, 1], `.history`, `.activation`.

    Raises:
        LookupError: no node matches `where`; the message lists the nearest labels.
        TypeError: the node is no array of floats with one value per image, or an argument is not
            of its kind.
        ValueError: a unit beyond the node's shape, or an argument out of its range.
        NotImplementedError: the node is in a loop of unknown length.

    >>> import fungrad as fg
    >>> w = jnp.array([1.0, -2.0, 0.5, 1.5]).reshape(2, 2, 1)
    >>> model = lambda x: jnp.einsum("nhwc,hwc->n", x, w)[:, None]
    >>> seen = visualize(
    ...     model, None, 0, image=fg.inputs.Pixels((2, 2, 1)), steps=50, key=jax.random.key(0)
    ... )
    >>> seen.image[..., 0].tolist(), float(seen.activation)
    ([[1.0, 0.0], [1.0, 1.0]], 3.0)

    Source: [erhan2009], [olah2017].
    """
    if not callable(model):
        raise TypeError(f"model must be a function of a batch of images, got {model!r}")
    parameterization = checked_parameterization(image)
    units, layout = laid_out(unit)
    transform = transformations.chain(transformations.checked_transforms(transforms))
    steps, key = checked_steps(steps), checked_key(key, "visualize")
    if penalty is not None and not callable(penalty):
        raise TypeError(f"penalty must be a function of an image, got {penalty!r}")

    start_key, key = jax.random.split(key)
    u = parameterization.initial(start_key, len(units))
    images = jax.eval_shape(parameterization.images, u)
    goal = Goal(model, where, units, images)
    score = ascent.rescued(goal) if goal.reading.has_kinks_of_relu() else goal

    def value(u: Any, key: jax.Array) -> jax.Array:
        x = parameterization.images(u)
        total = jnp.sum(score(transform(key, x)))
        return total - of_each(penalty, x, total.dtype)

    climbed = ascent.ascend(
        value,
        u,
        optimizer=optax.adam(RATE) if optimizer is None else optimizer,
        steps=steps,
        key=key,
        nearest=parameterization.nearest,
        progress=progress,
    )

    @jax.jit
    def finished(u: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        x = parameterization.images(u)
        return parameterization.shown(x), x, goal(x)

    shown, x, activation = finished(climbed.params)
    return Visualization(
        image=shown.reshape(*layout, *shown.shape[1:]),
        history=climbed.history,
        activation=activation.reshape(layout),
        input=x.reshape(*layout, *x.shape[1:]),
        params=climbed.params,
        stopped_because=climbed.stopped_because,
    )


class Goal:
    """The objectives of a batch of images: x[N, H, W, C] -> [N], objective n of image n.

    Args:
        model: as for `visualize`.
        where: the node of the terms that name none.
        units: N objectives.
        images: the shape and dtype of x.
    """

    def __init__(
        self, model: Model, where: Where, units: Sequence[Objective], images: jax.ShapeDtypeStruct
    ):
        self.where, self.units = where, units
        self.dtype = wide_type(images.dtype)
        wheres = dict.fromkeys(self._where(term) for unit in units for term in unit.terms)
        self.reading = Reading(model, list(wheres), images)
        terms = {id(term): term for unit in units for term in unit.terms}
        self.references = {}
        for name, term in terms.items():
            place = self.reading.places[self._where(term)]
            try:
                term.check(place.shape)
            except ValueError as error:
                raise ValueError(f"unit: {error}, at {place}") from None
            if term.reference is not None:
                self.references[name] = self._reference(term, images)

    def __call__(self, images: jax.Array) -> jax.Array:
        values = self.reading(images)

        def total(unit: Objective, n: int) -> jax.Array:
            return sum(
                (self._value(term, values[self._where(term)], n) for term in unit.terms),
                start=jnp.zeros((), self.dtype),
            )

        return jnp.stack([total(unit, n) for n, unit in enumerate(self.units)])

    def _where(self, term: Term) -> Where:
        return self.where if term.where is ... else term.where

    def _value(self, term: Term, h: jax.Array, n: int) -> jax.Array:
        reference = self.references.get(id(term))
        value = term.function(h, n, None if reference is None else reference.astype(h.dtype))
        if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            raise TypeError(
                f"unit {term.name} must be one real number for an image, "
                f"got {jax.typeof(jnp.asarray(value)).str_short()}"
            )
        return jnp.asarray(value).astype(self.dtype) * jnp.asarray(term.weight, self.dtype)

    def _reference(self, term: Term, images: jax.ShapeDtypeStruct) -> jax.Array:
        """The value of the image that a term compares with."""
        if term.reference.shape != images.shape[1:]:
            raise ValueError(
                f"the image of {term.name} must have the shape of the images that are optimised, "
                f"{list(images.shape[1:])}, got {list(term.reference.shape)}"
            )
        where, batch = self._where(term), jnp.broadcast_to(term.reference, images.shape)
        read = jax.jit(lambda x: self.reading(x)[where][0])
        return read(batch.astype(images.dtype))


def laid_out(unit: Any) -> tuple[list[Objective], tuple[int, ...]]:
    """The objectives one after the other, and how they lie: (), (n,) or (n, m)."""
    if not isinstance(unit, list):
        return [as_objective(unit)], ()
    if not any(isinstance(row, list) for row in unit):
        rows, layout = [unit], (len(unit),)
    else:
        rows = [row if isinstance(row, list) else [row] for row in unit]
        layout = (len(rows), len(rows[0]))
    if 0 in layout or any(len(row) != layout[-1] for row in rows):
        raise ValueError(
            f"unit must be a list of units or n rows of m, got rows of {[len(r) for r in rows]}"
        )
    return [as_objective(each) for row in rows for each in row], layout


def of_each(
    penalty: Callable[[jax.Array], jax.Array] | None, images: jax.Array, dtype: Any
) -> jax.Array:
    """Σ_n R(x_n), 0 without a penalty."""

    if penalty is None:
        return jnp.zeros((), dtype)

    def checked(x: jax.Array) -> jax.Array:
        value = jnp.asarray(penalty(x))
        if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(
                f"penalty must return one real scalar for an image {list(x.shape)}, "
                f"got {jax.typeof(value).str_short()}; reduce it with .sum()"
            )
        return value.astype(dtype)

    return jnp.sum(jax.vmap(checked)(images))
