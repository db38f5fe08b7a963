"""Number formats as value objects: the one definition that hardware, golden model and docs read.

A format knows its `width`, how to `decode` codes into exact values, how to `encode` values into
codes (round to nearest even, saturating), and its exact fixed-point image: every finite code is
`image(code) * 2**exponent` with an integer image.

A plain name such as `e4m3` is a finite-only format: every code is a number, the largest is 480.
Formats that give codes away to NaN and infinity have names of their own, see `Float.special` and
`parse`.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["Bipolar", "Float", "Format", "Int", "parse", "sum_bits", "term_bound"]


class Format(ABC):
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

    @abstractmethod
    def image(self, codes):
        """Exact integers with value = image * 2**exponent, for codes of any shape.

        They are int64, or Python integers (an object array) in formats whose images take more
        than 63 bits. Raises ValueError for codes of NaN and infinity.
        """

    def decode(self, codes):
        """Exact values (float64) of `codes`, any shape; -0.0, inf and nan where they are codes."""
        return np.ldexp(self.image(codes).astype(np.float64), self.exponent)

    @abstractmethod
    def encode(self, values):
        """Codes (int64) nearest to `values`, any shape; exact for every float64.

        Ties go to the even neighbour; what lies beyond the range becomes the largest or
        smallest finite number. Raises ValueError on NaN.
        """

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
        codes = np.arange(1 << self.width)
        images = self.image(codes[np.isfinite(self.decode(codes))])
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

    def encode(self, values):
        top = (1 << self.bits) - 1
        whole = np.clip(np.floor(self._values(values)), -top - 1, top).astype(np.int64)
        return (whole + top + 1) >> 1


@dataclass(frozen=True, repr=True)
class Float(Format):
    """Sign, `exp` exponent bits, `man` mantissa bits, with subnormals.

    Value of a normal code: (-1)^s * 2^(e - bias) * (1 + f / 2^man); in the lowest binade (e = 0)
    (-1)^s * 2^(1 - bias) * f / 2^man. Ties are rounded to the even significand, so that with
    man = 0, where all significands are 1, they go to the larger magnitude.

    Parameters
    ----------
    exp, man : int
        Bits of exponent (1 to 8) and mantissa (0 up); at most 16 bits in all.
    bias : int or None
        What the exponent field stands above the exponent. None: 2^(exp-1) - 1, and with fnuz
        one more.
    special : str
        Which codes are no finite numbers:
        "none": none, every code is a finite number.
        "fn": magnitude all ones is NaN.
        "fnuz": the code of -0 is NaN, there is no -0.
        "ieee": exponent all ones is infinity (mantissa 0) or NaN.
    signed : bool
        False: a format of scale factors, without sign, zero and subnormals: the exponent field 0
        is a binade like the others.
    """

    exp: int
    man: int
    bias: int | None = None
    special: str = "none"
    signed: bool = True

    def __post_init__(self):
        if not (1 <= self.exp <= 8 and 0 <= self.man and self.width <= 16):
            raise ValueError("a Float must have from 1 to 8 exponent bits and at most 16 bits in "
                             f"all, not exp={self.exp!r}, man={self.man!r}")
        if self.special not in ("none", "fn", "fnuz", "ieee"):
            raise ValueError("special of a Float must be none, fn, fnuz or ieee, "
                             f"not {self.special!r}")
        if self.special == "fn" and self.width < 8:
            raise ValueError("a Float of fewer than 8 bits must have special=\"none\" instead of "
                             f"\"fn\" (float6 and float4 have no NaN), not {self!r}")
        if self.special == "fnuz" and not self.signed:
            raise ValueError("a Float without sign must not have special=\"fnuz\" (there is no -0)")
        if self.special == "ieee" and self.max_code < 1:
            raise ValueError(f"a Float must have a finite number besides 0, not {self!r}")
        if self.bias is None:
            object.__setattr__(self, "bias", self._usual_bias)
        if not -256 <= self.bias <= 512:
            raise ValueError(f"bias of a Float must be from -256 to 512, not {self.bias!r}")

    @property
    def _usual_bias(self):
        return (1 << (self.exp - 1)) - (self.special != "fnuz")

    @property
    def name(self):
        bias = "" if self.bias == self._usual_bias else f"b{self.bias}"
        special = "" if self.special == "none" else self.special
        return f"e{self.exp}m{self.man}{bias}{special}{'' if self.signed else 'u'}"

    @property
    def width(self):
        return self.signed + self.exp + self.man

    @property
    def exponent(self):
        return self.signed - self.bias - self.man

    @property
    def zero_code(self):
        return 0 if self.signed else None

    @property
    def max_code(self):
        """The code of the largest finite magnitude, without its sign."""
        if self.special == "ieee":
            return (((1 << self.exp) - 1) << self.man) - 1
        return (1 << (self.exp + self.man)) - 1 - (self.special == "fn")

    def _fields(self, codes):
        """Of checked codes: negative, magnitude without sign, significand, its left shift."""
        magnitude = codes & ((1 << (self.exp + self.man)) - 1)
        field, fraction = magnitude >> self.man, magnitude & ((1 << self.man) - 1)
        if not self.signed:
            return np.zeros(codes.shape, bool), magnitude, fraction + (1 << self.man), field
        normal = field > 0
        return (codes >> (self.width - 1) > 0, magnitude, fraction + (normal << self.man),
                np.where(normal, field - 1, 0))

    def _not_finite(self, negative, magnitude):
        if self.special == "fnuz":
            return negative & (magnitude == 0)
        return magnitude > self.max_code

    def image(self, codes):
        negative, magnitude, significand, shift = self._fields(self._codes(codes))
        if self._not_finite(negative, magnitude).any():
            raise ValueError(f"codes of NaN and infinity have no image in {self.name}")
        if (self.max_code >> self.man) + self.man > 62:
            significand, shift = significand.astype(object), shift.astype(object)
        image = np.asarray(significand << shift)
        return np.where(negative, -image, image)

    def decode(self, codes):
        negative, magnitude, significand, shift = self._fields(self._codes(codes))
        value = np.ldexp(significand.astype(np.float64), shift + self.exponent)
        special = self._not_finite(negative, magnitude)
        infinite = (special & (magnitude == self.max_code + 1)) & (self.special == "ieee")
        value = np.where(special, np.where(infinite, np.inf, np.nan), value)
        return np.where(negative, -value, value)

    def encode(self, values):
        values = self._values(values)
        smallest, largest = self.decode(np.array([0, self.max_code]))
        scaled = np.ldexp(np.clip(np.abs(values), smallest, largest), -self.exponent)
        if not self.signed:
            scaled = np.where(values < 0, np.ldexp(smallest, -self.exponent), scaled)
        # 2**(lead-1) <= scaled < 2**lead; a step is the distance of neighbours, a power of two.
        _, lead = np.frexp(scaled)
        step = np.maximum(lead - 1 - self.man, 0).astype(np.int64)
        significand = np.rint(np.ldexp(scaled, -step)).astype(np.int64)
        # The hidden bit, and a carry out of rounding, add one to the exponent field.
        magnitude = significand + (step << self.man)
        if not self.signed:
            return magnitude - (1 << self.man)
        negative = np.signbit(values)
        if self.special == "fnuz":
            negative &= magnitude > 0
        return magnitude | (negative.astype(np.int64) << (self.width - 1))


def term_bound(activation, weight):
    """Largest magnitude of a product of the two formats' images."""
    return max(map(abs, activation.image_range)) * max(map(abs, weight.image_range))


