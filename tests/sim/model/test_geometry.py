"""Geometry: sizes of results, and sums against a convolution written tap by tap."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systolith.sim.model.geometry import Geometry


@st.composite
def cases(draw):
    """(Geometry, images [N, I, H, W], weights [O, I / groups, kh, kw])"""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    geometry = Geometry(
        stride=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        dilation=(draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        pads=tuple(draw(st.integers(-1, 2)) for _ in range(4)), replicate=draw(st.booleans()),
        groups=groups)
    images = rng.integers(-9, 10, (2, 2 * groups, draw(st.integers(7, 9)), draw(st.integers(7, 9))))
    return geometry, images, rng.integers(-9, 10, (groups * draw(st.integers(1, 2)), 2, *kernel))


def tap_by_tap(geometry, images, weight, pad_image):
    """The sums, one result and one tap after the other."""
    count, channels, *sizes = images.shape
    outputs, inputs, *kernel = weight.shape
    (height, width), (top, left, _, _) = geometry.sizes(sizes, kernel), geometry.pads
    cut = [max(0, -pad) for pad in geometry.pads]
    found = np.zeros((count, outputs, height, width), np.int64)
    for o, i, y, x, ky, kx in np.ndindex(outputs, inputs, height, width, *kernel):
        channel = o // (outputs // geometry.groups) * inputs + i
        row = y * geometry.stride[0] + ky * geometry.dilation[0] - top
        column = x * geometry.stride[1] + kx * geometry.dilation[1] - left
        inside = (cut[0] <= row < sizes[0] - cut[2]) and (cut[1] <= column < sizes[1] - cut[3])
        pixel = images[:, channel, min(max(row, 0), sizes[0] - 1), min(max(column, 0),
                                                                       sizes[1] - 1)]
        found[:, o, y, x] += weight[o, i, ky, kx] * (
            pixel if inside or geometry.replicate else pad_image)
    assert channels == inputs * geometry.groups
    return found


@given(cases(), st.integers(-5, 5))
def test_sums_are_those_of_every_tap(case, pad_image):
    geometry, images, weight = case
    pad_image = 0 if geometry.replicate else pad_image
    expected = tap_by_tap(geometry, images, weight, pad_image)
    assert (geometry.convolve(images, weight, pad_image) == expected).all()
    if geometry.groups == 1:            # 40 bits hold any of them
        wide = geometry.saturating_convolve(images, weight, 40, 2, pad_image)
        assert (wide == expected).all()


def test_narrow_accumulators_end_at_their_limits():
    geometry = Geometry(pads=(0, 0, 0, 1), replicate=True)
    images = np.full((1, 2, 1, 2), 100)
    sums = geometry.saturating_convolve(images, np.array([[[[100]], [[-1]]]]), 10, 1)
    assert sums.tolist() == [[[[511 - 100] * 3]]]


def test_pads_that_only_cut_are_no_padding():
    assert not Geometry(pads=(-1, 0, 0, -2)).padded and Geometry(pads=(-1, 0, 1, 0)).padded
    assert Geometry(pads=(-1, 0, 0, -2)).sizes((5, 6), (2, 1)) == (3, 4)


def test_it_does_not_change_and_lists_are_tuples():
    geometry = Geometry([2, 1], pads=[1, 1, 0, 0])
    assert geometry == Geometry((2, 1), (1, 1), (1, 1, 0, 0)) and hash(geometry)
    with pytest.raises(FrozenInstanceError):
        geometry.stride = (1, 1)
    assert replace(geometry, groups=2).stride == (2, 1)
