"""Checkpoints on the way: what must be kept so that a forward pass can be repeated part by part.

A forward pass that is repeated as a whole is in memory as a whole. If the values that are alive at
k places are kept, it can be repeated from one place to the next, each part when the backward pass
comes to it: k times what is alive at a place, and the memory of one part [chen2016].
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container
from itertools import accumulate
from typing import Any

from fungrad import _jax, costs
from fungrad.joint import Joint

MOST = 4
"""Parts. More of them seldom pay in the body of a loop, whose steps are parts already."""


def checkpoints(joint: Joint, ahead: set[int], parts: int) -> set[Any]:
    """What is alive at `parts` − 1 places that divide the operations about evenly.

    Around each place that where the fewest bytes are alive is taken; of equals the nearest.
    """
    return _Pass(joint, ahead).divided(parts)[0] if parts > 1 else set()


def worthwhile(joint: Joint, ahead: set[int], in_memory: Container[Any], steps: int) -> set[Any]:
    """The checkpoints that take less memory than they spare, in a loop of so many steps.

    Of one to `MOST` parts that number is chosen for which

        steps · bytes(what is kept) + 2 · max over the parts of bytes(what is repeated)

    is least: what is kept is stacked, what is repeated is there once, and so are its gradients.

    Args:
        in_memory: the values that are not used up where they are made.
    """
    forward = _Pass(joint, ahead)
    divisions = (forward.divided(parts) for parts in range(1, 1 + MOST))

    def room(division):
        kept, places = division
        return steps * costs.bytes_of_all(kept) + 2 * forward.largest_part(places, in_memory)

    return min(divisions, key=room)[0]


class _Pass:
    """A forward pass: its equations in order, what is alive after each, and the work done then."""

    def __init__(self, joint: Joint, ahead: set[int]):
        self.joint, self.order = joint, sorted(ahead)
        self.alive = self._alive()
        self.bytes_alive = list(map(costs.bytes_of_all, self.alive))
        work = (costs.operations(joint.equations[i], dear=True) for i in self.order)
        self.done = list(accumulate(w if w < costs.NEVER else 0.0 for w in work))

    def divided(self, parts: int) -> tuple[set[Any], list[int]]:
        """What is alive at the places that divide the pass, and after which equations they are."""
        kept: set[Any] = set()
        places: list[int] = []
        if self.order:
            width = self.done[-1] / max(parts, 1)
            for k in range(1, parts):
                near = [p for p, d in enumerate(self.done) if abs(d - k * width) <= width / 2]
                if near:
                    at = min(near, key=lambda p: (self.bytes_alive[p], self._off(p, k * width)))
                    kept |= self.alive[at]
                    places.append(at)
        return kept, places

    def _off(self, place: int, target: float) -> float:
        return abs(self.done[place] - target)

    def largest_part(self, places: list[int], in_memory: Container[Any]) -> float:
        """The bytes of the values in memory that are made in one part, the largest one."""
        sums = [0.0] * (len(places) + 1)
        for p, i in enumerate(self.order):
            made = self.joint.equations[i].outvars
            sums[bisect_left(places, p)] += costs.bytes_of_all(v for v in made if v in in_memory)
        return max(sums)

    def _alive(self) -> list[set[Any]]:
        """After each equation, what has been made and is read by a later one."""
        alive: list[set[Any]] = []
        needed: set[Any] = set()
        for i in reversed(self.order):
            alive.append(set(needed))
            needed.difference_update(self.joint.equations[i].outvars)
            read = (v for v in self.joint.read_by([i]) if not isinstance(v, _jax.Literal))
            needed.update(v for v in read if v in self.joint.producer)
        return alive[::-1]
