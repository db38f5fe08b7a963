"""Boxes cut passes into the same passes in the same order; even cuts are even."""

import pytest
from systolith.gen.compile.boxes import Box, boxes, even


def passes(cut):
    return [(ky, kx, b) for y, rows, x, columns, first, blocks in cut
            for ky in range(y, y + rows) for kx in range(x, x + columns)
            for b in range(first, first + blocks)]


@pytest.mark.parametrize("most", [1, 2, 3, 5, 7, 12, 30, 1000])
def test_boxes_are_the_same_passes_in_the_same_order(most):
    for box in (Box(0, 3, 0, 3, 0, 4), Box(1, 2, 0, 5, 3, 1), Box(0, 1, 0, 1, 0, 37),
                Box(0, 7, 2, 1, 0, 2)):
        cut = boxes(box, most)
        assert passes(cut) == passes([box])
        assert all(part.passes <= most for part in cut)


def test_boxes_fit_the_fields_of_an_array_instruction():
    cut = boxes(Box(0, 300, 0, 2, 0, 1), 1 << 30)
    assert passes(cut) == passes([(0, 300, 0, 2, 0, 1)])
    assert max(box.rows for box in cut) <= 255
    assert max(box.columns for box in boxes(Box(0, 2, 0, 256, 0, 1), 1 << 30)) <= 255
    assert max(box.blocks for box in boxes(Box(0, 1, 0, 1, 0, 5000), 1 << 30)) <= 4095


def test_even_parts_differ_by_one_at_most():
    for total in range(1, 30):
        for parts in range(1, total + 1):
            sizes = [b - a for a, b in even(total, parts)]
            assert sum(sizes) == total and max(sizes) - min(sizes) <= 1
