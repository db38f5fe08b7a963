"""Even cuts of ranges, and boxes of passes (`Box`: some taps of a kernel for some blocks of input
channels).
"""

import numpy as np
from systolith.hw.spec.host import Box

from .limits import LIMITS

__all__ = ["Box", "Rectangle", "boxes", "even", "pieces", "runs_of"]

#: ((first row, end), (first column, end)) of a map.
Rectangle = tuple[tuple[int, int], tuple[int, int]]

#: The most rows and columns of a kernel in an ARRAY instruction.
_TAPS = LIMITS["kernel_y"], LIMITS["kernel_x"]


def even(total: int, parts: int) -> list[tuple[int, int]]:
    """[(start, end)] of ranges that cut 0 to `total` into `parts` pieces whose sizes differ by one
    at most."""
    return [(total * n // parts, total * (n + 1) // parts) for n in range(parts)]


def pieces(total: int, most: int) -> list[tuple[int, int]]:
    """[(start, end)] of the fewest pieces of at most `most` that cut 0 to `total`, of even
    sizes."""
    return even(total, -(-total // most))


def runs_of(made: np.ndarray, box: Box) -> list[Box]:
    """Boxes that together are the passes of a box for which `made` (bool array [kernel row, kernel
    column, block]) is set, in their order. Neighbouring rows with the same columns and blocks are
    one box, and so are neighbouring columns with the same blocks."""
    y, rows, x, columns, first, blocks = box
    edges = np.diff(made[y:y + rows, x:x + columns, first:first + blocks].astype(np.int8), axis=2,
                    prepend=0, append=0)
    found: list[tuple] = []
    for row in range(rows):
        mine: list[tuple] = []
        for column in range(columns):
            starts, ends = (np.flatnonzero(edges[row, column] == sign) for sign in (1, -1))
            for a, b in zip((first + starts).tolist(), (first + ends).tolist(), strict=True):
                last = mine[-1] if mine else None
                if len(starts) == 1 and last and last[1] == x + column and last[2:] == (a, b):
                    mine[-1] = (last[0], x + column + 1, a, b)
                else:
                    mine.append((x + column, x + column + 1, a, b))
        last = found[-1] if found else None
        if last and len(mine) == 1 and last[2] == mine:
            found[-1] = (last[0], y + row + 1, mine)
        else:
            found.append((y + row, y + row + 1, mine))
    return [Box(a, b - a, c, d - c, e, f - e) for a, b, mine in found for c, d, e, f in mine]


def boxes(box: Box, most: int, taps: tuple[int, int] = _TAPS) -> list[Box]:
    """Boxes of at most `most` passes, each of which an ARRAY instruction can make, that one after
    the other are the same passes in the same order as `box`; of at most `taps` rows and columns of
    the kernel."""
    y, rows, x, columns, b, blocks = box
    fits_x, fits_b = columns <= taps[1], blocks <= LIMITS["blocks"]
    if fits_x and fits_b and columns * blocks <= most:
        limit = min(most // (columns * blocks), taps[0])
        return [Box(y + low, high - low, x, columns, b, blocks)
                for low, high in pieces(rows, limit)]
    if fits_b and blocks <= most:
        limit = min(most // blocks, taps[1])
        cut = [(x + low, high - low, b, blocks) for low, high in pieces(columns, limit)]
    else:
        limit = min(most, LIMITS["blocks"])
        cut = [(x + n, 1, b + low, high - low) for n in range(columns)
               for low, high in pieces(blocks, limit)]
    return [Box(y + n, 1, *rest) for n in range(rows) for rest in cut]
