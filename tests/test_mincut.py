"""The minimum cut against all cuts there are."""

import math
from itertools import product

import numpy as np
import pytest

from fungrad.mincut import SINK, SOURCE, sink_side


def capacity(edges, side):
    """What is taken away by a cut: the edges that lead to the sink's side."""
    return sum(c for (start, end), c in edges.items() if side[end] and not side[start])


def every_side(size):
    return ((False, True, *rest) for rest in product((False, True), repeat=size - 2))


def minimal_sides(size, edges):
    """All sink sides of minimum cuts, and their capacity."""
    cuts = {side: capacity(edges, side) for side in every_side(size)}
    least = min(cuts.values())
    return [side for side, c in cuts.items() if c == least], least


def smallest(sides):
    """What all have in common: with two minimum cuts, what is common to both is one too."""
    return [all(each) for each in zip(*sides, strict=True)]


def random_network(draw, size, capacities):
    pairs = [(i, j) for i in range(size) for j in range(size) if i != j and j and i != SINK]
    chosen = draw.permutation(len(pairs))[: draw.integers(2, 3 * size)]
    return {pairs[k]: draw.choice(capacities) for k in chosen}


@pytest.mark.parametrize(
    "capacities",
    [
        [1.0],
        [0.0, 1.0, 2.0, 3.0],
        [1.0, 2.0, 5.0, math.inf],
        [2.0**40, 3 * 2.0**40, math.inf],
        [2.0**-40, 2.0**-38],
    ],
)
def test_it_is_the_smallest_of_the_least_cuts(capacities):
    draw = np.random.default_rng(0)
    finite = 0
    for _ in range(60):
        size = int(draw.integers(3, 8))
        edges = random_network(draw, size, capacities)
        sides, least = minimal_sides(size, edges)
        if least < math.inf:
            finite += 1
            assert list(sink_side(size, edges)) == smallest(sides)
    assert finite > 30


def test_numbers_that_are_not_whole():
    """They are rounded to parts of 2⁻²⁸ of their sum: the cut is the least up to as much."""
    draw = np.random.default_rng(1)
    for _ in range(60):
        edges = random_network(draw, 7, draw.lognormal(0, 3, 100))
        _, least = minimal_sides(7, edges)
        excess = capacity(edges, sink_side(7, edges)) - least
        assert 0 <= excess <= len(edges) * 2**-27 * sum(edges.values())


def test_what_is_infinite_is_not_cut_however_much_is():
    """Many infinite edges side by side, and finite ones whose sum is far beyond 32 bits."""
    edges = {(SOURCE, i): math.inf for i in range(3, 40)}
    edges |= {(i, 2): math.inf for i in range(3, 40)} | {(2, SINK): 1e30}
    side = sink_side(40, edges)
    assert [i for i in range(40) if side[i]] == [SINK]


def test_what_is_far_less_than_the_rest_counts():
    edges = {(SOURCE, 2): 1e-9, (2, SINK): 1e9, (SOURCE, 3): 1e9, (3, SINK): 1e-9}
    assert list(sink_side(4, edges)) == [False, True, True, False]


def test_nodes_without_edges_are_with_the_source():
    assert list(sink_side(5, {(SOURCE, 3): 2.0})) == [False, True, False, False, False]
    assert list(sink_side(3, {(SOURCE, SINK): 1.0})) == [False, True, False]
    assert list(sink_side(3, {(2, SINK): math.inf})) == [False, True, True]


def test_equal_capacities_are_equal_however_they_are_divided():
    """3 = 1 + 2, and the cut of two edges is the nearer one to the sink."""
    edges = {(SOURCE, 2): 3.0, (2, 3): 1.0, (2, 4): 2.0, (3, SINK): math.inf, (4, SINK): math.inf}
    assert list(sink_side(5, edges)) == [False, True, False, True, True]
