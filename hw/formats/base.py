"""The interface of all number formats, and the one way in which values are rounded to codes.

A format is a finite list of numbers. Encoding looks a value up in the ascending list of the
thresholds between them; the rounding modes differ in nothing but these thresholds.

Hardware, simulators and compiler ask a format for what they need to know and never for its class,
so that a new format is one file. The defaults here are those of a format that only stand-alone
processing elements use.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from math import copysign, inf, nextafter, sqrt

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["ROUNDINGS", "BlockScale", "Format", "product_exponent", "sum_bits", "term_bound"]

#: How `Format.encode` rounds.
ROUNDINGS = ("even", "away", "zero", "log", "stochastic")


@dataclass(frozen=True)
class BlockScale:
    """How the weights of a chip share scales: `size` of them, side by side along the input
    channels, have one. Its code is an exponent of EXPONENT_BITS bits and, below that, `man`
    mantissa bits: code c stands for the factor (2**man + c % 2**man) << (c >> man), an integer."""
    size: int
    man: int = 0
    #: The largest scale of an output channel is less than 2**(2**EXPONENT_BITS) times the smallest.
    EXPONENT_BITS = 3

    @property
    def width(self) -> int:
        """Bits of a code."""
        return self.man + self.EXPONENT_BITS

    @property
    def factors(self) -> np.ndarray:
        """The factor of each code, ascending: int64 array."""
        codes = np.arange(1 << self.width)
        return ((1 << self.man) + codes % (1 << self.man)) << (codes >> self.man)

    @property
    def largest(self) -> int:
        """The largest factor."""
        return int(self.factors[-1])


class Format(ABC):
    """What every number format offers.

    Attributes
    ----------
    family : str
        Selects the processing element: `systolith.hw.element.element` has a row for each pair of
        families that can be multiplied.
    signed : bool
        Whether there are numbers below zero.
    uniform : bool
        Whether the numbers are consecutive integers in units of 1. Then a zero point may move them,
        results are rounded to integers, and products of sums may be rounded more finely first.
    floating : bool
        Whether a code is sign, exponent and significand, so that the precision is relative to the
        number. Then a zero point would mean nothing, and results are rounded to a significand.
    binary : bool
        Whether numbers are sums of +-1 bit planes, whose products the array counts. Then there is
        no zero, and results are signs, taken at a threshold instead of multiplied and rounded.

    block_scale : BlockScale or None
        How elements of this format share scales on a chip; None: each is a number by itself.
    """

    family: str
    block_scale: "BlockScale | None" = None
    #: Places by which a product's lowest bit stands above that of the product of the two images:
    #: `product_image` is in units of 2**(both exponents + product_shift).
    product_shift: int = 0
    signed: bool = True
    uniform: bool = False
    floating: bool = False
    binary: bool = False

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that `parse` reads back."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Bits of a code."""

    @property
    @abstractmethod
    def exponent(self) -> int:
        """The weight of the image's lowest bit: value = image * 2**exponent."""

    @property
    @abstractmethod
    def zero_code(self) -> int | None:
        """The code of +0, or None where the format has no zero."""

    @property
    def complete(self) -> bool:
        """Whether the numbers are all the integers that `width` bits can tell apart."""
        low, high = self.image_range if self.uniform else (0, 0)
        return self.uniform and high - low == (1 << self.width) - 1

    @property
    def has_zero(self) -> bool:
        """Whether a code stands for 0: what pads and idle lanes hold."""
        return self.zero_code is not None

    @property
    def wide(self) -> "Format":
        """The format in which a network's file holds these numbers: of elements of blocks the plain
        one with all products of an element and a scale, its image theirs."""
        return self

    # Legality.

    @property
    def chip_format(self) -> "Format":
        """The format in which a chip holds activations of this one, with the same steps."""
        return self

    def activation_fault(self) -> str | None:
        """What keeps a chip from computing results in this format, as the end of a sentence that
        begins with the name of the field ("must be ..."); None: nothing."""
        return ("must be an integer format, bipolar1, a logarithm, or a float of radix 2 with "
                "subnormals or, from two mantissa bits on, DLFloat's lowest binade, the formats "
                f"that post-processing can round to, not {self}")

    def weight_fault(self) -> str | None:
        """What keeps a chip from having weights of this format; as `activation_fault`."""
        return ("must be a format of integers, floats, sums of powers of two, logarithms, or "
                f"bipolar1, not {self}")

    def holds(self, other: "Format") -> bool:
        """Whether every number of `other` is one of this format, with the same image."""
        return self == other

    # Multiplication.

    @property
    def factors(self) -> tuple["Format", int]:
        """(format, count) of the floats or integers whose sum a code is: one, but for sums of
        powers of two. Raises ValueError for formats that are no such sums."""
        raise ValueError(f"factors must be floats, integers or sums of powers of two, not {self}")

    @property
    def significand_bits(self) -> int:
        """Bits of the factor that a multiplier sees, without what only shifts it."""
        return self.width

    @property
    def magnitude_bits(self) -> int:
        """Bits that tell the magnitudes of the numbers apart."""
        return self.width

    # Order: what clipping, max pooling and tables compare and count.

    def ordered(self, codes: ArrayLike) -> np.ndarray:
        """Codes of any shape as integers (int64) in the order of their values: 0 for +0 and -0."""
        return self.image(np.asarray(codes, np.int64))

    def from_ordered(self, values: ArrayLike) -> np.ndarray:
        """Codes (int64) from ordered integers, the reverse of `ordered`; 0 becomes +0."""
        return self.from_image(values)

    @property
    def ordered_range(self) -> tuple[int, int]:
        """The smallest and the largest number as ordered integers."""
        return self.image_range

    # Numbers.

    @abstractmethod
    def image(self, codes: ArrayLike) -> np.ndarray:
        """Exact integers with value = image * 2**exponent, for codes of any shape.

        They are int64, or Python integers (an object array) in formats whose images take more
        than 63 bits. Raises ValueError for codes that are no finite numbers.
        """

    def from_image(self, images: ArrayLike) -> np.ndarray:
        """Codes (int64) of the numbers nearest to images of any shape, the reverse of `image`."""
        return self.encode(np.ldexp(np.asarray(images, np.float64), self.exponent))

    def has_image(self, images: ArrayLike) -> np.ndarray:
        """Whether each of some images, of any shape, is that of a code."""
        return self.image(self.from_image(images)) == np.asarray(images)

    def values(self, images: ArrayLike) -> np.ndarray:
        """The numbers (float64) that images of any shape stand for."""
        return np.ldexp(np.asarray(images).astype(np.float64), self.exponent)

    def decode(self, codes: ArrayLike) -> np.ndarray:
        """Exact values (float64) of `codes`, any shape; -0.0, inf and nan where they are codes."""
        return self.values(self.image(codes))

    def encode(self, values: ArrayLike, rounding: str = "even",
               seed: "int | np.random.Generator | None" = None) -> np.ndarray:
        """Codes (int64) of `values`, any shape; exact for every float64.

        What lies beyond the range, infinities too, becomes the largest or smallest number.

        Parameters
        ----------
        values : array_like
            Numbers; ValueError on NaN, with its index.
        rounding : str
            "even": the nearest number; of two equally near ones that with the even code (what
            that means where codes have no parity, the formats say).
            "away": the nearest; of two that with the larger magnitude.
            "zero": the nearest that is not further from zero; where the neighbours have
            different signs, the nearest.
            "log": the nearest in the logarithm: neighbours of one sign are parted at their
            geometric instead of their arithmetic mean.
            "stochastic": one of the two neighbours, with the probability that makes the
            expectation the value.
        seed : int or numpy.random.Generator or None
            What "stochastic" draws from; one number for each value, in C order.
        """
        if rounding not in ROUNDINGS:
            raise ValueError(f"rounding must be one of {', '.join(ROUNDINGS)}, not {rounding!r}")
        if (rounding == "stochastic") != (seed is not None):
            raise ValueError("stochastic rounding needs a seed, the others have none: rounding is "
                             f"{rounding!r}, seed is {seed!r}")
        reals = np.asarray(values, dtype=np.float64)
        if np.isnan(reals).any():
            index = [int(n) for n in np.argwhere(np.isnan(reals))[0]]
            raise ValueError(f"NaN has no code in {self.name} (at index {index})")
        if rounding != "stochastic":
            thresholds, codes = _thresholds(self, rounding)
            return codes[np.searchsorted(thresholds, reals, side="right")]
        numbers, codes = _numbers(self)
        reals = np.clip(reals, numbers[0], numbers[-1])
        place = np.minimum(np.searchsorted(numbers, reals, side="right"), len(numbers) - 1) - 1
        below, above = numbers[place], numbers[place + 1]
        # Halved, since the difference of the largest numbers of either sign may be none.
        share = (reals / 2 - below / 2) / (above / 2 - below / 2)
        return codes[place + (np.random.default_rng(seed).random(reals.shape) < share)]

    def _tie_rank(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """For "even": of two equally near numbers the one of lower rank, else the upper."""
        return codes & 1

    def _codes(self, codes: ArrayLike) -> np.ndarray:
        """The codes as int64; TypeError or ValueError where they are none of the format."""
        codes = np.asarray(codes)
        if codes.dtype.kind not in "iub":
            raise TypeError(f"codes of {self.name} must be integers, not {codes.dtype}")
        codes = codes.astype(np.int64)
        if codes.size and (codes.min() < 0 or codes.max() >> self.width):
            raise ValueError(f"codes of {self.name} must be from 0 to {(1 << self.width) - 1}")
        return codes

    def finite_codes(self) -> np.ndarray:
        """All codes of numbers, ascending: neither NaN nor infinity. int64 array."""
        codes = np.arange(1 << self.width)
        return codes[np.isfinite(self.decode(codes))]

    @cached_property
    def image_range(self) -> tuple[int, int]:
        """(smallest, largest) image of any finite code, as Python integers."""
        images = self.image(_numbers(self)[1])
        return int(images.min()), int(images.max())

    @property
    def value_range(self) -> tuple[float, float]:
        """(smallest, largest) finite number."""
        numbers = _numbers(self)[0]
        return float(numbers[0]), float(numbers[-1])

    def product_image(self, weight: "Format", codes: ArrayLike,
                      weight_codes: ArrayLike) -> np.ndarray:
        """The product of a code of this format and one of `weight`, as the array adds it.

        The product of the images, except in formats that define their products otherwise; in
        units of 2**`product_exponent`(self, weight).

        Parameters
        ----------
        weight : Format
        codes, weight_codes : array_like
            Codes of the two formats; their shapes broadcast.

        Returns
        -------
        int64 array, or Python integers (an object array) where they need more than 63 bits.
        """
        images, weights = self.image(codes), weight.image(weight_codes)
        if self.product_bound(weight) >> 63:
            images = images.astype(object)
        return images * weights

    def product_parts(self, weight: "Format", images: ArrayLike, weight_images: ArrayLike
                      ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Integers in place of images (those of codes, of any shape) whose ordinary products, all
        pairs of arrays together, come to `product_image`: what a convolution may add up."""
        yield np.asarray(images), np.asarray(weight_images)

    def largest_products(self, weight: "Format", images: ArrayLike
                         ) -> tuple[np.ndarray, tuple[int, int]]:
        """(integers, (low, high)) for images of weights, of any shape: no product of a weight lies
        beyond its integer times `low` and its integer times `high`."""
        return np.asarray(images), self.image_range

    @property
    def copying(self) -> tuple[int, int]:
        """(image, factor) of a weight that copies: its products are the activation's image times
        the factor. Where a format has 1, its image twice."""
        one = int(self.image(self.encode(1.0)))
        return one, one

    @property
    def product_facts(self) -> dict:
        """What a reader who has no `product_image` must know to compute it: "definition", in words,
        and the numbers that these name."""
        return {"definition": "the product of the two values, exactly"}

    def product_bound(self, weight: "Format") -> int:
        """The largest magnitude of `product_image`."""
        return max(map(abs, self.image_range)) * max(map(abs, weight.image_range))

    def __str__(self) -> str:
        return self.name


@lru_cache(maxsize=64)
def _numbers(fmt: Format) -> tuple[np.ndarray, np.ndarray]:
    """All finite numbers of a format, ascending, and the lowest code of each."""
    codes = np.arange(1 << fmt.width)
    values = fmt.decode(codes)
    finite = np.isfinite(values)
    numbers, first = np.unique(values[finite], return_index=True)
    return numbers, codes[finite][first]


@lru_cache(maxsize=64)
def _thresholds(fmt: Format, rounding: str) -> tuple[np.ndarray, np.ndarray]:
    """(ascending thresholds, codes): a value has as many thresholds at or below it as its code
    has places before it among `codes`."""
    numbers, codes = _numbers(fmt)
    below, above = numbers[:-1], numbers[1:]
    threshold = below / 2 + above / 2
    rank = fmt._tie_rank(numbers, codes) if rounding == "even" else -abs(numbers)
    upper_has_ties = rank[1:] <= rank[:-1]
    if rounding == "log":
        for place in np.flatnonzero((below > 0) | (above < 0)):
            threshold[place] = _geometric_mean(below[place].item(), above[place].item())
    elif rounding == "zero":
        threshold = np.where(below >= 0, above, np.where(above <= 0, below, threshold))
        upper_has_ties = above > 0
    return np.where(upper_has_ties, threshold, np.nextafter(threshold, np.inf)), codes


def _geometric_mean(low: float, high: float) -> float:
    """The geometric mean of two floats of one sign, rounded up in magnitude."""
    product = Fraction(low) * Fraction(high)
    mean = sqrt(abs(low)) * sqrt(abs(high))
    while Fraction(mean) ** 2 >= product:
        mean = nextafter(mean, 0)
    while Fraction(mean) ** 2 < product:
        mean = nextafter(mean, inf)
    return copysign(mean, low)


def product_exponent(activation: Format, weight: Format) -> int:
    """The weight of the lowest bit of a product of the two formats, and of sums of such: value =
    product_image * 2**product_exponent."""
    return activation.exponent + weight.exponent + activation.product_shift


def term_bound(activation: Format, weight: Format) -> int:
    """Largest magnitude of a product of the two formats' images."""
    return activation.product_bound(weight)


def sum_bits(activation: Format, weight: Format, terms: int) -> int:
    """Bits of a signed number that holds every sum of `terms` products of the formats' images."""
    return (terms * term_bound(activation, weight)).bit_length() + 1
