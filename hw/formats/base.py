"""The interface of all number formats, and the one way in which values are rounded to codes.

A format is a finite list of numbers. Encoding looks a value up in the ascending list of the
thresholds between them; the rounding modes differ in nothing but these thresholds.
"""

from abc import ABC, abstractmethod
from fractions import Fraction
from functools import cached_property, lru_cache
from math import copysign, inf, nextafter, sqrt

import numpy as np

__all__ = ["ROUNDINGS", "Format"]

#: How `Format.encode` rounds.
ROUNDINGS = ("even", "away", "zero", "log", "stochastic")


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
        than 63 bits. Raises ValueError for codes that are no finite numbers.
        """

    def decode(self, codes):
        """Exact values (float64) of `codes`, any shape; -0.0, inf and nan where they are codes."""
        return np.ldexp(self.image(codes).astype(np.float64), self.exponent)

    def encode(self, values, rounding="even", seed=None):
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
        values = np.asarray(values, dtype=np.float64)
        if np.isnan(values).any():
            index = [int(n) for n in np.argwhere(np.isnan(values))[0]]
            raise ValueError(f"NaN has no code in {self.name} (at index {index})")
        if rounding != "stochastic":
            thresholds, codes = _thresholds(self, rounding)
            return codes[np.searchsorted(thresholds, values, side="right")]
        numbers, codes = _numbers(self)
        values = np.clip(values, numbers[0], numbers[-1])
        place = np.minimum(np.searchsorted(numbers, values, side="right"), len(numbers) - 1) - 1
        below, above = numbers[place], numbers[place + 1]
        # Halved, since the difference of the largest numbers of either sign may be none.
        share = (values / 2 - below / 2) / (above / 2 - below / 2)
        return codes[place + (np.random.default_rng(seed).random(values.shape) < share)]

    def _tie_rank(self, numbers, codes):
        """For "even": of two equally near numbers the one of lower rank, else the upper."""
        return codes & 1

    def _codes(self, codes):
        """The codes as int64; TypeError or ValueError where they are none of the format."""
        codes = np.asarray(codes)
        if codes.dtype.kind not in "iub":
            raise TypeError(f"codes of {self.name} must be integers, not {codes.dtype}")
        codes = codes.astype(np.int64)
        if codes.size and (codes.min() < 0 or codes.max() >> self.width):
            raise ValueError(f"codes of {self.name} must be from 0 to {(1 << self.width) - 1}")
        return codes

    def finite_codes(self):
        """All codes of numbers, ascending: neither NaN nor infinity. int64 array."""
        codes = np.arange(1 << self.width)
        return codes[np.isfinite(self.decode(codes))]

    @cached_property
    def image_range(self):
        """(smallest, largest) image of any finite code, as Python integers."""
        images = self.image(_numbers(self)[1])
        return int(images.min()), int(images.max())

    def product_image(self, weight, codes, weight_codes):
        """The product of a code of this format and one of `weight`, as the array adds it.

        The product of the images, except in formats that define their products otherwise; in
        units of 2**(self.exponent + weight.exponent).

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

    def product_bound(self, weight):
        """The largest magnitude of `product_image`."""
        return max(map(abs, self.image_range)) * max(map(abs, weight.image_range))

    def __str__(self):
        return self.name


@lru_cache(maxsize=64)
def _numbers(fmt):
    """All finite numbers of a format, ascending, and the lowest code of each."""
    codes = np.arange(1 << fmt.width)
    values = fmt.decode(codes)
    finite = np.isfinite(values)
    numbers, first = np.unique(values[finite], return_index=True)
    return numbers, codes[finite][first]


@lru_cache(maxsize=64)
def _thresholds(fmt, rounding):
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


def _geometric_mean(low, high):
    """The geometric mean of two floats of one sign, rounded up in magnitude."""
    product = Fraction(low) * Fraction(high)
    mean = sqrt(abs(low)) * sqrt(abs(high))
    while Fraction(mean) ** 2 >= product:
        mean = nextafter(mean, 0)
    while Fraction(mean) ** 2 < product:
        mean = nextafter(mean, inf)
    return copysign(mean, low)
