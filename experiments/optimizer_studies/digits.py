"""The network on digits that the comparisons train, and the options that they share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

import fungrad as fg
from experiments.common import data, learning


@dataclass(frozen=True)
class Config:
    """Compare batch sizes, momenta and orders of methods."""

    epochs: int = 10
    """How often the networks on digits see every example."""
    steps: int = 400
    """Steps of each method on logistic regression."""
    learning_rate: float = 0.05
    """η of stochastic gradient descent on digits."""
    hidden: int = 32
    """Hidden units of the network on digits."""
    seed: int = 0
    """Of all random numbers."""
    smoke: bool = False
    """A run of seconds that only shows that all parts work."""
    out: Path = Path("runs/optimizers")
    """The output folder."""


def network(config: Config, digits: data.DataSet) -> tuple[learning.Apply, Any]:
    return learning.build("mlp", digits, (config.hidden,), jax.random.key(config.seed))


def descend(
    config: Config,
    digits: data.DataSet,
    optimizer: Any,
    batch_size: int,
    checkpoint: Path | None = None,
) -> tuple[np.ndarray, dict[str, float]]:
    """The mean cost of each epoch, and how well the network does on the test digits."""
    apply, params = network(config, digits)
    descent = fg.descent.minimize(
        learning.cost_of(apply, digits),
        params,
        digits.train,
        optimizer=optimizer,
        epochs=config.epochs,
        batch_size=batch_size,
        key=jax.random.key(config.seed + 1),
        checkpoint=checkpoint,
        progress=True,
    )
    cost = np.full(config.epochs, np.nan)  # a descent that left the numbers stops early
    per_epoch = len(digits.train.y) // batch_size
    whole = descent.history[: len(descent.history) // per_epoch * per_epoch]
    cost[: len(whole) // per_epoch] = whole.reshape(-1, per_epoch).mean(axis=1)
    return cost, learning.measures(apply, descent.params, digits, digits.test)
