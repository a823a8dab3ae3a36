"""Five small data sets that come with scikit-learn, split and standardised, the same every time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split

from experiments.common.command import ExperimentError, choose

LOADERS = {
    "iris": datasets.load_iris,
    "digits": datasets.load_digits,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "diabetes": datasets.load_diabetes,
}
REGRESSIONS = ("diabetes",)
PIXEL_SIDE, PIXEL_MAX = 8, 16.0  # digits: 8 × 8 counts of ink from 0 to 16


class Examples(NamedTuple):
    """Inputs x[N, ...] and targets y[N]: class numbers, or standardised real values."""

    x: jax.Array
    y: jax.Array


@dataclass(frozen=True)
class DataSet:
    """A data set in two parts.

    Attributes:
        name: one of `LOADERS`.
        train, test: the examples, as JAX arrays of the default float and integer types.
        classes: the classes' names; empty for a regression.
        features: the names of the columns of x; empty for images.
        center, scale: of a regression's y: the value in its own unit is center + scale · y.
    """

    name: str
    train: Examples
    test: Examples
    classes: tuple[str, ...]
    features: tuple[str, ...]
    center: float = 0.0
    scale: float = 1.0

    @property
    def regression(self) -> bool:
        return not self.classes

    @property
    def outputs(self) -> int:
        """How many numbers a model puts out: one score per class, or the one value."""
        return len(self.classes) or 1

    def first(self, count: int) -> DataSet:
        """Only the first examples of each part: for a smoke run."""
        train, test = (Examples(part.x[:count], part.y[:count]) for part in (self.train, self.test))
        return replace(self, train=train, test=test)


def load(name: str, *, images: bool = False, test_fraction: float = 0.25, seed: int = 0) -> DataSet:
    """The data set `name`, split into training and test examples.

    Columns are standardised with the training examples' mean and deviation: z = (x − μ) / σ, and
    a column that never changes becomes 0. With `images` (digits only) x is [N, 8, 8, 1] in
    [0, 1] instead. The split keeps the share of each class and depends on nothing but `seed`.

    Raises:
        ExperimentError: if the name is unknown (the message lists the names), if `images` is
            asked of another data set than digits, or if the fraction is not between 0 and 1.
    """
    bunch = LOADERS[choose("data", name, LOADERS)]()
    if images and name != "digits":
        raise ExperimentError(f"data: {name!r} has no images; only 'digits' has.")
    if not 0 < test_fraction < 1:
        raise ExperimentError(f"test_fraction: got {test_fraction}, expected between 0 and 1.")

    regression = name in REGRESSIONS
    x = np.asarray(bunch.data, np.float64)
    y = np.asarray(bunch.target, np.float64 if regression else np.int64)
    train, test = train_test_split(
        np.arange(len(y)),
        test_size=test_fraction,
        random_state=seed,
        stratify=None if regression else y,
    )

    center, scale = 0.0, 1.0
    if regression:
        center, scale = float(y[train].mean()), float(y[train].std())
        y = (y - center) / scale
    if images:
        x = (x / PIXEL_MAX).reshape(-1, PIXEL_SIDE, PIXEL_SIDE, 1)
    else:
        x = standardised(x, x[train])

    return DataSet(
        name,
        examples(x[train], y[train]),
        examples(x[test], y[test]),
        () if regression else tuple(str(label) for label in bunch.target_names),
        () if images else tuple(str(feature) for feature in bunch.feature_names),
        center,
        scale,
    )


def standardised(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """z = (x − μ) / σ, column by column; μ and σ are those of `train`."""
    deviation = train.std(axis=0)
    return (x - train.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)


def examples(x: np.ndarray, y: np.ndarray) -> Examples:
    label = float if np.issubdtype(y.dtype, np.floating) else int
    return Examples(
        jnp.asarray(x, dtype=jnp.result_type(float)), jnp.asarray(y, dtype=jnp.result_type(label))
    )
