"""States of a loop kept in a fixed number of slots, and which of them to keep.

The number N of steps is not known before the loop has ended, so this is an online checkpointing
schedule, as those of [stumm2010]. L steps make a unit; states are kept at the beginning of units.

- Forward: the state of every s-th unit is kept, s = 1 at first. When c slots are full, s doubles,
  and what is then out of step is written over. So each interval between states has s units, where
  s = 1 while N ≤ cL, and else s < 2N/cL.
- Backward, for each unit, last one first: run the loop from the last state that is kept to the
  unit's beginning, and the unit once more, saving what its gradient needs. On the way states are
  kept in the slots that are free, at the distances of the binomial schedule [griewank2000]: with k
  free slots, m units can be gone back over if each is run at most t times on the way, for

      m ≤ β(k, t) = C(k + 1 + t, t)        as β(k, t) = β(k − 1, t) + β(k, t − 1),

  the units after the next state with k − 1 slots and those before it with t − 1 times.

Of S slots at least r = S − c are free at each interval, so that each step is run forward at most
2 + t times, and backward once, where t is the least with β(r, t) ≥ s. Memory is S states and what
L steps save, whatever N is.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fungrad import _jax
from fungrad.costs import NEVER, Effort

Array = jax.Array


class Capacity(NamedTuple):
    """How many slots there are for states, and how many steps a unit has."""

    slots: int
    unit: int

    @property
    def ahead(self) -> int:
        """How many slots the forward loop fills; the others are left for the backward pass."""
        return 2 * self.slots // 3


AUTOMATIC = Capacity(48, 32)
"""Loops of up to 1,024 steps run twice forward and once backward; 32 entries of the tape and 32
states is the least memory for which that holds, if the two are of one size."""

LEAST = Capacity(18, 1)
"""No tape but of one step. On the way, a loop of 1,000 steps is run up to 4 times, one of 100,000
up to 10 times: as many times, and slots, as that number has binary digits, more or less."""


def capacity(save: Any) -> Capacity:
    """The capacity that a `save` asks for."""
    sparing = isinstance(save, Effort) and save.thrift == NEVER
    return LEAST if save == "nothing" or sparing else AUTOMATIC


# --- States in slots --------------------------------------------------------------------------


class Slots(NamedTuple):
    """States in memory: at[i] is the unit at whose beginning slot i's state is; free slots: −1.

    Behind them there is one more slot for what shall not be kept.
    """

    at: Array
    states: list[Array]


def stacks(size: int, types: Sequence[Any], like: Array) -> list[Array]:
    """Room for `size` values of each type, on the devices that `like` is on."""
    fillers = [_jax.filler(_jax.stacked_type(aval, size)) for aval in types]
    return [_jax.varying_as(x, _jax.type_of(like)) for x in fillers]


def write(stacks: Sequence[Array], i: Array, values: Sequence[Array]) -> list[Array]:
    """The stacks with values in row i."""
    put = lax.dynamic_update_index_in_dim
    pairs = zip(stacks, values, strict=True)
    return [put(stack, x, i, 0, allow_negative_indices=False) for stack, x in pairs]


def read(stacks: Sequence[Array], i: Array) -> list[Array]:
    """Row i of the stacks."""
    take = lax.dynamic_index_in_dim
    return [take(x, i, keepdims=False, allow_negative_indices=False) for x in stacks]


def put(slots: Slots, usable: Array, unit: Array, state: Sequence[Array]) -> Slots:
    """The state in the first slot that is usable, if there is one."""
    size = slots.at.size
    i = lax.select(jnp.any(usable), lax.argmax(usable, 0, np.int32), jnp.int32(size))
    return Slots(
        jnp.where(np.arange(size, dtype=np.int32) == i, unit, slots.at),
        write(slots.states, i, state),
    )


def _units_within_reach(slots: int) -> np.ndarray:
    """β(k, t), row k + 1 and column t, as far as integers go."""
    table = [[comb(k + 1 + t, t) for t in range(32)] for k in range(-1, slots + 1)]
    return np.minimum(table, 2**30).astype(np.int32)


def distance(m: Array, free: Array, slots: int) -> Array:
    """How many units to go before the next state is kept, if m ≥ 2 units are to be gone back over.

    δ = min(β(k, t−1), m − β(k−1, t−1)) for the least t with β(k, t) ≥ m
    """
    table = jnp.asarray(_units_within_reach(slots))
    fewer, reach = read([table], free)[0], read([table], free + 1)[0]
    i = jnp.minimum(jnp.sum(reach < m, dtype=np.int32), 31) - 1
    return jnp.minimum(read([reach], i)[0], m - read([fewer], i)[0])


def make_room(at: Array, unit: Array, stride: Array, ahead: int) -> tuple[Array, Array]:
    """The distance between states, doubled if all slots are taken; and which slots may be used now.

    None if the unit's state shall not be kept.
    """

    def usable(stride):
        loose = (at < 0) | (at & (stride - 1) != 0)  # a stride is a power of two
        return loose & (np.arange(at.size) < ahead) & (unit & (stride - 1) == 0)

    full = (unit & (stride - 1) == 0) & ~jnp.any(usable(stride))
    stride = lax.select(full, 2 * stride, stride)
    return stride, usable(stride)
