"""What the optimisation of images hands back."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["image", "history", "activation", "input", "params"],
    meta_fields=["stopped_because"],
)
@dataclass(frozen=True, repr=False)
class Visualization:
    """An image, and how it came about; a pytree, so it may leave `jax.jit`.

    Attributes:
        image: in [0, 1], [H, W, C]; of a list of n units [n, H, W, C], of n rows of m units
            [n, m, H, W, C].
        history: what was maximised, before each step, [steps]: the objective of the transformed
            image, less the penalty; of several images their sum.
        activation: the objective of the final image, not transformed, without the penalty: a
            scalar, [n], or [n, m].
        input: the final image as the model gets it, which differs from `image` where it does not
            lie in [0, 1].
        params: what was optimised, with a leading axis of all images: pixels, coefficients, a
            latent.
        stopped_because: one sentence.
    """

    image: jax.Array
    history: Any
    activation: jax.Array
    input: jax.Array
    params: Any
    stopped_because: str

    def __repr__(self) -> str:
        size = " × ".join(map(str, np.shape(self.image)))
        values = np.shape(self.activation)
        shown = f"activations {list(values)}" if values else f"activation {self.activation:.6g}"
        return f"Visualization({size}; {shown}; {self.stopped_because})"
