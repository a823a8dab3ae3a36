"""Which states of a loop are kept: the cost of the schedule, counted."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from fungrad.rules import checkpoints
from fungrad.rules.checkpoints import Capacity

make_room = jax.jit(checkpoints.make_room, static_argnums=3)
put = jax.jit(lambda at, usable, i: checkpoints.put(checkpoints.Slots(at, []), usable, i, []).at)
distance = jax.jit(lambda m, at: checkpoints.distance(m, jnp.sum(at < 0, dtype=np.int32), at.size))


def steps_forward(capacity, total):
    """How often the schedule runs a step forward, per step; what is at hand is checked."""
    slots, unit = capacity
    at, stride, units, steps = jnp.full(slots, -1, np.int32), np.int32(1), -(-total // unit), total
    for i in range(units):
        stride, usable = make_room(at, np.int32(i), stride, capacity.ahead)
        at = put(at, usable, np.int32(i))
    for last in reversed(range(units)):
        i = int(at.max())
        assert 0 <= i <= last
        while i < last:
            further = int(distance(np.int32(last + 1 - i), at))
            steps, i = steps + further * unit, i + further
            at = put(at, at < 0, np.int32(i))
        steps += min(unit, total - last * unit)
        at = jnp.where(at == last, -1, at)
    return steps / total


@pytest.mark.parametrize(
    ("capacity", "total", "most"),
    [
        (Capacity(6, 4), 16, 2),  # c = 4: s = 1 and t = 0
        (Capacity(6, 4), 64, 3),  # s = 4 = β(2, 1)
        (Capacity(6, 4), 128, 4),  # s = 8 ≤ β(2, 2) = 10
        (Capacity(3, 1), 32, 8),  # s = 16 ≤ β(1, 5) = 21
        (checkpoints.AUTOMATIC, 1024, 2),
        (checkpoints.AUTOMATIC, 2048, 3),
        (checkpoints.LEAST, 100, 5),
    ],
)
def test_the_schedule_costs_what_is_stated(capacity, total, most):
    assert steps_forward(capacity, total) <= most
