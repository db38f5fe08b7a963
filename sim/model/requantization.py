"""From sums to results of few bits: requantization, and the operand that results are combined
with."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from systolith.hw.formats import Format
from systolith.hw.spec.numbers import MULTIPLIER_BITS, OFFSET_FRACTION, TIE_BITS

from . import numerics

__all__ = ["Below", "Limits", "Operand", "Requantization"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where the integers end that a number is rounded to.

    Attributes
    ----------
    zero_point : int
        Added after rounding; 0 where the format is one of floats.
    low, high : int
        Limits of the result as an ordered integer (see `Format.ordered`).
    """
    zero_point: int = 0
    low: int = 0
    high: int = 0

    def _nearest(self, product, shift, ties, format):
        """Ordered integers of `format` nearest to product / 2**shift, plus the zero point, clipped;
        shifts and ties (as of `Requantization`) are int64 arrays that broadcast with products."""
        if format.family == "logarithm":
            magnitude = _nearest_logarithm(np.abs(product), shift, format)
            result = np.where(product < 0, -magnitude, magnitude)
        elif format.floating:
            magnitude = np.abs(product)
            up = np.maximum(_leading_one(magnitude) - shift - format.man, 0)
            total = shift + up
            if magnitude.dtype == object:
                total = total.astype(object)
            magnitude = _round_shift(magnitude, total) + (up << format.man)
            if format.hidden_at_zero:
                hidden = 1 << format.man
                magnitude = np.where(magnitude <= hidden // 2, 0,
                                     np.maximum(magnitude - hidden, 1))
            magnitude = np.minimum(magnitude, format.max_code)
            result = np.where(product < 0, -magnitude, magnitude)
        else:
            if product.dtype == object:
                shift = shift.astype(object)
            result = _round_half(product, shift, ties) + self.zero_point
        return np.clip(result, self.low, self.high).astype(np.int64)


class Below(NamedTuple):
    """Requantization of sums below zero, bias included: int64 arrays [O]. Multipliers may be
    negative; addends have their sign."""
    multiplier: np.ndarray
    shift: np.ndarray
    addend: np.ndarray

    def of_channels(self, channels: np.ndarray | slice) -> "Below":
        """That of some of the channels alone."""
        return Below(*(item[channels] for item in self))


