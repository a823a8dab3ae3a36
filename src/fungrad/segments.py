"""Checkpoints on the way: what must be kept so that a forward pass can be repeated part by part.

A forward pass that is repeated as a whole is in memory as a whole. If the values that are alive at
k places are kept, it can be repeated from one place to the next, each part when the backward pass
comes to it: k times what is alive at a place, and the memory of one part [chen2016].
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from fungrad import _jax, costs
from fungrad.joint import Joint


def checkpoints(joint: Joint, ahead: set[int], parts: int) -> set[Any]:
    """What is alive at `parts` − 1 places that divide the operations about evenly.

    Around each place that where the fewest bytes are alive is taken; of equals the nearest.
    """
    order = sorted(ahead)
    if parts < 2 or not order:
        return set()
    alive = _alive(joint, order)
    bytes_alive = [sum(costs.bytes_of(v.aval) for v in values) for values in alive]
    work = [costs.operations(joint.equations[i], dear=True) for i in order]
    done = list(accumulate(w if w < costs.NEVER else 0.0 for w in work))
    width = done[-1] / parts
    kept: set[Any] = set()
    for k in range(1, parts):
        near = [p for p, d in enumerate(done) if abs(d - k * width) <= width / 2]
        if near:
            kept |= alive[min(near, key=lambda p: (bytes_alive[p], abs(done[p] - k * width)))]
    return kept


def _alive(joint: Joint, order: Sequence[int]) -> list[set[Any]]:
    """After each equation, what has been made and is read by a later one."""
    alive: list[set[Any]] = []
    needed: set[Any] = set()
    for i in reversed(order):
        equation = joint.equations[i]
        alive.append(set(needed))
        needed.difference_update(equation.outvars)
        needed.update(
            v for v in equation.invars if not isinstance(v, _jax.Literal) and v in joint.producer
        )
    return alive[::-1]
