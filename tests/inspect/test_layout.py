import itertools
import random

import pytest

from fungrad.inspect.layout import _crossings, _increasing, layout

DIAMOND = [(0, 1), (0, 2), (1, 3), (2, 3), (0, 3)]


def random_graph(seed, count=25):
    draw = random.Random(seed)
    sizes = [(float(draw.randrange(10, 90)), float(draw.randrange(10, 30))) for _ in range(count)]
    ends = range(1, count)
    links = {(draw.randrange(max(0, end - 6), end), end) for end in ends for _ in range(2)}
    return sizes, sorted(links)


def boxes_of(placed, sizes):
    for (x, y), (width, height) in zip(placed.centers, sizes, strict=True):
        yield x - width / 2, x + width / 2, y - height / 2, y + height / 2


@pytest.mark.parametrize("seed", range(5))
def test_items_are_apart_and_inside_and_links_lead_right(seed):
    sizes, links = random_graph(seed)
    placed = layout(sizes, links)
    boxes = list(boxes_of(placed, sizes))
    for left, right, top, bottom in boxes:
        assert left >= -1e-9
        assert top >= -1e-9
        assert right <= placed.size[0] + 1e-9
        assert bottom <= placed.size[1] + 1e-9
    for a, b in itertools.combinations(boxes, 2):
        assert a[1] < b[0] or b[1] < a[0] or a[3] < b[2] or b[3] < a[2]
    for start, end in links:
        assert boxes[start][1] < boxes[end][0]


@pytest.mark.parametrize("seed", range(5))
def test_routes_lead_from_edge_to_edge_and_through_no_item(seed):
    sizes, links = random_graph(seed)
    placed = layout(sizes, links)
    boxes = list(boxes_of(placed, sizes))
    for (start, end), route in zip(links, placed.routes, strict=True):
        assert route[0] == (boxes[start][1], placed.centers[start][1])
        assert route[-1] == (boxes[end][0], placed.centers[end][1])
        assert [x for x, _ in route] == sorted(x for x, _ in route)
        for (x, y), (to_x, to_y) in zip(route[::2], route[1::2], strict=True):
            assert y == to_y  # level within a column
            for left, right, top, bottom in boxes:
                assert not (left < to_x and x < right and top < y < bottom)


def test_a_source_stands_next_to_its_first_use():
    chain = [(0, 1), (1, 2), (3, 4), (2, 4)]
    placed = layout([(20.0, 10.0)] * 5, chain)
    assert placed.centers[3][0] == placed.centers[2][0]


def test_operands_keep_their_order():
    placed = layout([(20.0, 10.0)] * 5, [(0, 4), (1, 4), (2, 4), (3, 4)])
    heights = [y for _, y in placed.centers[:4]]
    assert heights == sorted(heights)


def test_nothing_crosses_needlessly():
    """Item 0 is used by both 3 and 4, so it stands between 1, for 3 alone, and 2, for 4 alone."""
    placed = layout([(20.0, 10.0)] * 5, [(0, 3), (1, 3), (0, 4), (2, 4)])
    heights = [placed.centers[i][1] for i in (1, 0, 2)]
    assert heights == sorted(heights)
    assert placed.centers[3][1] < placed.centers[4][1]


def test_the_same_graph_has_the_same_layout():
    assert layout([(20.0, 10.0)] * 4, DIAMOND) == layout([(20.0, 10.0)] * 4, DIAMOND)


def test_an_empty_graph_and_a_lone_item():
    assert layout([], []).size == (0.0, 0.0)
    assert layout([(20.0, 10.0)], []).centers == [(10.0, 5.0)]


def test_the_nearest_increasing_sequence():
    draw = random.Random(0)
    for _ in range(20):
        wishes = [float(draw.randrange(4)) for _ in range(4)]
        weights = [draw.choice([0.5, 1.0, 2.0]) for _ in range(4)]
        found = _increasing(wishes, weights)
        assert found == sorted(found)
        grid = itertools.combinations_with_replacement([k / 4 for k in range(13)], 4)

        def cost(s, wishes=wishes, weights=weights):
            return sum(v * (a - w) ** 2 for a, w, v in zip(s, wishes, weights, strict=True))

        assert cost(found) <= min(map(cost, grid)) + 1e-12


@pytest.mark.parametrize("seed", range(2))
def test_downwards_is_the_same_turned(seed):
    sizes, links = random_graph(seed)
    placed = layout(sizes, links, down=True)
    boxes = list(boxes_of(placed, sizes))
    for a, b in itertools.combinations(boxes, 2):
        assert a[1] < b[0] or b[1] < a[0] or a[3] < b[2] or b[3] < a[2]
    for (start, end), route in zip(links, placed.routes, strict=True):
        assert boxes[start][3] < boxes[end][2]
        assert route[0] == (placed.centers[start][0], boxes[start][3])
        assert route[-1] == (placed.centers[end][0], boxes[end][2])


def test_a_long_graph_does_not_wander_off():
    """A trunk with a wide source beside each of its items."""
    count = 60
    sizes = [(40.0, 10.0)] + [size for _ in range(count) for size in ((300.0, 10.0), (40.0, 10.0))]
    links = [(2 * k, 2 * k + 2) for k in range(count)] + [
        (2 * k + 1, 2 * k + 2) for k in range(count)
    ]
    placed = layout(sizes, links, down=True)
    assert placed.size[0] < 1000


def test_links_of_one_item_share_their_way():
    steps = range(1, 30)
    links = [(0, i) for i in steps] + [(i - 1, i) for i in steps]
    routes = layout([(10.0, 10.0)] * 30, links).routes
    longest, shorter = routes[links.index((0, 29))], routes[links.index((0, 20))]
    assert longest[: len(shorter) - 2] == shorter[:-2]


def test_crossings_are_inverted_pairs():
    ends = [3, 1, 2, 1, 0]
    columns, after = [[0, 1, 2, 3, 4], [5, 6, 7, 8]], [[5 + end] for end in ends]
    inverted = sum(a > b for k, b in enumerate(ends) for a in ends[:k])
    assert _crossings(columns, [*after, [], [], [], []]) == inverted == 8
