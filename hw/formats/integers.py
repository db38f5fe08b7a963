"""Integers, ternary numbers, and sums of +-1 bit planes."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from .base import Format
from .names import register

__all__ = ["Bipolar", "Int", "Ternary"]


@dataclass(frozen=True, repr=True)
class Int(Format):
    """Two's complement (or unsigned) integers of `bits` bits, 1 to 16."""

    bits: int
    signed: bool = True

    family = "integer"
    uniform = True

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise ValueError(f"bits of an Int must be from 1 to 16, not {self.bits!r}")

    @property
    def name(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.bits}"

    @property
    def width(self) -> int:
        return self.bits

    exponent = 0
    zero_code = 0

    @property
    def chip_format(self) -> Format:
        # Unsigned codes and their zero points are moved by half their range.
        return self if self.signed else Int(self.bits)

    def activation_fault(self) -> str | None:
        return self.weight_fault()

    def weight_fault(self) -> str | None:
        return None if self.signed else (
            f"must be a signed integer format such as int8, not {self}; unsigned codes of a "
            "network run on it, shifted by half their range")

    def holds(self, other: Format) -> bool:
        if not other.uniform or other.block_scale:
            return False
        (low, high), (least, most) = self.image_range, other.image_range
        return low <= least and most <= high

    @property
    def factors(self) -> tuple[Format, int]:
        return self, 1

    def image(self, codes: ArrayLike) -> np.ndarray:
        codes = self._codes(codes)
        if not self.signed:
            return codes
        return codes - ((codes >> (self.bits - 1)) << self.bits)

    def from_image(self, images: ArrayLike) -> np.ndarray:
        images = np.asarray(images)
        if images.dtype.kind not in "iu":
            return super().from_image(images)
        return self.from_ordered(np.clip(images, *self.image_range))

    def from_ordered(self, values: ArrayLike) -> np.ndarray:
        return np.asarray(values, np.int64) & ((1 << self.bits) - 1)


@dataclass(frozen=True, repr=True)
class Ternary(Int):
    """-1, 0 and +1, as int2 writes them; the fourth code, 0b10, is no number.

    `encode` never makes it, `decode` takes it for NaN and `image` refuses it, so that hardware
    for int2 may rely on the smaller range.
    """

    bits: int = field(default=2, init=False, repr=False)
    signed: bool = field(default=True, init=False, repr=False)

    @property
    def name(self) -> str:
        return "ternary"

    def activation_fault(self) -> str | None:
        return Format.activation_fault(self)

    def image(self, codes: ArrayLike) -> np.ndarray:
        images = super().image(codes)
        if (images == -2).any():
            raise ValueError("code 2 has no image in ternary, which is -1, 0 and 1")
        return images

    def decode(self, codes: ArrayLike) -> np.ndarray:
        images = super().image(codes)
        return np.where(images == -2, np.nan, images.astype(np.float64))


@dataclass(frozen=True, repr=True)
class Bipolar(Format):
    """Sums of +-1 bit planes: the odd integers from -(2**bits - 1) to 2**bits - 1.

    A code q stands for 2q - (2**bits - 1). `Bipolar(1)` is a binary network's +-1, where code 1
    is +1. There is no zero. Ties go up, so that encode(0) is the positive neighbour.
    """

    bits: int = 1

    family = "bipolar"
    binary = True

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise ValueError(f"bits of a Bipolar must be from 1 to 8, not {self.bits!r}")

    @property
    def name(self) -> str:
        return f"bipolar{self.bits}"

    @property
    def width(self) -> int:
        return self.bits

    exponent = 0
    zero_code = None

    @property
    def wide(self) -> Format:
        return self if self.bits == 1 else Int(self.bits + 1)

    def activation_fault(self) -> str | None:
        return self.weight_fault()

    def weight_fault(self) -> str | None:
        return None if self.bits == 1 else f"must be bipolar1 on a binary chip, not {self}"

    def image(self, codes: ArrayLike) -> np.ndarray:
        return 2 * self._codes(codes) - ((1 << self.bits) - 1)

    def ordered(self, codes: ArrayLike) -> np.ndarray:
        return np.asarray(codes, np.int64)

    def from_ordered(self, values: ArrayLike) -> np.ndarray:
        return np.asarray(values, np.int64) & ((1 << self.bits) - 1)

    @property
    def ordered_range(self) -> tuple[int, int]:
        return 0, (1 << self.bits) - 1

    def _tie_rank(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return np.zeros(len(codes))


register(r"(u?)int(\d+)", lambda unsigned, bits: Int(int(bits), signed=not unsigned),
         examples=("int8", "uint8", "int4"),
         catalogue="int2 int4 int6 int8 int16 uint4 uint8")
register("ternary", Ternary, examples=("ternary",), catalogue="ternary")
register(r"bipolar(\d+)", lambda bits: Bipolar(int(bits)), examples=("bipolar1",),
         catalogue="bipolar1 bipolar2 bipolar4")
