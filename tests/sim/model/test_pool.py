"""Pool: windows, what is taken of them, and pools one after the other."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from systolith.hw.formats import Bipolar, Int, parse
from systolith.sim.model.pool import Pool


@st.composite
def pools(draw):
    size = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return Pool(size, (draw(st.integers(1, 4)), draw(st.integers(1, 4))),
                tuple(draw(st.integers(0, size[n % 2] - 1)) for n in range(4)))


def windows(pool, values):
    """{(y, x) of a window: its pixels [N, C, pixels]}"""
    (height, width), (top, left, _, _) = pool.out(values.shape[2:]), pool.pads
    found = {}
    for y, x in np.ndindex(height, width):
        rows, columns = (slice(max(0, n * step - pad), n * step - pad + size) for n, step, pad, size
                         in zip((y, x), pool.stride, (top, left), pool.size, strict=True))
        found[y, x] = values[:, :, rows, columns].reshape(*values.shape[:2], -1)
    return found


@given(pools(), st.integers(4, 9), st.integers(4, 9), st.integers(0, 99))
def test_every_window_gives_its_largest_smallest_and_sum(pool, height, width, seed):
    values = np.random.default_rng(seed).integers(-99, 100, (2, 3, height, width))
    try:
        mine = windows(pool, values)
    except ValueError as error:
        assert "hold no pixel" in str(error)
        assume(False)
    mixed = Pool(pool.size, pool.stride, pool.pads, (False, True, False))
    largest, extremes, sums = pool.extremes(values), mixed.extremes(values), pool.sums(values)
    assert largest.shape[2:] == pool.out((height, width))
    for (y, x), pixels in mine.items():
        assert (largest[:, :, y, x] == pixels.max(axis=2)).all()
        assert (extremes[:, 1, y, x] == pixels[:, 1].min(axis=1)).all()
        assert (extremes[:, ::2, y, x] == pixels[:, ::2].max(axis=2)).all()
        assert (sums[:, :, y, x] == pixels.sum(axis=2)).all()


@given(pools(), pools(), st.integers(6, 14), st.integers(6, 14))
def test_one_pool_for_two_that_follow_each_other(first, second, height, width):
    values = np.random.default_rng(height * width).integers(-99, 100, (1, 2, height, width))
    try:
        expected = second.extremes(first.extremes(values))
        assume(min(second.out(first.out((height, width)))) > 0)
    except ValueError:
        assume(False)
    both = first.then(second)
    gaps = any(s > k for s, k in zip(first.stride, first.size, strict=True))
    assert (both is None) == (gaps or any(second.pads))
    if both is not None:
        found = both.extremes(values)[:, :, :expected.shape[2], :expected.shape[3]]
        assert (found == expected).all()


@pytest.mark.parametrize("first, second", [
    (Pool((3, 3), least=(True,)), Pool((2, 2))), (Pool((3, 3)), Pool((2, 2), least=(True,))),
    (Pool((3, 3), sum=True), Pool((2, 2))), (Pool((3, 3)), Pool((2, 2), sum=True)),
    (Pool((8, 8), (1, 1)), Pool((9, 1)))])
def test_what_is_no_max_pool_or_too_large_stays_two(first, second):
    assert first.then(second) is None


def test_windows_stand_side_by_side_unless_told_otherwise():
    assert Pool((2, 3)) == Pool((2, 3), (2, 3)) and Pool().nothing
    assert not Pool((1, 1), (2, 1)).nothing and not Pool((1, 2)).nothing
    assert Pool((2, 3)).summed == 1 and Pool((2, 3), sum=True).summed == 6


def test_negative_factors_turn_the_largest_into_the_smallest():
    pool = Pool((2, 2)).scaled(np.array([1, -1, 2]))
    assert pool.least == (False, True, False)
    assert pool.scaled(np.array([1, -1, 1])) == Pool((2, 2))
    assert pool.of_channels([1, 0]).least == (True, False)
    assert pool.of_channels([0, 2]) == Pool((2, 2))


@pytest.mark.parametrize("format", [Int(8), parse("e3m2"), parse("e4m3"), Bipolar(1)], ids=str)
@pytest.mark.parametrize("window", [(1, 1), (2, 2), (3, 1), (2, 5)])
def test_pooling_keeps_the_largest_value(format, window):
    codes = np.random.default_rng(3).integers(0, 1 << format.width, (2, 3, 7, 11))
    result = format.decode(format.from_ordered(Pool(window).extremes(format.ordered(codes))))
    values = format.decode(codes)
    for y, x in np.ndindex(result.shape[2:]):
        rows = slice(y * window[0], (y + 1) * window[0])
        columns = slice(x * window[1], (x + 1) * window[1])
        assert (result[:, :, y, x] == values[:, :, rows, columns].max(axis=(2, 3))).all()
    assert result.shape[2:] == (7 // window[0], 11 // window[1])
