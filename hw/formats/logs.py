"""Numbers for multiplication without a multiplier: sums of powers of two, and logarithms."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from math import isqrt
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from .base import Format
from .floats import Float
from .names import parse, register

__all__ = ["Lns", "PowerSum"]


@dataclass(frozen=True, repr=True)
class PowerSum(Format):
    """Sums of `terms` signed powers of two: weights as CompactNet and LightNN have them.

    A code is the codes of the terms side by side, the first one lowest. Each term is a float
    without mantissa, so that its exponent field 0 is zero and field c is radix**(c - bias). With
    one term the format is the float itself.

    `encode` finds the best sum, and the code with the fewest terms that are not zero: they are
    its first ones. Ties go to the larger magnitude, and between zero and its neighbour to zero. A
    network with another number of terms in each filter uses several formats of the same `term`;
    a code of k terms is a code of k + 1 with the last one zero.

    Parameters
    ----------
    term : Float
        Signed, with man = 0, special "none" and lowest "subnormal"; its largest number at most
        2**48 times its smallest.
    terms : int
        From 1; all codes together at most 16 bits.
    """

    term: Float
    terms: int

    family = "powers"

    def __post_init__(self) -> None:
        term = self.term
        if (term.man, term.signed, term.special, term.lowest) != (0, True, "none", "subnormal"):
            raise ValueError("terms of a PowerSum must be signed powers of two, every code a "
                             f"number, not {term}")
        if term.largest_shift > 48:
            raise ValueError("terms of a PowerSum must be within a factor of 2**48, so that "
                             f"float64 holds the sums, not {term}")
        if not 1 <= self.terms or self.width > 16:
            raise ValueError("a PowerSum must have at least one term and at most 16 bits, not "
                             f"{self.terms!r} terms of {term}")

    @property
    def name(self) -> str:
        return f"{self.term}x{self.terms}"

    @property
    def width(self) -> int:
        return self.terms * self.term.width

    @property
    def exponent(self) -> int:
        return self.term.exponent

    zero_code = 0

    def weight_fault(self) -> str | None:
        return None

    @property
    def factors(self) -> tuple[Format, int]:
        return self.term, self.terms

    @property
    def significand_bits(self) -> int:
        return self.term.significand_bits

    def image(self, codes: ArrayLike) -> np.ndarray:
        codes = self._codes(codes)
        parts = [(codes >> (n * self.term.width)) & ((1 << self.term.width) - 1)
                 for n in range(self.terms)]
        return np.asarray(sum(self.term.image(part) for part in parts))

    def decode(self, codes: ArrayLike) -> np.ndarray:
        # 0.0 + -0.0 is 0.0: the sum has no negative zero.
        return super().decode(codes) + 0.0

    def _tie_rank(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return np.where(numbers == 0, -np.inf, -abs(numbers))


@cache
def _power(remainder: int, root: int, bits: int) -> int:
    """2**(remainder / root) with `bits` fraction bits, rounded to nearest; root a power of two."""
    number = 1 << (remainder + root * (bits + 1))
    for _ in range(root.bit_length() - 1):
        number = isqrt(number)      # the floor of a root of a floor is the floor of the root
    return (number + 1) >> 1


@dataclass(frozen=True, repr=True)
class Lns(Format):
    """Logarithmic numbers: a sign bit above a logarithm c of bits - 1 bits.

    The value is (-1)^s * 2^(c / root) for c > 0; c = 0 is zero. These values are irrational;
    images are those of a table: c is q * root + r, the remainder r chooses a constant `table[r]`,
    which is 2^(r / root) rounded to `table_bits` fraction bits, and the quotient q shifts it left.
    Products are not those of images: they are the image of the sum of the logarithms. Sums of
    these products are exact integers in units of 2^-table_bits (Zhao et al., LNS-Madam, 2022).

    Chips round results to the nearest number as floats are: a number's leading one gives q, and
    its next `fraction_bits` bits are compared with `boundaries`, which give r.

    Parameters
    ----------
    bits : int
        Of a code, 3 to 16.
    root : int
        Steps in an octave, a power of two from 1 to 64.
    table_bits : int
        Fraction bits of the constants, even, 0 to 24.
    """

    bits: int
    root: int = 8
    table_bits: int = 6

    family = "logarithm"
    floating = True
    #: As of `Float`: code 0 is 0, all others have a leading one.
    hidden_at_zero = True
    special, lowest, radix = "none", "dlfloat", 2

    def __post_init__(self) -> None:
        if not 3 <= self.bits <= 16:
            raise ValueError(f"bits of an Lns must be from 3 to 16, not {self.bits!r}")
        if self.root not in (1, 2, 4, 8, 16, 32, 64):
            raise ValueError(f"root of an Lns must be a power of two up to 64, not {self.root!r}")
        if self.table_bits not in range(0, 25, 2):
            raise ValueError("table_bits of an Lns must be an even number up to 24, not "
                             f"{self.table_bits!r}")
        if self.largest_log // self.root > 1000:
            raise ValueError("an Lns must stay within 2**1000: fewer bits or a larger root than "
                             f"{self!r}")

    @property
    def name(self) -> str:
        root = "" if self.root == 8 else f"r{self.root}"
        table = "" if self.table_bits == 6 else f"t{self.table_bits}"
        return f"lns{self.bits}{root}{table}"

    @property
    def width(self) -> int:
        return self.bits

    @property
    def exponent(self) -> int:
        """The weight of the lowest bit of an image, and of a product."""
        return -self.table_bits

    @property
    def product_shift(self) -> int:         # type: ignore[override]
        return self.table_bits

    zero_code = 0

    @property
    def man(self) -> int:
        """Bits of the remainder r, the lower ones of a logarithm."""
        return self.root.bit_length() - 1

    @property
    def max_code(self) -> int:
        """The code of the largest number."""
        return self.largest_log

    @property
    def significand_bits(self) -> int:
        return self.man + 1

    @property
    def magnitude_bits(self) -> int:
        return self.bits - 1

    @property
    def fraction_bits(self) -> int:
        """Bits after the leading one of a number by which it is rounded."""
        return max(self.table_bits, self.man) + 2

    @cached_property
    def boundaries(self) -> tuple[int, ...]:
        """The least significands, with `fraction_bits` fraction bits, that are rounded to the
        remainders from 1 up, and last to the next power of two: the means of two neighbouring
        powers of the root, rounded up to so many bits."""
        bits = self.fraction_bits
        fine = [_power(r, self.root, bits + 40) for r in range(self.root)] + [2 << bits + 40]
        return tuple(-(-(one + other) // (1 << 41)) for one, other in pairwise(fine))

    @cached_property
    def least_boundary(self) -> int:
        """The least number, with `fraction_bits` fraction bits, that is rounded to the smallest
        one instead of 0: half of that, rounded up."""
        bits = self.fraction_bits
        smallest = _power(1, self.root, bits + 40) if self.root > 1 else 2 << bits + 40
        return -(-smallest // (1 << 41))

    def rounded(self, significands: np.ndarray, quotients: np.ndarray) -> np.ndarray:
        """Magnitudes of codes (int64) nearest to significand * 2**quotient: integers of
        `fraction_bits` fraction bits, with a leading one, or with quotient 0 perhaps without."""
        places = np.searchsorted(self.boundaries, significands, side="right")
        logs = np.maximum(places + quotients * self.root, 1)
        small = significands < 1 << self.fraction_bits
        logs = np.where(small, significands >= self.least_boundary, logs)
        return np.minimum(logs, self.largest_log)

    def _fault(self):
        images = np.array(self.table, dtype=object)
        if self.width > 8 or self.root > self.largest_log or (
                np.diff([*images, 2 << self.table_bits]) < 1).any():
            return ("must be a logarithm of 8 bits or fewer with the number 2, whose table has "
                    f"other constants for other remainders, not {self}")
        return None

    def activation_fault(self) -> str | None:
        return self._fault()

    def weight_fault(self) -> str | None:
        return self._fault()

    @property
    def largest_log(self) -> int:
        """The largest logarithm c."""
        return (1 << (self.bits - 1)) - 1

    @property
    def table(self) -> tuple[int, ...]:
        """The constants that remainders choose: `root` integers, from 2**table_bits up."""
        return tuple(_power(r, self.root, self.table_bits) for r in range(self.root))

    def _fields(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fields of checked codes: the logarithm, and the sign (-1, 0 or 1)."""
        logs = codes & self.largest_log
        return logs, np.where(logs == 0, 0, 1 - 2 * (codes >> (self.bits - 1)))

    def image(self, codes: ArrayLike) -> np.ndarray:
        """The table's constant, shifted: within half a unit of the table of value /
        2**exponent."""
        return self._power_of(*self._fields(self._codes(codes)), self.largest_log)

    def _power_of(self, logs, sign, most):
        """Images of signs and logarithms up to `most`."""
        kind = object if self.table[most % self.root] << (most // self.root) >> 63 else np.int64
        constants = np.array(self.table, dtype=kind)[logs % self.root]
        # a single number's is a Python integer, which numpy would take for one of its own
        return np.asarray(sign * (constants << (logs // self.root).astype(kind)), dtype=kind)

    @cached_property
    def image_range(self) -> tuple[int, int]:
        most = self.table[self.largest_log % self.root] << (self.largest_log // self.root)
        return -most, most

    def ordered(self, codes: ArrayLike) -> np.ndarray:
        logs, sign = self._fields(np.asarray(codes, np.int64))
        return np.asarray(logs * sign)

    def from_ordered(self, values: ArrayLike) -> np.ndarray:
        values = np.asarray(values, np.int64)
        return np.abs(values) | ((values < 0).astype(np.int64) << (self.bits - 1))

    @property
    def ordered_range(self) -> tuple[int, int]:
        return -self.largest_log, self.largest_log

    def values(self, images: ArrayLike) -> np.ndarray:
        return self.decode(self.from_image(images))

    def decode(self, codes: ArrayLike) -> np.ndarray:
        """Values (float64, within half a unit in the last place) of `codes`, any shape."""
        logs, sign = self._fields(self._codes(codes))
        powers = np.array([float(_power(r, self.root, 60)) for r in range(self.root)])
        # 0.0 + -0.0 is 0.0: there is no negative zero.
        return sign * np.ldexp(powers[logs % self.root], logs // self.root - 60) + 0.0

    def product_image(self, weight: Format, codes: ArrayLike,
                      weight_codes: ArrayLike) -> np.ndarray:
        weight = self._checked(weight)
        logs, sign = self._fields(self._codes(codes))
        weight_logs, weight_sign = weight._fields(weight._codes(weight_codes))
        return self._power_of(logs + weight_logs, sign * weight_sign,
                              self.largest_log + weight.largest_log)

    def product_parts(self, weight: Format, images: ArrayLike, weight_images: ArrayLike
                      ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """One pair for each remainder r of the activation's logarithm q * root + r: 2**q with its
        sign, or 0 where the remainder is another; and the product of 2**(r / root) and the
        weight."""
        weight = self._checked(weight)
        logs, sign = self._fields(self.from_image(images))
        weight_logs, weight_sign = weight._fields(weight.from_image(weight_images))
        kind = object if self.largest_log // self.root > 61 else np.int64
        powers = sign.astype(kind) << (logs // self.root).astype(kind)
        for remainder in range(self.root):
            mine = (logs % self.root == remainder) & (logs > 0)
            yield (np.where(mine, powers, 0),
                   self._power_of(weight_logs + remainder, weight_sign,
                                  weight.largest_log + self.root - 1))

    def largest_products(self, weight: Format, images: ArrayLike
                         ) -> tuple[np.ndarray, tuple[int, int]]:
        return self.product_image(weight, self.largest_log, weight.from_image(images)), (-1, 1)

    @property
    def copying(self) -> tuple[int, int]:
        return int(self.image(self.root)), 2        # the number 2, which adds to the quotient alone

    @property
    def product_facts(self) -> dict:
        return {
            "definition": "a code is a sign above a logarithm c of base 2**(1 / root), and stands "
                          "for 2**(c / root), 0 for c = 0; c of the activation + c of the weight = "
                          "root * q + r; the product's magnitude is table[r] * 2**q units, 0 if a "
                          "factor is",
            "root": self.root, "table": list(self.table),
            "table_note": f"2**(r / root) with {self.table_bits} fraction bits, rounded to "
                          "nearest"}

    def product_bound(self, weight: Format) -> int:
        weight = self._checked(weight)
        log = self.largest_log + weight.largest_log
        return self.table[log % self.root] << (log // self.root)

    def _checked(self, weight: Format) -> "Lns":
        if not isinstance(weight, Lns) or (weight.root, weight.table_bits) != (
                self.root, self.table_bits):
            raise ValueError(f"products of {self} are defined with logarithms of the same root and "
                             f"table only, not with {weight}")
        return weight


def _power_sum(term: str, terms: str) -> PowerSum:
    return PowerSum(cast(Float, parse(term)), int(terms))


register(r"(e\d+m0.*)x(\d+)", _power_sum, examples=("e3m0x2",), catalogue="e3m0x2 e3m0x3")
register(r"lns(\d+)(?:r(\d+))?(?:t(\d+))?",
         lambda bits, root, table: Lns(int(bits), int(root or 8), int(table or 6)),
         examples=("lns8",), catalogue="lns8")
