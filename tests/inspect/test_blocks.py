from fungrad.inspect.blocks import blocks

# Four arguments, an operation, its result, another operation on it and a number, and its result.
BOXES = [True] * 4 + [False, True, True, False, True]
LINKS = [(0, 4), (1, 4), (2, 4), (3, 4), (4, 5), (5, 7), (6, 7), (7, 8)]
SIZES = [(50.0 + i, 28.0) for i in range(9)]


def test_downwards_a_step_is_one_row_and_arguments_share_a_link():
    found, links = blocks(SIZES, BOXES, LINKS, down=True)
    assert [block.items for block in found] == [(0, 1, 2, 3), (4, 5), (6,), (7, 8)]
    assert links == [(0, 1), (1, 3), (2, 3)]
    stack, step = found[:2]
    assert stack.size == (53.0, 112.0)
    assert stack.offsets == ((0.0, -42.0), (0.0, -14.0), (0.0, 14.0), (0.0, 42.0))
    assert step.size == (109.0, 28.0)
    assert step.offsets == ((-27.5, 0.0), (27.0, 0.0))


def test_to_the_right_operations_and_results_are_apart():
    found, links = blocks(SIZES, BOXES, LINKS, down=False)
    assert [block.items for block in found] == [(0, 1, 2, 3), (4,), (5,), (6,), (7,), (8,)]
    assert links == [(0, 1), (1, 2), (2, 4), (3, 4), (4, 5)]


def test_an_argument_that_is_read_twice_stands_alone():
    found, _ = blocks(
        [(1.0, 1.0)] * 4, [True, True, False, False], [(0, 2), (1, 2), (0, 3)], down=True
    )
    assert [block.items for block in found] == [(0,), (1,), (2,), (3,)]
