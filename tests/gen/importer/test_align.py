"""Values that an operator combines: joined along an axis, compared but for their order."""

from dataclasses import replace

import numpy as np
from systolith.gen.importer.align import joined_along, same_but_for_order
from systolith.gen.importer.rationals import exact
from systolith.gen.importer.values import Value, layout_of, with_layout


def value(channels, height, width, source="a"):
    ones = exact(np.ones(channels))
    shape = (channels, height, width)
    return Value(source, shape, shape, ones, 0 * ones)


def test_maps_are_joined_along_the_axis_of_their_shapes():
    first, second = value(2, 3, 4), value(5, 3, 4)
    _, along, sizes, order = joined_along([first, second], 0)
    assert (along, sizes) == (0, (7, 3, 4)) and order.shape == (1, 7, 3, 4)
    assert (order.reshape(-1) == np.arange(84)).all()
    assert joined_along([value(2, 3, 4), value(2, 5, 5)], 1) is None


def test_a_transposed_value_is_joined_along_another_axis_of_its_map():
    turned = [with_layout(item, layout_of(item).transpose(0, 2, 3, 1)) for item in
              (value(2, 3, 4), value(5, 3, 4))]
    _, along, sizes, order = joined_along(turned, 2)
    assert (along, sizes) == (0, (7, 3, 4)) and order.shape == (1, 3, 4, 7)
    assert (order[0].transpose(2, 0, 1).reshape(-1) == np.arange(84)).all()


def test_values_that_differ_in_order_alone():
    first = value(2, 3, 4)
    other = with_layout(first, layout_of(first).transpose(0, 1, 3, 2))
    assert same_but_for_order([first, other])
    assert not same_but_for_order([first, replace(other, gain=2 * other.gain)])
    assert not same_but_for_order([first, replace(other, source="b")])
