"""Where an entry that is not finite was born: blame, followed from a result to its origin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fungrad import costs
from fungrad.inspect.diagnosis.values import (
    Entry,
    Gathered,
    Operation,
    Value,
    is_inexact,
    is_numeric,
    not_finite,
)


@dataclass(frozen=True, eq=False)
class Mark:
    """An entry of a value, on the way from a result to the origin."""

    value: Value
    entry: Entry

    @property
    def op(self) -> Operation | None:
        return self.value.op

    @cached_property
    def number(self) -> Any:
        return np.asarray(self.value.array)[self.entry]

    @property
    def is_nan(self) -> bool:
        return bool(np.isnan(self.number))

    @property
    def moves(self) -> bool:
        """Whether the operation that made it only put it there."""
        op = self.op
        if op is None or isinstance(op, Gathered):
            return True
        name = op.place.node.primitive
        return costs.moves(op.place.node.equation) or name in ("select_n", "convert_element_type")


@dataclass(frozen=True, eq=False)
class Trail:
    """The way of a NaN or an infinity, from a result back to where it was born.

    Attributes:
        marks: the entries on the way, that of the result first.
    """

    marks: Sequence[Mark]

    @property
    def end(self) -> Mark:
        """The argument, the constant or the output of an operation that is its beginning."""
        return self.marks[-1]

    @property
    def is_given(self) -> bool:
        """Whether the function was given it: as an argument, or as a constant of its own."""
        return self.end.op is None

    @cached_property
    def birth(self) -> Mark | None:
        """The entry that an operation is to blame for; `None` if nothing was computed at all.

        An infinity that was given, a mask of -inf, is no offence: what first made a NaN of it is,
        or what first computed with it.
        """
        computed = [mark for mark in self.marks if mark.op is not None]
        if not self.is_given:
            return computed[-1]
        if not self.end.is_nan:
            made = [m for m, n in zip(self.marks, self.marks[1:], strict=False) if m.is_nan]
            if made:
                return made[-1]
        own = [mark for mark in computed if not mark.moves]
        return (own or computed or [None])[-1]

    @property
    def is_harmless(self) -> bool:
        """Whether an infinity was given that the output shows: a mask among its entries."""
        if not self.is_given or self.end.is_nan or self.marks[0].is_nan:
            return False
        moved = all(mark.moves for mark in self.marks if mark.op is not None)
        return moved or (bool(self.marks[0].entry) and not self.end.value.is_argument)


def trails_to(value: Value, entry: Entry) -> list[Trail]:
    """Several trails to `value[entry]`: where one of two entries is enough, the other is, too."""
    trails, left = [follow(value, entry)], []
    left += _forks(trails[0])
    while left and len(trails) < FORKS:
        before, (other, place) = left.pop(0)
        trails.append(follow(other, place, before))
    return trails


FORKS = 4
"""So many trails are followed to one entry."""


def _forks(trail: Trail) -> list[tuple[list[Mark], tuple[Value, Entry]]]:
    """The ways that a trail did not take, nearest to its end first."""
    found = []
    for i, (mark, following) in enumerate(zip(trail.marks, trail.marks[1:], strict=False)):
        others = [] if mark.op is None else mark.op.others(mark.value.index, mark.entry)
        taken = following.value, following.entry
        found += [
            (list(trail.marks[: i + 1]), (value, entry))
            for value, entry in others
            if value.traced(entry) != taken
        ]
    return found[::-1]


def follow(value: Value, entry: Entry, before: Sequence[Mark] = ()) -> Trail:
    """The trail that ends at `value[entry]`, which is not finite; `before` leads on from there."""
    marks = [*before, Mark(*value.traced(entry))]
    while (op := marks[-1].op) is not None:
        found = op.source(marks[-1].value.index, marks[-1].entry)
        if found is None:
            inner = op.look_inside() if op.look_inside is not None else None
            marks += [] if inner is None else [inner]
            break
        value, entry = found[0].traced(found[1])
        if not not_finite(value.array)[entry]:  # compiled otherwise than recorded
            break
        marks.append(Mark(value, entry))
    return Trail(marks)


def worst_entries(array: Any, count: int = 4) -> list[Entry]:
    """Some entries that are not finite, spread over the array."""
    mask = not_finite(array)
    places = np.flatnonzero(mask)
    chosen = places[np.unique(np.linspace(0, len(places) - 1, count).round().astype(int))]
    return [tuple(int(e) for e in np.unravel_index(p, mask.shape)) for p in chosen]


def is_all_zero(x: Any) -> bool:
    """Whether a float array, of one entry at least, is exactly zero."""
    return is_inexact(x) and is_numeric(x) and x.size > 0 and not np.any(np.asarray(x != 0))
