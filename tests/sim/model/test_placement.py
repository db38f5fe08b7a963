"""Placement: the part of a tensor that a layer writes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from systolith.sim.model.placement import Placement


def test_a_map_lies_from_its_channel_and_pixel_on():
    whole = np.zeros((1, 4, 5, 6), int)
    part = np.arange(2 * 2 * 3).reshape(2, 2, 3)
    place = Placement(1, (3, 2), (1, 0))
    place.target(whole, part.shape)[...] = part
    for c, y, x in np.ndindex(part.shape):
        assert whole[0, 1 + c, 1 + 3 * y, 2 * x] == part[c, y, x]
    assert np.count_nonzero(whole) == part.size - 1         # one of them is 0


def test_what_does_not_fit_is_a_smaller_view():
    assert Placement(3).target(np.zeros((4, 2, 2)), (2, 2, 2)).shape == (1, 2, 2)
    assert Placement(0, (2, 1), (1, 0)).target(np.zeros((1, 3, 2)), (1, 2, 2)).shape == (1, 1, 2)


PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(st.builds(Placement, st.integers(0, 3), PAIRS, PAIRS),
       st.builds(Placement, st.integers(0, 3), PAIRS, PAIRS))
def test_a_part_of_a_part(inner, outer):
    shape, middle = (2, 2, 3), (8, 8, 12)
    whole = np.arange(16 * 32 * 40).reshape(16, 32, 40)
    expected = inner.target(outer.target(whole, middle), shape)
    assert (inner.inside(outer).target(whole, shape) == expected).all()


def test_the_whole_is_the_default():
    assert Placement() == Placement(0, [1, 1], [0, 0]) and hash(Placement())
    assert Placement(2).inside(Placement()) == Placement(2) == Placement().inside(Placement(2))
