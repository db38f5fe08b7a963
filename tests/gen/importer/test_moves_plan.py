"""Copies that make one map of another, played by hand."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.gen.importer.moves_plan import moves


def _played(index, shape):
    """(what the copies make of a map of element numbers, number of copies)"""
    source = np.arange(np.prod(shape)).reshape(shape)
    result = np.full(index.shape, -1)
    found, place = moves(index, shape)
    for move in found:
        (y, x), (dy, dx), (rows, columns) = move.corner, move.stride, move.sizes
        part = source[move.channels, y:y + (rows - 1) * dy + 1:dy, x:x + (columns - 1) * dx + 1:dx]
        (y, x), (dy, dx), first = move.origin, move.step, move.first_channel
        target = result[first:first + len(move.channels), y:y + (rows - 1) * dy + 1:dy,
                        x:x + (columns - 1) * dx + 1:dx]
        assert (target == -1).all() and len(set(move.channels)) == len(move.channels)
        target[...] = part
    return result[place], len(found)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_elements(data):
    """Whatever is wanted of a map comes out, each element written once."""
    shape = tuple(data.draw(st.integers(1, 4)) for _ in range(3))
    wanted = tuple(data.draw(st.integers(1, 4)) for _ in range(3))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    index = rng.integers(0, np.prod(shape), wanted)
    assert (_played(index, shape)[0] == index).all()


def test_few_copies():
    """Blocks of pixels take one copy for each of a block's pixels, vectors one for each pixel,
    neighbouring rows one in all."""
    source = np.arange(8 * 4 * 6).reshape(8, 4, 6)
    blocks = source.reshape(2, 2, 2, 4, 6).transpose(0, 3, 1, 4, 2).reshape(2, 8, 12)
    depth = source.reshape(8, 2, 2, 3, 2).transpose(0, 2, 4, 1, 3).reshape(32, 2, 3)
    for index, count in ((blocks, 4), (depth, 4), (source.reshape(-1, 1, 1), 24),
                         (source[::-1, 1:3], 1), (source[:, ::2, 1::3], 1)):
        result, copies = _played(index, source.shape)
        assert (result == index).all() and copies == count
