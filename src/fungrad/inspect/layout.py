"""Where to draw the items of an acyclic graph: in columns, every link from left to right.

The layered method [sugiyama1981] in its three steps: a column for each item, an order within each
column that has few crossings, and heights that keep links straight. A link that passes a column
has a place there too, so that it runs between the items and not through them; links of one item
share it, and part in front of the columns where they end.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

Link = tuple[int, int]
Point = tuple[float, float]

BETWEEN_COLUMNS, BETWEEN_ROWS, PULL, SOURCE = 24.0, 14.0, 0.1, 0.02
SWEEPS, VISITS = 12, 120_000  # as many sweeps, unless they visit more places; two at least


@dataclass(frozen=True)
class Layout:
    """Places in a plane with x to the right and y downwards, the top left corner at (0, 0).

    Attributes:
        size: width and height of the whole.
        centers: of each item.
        routes: for each link the points that it passes, from the right edge of one item to the
            left edge of another: level within a column, then up or down to the next, and so on.
    """

    size: Point
    centers: list[Point]
    routes: list[list[Point]]


def layout(sizes: Sequence[Point], links: Sequence[Link], *, down: bool = False) -> Layout:
    """Place items of the given widths and heights.

    Args:
        sizes: (width, height) of each item.
        links: pairs (from, to) of indices, from < to.
        down: lead links downwards: columns are rows then, and level is upright.

    >>> layout([(20.0, 10.0), (30.0, 10.0)], [(0, 1)]).centers
    [(10.0, 5.0), (59.0, 5.0)]
    """
    if down:
        placed = _layout([(height, width) for width, height in sizes], links, PULL)
        routes = [[*map(_turned, route)] for route in placed.routes]
        return Layout(_turned(placed.size), [*map(_turned, placed.centers)], routes)
    return _layout(sizes, links, 0.0)


def _layout(sizes: Sequence[Point], links: Sequence[Link], pull: float) -> Layout:
    columns_of = _columns_of(len(sizes), links)
    chains, count, passing = [], len(sizes), {}
    for start, end in links:
        passed = [(start, c) for c in range(columns_of[start] + 1, columns_of[end])]
        chains.append([start, *(passing.setdefault(p, count + len(passing)) for p in passed), end])
    sizes = [*sizes, *[(0.0, 0.0)] * len(passing)]
    columns_of += [column for _, column in passing]
    before: list[list[int]] = [[] for _ in sizes]
    after: list[list[int]] = [[] for _ in sizes]
    for start, end in dict.fromkeys(pair for chain in chains for pair in pairwise(chain)):
        before[end].append(start)
        after[start].append(end)

    columns = _ordered(columns_of, before, after)
    y = _heights(columns, [height for _, height in sizes], before, after, pull)
    lefts, rights, edge = [], [], 0.0
    for column in columns:
        lefts.append(edge)
        rights.append(edge + max(sizes[i][0] for i in column))
        edge = rights[-1] + BETWEEN_COLUMNS
    centers = [((lefts[c] + rights[c]) / 2, y[i]) for i, c in enumerate(columns_of)]

    def route(chain: list[int]) -> list[Point]:
        (start, *_), (*_, end) = chain, chain
        within = [(x[columns_of[i]], y[i]) for i in chain for x in (lefts, rights)]
        leaves = (centers[start][0] + sizes[start][0] / 2, y[start])
        arrives = (centers[end][0] - sizes[end][0] / 2, y[end])
        return [leaves, *within[1:-1], arrives]

    bottom = max((y[i] + sizes[i][1] / 2 for i in range(len(sizes))), default=0.0)
    routes = [route(chain) for chain in chains]
    return Layout((max(rights, default=0.0), bottom), centers[:count], routes)


def _turned(point: Point) -> Point:
    return point[1], point[0]


def _columns_of(count: int, links: Sequence[Link]) -> list[int]:
    """One column after the last predecessor; what comes of one source each, just before its use."""
    columns, uses = [0] * count, Counter(start for start, _ in links)
    before: list[list[int]] = [[] for _ in range(count)]
    nearest: dict[int, int] = {}
    for start, end in links:
        before[end].append(start)
    for i, earlier in enumerate(before):
        columns[i] = max((columns[k] + 1 for k in earlier), default=0)
    movable = [False] * count
    for i, earlier in enumerate(before):
        movable[i] = all(movable[k] and uses[k] == 1 for k in earlier)
    for start, end in sorted(links, reverse=True, key=lambda link: link[0]):
        due = columns[end] if not movable[end] else nearest.get(end, columns[end] + 1) - 1
        nearest[start] = min(nearest.get(start, due), due)
    return [nearest[i] - 1 if movable[i] and i in nearest else columns[i] for i in range(count)]


def _ordered(
    columns_of: list[int], before: list[list[int]], after: list[list[int]]
) -> list[list[int]]:
    """The columns, each in the order with the fewest crossings that the sweeps come upon.

    They begin in the order of a walk from the last items back, which meets operands in theirs.
    """
    walk: dict[int, None] = {}
    stack = [item for item, following in enumerate(after) if not following][::-1]
    while stack:
        if (item := stack.pop()) not in walk:
            walk[item] = None
            stack += reversed(before[item])
    columns: list[list[int]] = [[] for _ in range(max(columns_of, default=-1) + 1)]
    for item in walk:
        columns[columns_of[item]].append(item)

    best, fewest = [list(column) for column in columns], _crossings(columns, after)
    for sweep in range(_sweeps(len(before))):
        forward = sweep % 2 == 0
        neighbours = before if forward else after
        row = {item: float(k) for column in columns for k, item in enumerate(column)}
        for column in columns if forward else reversed(columns):
            middle = {i: _mean([row[n] for n in neighbours[i]], row[i]) for i in column}
            column.sort(key=middle.__getitem__)
            row.update((item, float(k)) for k, item in enumerate(column))
        if (crossings := _crossings(columns, after)) < fewest:
            best, fewest = [list(column) for column in columns], crossings
    return best


def _crossings(columns: list[list[int]], after: list[list[int]]) -> int:
    row = {item: k for column in columns for k, item in enumerate(column)}
    crossings = 0
    for column in columns:
        passed: list[int] = []
        for start in column:
            for end in sorted(row[end] for end in after[start]):
                place = bisect_right(passed, end)
                crossings += len(passed) - place
                passed.insert(place, end)
    return crossings


def _heights(
    columns: list[list[int]],
    heights: list[float],
    before: list[list[int]],
    after: list[list[int]],
    pull: float,
) -> list[float]:
    """The y of each item: near the mean of its neighbours', in the order of its column.

    Sources make way for what is between others. With a pull the columns are drawn to one middle.
    """
    weights = [1.0 if earlier else SOURCE for earlier in before]
    y, keep = [0.0] * len(heights), [1.0 - pull * (height > 0) for height in heights]

    def middle(items: list[int], otherwise: float) -> float:
        total = math.fsum(weights[i] for i in items)
        return math.fsum(weights[i] * y[i] for i in items) / total if items else otherwise

    def settle(column: list[int], wish: Callable[[int], float]) -> None:
        offsets, edge = [], 0.0
        for item in column:
            offsets.append(edge + heights[item] / 2)
            edge += heights[item] + BETWEEN_ROWS
        wishes = [wish(i) - o for i, o in zip(column, offsets, strict=True)]
        rises = _increasing(wishes, [weights[i] for i in column])
        for item, rise, offset in zip(column, rises, offsets, strict=True):
            y[item] = rise + offset

    for column in columns:
        settle(column, lambda item: 0.0)
    for sweep in range(_sweeps(len(y))):
        neighbours = after if sweep % 2 == 0 else before
        for column in reversed(columns) if sweep % 2 == 0 else columns:
            settle(column, lambda i, n=neighbours: keep[i] * middle(n[i], y[i]))
    top = min((y[i] - heights[i] / 2 for i in range(len(y))), default=0.0)
    return [value - top for value in y]


def _increasing(wishes: list[float], weights: list[float]) -> list[float]:
    """The increasing sequence nearest to the wishes, in weighted squares: crossing ones are pooled.

    >>> _increasing([1.0, 3.0, 2.0], [1.0, 1.0, 3.0])
    [1.0, 2.25, 2.25]
    """
    pools: list[tuple[float, float, int]] = []  # a mean, its weight, and how many it is of
    for wish, weight in zip(wishes, weights, strict=True):
        pools.append((wish, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (mean, w, n), (other, v, m) = pools.pop(), pools.pop()
            pools.append(((w * mean + v * other) / (w + v), w + v, n + m))
    return [mean for mean, _, count in pools for _ in range(count)]


def _sweeps(places: int) -> int:
    return max(2, min(SWEEPS, VISITS // max(places, 1)))


def _mean(numbers: list[float], otherwise: float = 0.0) -> float:
    return math.fsum(numbers) / len(numbers) if numbers else otherwise
