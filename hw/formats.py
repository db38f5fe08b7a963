"""Number formats as value objects: the one definition that hardware, golden model and docs read.

A format knows its `width`, how to `decode` codes into exact values, how to `encode` values into
codes (round to nearest even, saturating), and its exact fixed-point image: every finite code is
`image(code) * 2**exponent` with an integer image.
"""

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["Bipolar", "Float", "Format", "Int", "parse"]


class Format:
    """What every number format offers.

    Attributes
    ----------
    name : str
        The name that `parse` reads back.
    width : int
        Bits of a code.
    exponent : int
        The weight of the image's lowest bit: value = image * 2**exponent.
    zero_code : int or None
        The code of +0, or None where the format has no zero.
    """

    name: str
    width: int
    exponent: int
    zero_code: int | None

    def image(self, codes):
        """Integer mantissas (int64) of `codes`, any shape: value = image * 2**exponent."""
        raise NotImplementedError

    def decode(self, codes):
        """Exact values (float64) of `codes`, any shape."""
        return np.ldexp(self.image(codes).astype(np.float64), self.exponent)

    def encode(self, values):
        """Codes (int64) nearest to `values`, ties to even, saturating. Raises on NaN."""
        raise NotImplementedError

    def _codes(self, codes):
        codes = np.asarray(codes)
        if codes.dtype.kind not in "iub":
            raise TypeError(f"codes of {self.name} must be integers, not {codes.dtype}")
        codes = codes.astype(np.int64)
        if codes.size and (codes.min() < 0 or codes.max() >> self.width):
            raise ValueError(f"codes of {self.name} must be from 0 to {(1 << self.width) - 1}")
        return codes

    def _values(self, values):
        values = np.asarray(values, dtype=np.float64)
        if np.isnan(values).any():
            raise ValueError(f"NaN has no code in {self.name}")
        return values

    @cached_property
    def image_range(self):
        """(smallest, largest) image of any finite code, as Python integers."""
        images = self.image(np.arange(1 << self.width))
        return int(images.min()), int(images.max())

    def __str__(self):
        return self.name


@dataclass(frozen=True, repr=True)
class Int(Format):
    """Two's complement (or unsigned) integers of `bits` bits."""

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

    def encode(self, values):
        low = -(1 << (self.bits - 1)) if self.signed else 0
        high = low + (1 << self.bits) - 1
        rounded = np.clip(np.rint(self._values(values)), low, high)
        return rounded.astype(np.int64) & ((1 << self.bits) - 1)


@dataclass(frozen=True, repr=True)
class Bipolar(Format):
    """Sums of +-1 bit planes: the odd integers from -(2**bits - 1) to 2**bits - 1.

    A code q stands for 2q - (2**bits - 1). `Bipolar(1)` is a binary network's +-1, where code 1
    is +1. There is no zero; encode(0) is the positive neighbour.
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

    def encode(self, values):
        top = (1 << self.bits) - 1
        return np.clip(np.floor((self._values(values) + top + 1) / 2), 0, top).astype(np.int64)


@dataclass(frozen=True, repr=True)
class Float(Format):
    """Sign, `exp` exponent bits, `man` mantissa bits; every code is a finite number.

    Value of a normal code: (-1)^s * 2^(e - bias) * (1 + f / 2^man); in the lowest binade (e = 0)
    (-1)^s * 2^(1 - bias) * f / 2^man. The default bias is 2^(exp-1) - 1.
    """

    exp: int
    man: int
    bias: int | None = None

    def __post_init__(self):
        if not (1 <= self.exp and 0 <= self.man and self.exp + self.man < 16):
            raise ValueError(
                "a Float must have at least 1 exponent bit and at most 16 bits in all, "
                f"not exp={self.exp!r}, man={self.man!r}")
        if self.bias is None:
            object.__setattr__(self, "bias", (1 << (self.exp - 1)) - 1)

    @property
    def name(self):
        plain = f"e{self.exp}m{self.man}"
        return plain if self.bias == (1 << (self.exp - 1)) - 1 else f"{plain}b{self.bias}"

    @property
    def width(self):
        return 1 + self.exp + self.man

    @property
    def exponent(self):
        return 1 - self.bias - self.man

    zero_code = 0

    @property
    def max_code(self):
        """The code of the largest finite magnitude, without its sign."""
        return (1 << (self.exp + self.man)) - 1

    def image(self, codes):
        codes = self._codes(codes)
        magnitude = codes & ((1 << (self.exp + self.man)) - 1)
        field, fraction = magnitude >> self.man, magnitude & ((1 << self.man) - 1)
        normal = field > 0
        image = (fraction + (normal << self.man)) << np.where(normal, field - 1, 0)
        return np.where(codes >> (self.width - 1), -image, image)

    def encode(self, values):
        values = self._values(values)
        scaled = np.abs(np.ldexp(values, -self.exponent))
        top = float(self.image(np.int64(self.max_code)))
        scaled = np.minimum(scaled, top)
        _, lead = np.frexp(scaled)                       # 2**(lead-1) <= scaled < 2**lead
        step = np.maximum(lead - 1 - self.man, 0)
        rounded = np.rint(np.ldexp(scaled, -step)).astype(np.int64)
        magnitude = np.minimum(rounded + (step.astype(np.int64) << self.man), self.max_code)
        return magnitude | (np.signbit(values).astype(np.int64) << (self.width - 1))


def parse(name):
    """The format with this name: `int8`, `uint4`, `bipolar1`, `e4m3`, `e3m2`, ...

    Raises ValueError with the names that exist.
    """
    if isinstance(name, Format):
        return name
    text = str(name)
    if match := re.fullmatch(r"(u?)int(\d+)", text):
        return Int(int(match[2]), signed=not match[1])
    if match := re.fullmatch(r"bipolar(\d+)", text):
        return Bipolar(int(match[1]))
    if match := re.fullmatch(r"e(\d+)m(\d+)(?:b(-?\d+))?", text):
        return Float(int(match[1]), int(match[2]), None if match[3] is None else int(match[3]))
    raise ValueError(f"{text!r} is no number format; formats are named like int8, uint8, int4, "
                     "e4m3, e5m2, e3m2, e2m1, bipolar1")