@dataclass(frozen=True, eq=False)
class Requantization(Limits):
    """How each channel's sums become ordered integers.

    Attributes
    ----------
    multiplier, shift, addend : int64 arrays [O]
        A sum s, bias included, becomes (s * multiplier + addend) / 2**shift, rounded. The addend
        stands for a fraction of the bias, addend / multiplier; from 0 to the multiplier. Shift and
        addend None: 0.
    ties : int64 array [O]
        What results half-way between two integers go to, before the zero point is added: 1 the even
        one, 2 the odd one. Half-way is what TIE_BITS + 1 fraction bits show as 0.1000... or as the
        number below, which stands for it with a multiplier that is rounded. 0: up, and nothing else
        counts as half-way. None: 1.
    below : Below or None
        The same for sums below zero. None: as for others.
    offset : int64 array [O] or None
        Added to a result before it is rounded, in 2**-OFFSET_FRACTION of its steps; for results
        that are integers. None: nothing is.
    late : bool
        `below` and `offset` are for the sum of a result and its operand (`Operand.results`), and
        not for the result itself.
    """
    multiplier: np.ndarray
    shift: np.ndarray = None  # type: ignore[assignment]
    addend: np.ndarray = None  # type: ignore[assignment]
    ties: np.ndarray = None  # type: ignore[assignment]
    below: Below | None = None
    offset: np.ndarray | None = None
    late: bool = False

    def __post_init__(self):
        count = len(self.multiplier)
        for name, default in (("multiplier", 1), ("shift", 0), ("addend", 0), ("ties", 1)):
            value = getattr(self, name)
            value = np.full(count, default) if value is None else value
            object.__setattr__(self, name, numerics.constant(value))
        if self.below is not None:
            object.__setattr__(self, "below", Below(*map(numerics.constant, self.below)))
        if self.offset is not None:
            object.__setattr__(self, "offset", numerics.constant(self.offset))

    @classmethod
    def plain(cls, count: int, low: int = 0, high: int = 0) -> "Requantization":
        """That of `count` channels whose results are the sums, from `low` to `high`."""
        return cls(np.ones(count, np.int64), low=low, high=high)

    @property
    def monotone(self) -> bool:
        """Whether a larger sum never gives a smaller result."""
        return self.below is None or self.late or bool(self.below.multiplier.min() >= 0)

    def results(self, sums: np.ndarray, format: Format) -> np.ndarray:
        """Ordered integers of `format` from sums [N, O, ...], bias included, of any size.

        Steps: multiply, add the addend, shift right, add the offset and round, to the nearest float
        of the format or to an integer plus zero point, saturate, clip; sums below zero with
        `below`, where there is such. Bipolar: 1 where the product is not negative.
        """
        return self._scaled(sums, self.multiplier, self.shift, self.addend, self.ties,
                            None if self.late else self.below,
                            None if self.late else self.offset, self, format)

    def combined(self, sums: np.ndarray, operand: "Operand", format: Format) -> np.ndarray:
        """Ordered integers of `format` from sums of first results and operands [N, O, ...], with
        the slopes below zero and the offsets of this requantization, which is late."""
        ones = np.ones_like(self.multiplier)
        below = self.below and self.below._replace(addend=0 * ones)
        return self._scaled(sums, operand.gain * ones, operand.shift * ones, 0 * ones,
                            operand.ties * ones, below, self.offset, operand, format)

    @staticmethod
    def _scaled(sums, multiplier, shift, addend, ties, below, offset, limits, format):
        axes = (1, -1) + (1,) * (sums.ndim - 2)
        multiplier, shift, addend, ties = (
            np.broadcast_to(item.reshape(axes), sums.shape)
            for item in (multiplier, shift, addend, ties))
        if below is not None:
            multiplier, shift, addend = (
                np.where(sums < 0, item.reshape(axes), other) for item, other in
                zip(below, (multiplier, shift, addend), strict=True))
        if offset is not None:
            offset = np.broadcast_to(offset.reshape(axes), sums.shape)
        limit = 1 << (61 - MULTIPLIER_BITS)
        wide = (sums >= limit) | (sums <= -limit)
        if not wide.any():
            return _results(sums.astype(np.int64), multiplier, addend, shift, ties, offset, limits,
                            format)
        result = np.empty(sums.shape, dtype=np.int64)
        for part, dtype in ((~wide, np.int64), (wide, object)):
            if part.any():
                result[part] = _results(
                    sums[part].astype(dtype), multiplier[part].astype(dtype),
                    addend[part].astype(dtype), shift[part], ties[part],
                    None if offset is None else offset[part], limits, format)
        return result

    def of_channels(self, channels: np.ndarray | slice) -> "Requantization":
        """That of some of the channels alone."""
        return replace(self, multiplier=self.multiplier[channels], shift=self.shift[channels],
                       addend=self.addend[channels], ties=self.ties[channels],
                       below=self.below and self.below.of_channels(channels),
                       offset=None if self.offset is None else self.offset[channels])

    def of_doubled(self) -> "Requantization":
        """The one that makes the same results of sums, bias included, that are twice as large."""
        below = self.below
        if below is not None and not self.late:
            below = Below(below.multiplier, below.shift + 1, 2 * below.addend)
        return replace(self, shift=self.shift + 1, addend=2 * self.addend, below=below)

    def held(self, bias: np.ndarray, unit: int,
             step: int = 1) -> "tuple[np.ndarray, Requantization]":
        """(bias [O], requantization) nearest to these whose addends are multiples of `unit`, a
        power of two (`Arch.addend_unit`), and no larger than the multipliers, and whose offsets are
        multiples of `step`, another one."""
        if self.offset is not None and (self.offset % step).any():
            return replace(self, offset=(self.offset + step // 2) // step * step).held(bias, unit)
        if not self.addend.any():
            return bias, self

        def rounded(number, most):
            least = number // unit * unit
            top = np.minimum(least + unit, most)
            return np.where(top - number < number - least, top, least)
        nearest = rounded(self.addend, self.multiplier)
        # The next whole bias, where that is nearest.
        carry = (nearest == self.multiplier) & (self.multiplier > 0)
        nearest, below = np.where(carry, 0, nearest // unit * unit), self.below
        if below is not None:
            factor = below.multiplier
            other = rounded(abs(below.addend), abs(factor) // unit * unit) * np.sign(factor)
            below = below._replace(addend=np.where(carry, 0, other))
        return bias + carry, replace(self, addend=nearest, below=below)


@dataclass(frozen=True)
class Operand(Limits):
    """The operand of a layer: a map with which its results are combined element by element.

    With c the layer's result, its zero point left out, and r the operand's, both as images
    (floats) or integers, t = c * gain + r * operand_gain, or c * r * gain for a product; the
    output is t / 2**shift, rounded to the format, plus the zero point, within the limits.

    Attributes
    ----------
    tensor : str
        As large as the output, or one pixel that goes with all of them.
    product : bool
    gain, operand_gain : int
        Signed, magnitudes of 26 bits.
    operand_zero : int
        What stands for 0 in the operand.
    shift : int
    ties : int
        As of `Requantization`.
    """
    tensor: str
    product: bool = False
    gain: int = 1
    operand_gain: int = 1
    operand_zero: int = 0
    shift: int = 0
    ties: int = 1

    def results(self, first: np.ndarray, codes: np.ndarray, format: Format,
                own: Format | None = None,
                slopes: Requantization | None = None) -> np.ndarray:
        """Ordered integers of `format` from first results [N, C, H, W], ordered integers, and the
        operand's codes, [N, C, H, W] or [N, C, 1, 1], of the format `own` (None: of `format`,
        too). `slopes`: the requantization that has made the first results, where it is late; then
        t = c + r * operand_gain becomes t * gain / 2**shift, below zero with the factor and the
        shift there, plus the offset."""
        if format.floating:
            first = numerics.images_of(format, format.from_ordered(first))
        other = numerics.images_of(own or format, codes) - self.operand_zero
        if slopes is not None and slopes.late:
            return slopes.combined(first + other * self.operand_gain, self, format)
        low, high = format.image_range
        if max(-low, high) >> 17:
            first, other = first.astype(object), other.astype(object)
        if self.product:
            total = first * other * self.gain
        else:
            total = first * self.gain + other * self.operand_gain
        return self._nearest(total, np.int64(self.shift), np.int64(self.ties), format)


def _results(sums, multiplier, addend, shift, ties, offset, limits, format):
    """Ordered integers (bipolar: codes) of sums within `limits`; one dtype throughout, int64 only
    where |sums * multiplier| < 2**61."""
    product = sums * multiplier
    if format.binary:
        return (product >= 0).astype(np.int64)
    product = product + addend
    if offset is not None:
        product, shift = _moved(product, shift, offset), np.int64(TIE_BITS + 1)
    return limits._nearest(product, shift, ties, format)


# Rounding.

def _moved(product, shift, offset):
    """product / 2**shift + offset in 2**-(TIE_BITS + 1), rounded down as far as ties tell."""
    places = shift - (TIE_BITS + 1)
    if product.dtype == object:
        places, offset = places.astype(object), offset.astype(object)
    most = 1 << 60 - (TIE_BITS + 1)     # beyond all limits, and short enough to be shifted
    short = np.where(places < 0, np.clip(product, -most, most), 0)
    scaled = np.where(places < 0, short << np.maximum(-places, 0),
                      product >> np.maximum(places, 0))
    return scaled + (offset << TIE_BITS + 1 - OFFSET_FRACTION)


_bit_length = np.frompyfunc(lambda value: int(value).bit_length(), 1, 1)


def _leading_one(values):
    """Position of the leading one of non-negative integers; 0 for 0."""
    if values.dtype == object:
        return np.maximum(_bit_length(values).astype(np.int64) - 1, 0)
    lead = np.maximum(np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1, 0)
    return lead - ((np.int64(1) << lead) > np.maximum(values, 1))    # float64 had rounded up


def _nearest_logarithm(values, shift, format):
    """Magnitudes of the codes nearest to values / 2**shift, by the first bits of the values."""
    quotient = np.maximum(_leading_one(values) - shift + format.exponent, 0)
    down = quotient - format.exponent + shift - format.fraction_bits
    if values.dtype == object:
        down = down.astype(object)
    significand = np.where(down < 0, values << np.maximum(-down, 0), values >> np.maximum(down, 0))
    return format.rounded(significand.astype(np.int64), quotient)


def _round_shift(values, shift):
    """values / 2**shift to the nearest integer, exact ties to even."""
    one = 1 if values.dtype == object else np.int64(1)
    floor = values >> shift
    rest = values - (floor << shift)
    half = (one << np.maximum(shift, 1) - 1) * (shift > 0)      # 1 << 63 would be negative
    return floor + ((rest > half) | ((rest == half) & (shift > 0) & ((floor & 1) == 1)))


def _round_half(values, shift, ties):
    """values / 2**shift to the nearest integer, up where it is half-way.

    Where `ties` (as of `Requantization`) is not 0, what is half-way in its first TIE_BITS + 1
    fraction bits, 0.1000... or the number below, is a tie and goes to the even (1) or the odd (2)
    neighbour.
    """
    one = 1 if values.dtype == object else np.int64(1)
    floor = values >> shift
    rest = values - (floor << shift)
    half = (one << np.maximum(shift, 1) - 1) * (shift > 0)      # 1 << 63 would be negative
    lost = np.maximum(shift - (TIE_BITS + 1), 0)
    place = (rest >> lost) - (half >> lost)                      # from the tie, in these bits
    tie = (shift > 0) & (ties > 0) & ((place == 0) | ((place == -1) & (shift > TIE_BITS)))
    up = np.where(tie, (floor & 1) ^ (ties >> 1) == 1, (shift > 0) & (place >= 0))
    return floor + up
