"""What stands together in a drawing: one place for an operation and its result, or for its inputs.

A picture that leads downwards has a row per step: an operation stands to the left of the box of its
one result. Arguments that one operation alone reads stand below each other, and share a link.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fungrad.inspect.layout import Link, Point

STACKED = {False: 4, True: 2}
"""So many arguments of one operation stand below each other; in a picture that leads down, two."""


@dataclass(frozen=True)
class Block:
    """Items that keep their places to each other.

    Attributes:
        items: their indices.
        offsets: of their centers from the block's, as (x, y).
        size: of the whole.
    """

    items: tuple[int, ...]
    offsets: tuple[Point, ...]
    size: Point


def blocks(
    sizes: Sequence[Point], is_box: Sequence[bool], links: Sequence[Link], *, down: bool
) -> tuple[list[Block], list[Link]]:
    """The blocks of the items, in the order of their last items, and the links between them.

    Args:
        sizes: width and height of each item.
        is_box: whether it is a box, or an operation.
        links: pairs (from, to) of items, from < to.
        down: whether the picture leads downwards.
    """
    groups = stacks(is_box, links, down=down) + (_steps(is_box, links) if down else [])
    grouped = {i for group in groups for i in group}
    groups += [(i,) for i in range(len(sizes)) if i not in grouped]
    # An operation comes after what it reads, and so does what stands with it.
    groups.sort(key=lambda group: group[0] if not is_box[group[0]] else group[-1])
    place = {i: k for k, group in enumerate(groups) for i in group}
    between = dict.fromkeys((place[start], place[end]) for start, end in links)
    return [_block(group, sizes, is_box) for group in groups], [
        (start, end) for start, end in between if start != end
    ]


def stacks(is_box: Sequence[bool], links: Sequence[Link], *, down: bool) -> list[tuple[int, ...]]:
    """The boxes that no operation makes and one reads, if it reads several of them."""
    ends = {end for _, end in links}
    uses = Counter(start for start, _ in links)
    reads: dict[int, list[int]] = defaultdict(list)
    for start, end in links:
        if is_box[start] and start not in ends and uses[start] == 1:
            reads[end].append(start)
    return [tuple(sorted(group)) for group in reads.values() if len(group) >= STACKED[down]]


def _steps(is_box: Sequence[bool], links: Sequence[Link]) -> list[tuple[int, ...]]:
    """Each operation of one result, with it."""
    results: dict[int, list[int]] = defaultdict(list)
    for start, end in links:
        if not is_box[start]:
            results[start].append(end)
    return [(start, ends[0]) for start, ends in results.items() if len(ends) == 1]


def _block(group: tuple[int, ...], sizes: Sequence[Point], is_box: Sequence[bool]) -> Block:
    own: Any = [sizes[i] for i in group]
    if not is_box[group[0]]:  # side by side
        width, height = sum(w for w, _ in own), max(h for _, h in own)
        lefts = [sum(w for w, _ in own[:k]) for k in range(len(own))]
        xs = [left + w / 2 - width / 2 for left, (w, _) in zip(lefts, own, strict=True)]
        return Block(group, tuple((x, 0.0) for x in xs), (width, height))
    width, height = max(w for w, _ in own), sum(h for _, h in own)
    tops = [sum(h for _, h in own[:k]) for k in range(len(own))]
    ys = [top + h / 2 - height / 2 for top, (_, h) in zip(tops, own, strict=True)]
    return Block(group, tuple((0.0, y) for y in ys), (width, height))
