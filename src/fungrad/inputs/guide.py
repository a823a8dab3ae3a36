"""Images that match what a similarity asks for, such as CLIP's between an image and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fungrad._arguments import describe
from fungrad.inputs import ascent, transformations
from fungrad.inputs.arguments import checked_key, checked_steps
from fungrad.inputs.parameterizations import checked_parameterization
from fungrad.inputs.visualization import Visualization
from fungrad.inputs.visualize import RATE, of_each

Similarity = Callable[[jax.Array], jax.Array]


def guide(
    similarity: Similarity,
    *,
    image: Any,
    crops: int = 16,
    optimizer: Any = None,
    steps: int = 500,
    key: jax.Array,
    crop_sizes: tuple[float, float] = (0.5, 1.0),
    penalty: Callable[[jax.Array], jax.Array] | None = None,
    transforms: Sequence[transformations.Transformation] = (),
    progress: bool = False,
) -> Visualization:
    """Maximises the mean similarity of random parts of an image, less a penalty:

        u ← u + step of ∂/∂u [ mean_k similarity(T(crop_k(x))) − R(x) ],        x = image(u)

    Crops keep the image from matching as one pixel pattern only: each of its parts has to.

    Args:
        similarity: images[N, H, W, C] -> [N]; see `prompts` and `cosine`.
        image: `Pixels(shape)`, `Fourier(shape)`, `Latent(generator, shape)`, ...
        crops: how many parts each step sees, resized to the image's shape; 0: the image itself.
        optimizer: as for `fungrad.descent.minimize`; Adam with rate 0.05 if None.
        steps: how many.
        key: the same key makes the same image, bit for bit.
        crop_sizes: a part's sides are a share of the image's, drawn between these two numbers.
        penalty: R, as for `visualize`.
        transforms: T, as for `visualize`, applied to the crops.
        progress: whether to show a progress bar.

    Returns:
        A `Visualization`: `.image` in [0, 1], `.history`; `.activation` is the similarity of the
        whole final image.

    Raises:
        TypeError: an argument is not of its kind.
        ValueError: the similarity does not return one number per image, or a number is out of its
            range.

    >>> import fungrad as fg
    >>> def redness(images):
    ...     return jnp.mean(images[..., 0] - images[..., 1], axis=(1, 2))
    >>> seen = guide(
    ...     redness, image=fg.inputs.Pixels((4, 4, 2)), crops=2, steps=30, key=jax.random.key(0)
    ... )
    >>> float(seen.activation)
    1.0

    Source: [crowson2022].
    """
    if not callable(similarity):
        raise TypeError(f"similarity must be a function of images, got {similarity!r}")
    parameterization = checked_parameterization(image)
    transform = transformations.chain(transformations.checked_transforms(transforms))
    crops, steps = checked_steps(crops, "crops"), checked_steps(steps)
    key = checked_key(key, "guide")
    if np.shape(crop_sizes) != (2,) or not 0 < crop_sizes[0] <= crop_sizes[1] <= 1:
        raise ValueError(f"crop_sizes must be two shares, 0 < low <= high <= 1, got {crop_sizes}")
    cut = transformations.crops(crops, crop_sizes) if crops else None

    start_key, key = jax.random.split(key)
    u = parameterization.initial(start_key, 1)

    def value(u: Any, key: jax.Array) -> jax.Array:
        crop_key, key = jax.random.split(key)
        x = parameterization.images(u)
        parts = x if cut is None else cut(crop_key, x[0])
        likeness = jnp.mean(_of_images(similarity, transform(key, parts)))
        return likeness - of_each(penalty, x, likeness.dtype)

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
        return parameterization.shown(x)[0], x[0], _of_images(similarity, x)[0]

    shown, x, activation = finished(climbed.params)
    return Visualization(
        image=shown,
        history=climbed.history,
        activation=activation,
        input=x,
        params=climbed.params,
        stopped_because=climbed.stopped_because,
    )


def _of_images(similarity: Similarity, images: jax.Array) -> jax.Array:
    """similarity(images), refused unless it is one real number per image."""
    found = jnp.asarray(similarity(images))
    if found.shape != images.shape[:1] or not jnp.issubdtype(found.dtype, jnp.floating):
        raise ValueError(
            f"similarity must return one real number per image, [{len(images)}], "
            f"got {jax.typeof(found).str_short()}"
        )
    return found


# --- Similarities -----------------------------------------------------------------------------


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """cos(a, b) = a · b / (‖a‖ ‖b‖) along the last axis, in [−1, 1].

    >>> round(float(cosine(jnp.array([3.0, 4.0]), jnp.array([4.0, 3.0]))), 4)
    0.96
    """
    return jnp.sum(_unit(a) * _unit(b), axis=-1)


def spherical(a: jax.Array, b: jax.Array) -> jax.Array:
    """−½ θ², θ the angle between a and b along the last axis: in [−π²/2, 0].

    θ = 2 arcsin(½ ‖a/‖a‖ − b/‖b‖‖), whose gradient does not vanish far away, as that of the cosine
    does: it grows with θ.

    >>> round(float(spherical(jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0]))), 4)
    -1.2337

    Source: [crowson2022].
    """
    squares = jnp.sum(jnp.square(_unit(a) - _unit(b)), axis=-1)
    # √ has no finite derivative at 0, where θ² is flat; the chord is at most 2.
    chord = jnp.sqrt(jnp.clip(squares, 1e-12, 4.0 - 1e-6))
    return -2 * jnp.square(jnp.arcsin(0.5 * chord))


def _unit(x: jax.Array) -> jax.Array:
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squares, jnp.finfo(squares.dtype).tiny))


def prompts(
    encode: Callable[[jax.Array], jax.Array],
    texts: Any,
    weights: Any = None,
    *,
    measure: Callable[[jax.Array, jax.Array], jax.Array] = spherical,
) -> Similarity:
    """The similarity of images to weighted sentences, for `guide`:

        similarity(x) = Σ_p w_p measure(encode(x), t_p) / Σ_p |w_p|

    A negative weight keeps away from what a sentence says.

    Args:
        encode: images[N, H, W, C] -> embeddings [N, D].
        texts: t, the sentences' embeddings [P, D].
        weights: w, [P]; 1 each if None.
        measure: `spherical` or `cosine`, or another function of embeddings [..., D].

    Returns:
        images[N, H, W, C] -> [N].

    Raises:
        ValueError: texts are no [P, D], weights are no [P], or all of them are 0.

    With a model of `fungrad.models.clip`, and `prepare` that resizes and normalises for it:

        texts = apply(params, None, tokens).text
        similarity = prompts(lambda x: apply(params, prepare(x), None).image, texts, [1.0, -0.5])

    >>> def encode(images):
    ...     return jnp.mean(images, axis=(1, 2))
    >>> similarity = prompts(encode, jnp.eye(3)[:2], [1.0, -1.0], measure=cosine)
    >>> similarity(jnp.ones((1, 4, 4, 3)) * jnp.array([1.0, 0.0, 0.0])).tolist()
    [0.5]
    """
    texts = jnp.asarray(texts)
    if texts.ndim != 2:
        raise ValueError(f"texts must be embeddings [P, D], got {describe(texts)}")
    weights = np.ones(len(texts)) if weights is None else np.asarray(weights, float)
    if weights.shape != texts.shape[:1] or not np.any(weights):
        raise ValueError(
            f"weights must be one number for each of the {len(texts)} texts, not all 0, "
            f"got {weights.tolist()}"
        )
    weights = weights / np.abs(weights).sum()

    def similarity(images: jax.Array) -> jax.Array:
        likeness = measure(encode(images)[:, None], texts)
        return likeness @ jnp.asarray(weights, likeness.dtype)

    return similarity
