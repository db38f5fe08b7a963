"""What multiplies a column's sums by the scales of blocks, in Verilated RTL: sums and codes of
scales in, products out.

The expected products are those of `hw.spec.scale_words`, where words are codes integers times the
factors of `hw.formats.BlockScale`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.element.block_scale import BlockScaleCell

from .players import play

__all__ = ["EXHAUSTIVE", "Scaled", "observe_scales", "scale_vectors", "wrong_products"]



class Scales(wiring.Component):
    """A `BlockScaleCell` and the number that it gives."""

    def __init__(self, cell: BlockScaleCell) -> None:
        self.cell = cell
        super().__init__({"swap": In(1), "code": In(len(cell.code)), "sum": In(cell.sum.shape()),
                          "o": Out(cell.out.bits)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.cell = cell = self.cell
        m.d.comb += [cell.swap.eq(self.swap), cell.code.eq(self.code), cell.sum.eq(self.sum),
                     self.o.eq(cell.out.number(cell.o))]
        return m


#: Cells whose sums and codes have at most so many bits together meet all pairs.
EXHAUSTIVE = 21
#: Random sums of each code of a wider cell.
_SUMS = 4000
_MIXED = 4000


@dataclass(eq=False)
class Scaled:
    """Sums [N], the word of the scale that each met [N], and the products that came out [N]."""
    sums: np.ndarray
    codes: np.ndarray
    products: np.ndarray


def scale_vectors(cell: BlockScaleCell, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Inputs of a cell, one vector a clock: every word of a scale with every sum, in random order,
    or with random sums and corners where these are too many; then random ones with swaps at any
    time. Codes on the bus that are not swapped in are random, too."""
    bits, codes = len(cell.sum), 1 << len(cell.code)
    low, end = cell.sums.start, cell.sums.stop
    corners = np.array([low, end - 1, 0, -1, min(1, end - 1), end // 2, low // 2])
    every = bits + len(cell.code) <= EXHAUSTIVE
    swap, code, sums = [], [], []
    for wanted in random.permutation(codes):
        some = (random.permutation(end - low) + low if every else
                np.concatenate([corners, random.integers(low, end, _SUMS)]))
        own = random.integers(0, codes, len(some) + 1)
        own[0] = wanted
        first = np.zeros(len(some) + 1, bool)
        first[0] = True
        swap.append(first)
        code.append(own)
        sums.append(np.concatenate([random.integers(low, end, 1), some]))
    swap.append(random.random(_MIXED) < 0.4)
    code.append(random.integers(0, codes, _MIXED))
    sums.append(random.integers(low, end, _MIXED))
    return {name: np.concatenate(parts) for name, parts in
            (("swap", swap), ("code", code), ("sum", sums))}


def observe_scales(cells: Sequence[BlockScaleCell],
                   vectors: Sequence[dict[str, np.ndarray]]) -> list[Scaled]:
    """Simulate cells, each with its `scale_vectors`; the products of every sum that met a code
    which had been swapped in. Raises SimulationError."""
    given = [{name: np.concatenate([values, np.zeros(cell.stages, values.dtype)])
              for name, values in own.items()}
             for cell, own in zip(cells, vectors, strict=True)]
    found = []
    players = [Scales(cell) for cell in cells]
    for cell, own, seen in zip(cells, vectors, play(players, given), strict=True):
        count = len(own["sum"])
        place = np.maximum.accumulate(np.where(own["swap"], np.arange(count), -1))
        # A sum meets what was swapped in at the latest in the cycle before. What comes out is seen
        # after the edge that takes a vector: a cell of one stage answers with its own response.
        met = np.flatnonzero(np.concatenate([[-1], place[:-1]]) >= 0)
        sign = 1 << (cell.out.bits - 1)
        out = seen["o"][met + cell.stages - 1]
        found.append(Scaled(own["sum"][met], own["code"][place[met - 1]], (out ^ sign) - sign))
    return found


def wrong_products(cell: BlockScaleCell, scaled: Scaled) -> np.ndarray:
    """Which products are not sum times factor: bool [N]."""
    return scaled.products != cell.expected(scaled.sums, scaled.codes)
