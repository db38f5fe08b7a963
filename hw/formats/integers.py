"""Integers, ternary numbers, and sums of +-1 bit planes."""

from dataclasses import dataclass, field

import numpy as np

from .base import Format

__all__ = ["Bipolar", "Int", "Ternary"]


@dataclass(frozen=True, repr=True)
class Int(Format):
    """Two's complement (or unsigned) integers of `bits` bits, 1 to 16."""

    bits: int
    signed: bool = True

    def __post_init__(self):
        if not 1 <= self.bits <= 16:
            raise ValueError(f"bits of an Int must be from 1 to 16, not {self.bits!r}")

    @property
    def name(self):
        return f"{'int' if self.signed else 'uint'}{self.bits}"

    @property
    def width(self):
        return self.bits

    exponent = 0
    zero_code = 0

    def image(self, codes):
        codes = self._codes(codes)
        if not self.signed:
            return codes
        return codes - ((codes >> (self.bits - 1)) << self.bits)


@dataclass(frozen=True, repr=True)
class Ternary(Int):
    """-1, 0 and +1, as int2 writes them; the fourth code, 0b10, is no number.

    `encode` never makes it, `decode` takes it for NaN and `image` refuses it, so that hardware
    for int2 may rely on the smaller range.
    """

    bits: int = field(default=2, init=False, repr=False)
    signed: bool = field(default=True, init=False, repr=False)

    @property
    def name(self):
        return "ternary"

    def image(self, codes):
        images = super().image(codes)
        if (images == -2).any():
            raise ValueError("code 2 has no image in ternary, which is -1, 0 and 1")
        return images

    def decode(self, codes):
        images = super().image(codes)
        return np.where(images == -2, np.nan, images.astype(np.float64))


@dataclass(frozen=True, repr=True)
class Bipolar(Format):
    """Sums of +-1 bit planes: the odd integers from -(2**bits - 1) to 2**bits - 1.

    A code q stands for 2q - (2**bits - 1). `Bipolar(1)` is a binary network's +-1, where code 1
    is +1. There is no zero. Ties go up, so that encode(0) is the positive neighbour.
    """

    bits: int = 1

    def __post_init__(self):
        if not 1 <= self.bits <= 8:
            raise ValueError(f"bits of a Bipolar must be from 1 to 8, not {self.bits!r}")

    @property
    def name(self):
        return f"bipolar{self.bits}"

    @property
    def width(self):
        return self.bits

    exponent = 0
    zero_code = None

    def image(self, codes):
        return 2 * self._codes(codes) - ((1 << self.bits) - 1)

    def _tie_rank(self, numbers, codes):
        return np.zeros(len(codes))
