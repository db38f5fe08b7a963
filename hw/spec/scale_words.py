"""What stands for a block's scale in the weight memory, and what a column's sum becomes by it.

It is the scale's code, as `BlockScale` defines it, or, where LUTs of six inputs multiply by scales
with three mantissa bits, the bits by which that circuit is set, so that no column decodes a code:

    bits 0, 1    `few`, a multiple of the sum: 1, -3, 5 or -7
    bit 2        what is added to 16 sums is subtracted instead
    bits 3 to 5  0: 1, 2 or 4 times `few` is added; all 1 and bit 0 not: 8 times
    bits 6, 7    places by which the total is shifted, in steps of two

Every word means something, be it no scale: then several multiples of `few` are put together bit by
bit, and the total is as wide as the circuit has it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from systolith.hw.formats import BlockScale

from .structures import Structure

__all__ = ["ScaleWord"]

#: 8 to 15 sums and, where the lowest bit of the exponent is 1, twice as many are 16 and so many
#: times a number of sums, which is 1, 5, -3 or -7.
_AROUND_16 = {8: (-8, 1), 9: (1, -7), 10: (2, -3), 11: (-1, 5), 12: (-4, 1), 13: (1, -3),
              14: (-2, 1), 15: (-1, 1), 16: (0, -3), 18: (2, 1), 20: (4, 1), 22: (-2, -3),
              24: (8, 1), 26: (2, 5), 28: (-4, -3), 30: (-2, -7)}
#: `few` by the two lowest bits.
_FEW = (1, -3, 5, -7)


@dataclass(frozen=True)
class ScaleWord:
    """The word of a column's scale.

    Parameters
    ----------
    scale : BlockScale
    structure : Structure
        Of what multiplies by it.
    """
    scale: BlockScale
    structure: Structure

    @cached_property
    def prepared(self) -> bool:
        """Whether it is no code, but prepared for the circuit."""
        return self.structure is Structure.LUT6 and self.scale.man == 3

    @cached_property
    def width(self) -> int:
        """Bits of a word."""
        return 8 if self.prepared else self.scale.width

    def product_bits(self, sum_bits: int) -> int:
        """Bits of a prepared word's total, before it is shifted."""
        return sum_bits + self.scale.man + 2

    @cached_property
    def words(self) -> np.ndarray:
        """The word of each code of a scale: int64 array."""
        codes = np.arange(1 << self.scale.width)
        if not self.prepared:
            return codes
        found = []
        for code in codes.tolist():
            times, few = _AROUND_16[8 + code % 8 << code // 8 % 2]
            off = sum((abs(times) != 1 << n) << n for n in range(3))
            found.append(_FEW.index(few) | (times < 0) << 2 | off << 3 | code >> 4 << 6)
        return np.array(found, np.int64)

    def products(self, sums: ArrayLike, words: ArrayLike, sum_bits: int, bits: int) -> np.ndarray:
        """What sums of `sum_bits` bits become, as signed numbers of `bits` bits, by words:
        arrays of shapes that go together, integers, int64 or as `sums` are."""
        numbers: Any = np.asarray(sums)
        words = np.asarray(words, np.int64)
        if not self.prepared:
            return numbers * self.scale.factors[words]
        kind = numbers.dtype if numbers.dtype == object else np.int64
        numbers = numbers.astype(kind)
        few = numbers * np.array(_FEW).astype(kind)[words & 3]
        off = words >> 3 & 7
        off |= ((off < 7) | (words & 1 != 0)) << 3
        added = np.zeros_like(few)
        for n in range(4):
            added = added | (few << n) * (1 - (off >> n & 1)).astype(kind)
        total = (numbers << 4) + added * (1 - (words >> 2 & 1) * 2).astype(kind)
        top = self.product_bits(sum_bits) - 1
        # The highest bit is the sum's sign.
        total = (total & (1 << top) - 1) - ((numbers < 0).astype(kind) << top)
        return _signed(total << (words >> 6 << 1).astype(kind), bits)


def _signed(numbers, bits):
    """What so many of their bits are as signed numbers."""
    half = 1 << bits - 1
    return (numbers + half & 2 * half - 1) - half
