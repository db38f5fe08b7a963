"""Short floating point: any widths, bias, lowest binade, special codes, radix 2 or 4."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from .base import Format
from .names import register

__all__ = ["LOWEST", "SPECIALS", "Float"]

#: Rules for the exponent field 0, see `Float.lowest`.
LOWEST = ("subnormal", "flush", "dlfloat")
#: Rules for codes that are no finite numbers, see `Float.special`.
SPECIALS = ("none", "fn", "fnuz", "ieee", "p3109", "dlfloat")
#: Exponents of the largest and the smallest power of two that float64 holds.
_LARGEST, _SMALLEST = 1023, -1074


@dataclass(frozen=True, repr=True)
class Float(Format):
    """Sign, `exp` exponent bits, `man` mantissa bits.

    Value of a normal code: (-1)^s * radix^(e - bias) * (1 + f / 2^man). Ties are rounded to the
    even significand; with man = 0, where all significands are 1, to the larger magnitude, and
    between zero and its neighbour to zero.

    Parameters
    ----------
    exp, man : int
        Bits of exponent (1 up) and mantissa (0 up); at most 16 bits in all.
    bias : int or None
        What the exponent field stands above the exponent. None: 2^(exp-1) - 1, and with fnuz and
        p3109 one more. float64 must hold all numbers and the middles between them; up to 10
        exponent bits are sure to, 11 if the largest number is below 2^1024.
    special : str
        Which codes are no finite numbers:
        "none": none, every code is a finite number.
        "fn": magnitude all ones is NaN.
        "fnuz": the code of -0 is NaN, there is no -0.
        "ieee": exponent all ones is infinity (mantissa 0) or NaN.
        "p3109": magnitude all ones is infinity, the code of -0 is NaN, there is no -0.
        "dlfloat": magnitude all ones is NaN and infinity in one, decoded as NaN; zero's sign
        means nothing, there is no -0.
    signed : bool
        False: a format of scale factors, without sign and zero: the exponent field 0 is a binade
        like the others, `lowest` must be left alone.
    lowest : str
        What the exponent field 0 means:
        "subnormal": (-1)^s * radix^(1 - bias) * f / 2^man.
        "flush": zero, whatever f.
        "dlfloat": zero for f = 0, else a normal number with the exponent -bias.
    radix : int
        2 or 4.

    Notes
    -----
    Images are significand << shift. Hardware finds the two in a code by `shift_of` (places that
    the significand stands left), `hidden_at_zero` (whether a code with field 0 that is not zero
    has the hidden bit) and `largest_shift`. Sources: OCP 8-bit floating point and MX (fn, none),
    ml_dtypes (fnuz, ieee), IEEE P3109 (p3109), Agrawal et al., DLFloat, 2019 (dlfloat), Sun et
    al., Ultra-low precision 4-bit training, 2020 (radix 4).
    """

    exp: int
    man: int
    bias: int = None            # type: ignore[assignment]  # an integer from __post_init__ on
    special: str = "none"
    signed: bool = True
    lowest: str = "subnormal"
    radix: int = 2

    family = "float"
    floating = True

    def __post_init__(self) -> None:
        if not (1 <= self.exp and 0 <= self.man and self.width <= 16):
            raise ValueError("a Float must have at least 1 exponent bit and at most 16 bits in "
                             f"all, not exp={self.exp!r}, man={self.man!r}")
        for key, known in (("special", SPECIALS), ("lowest", LOWEST), ("radix", (2, 4))):
            value = getattr(self, key)
            if value not in known:
                raise ValueError(f"{key} of a Float must be one of {', '.join(map(str, known))}, "
                                 f"not {value!r}")
        if self.special == "fn" and self.width < 8:
            raise ValueError("a Float of fewer than 8 bits must have special=\"none\" instead of "
                             f"\"fn\" (float6 and float4 have no NaN), not {self!r}")
        if not self.signed and (self.special not in ("none", "fn", "ieee")
                                or self.lowest != "subnormal"):
            raise ValueError("a Float without sign has no zero: special must be none, fn or ieee, "
                             f"lowest must be left alone, not {self!r}")
        if self.max_code < (1 << self.man if self.lowest == "flush" else 1):
            raise ValueError(f"a Float must have a finite number besides 0, not {self!r}")
        if self.bias is None:
            object.__setattr__(self, "bias", self._usual_bias)
        highest = self.exponent + self.largest_shift + self.man
        if self.exponent <= _SMALLEST or highest > _LARGEST:
            raise ValueError(f"the numbers of a Float must be below 2**{_LARGEST + 1} and "
                             f"multiples of 2**{_SMALLEST + 1}, so that float64 holds them; "
                             f"{self.name} has 2**{highest} and 2**{self.exponent}: it needs "
                             "another bias or fewer exponent bits")

    @property
    def _usual_bias(self) -> int:
        return (1 << (self.exp - 1)) - (self.special not in ("fnuz", "p3109"))

    @property
    def name(self) -> str:
        bias = "" if self.bias == self._usual_bias else f"b{self.bias}"
        radix = "" if self.radix == 2 else f"r{self.radix}"
        special = "" if self.special == "none" else self.special
        lowest = {"subnormal": "", "flush": "flush", "dlfloat": "dl"}[self.lowest]
        if special == "dlfloat":
            lowest = {"subnormal": "sub", "flush": "flush", "dlfloat": ""}[self.lowest]
        return (f"e{self.exp}m{self.man}{bias}{radix}{lowest}{special}"
                f"{'' if self.signed else 'u'}")

    @property
    def width(self) -> int:
        return self.signed + self.exp + self.man

    @property
    def exponent(self) -> int:
        return self._radix_bits * (1 - self.hidden_at_zero - self.bias) - self.man

    @property
    def zero_code(self) -> int | None:
        return 0 if self.signed else None

    @property
    def max_code(self) -> int:
        """The code of the largest finite magnitude, without its sign."""
        if self.special == "ieee":
            return (((1 << self.exp) - 1) << self.man) - 1
        return (1 << (self.exp + self.man)) - 1 - (self.special in ("fn", "p3109", "dlfloat"))

    @property
    def has_negative_zero(self) -> bool:
        """Whether -0 has a code of its own."""
        return self.signed and self.special not in ("fnuz", "p3109", "dlfloat")

    @property
    def has_infinity(self) -> bool:
        """Whether infinities of both signs have codes."""
        return self.special in ("ieee", "p3109")

    def activation_fault(self) -> str | None:
        # Of "dlfloat" with fewer mantissa bits, what lies between 0 and the smallest number would
        # have to be rounded more finely than to images.
        rounded = self.lowest == "subnormal" or (self.lowest == "dlfloat" and self.man > 1)
        if not rounded or self.radix != 2:
            return super().activation_fault()
        return self.weight_fault()

    def weight_fault(self) -> str | None:
        return None if self.signed else f"must be a float format with a sign, not {self}"

    def ordered(self, codes: ArrayLike) -> np.ndarray:
        codes = np.asarray(codes, np.int64)
        magnitude = codes & ((1 << (self.exp + self.man)) - 1)
        if self.lowest == "flush":
            magnitude = np.where(magnitude >> self.man, magnitude, 0)
        return np.where(codes >> (self.exp + self.man), -magnitude, magnitude)

    def from_ordered(self, values: ArrayLike) -> np.ndarray:
        values = np.asarray(values, np.int64)
        return np.abs(values) | ((values < 0).astype(np.int64) << (self.exp + self.man))

    @property
    def ordered_range(self) -> tuple[int, int]:
        return -self.max_code * self.signed, self.max_code

    # What hardware needs to find significand and shift in a code.

    @property
    def factors(self) -> tuple[Format, int]:
        if not self.signed:
            raise ValueError(f"operands of the array must be signed, not {self}")
        return self, 1

    @property
    def significand_bits(self) -> int:
        return self.man + 1

    @property
    def magnitude_bits(self) -> int:
        return self.exp + self.man

    @property
    def _radix_bits(self) -> int:
        return self.radix.bit_length() - 1

    @property
    def hidden_at_zero(self) -> bool:
        """Whether codes with exponent field 0, other than zero, have the hidden bit."""
        return not self.signed or self.lowest == "dlfloat"

    def shift_of(self, field: ArrayLike) -> np.ndarray:
        """Places by which the significand stands left of the image's lowest bit.

        `field` is the exponent field, an integer or an array.
        """
        return self._radix_bits * np.maximum(np.subtract(field, not self.hidden_at_zero), 0)

    @property
    def largest_shift(self) -> int:
        """`shift_of` the largest finite code, a Python integer."""
        return int(self.shift_of(self.max_code >> self.man))

    def _fields(self, codes: np.ndarray) -> tuple[np.ndarray, ...]:
        """Fields of checked codes: negative, magnitude without sign, significand, its left
        shift."""
        magnitude = codes & ((1 << (self.exp + self.man)) - 1)
        field, fraction = magnitude >> self.man, magnitude & ((1 << self.man) - 1)
        negative = np.asarray(self.signed & (codes >> (self.width - 1) > 0))
        if self.hidden_at_zero:
            hidden = (magnitude > 0) | (not self.signed)
        else:
            hidden = field > 0
        significand = fraction + (hidden << self.man)
        if self.lowest == "flush":
            significand = np.where(hidden, significand, 0)
        return negative, magnitude, significand, self.shift_of(field)

    def _not_finite(self, negative: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
        special = magnitude > self.max_code
        if self.special in ("fnuz", "p3109"):
            special |= negative & (magnitude == 0)
        return special

    def image(self, codes: ArrayLike) -> np.ndarray:
        negative, magnitude, significand, shift = self._fields(self._codes(codes))
        if self._not_finite(negative, magnitude).any():
            raise ValueError(f"codes of NaN and infinity have no image in {self.name}")
        kind = object if self.largest_shift + self.man + 1 > 63 else np.int64
        image = significand.astype(kind) << shift.astype(kind)
        # A single code's is a Python integer here, which numpy would take for unsigned.
        return np.asarray(np.where(negative, -1, 1).astype(kind) * image, dtype=kind)

    @cached_property
    def image_range(self) -> tuple[int, int]:
        largest = self.image(self.max_code).item()
        return (-largest if self.signed else self.image(0).item()), largest

    def decode(self, codes: ArrayLike) -> np.ndarray:
        negative, magnitude, significand, shift = self._fields(self._codes(codes))
        special = self._not_finite(negative, magnitude)
        significand = np.where(special, 0, significand)         # float64 may not hold it
        value = np.ldexp(significand.astype(np.float64), shift + self.exponent)
        infinite = special & (magnitude == self.max_code + 1) & self.has_infinity
        value = np.where(special, np.where(infinite, np.inf, np.nan), value)
        value = np.where(negative, -value, value)
        return value if self.has_negative_zero else value + 0.0     # -0.0 + 0.0 is 0.0

    def encode(self, values: ArrayLike, rounding: str = "even",
               seed: int | np.random.Generator | None = None) -> np.ndarray:
        codes = super().encode(values, rounding, seed)
        if not self.has_negative_zero:
            return codes
        # Zero has the value's sign, every other number has it anyway.
        return codes | (np.signbit(values).astype(np.int64) << (self.width - 1))

    def _tie_rank(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        rank = codes & 1 if self.man else -abs(numbers)
        return np.where(numbers == 0, -np.inf, rank)


_LOWEST = {None: "subnormal", "sub": "subnormal", "flush": "flush", "dl": "dlfloat"}


def _named(width: str | None, exp: str, man: str, bias: str | None, radix: str | None,
           lowest: str | None, special: str | None, unsigned: str | None) -> Float | None:
    """The float of a name's parts; None where the width before them is another than theirs."""
    bits = (not unsigned) + int(exp) + int(man)
    if width is not None and int(width) != bits:
        return None
    if special is None:
        special = "none" if width is None else "ieee"
    elif special == "fn" and bits < 8:
        special = "none"
    rule = "dlfloat" if (special, lowest) == ("dlfloat", None) else _LOWEST[lowest]
    return Float(int(exp), int(man), None if bias is None else int(bias),   # type: ignore[arg-type]
                 special, not unsigned, rule, int(radix or 2))


register(r"(?:float(\d+)_)?e(\d+)m(\d+)(?:b(-?\d+))?(?:r(\d+))?(sub|flush|dl)?"
         r"(ieee|fnuz|fn|p3109|dlfloat)?(u)?", _named,
         examples=("e4m3", "e5m2", "e3m2", "e2m1", "e4m3fn", "float8_e5m2"),
         catalogue="""
             e2m1 e2m3 e3m2 e3m3 e3m4 e4m3 e5m2 e3m4flush
             e3m4ieee e4m3fn e4m3ieee e4m3fnuz e5m2ieee e5m2fnuz
             hfp8 hfp8_fnuz
             e3m0 e4m0 e3m0r4
             e8m0fnu
             dlfloat16 bfloat16 float16
         """,
         aliases={
             "bfloat16": "e8m7ieee",
             "float16": "e5m10ieee",
             "dlfloat16": "e6m9dlfloat",
             "hfp8": "e4m3b11dlfloat",
             "hfp8_fnuz": "e4m3b11fnuz",
         })
