"""Ten photographs that come with scikit-image and scikit-learn; a network that tells them apart.

No weights can be shipped, so the network learns in minutes: which photograph is this a piece of? It
sees pieces of the left part of each photograph and is tested on pieces of the right part, which it
has never seen. It is a small network for images as they are, and no more than that.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from skimage import data as skimage_data
from skimage.transform import resize
from sklearn.datasets import load_sample_image

import fungrad as fg
from experiments.common.command import ExperimentError
from experiments.common.data import Examples

PHOTOS = {
    "astronaut": skimage_data.astronaut,
    "cat": skimage_data.chelsea,
    "coffee": skimage_data.coffee,
    "rocket": skimage_data.rocket,
    "motorcycle": lambda: skimage_data.stereo_motorcycle()[0],
    "retina": skimage_data.retina,
    "tissue": skimage_data.immunohistochemistry,
    "galaxies": skimage_data.hubble_deep_field,
    "temple": lambda: load_sample_image("china.jpg"),
    "flower": lambda: load_sample_image("flower.jpg"),
}
NAMES = tuple(PHOTOS)
HEIGHT = 192  # of a photograph, in pixels, or its width where that is less
SIDE = 48  # of a piece
SEEN = 0.6  # the part of each photograph, from the left, that the network learns from
WIDTHS = (16, 32, 64)  # channels of the three stages


@cache
def photo(name: str) -> np.ndarray:
    """The photograph `name` of `NAMES`: [192, W, 3] in [0, 1], none is higher than wide."""
    image = as_image(PHOTOS[name]())
    image.flags.writeable = False  # it is everybody's
    return image


def read_photo(path: Path) -> np.ndarray:
    """A user's photograph, scaled so that its shorter side is 192.

    Raises:
        ExperimentError: if the file cannot be read as an image.
    """
    import matplotlib.image

    try:
        return as_image(matplotlib.image.imread(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise ExperimentError(f"photo: {path} cannot be read as an image: {error}.") from error


def as_image(pixels: np.ndarray) -> np.ndarray:
    """Bytes or floats, grey or with a transparency, as [H, W, 3] in [0, 1], H or W 192."""
    pixels = pixels / 255 if pixels.dtype == np.uint8 else pixels
    pixels = np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels[..., :3]
    scale = HEIGHT / min(pixels.shape[:2])
    size = tuple(round(length * scale) for length in pixels.shape[:2])
    return np.clip(resize(pixels, size, anti_aliasing=True), 0, 1).astype(np.float32)


def pieces(count: int, *, seen: bool, seed: int = 0) -> Examples:
    """`count` pieces x[N, 48, 48, 3] of all photographs in turn, half of them mirrored; y[N]."""
    draw, found = np.random.default_rng(seed), []
    images = [photo(name) for name in NAMES]
    for index in range(count):
        image = images[index % len(NAMES)]
        edge = int(SEEN * image.shape[1])
        part = image[:, :edge] if seen else image[:, edge:]
        top, left = (draw.integers(length - SIDE + 1) for length in part.shape[:2])
        piece = part[top : top + SIDE, left : left + SIDE]
        found.append(piece[:, ::-1] if draw.random() < 0.5 else piece)
    return Examples(jnp.asarray(np.stack(found)), jnp.arange(count) % len(NAMES))


class Stage(NamedTuple):
    """Two convolutions of 3 × 3, each with ReLU: W [3, 3, n, m], b [m]."""

    first: tuple[jax.Array, jax.Array]
    second: tuple[jax.Array, jax.Array]


class Network(NamedTuple):
    """The parameters: three stages, and a linear layer on the mean of what the last one gives."""

    stages: tuple[Stage, ...]
    head: tuple[jax.Array, jax.Array]


def initial(key: jax.Array) -> Network:
    """W by He's normal, b = 0."""
    keys = iter(jax.random.split(key, 2 * len(WIDTHS) + 1))

    def conv(inputs: int, outputs: int) -> tuple[jax.Array, jax.Array]:
        W = jax.nn.initializers.he_normal()(next(keys), (3, 3, inputs, outputs))
        return W, jnp.zeros(outputs)

    stages = [
        Stage(conv(inputs, outputs), conv(outputs, outputs))
        for inputs, outputs in zip((3, *WIDTHS), WIDTHS, strict=False)
    ]
    head = jax.random.normal(next(keys), (len(NAMES), WIDTHS[-1])) / np.sqrt(WIDTHS[-1])
    return Network(tuple(stages), (head, jnp.zeros(len(NAMES))))


def logits(params: Network, x: jax.Array) -> jax.Array:
    """y[N, 10] of images x[N, H, W, 3] in [0, 1] of any size: the mean over all places.

    Its nodes are named: "stage1" to "stage3" are what the stages give, before the pooling.
    """
    h = 2 * x - 1
    for number, stage in enumerate(params.stages, start=1):
        with jax.named_scope(f"stage{number}"):
            if number > 1:
                h = fg.layers.max_pool(h, 2)
            for W, b in stage:
                h = fg.layers.relu(fg.layers.conv(h, W, b, padding="SAME"))
            h = fg.name(h, f"stage{number}")
    return fg.layers.linear(h.mean(axis=(1, 2)), *params.head)


class Trained(NamedTuple):
    """What `train` found.

    Attributes:
        params: `Network`.
        accuracy: on pieces of the parts that were not seen.
        history: the cost before each step.
    """

    params: Network
    accuracy: float
    history: np.ndarray


def train(*, steps: int, seed: int = 0, checkpoint: Any = None, count: int = 3000) -> Trained:
    """Adam on the cross-entropy of pieces whose brightness and contrast vary."""

    def cost(params: Network, batch: Examples, key: jax.Array) -> jax.Array:
        contrast, brightness = jax.random.uniform(key, (2, len(batch.y), 1, 1, 1), minval=-1.0)
        x = 0.5 + (1 + 0.3 * contrast) * (batch.x - 0.5) + 0.15 * brightness
        return fg.losses.cross_entropy(logits(params, x), batch.y).mean()

    initial_key, order_key = jax.random.split(jax.random.key(seed))
    descent = fg.descent.minimize(
        cost,
        initial(initial_key),
        pieces(count, seen=True, seed=seed),
        optimizer=optax.adam(optax.cosine_decay_schedule(2e-3, steps)),
        steps=steps,
        batch_size=min(50, count),
        key=order_key,
        checkpoint=checkpoint,
        progress=True,
    )
    x, y = pieces(min(count, 500), seen=False, seed=seed + 1)
    right = jax.jit(logits)(descent.params, x).argmax(axis=1) == y
    return Trained(descent.params, float(right.mean()), np.asarray(descent.history))