def sum_bits(activation, weight, terms):
    """Bits of a signed number that holds every sum of `terms` products of the formats' images."""
    return (terms * term_bound(activation, weight)).bit_length() + 1


_FLOAT_NAME = re.compile(r"(?:float(\d+)_)?e(\d+)m(\d+)(?:b(-?\d+))?(ieee|fnuz|fn)?(u)?")


def parse(name):
    """The format with this name; a Format is given back as it is.

    Integers are `int8`, `uint4`, ...; sums of bit planes `bipolar1`, ...; floats:
    `e4m3`, `e3m2`, ...
        Finite-only, of any widths: every code is a number (e4m3 reaches 480).
    `e4m3ieee`, `e4m3fn`, `e4m3fnuz`, `e4m3b11fnuz`, `e8m0fnu`, ...
        With `special` codes, with a bias after b, without sign (u). Below 8 bits fn means finite
        only, as in the standards: `e3m2fn` is `e3m2`.
    `float8_e4m3fn`, `float8_e5m2`, `float6_e3m2fn`, ...
        As ml_dtypes names them. Mind that a bare `float8_e4m3` is IEEE-like there and stands for
        `e4m3ieee`.

    Raises ValueError that says which names exist.
    """
    if isinstance(name, Format):
        return name
    text = str(name)
    if match := re.fullmatch(r"(u?)int(\d+)", text):
        return Int(int(match[2]), signed=not match[1])
    if match := re.fullmatch(r"bipolar(\d+)", text):
        return Bipolar(int(match[1]))
    if match := _FLOAT_NAME.fullmatch(text):
        width, exp, man, bias, special, unsigned = match.groups()
        bits = (not unsigned) + int(exp) + int(man)
        if width is None or int(width) == bits:
            if special is None:
                special = "none" if width is None else "ieee"
            elif special == "fn" and bits < 8:
                special = "none"
            return Float(int(exp), int(man), None if bias is None else int(bias), special,
                         signed=not unsigned)
    raise ValueError(f"{text!r} is no number format; formats are named like int8, uint8, int4, "
                     "e4m3, e5m2, e3m2, e2m1, e4m3fn, float8_e5m2, bipolar1")
