"""Small pictures with captions: digits, upright or slanted, and shapes, one or two, small or large.

A caption is a sentence of the words below; its tokens are their numbers, padded with 0.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import skimage.transform
from sklearn import datasets

from experiments.common.command import ExperimentError, choose

SIDE = 16
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHAPES = ("circle", "square", "triangle", "cross")
WORDS = (
    "",  # the padding
    "a",
    *(number for number in NUMBERS if number != "two"),
    "two",
    *SHAPES,
    *(f"{shape}s" if shape != "cross" else "crosses" for shape in SHAPES),
    "slanted",
    "upright",
    "small",
    "large",
)
LENGTH = 3


class Pairs(NamedTuple):
    """Pictures [N, 16, 16, 1] in [0, 1], 1 is ink; and the tokens [N, 3] of their captions."""

    images: jnp.ndarray
    tokens: jnp.ndarray


def tokens(caption: str) -> np.ndarray:
    """The numbers of a caption's words: "a seven, slanted" is three words.

    Raises:
        ExperimentError: a word is unknown, or there are too many; the message lists the words.
    """
    words = caption.lower().replace(",", " ").split()
    if not 0 < len(words) <= LENGTH:
        raise ExperimentError(
            f"prompt: {caption!r} has {len(words)} words, expected 1 to {LENGTH}, such as "
            "'a seven, slanted' or 'two circles, large'."
        )
    numbers = [WORDS.index(choose("prompt", word, WORDS[1:])) for word in words]
    return np.array(numbers + [0] * (LENGTH - len(words)), np.int32)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits at 16 × 16 pixels, and their labels."""
    bunch = datasets.load_digits()
    small = bunch.images / 16.0
    large = [skimage.transform.resize(image, (SIDE, SIDE), order=1) for image in small]
    return np.stack(large).astype(np.float32), bunch.target


def pairs(count: int, seed: int = 0) -> Pairs:
    """`count` pictures with captions, two thirds of them digits."""
    draw = np.random.default_rng(seed)
    images, labels = digits()
    drawn = [
        _digit(images, labels, draw) if number % 3 else _shapes(draw) for number in range(count)
    ]
    pictures = np.stack([picture for picture, _ in drawn])[..., None]
    return Pairs(
        jnp.asarray(pictures, jnp.float32), jnp.asarray(np.stack([tokens(t) for _, t in drawn]))
    )


def _digit(images: np.ndarray, labels: np.ndarray, draw: np.random.Generator):
    index = draw.integers(len(images))
    slanted = draw.integers(2)
    shear = draw.uniform(0.45, 0.7) if slanted else draw.uniform(-0.1, 0.1)
    # x' = x + shear (y − middle): the top goes to the right.
    matrix = np.array([[1.0, shear, -shear * (SIDE - 1) / 2], [0, 1, 0], [0, 0, 1]])
    picture = skimage.transform.warp(images[index], matrix, order=1)
    return picture, f"a {NUMBERS[labels[index]]}, {('upright', 'slanted')[slanted]}"


def _shapes(draw: np.random.Generator):
    kind, two, large = draw.integers(len(SHAPES)), draw.integers(2), draw.integers(2)
    radius = draw.uniform(3.2, 3.8) if large else draw.uniform(1.6, 2.0)
    if not two:
        radius *= 1.6 if large else 1.2
    lefts = [SIDE * 0.26, SIDE * 0.74] if two else [SIDE / 2 + draw.uniform(-1.5, 1.5)]
    picture = np.zeros((SIDE, SIDE))
    for left in lefts:
        top = SIDE / 2 + draw.uniform(-2, 2)
        picture = np.maximum(picture, _shape(SHAPES[kind], top, left, radius))
    number = "two" if two else "a"
    name = WORDS[WORDS.index(SHAPES[kind]) + (len(SHAPES) if two else 0)]
    return picture, f"{number} {name}, {('small', 'large')[large]}"


def _shape(kind: str, top: float, left: float, radius: float) -> np.ndarray:
    """Ink with soft borders, by the signed distance to the outline."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    y, x = y - top, x - left
    distance = {
        "circle": np.hypot(x, y) - radius,
        "square": np.maximum(abs(x), abs(y)) - 0.88 * radius,
        "triangle": np.maximum(y - 0.7 * radius, (2 * abs(x) - y) / 5**0.5 - 0.6 * radius),
        "cross": np.maximum(
            np.minimum(abs(x), abs(y)) - 0.28 * radius, np.maximum(abs(x), abs(y)) - radius
        ),
    }[kind]
    return np.clip(0.5 - distance, 0.0, 1.0)
