"""Moving a map's elements to other places by copies of strided rectangles of whole channels.

`moves` finds the copies that turn a map into another one of which every element is some element of
the first. A `Move` is what one layer with weights of 1 can do: it reads some channels at every so
many pixels of a rectangle and writes them as neighbouring channels, again at every so many pixels.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

__all__ = ["Move", "moves"]

#: The largest distance of neighbouring pixels of a copy; an instruction has no more bits for it.
_STEP = 100


@dataclass
class Move:
    """One copy: the pixels (y, x) of `sizes` of `channels`, at (y, x) * stride + corner, become
    those at (y, x) * step + origin of the channels from `first_channel` on."""
    channels: np.ndarray
    corner: tuple
    stride: tuple
    sizes: tuple
    first_channel: int
    origin: tuple
    step: tuple


def moves(index: np.ndarray, shape: Sequence[int]) -> tuple[list[Move], np.ndarray]:
    """(list of Move, place of each channel): the copies that make the map `index` from a map of
    `shape` (channels, height, width).

    `index` (int array [C, H, W]) has, for each place of the wanted map, the number of the source's
    element. Channels that come from the same pixels are made next to each other: channel n of the
    wanted map is channel place[n] of the map that the copies make.
    """
    _, height, width = shape
    channel, pixel = np.divmod(index.reshape(len(index), -1), height * width)
    groups = defaultdict(list)
    patterns = {}
    for n, (own, places) in enumerate(zip(channel, pixel, strict=True)):
        labels = _labels(own)
        key = places.tobytes(), labels.tobytes()
        patterns[key] = labels
        groups[key].append(n)
    found, place, first = [], np.zeros(len(index), np.int64), 0
    for key, members in groups.items():
        labels = patterns[key]
        regions = [_rectangles(np.flatnonzero(labels == label), pixel[members[0]],
                               index.shape[2], width) for label in range(labels.max() + 1)]
        sources = channel[members][:, [int(np.argmax(labels == label))
                                       for label in range(labels.max() + 1)]]
        for some in _distinct(sources):
            for label, rectangles in enumerate(regions):
                found += [Move(sources[some, label], corner, stride, sizes, first, origin, step)
                          for corner, stride, sizes, origin, step in rectangles]
            place[[members[n] for n in some]] = first + np.arange(len(some))
            first += len(some)
    return found, place


def _labels(values):
    """Small numbers that are equal where the values are, in the order of first occurrence."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse.reshape(-1)]


def _distinct(sources):
    """The rows of `sources` [rows, labels] in lists of row numbers, such that rows of one list
    differ in every column."""
    sets: list[tuple[list[int], list[set[int]]]] = []
    for n, row in enumerate(sources.tolist()):
        found = next((item for item in sets if not any(
            number in own for number, own in zip(row, item[1], strict=True))), None)
        if found is None:
            found = [], [set() for _ in row]
            sets.append(found)
        members, taken = found
        members.append(n)
        for item, own in zip(row, taken, strict=True):
            own.add(item)
    return [members for members, _ in sets]


def _rectangles(targets, pixel, across, width):
    """[(corner, stride, sizes, origin, step)]: the copies that bring the source's pixels
    pixel[targets] to the pixels `targets`; `across` and `width` are the widths of the target and of
    the source."""
    rows = defaultdict(list)
    for target, source in zip(targets.tolist(), pixel[targets].tolist(), strict=True):
        (ty, tx), (sy, sx) = divmod(target, across), divmod(source, width)
        rows[ty, sy].append((tx, sx))
    alike: dict[tuple, list] = defaultdict(list)
    for place, row in rows.items():
        alike[tuple(row)].append(place)
    found = []
    for columns, places in alike.items():
        for down, right in product(_runs(places), _runs(columns)):
            (ty, sy, step_y, stride_y, count_y), (tx, sx, step_x, stride_x, count_x) = down, right
            found.append(((sy, sx), (stride_y, stride_x), (count_y, count_x), (ty, tx),
                          (step_y, step_x)))
    return found


def _runs(pairs):
    """[(target, source, step, stride, count)]: runs of pairs in which both numbers grow evenly."""
    found, rest = [], list(pairs)
    while rest:
        (target, source), count, step, stride = rest[0], 1, 1, 1
        if len(rest) > 1:
            step, stride = (rest[1][n] - rest[0][n] for n in (0, 1))
            if not (1 <= step <= _STEP and 1 <= stride <= _STEP):
                step = stride = 1
            else:
                while count < len(rest) and rest[count] == (target + count * step,
                                                            source + count * stride):
                    count += 1
        found.append((target, source, step, stride, count))
        rest = rest[count:]
    return found
