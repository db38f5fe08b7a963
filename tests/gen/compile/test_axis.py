"""Axes: which pixels and input positions belong to results."""

import random

import pytest
from systolith.gen.compile.axis import Axis
from systolith.sim.model.numerics import output_size


def random_axis(draw):
    while True:
        size, kernel, stride = draw.randint(1, 20), draw.randint(1, 5), draw.randint(1, 3)
        dilation, pool = draw.randint(1, 3), draw.randint(1, 4)
        pads = draw.randint(0, 6), draw.randint(0, 6)
        pixels = output_size(size, kernel, stride, dilation, pads)
        step, margin = pool, 0
        if draw.random() < 0.5:
            step, margin = draw.randint(1, 4), draw.randrange(pool)
        out = output_size(pixels, pool, step, 1, (margin, 0))
        if pixels >= 1 and out >= 1 and (out - 1) * step - margin < pixels:
            return Axis(size, kernel, stride, dilation, pads[0], pool, out, step, margin, pixels)


@pytest.mark.parametrize("seed", range(200))
def test_a_span_is_what_is_read(seed):
    draw = random.Random(seed)
    axis = random_axis(draw)
    first = draw.randrange(axis.out)
    end = draw.randint(first + 1, axis.out)
    tap = draw.randrange(axis.kernel)
    taps = tap, draw.randint(tap + 1, axis.kernel)
    read = [pixel * axis.stride - axis.pad + k * axis.dilation
            for pixel in range(*axis.under((first, end))) for k in range(*taps)]
    low, high, start = axis.span((first, end), taps)
    inside = [position for position in read if 0 <= position < axis.size]
    assert low + start == read[0]
    assert all(low <= position < high for position in inside)
    assert low == min(max(read[0], 0), axis.size - 1)   # gaps between pixels are part of it
    assert high == max(min(max(read) + 1, axis.size), low + 1)
    assert high - low <= axis.extent(end - first, taps[1] - taps[0])
    most = axis.most(high - low)
    assert most == max((n for n in range(1, axis.out + 1) if axis.extent(n) <= high - low),
                       default=0)


@pytest.mark.parametrize("seed", range(60))
def test_windows_come_in_runs_of_one_size(seed):
    draw = random.Random(seed)
    axis = random_axis(draw)
    first = draw.randrange(axis.out)
    out = first, draw.randint(first + 1, axis.out)
    found = [(pixel + (n - a) * axis.step, pixel + (n - a) * axis.step + size)
             for a, b, pixel, size in axis.windows(out) for n in range(a, b)]
    assert found == [axis.window(n) for n in range(*out)]
    assert axis.under(out) == (found[0][0], found[-1][1])
    for low, high in found:
        assert 0 <= low < high <= axis.pixels and high - low <= axis.pool
    if axis.apart:
        assert all(high - low == axis.pool for low, high in found)
