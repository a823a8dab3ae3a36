"""Which examples each step sees."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp


@functools.partial(jax.jit, static_argnames=("length", "examples", "batch_size"))
def rows(
    key: jax.Array, start: jax.Array | int, length: int, examples: int, batch_size: int
) -> jax.Array:
    """The examples of the steps start, ..., start + length − 1: integers [length, batch_size].

    Every epoch is cut from its own permutation of the examples, which `key` and the epoch's
    number determine alone. So the rows of a step do not depend on where a run was interrupted.
    The examples that do not fill a batch are left out of that epoch; which ones changes from
    epoch to epoch.
    """
    per_epoch = examples // batch_size
    ahead = jnp.arange((length - 1) // per_epoch + 2, dtype=jnp.int32)

    def epoch(number: jax.Array) -> jax.Array:
        shuffled = jax.random.permutation(jax.random.fold_in(key, number), examples)
        return shuffled[: per_epoch * batch_size].reshape(per_epoch, batch_size)

    batches = jax.vmap(epoch)(start // per_epoch + ahead).reshape(-1, batch_size)
    return jax.lax.dynamic_slice_in_dim(batches, start % per_epoch, length)


def take(data: Any, rows: jax.Array | None) -> Any:
    """The examples `rows` of every array in `data`; all of them where `rows` is None."""
    if rows is None:
        return data
    pick = dict(mode="promise_in_bounds", unique_indices=True)
    return jax.tree.map(lambda array: array.at[rows].get(**pick), data)
