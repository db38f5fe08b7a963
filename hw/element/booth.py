"""Products of integers as few rows of bits: radix-4 Booth recoding.

A multiplier is cut into digits from -2 to 2, each of weight 4**k. A digit times the multiplicand is
a `Row`: the multiplicand once, twice or not at all, and its complement where the digit is negative,
with the one that turns a complement into a negative number as a carry.

A row is signed, but its sign bit stands inverted: a sign bit s of weight -2**n is worth
(1 - s) * 2**n less 2**n. So all bits count positive, rows are added without sign extension, and
what they are too large by is a constant (`row_offset`).
"""

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Signal, Value
from systolith.hw.formats import Format

__all__ = ["Row", "booth_row", "digit_ranges", "digits", "recode", "row_offset", "row_width"]


@dataclass(frozen=True)
class Row:
    """Bits that count positive, the lowest one of weight 2**low, and a carry of the same weight.

    Attributes
    ----------
    low : int
    bits : tuple of Value
    carry : Value or None
    most : int
        The largest value.
    """

    low: int
    bits: tuple
    carry: Value | None
    most: int

    @property
    def high(self) -> int:
        """One above the weight of the highest bit."""
        return self.low + len(self.bits)


def digit_ranges(low: int, high: int) -> list[tuple[int, int]]:
    """(smallest, largest) of the radix-4 digits of integers from `low` to `high`, lowest first.

    As few digits as can be; what is above a lower digit is rounded up where that is negative.
    """
    ranges: list[tuple[int, int]] = []
    while low < -2 or high + bool(ranges) > 2:
        ranges.append((-2, 1 + bool(ranges)))
        low, high = low >> 2, high >> 2
    return [*ranges, (low, high + bool(ranges))]


def recode(bits: Value, count: int) -> Value:
    """An integer written so that only the highest of its `count` digits has three bits.

    The lower ones range from -2 to 1 and stand as two bits; then follows one bit for what they
    hand on to the highest digit, then the bits above. Adding 2 to each lower digit makes plain
    addition find them.

    bits : Value, two's complement or unsigned. Returns a Value, one bit wider if count > 1.
    """
    low = 2 * (count - 1)
    if not low:
        return bits
    twos = 2 * (((1 << low) - 1) // 3)
    return Cat((bits[:low] + twos)[:low + 1] ^ twos, bits[low:])


def digits(bits: Value, is_signed: bool, count: int, recoded: bool) -> list[tuple[Value, Value,
           Value]]:
    """(h, m, l) of each digit -2*h + m + l, from an integer or from what `recode` gives."""
    zero = Const(0, 1)
    low = 2 * (count - 1)
    if recoded and low:
        below, bits = bits[:low + 1], bits[low + 1:]
        lower = [(below[2 * k + 1], below[2 * k], zero) for k in range(count - 1)]
        below = below[low]
    else:
        padded = Cat(zero, bits)
        lower = [(bits[2 * k + 1], bits[2 * k], padded[2 * k]) for k in range(count - 1)]
        below, bits = padded[low], bits[low:]
    sign = bits[-1] if is_signed else zero
    above = [*bits, sign, sign]
    return [*lower, (above[1], above[0], below)]


def row_width(fmt: Format, ends: tuple[int, int]) -> int:
    """Bits of a row: of a digit from ends[0] to ends[1] times a number of an Int format."""
    return fmt.width + (max(-ends[0], ends[1]) > 1) + (ends[0] < 0 and not fmt.signed)


def row_offset(fmt: Format, ends: tuple[int, int]) -> int:
    """How much larger such a row is than the product."""
    return (ends[0] < 0 or fmt.signed) << (row_width(fmt, ends) - 1)


def booth_row(m: Module, digit: tuple[Value, Value, Value], ends: tuple[int, int], fmt: Format,
              multiplicand: Value, low: int, name: str) -> Row:
    """The Row of a digit times a multiplicand.

    Parameters
    ----------
    m : Module
        Takes the logic.
    digit : tuple of Value
        (h, m, l), see `digits`.
    ends : tuple of int
        The smallest and the largest digit.
    fmt : Int
        The multiplicand's format.
    multiplicand : Value
        Its code.
    low : int
        The digit's weight is 2**low.
    name : str
        Begins the names of signals.
    """
    high, middle, below = digit
    once, twice = Signal(name=f"{name}_once"), Signal(name=f"{name}_twice")
    m.d.comb += [once.eq(middle ^ below),
                 twice.eq((high & ~middle & ~below) | (~high & middle & below))]
    zero = Const(0, 1)
    sign = multiplicand[-1] if fmt.signed else zero
    negative = high if ends[0] < 0 else zero
    single, double = [*multiplicand, sign, sign], [zero, *multiplicand, sign]
    two = max(-ends[0], ends[1]) > 1
    parts = [((once & single[n]) | (twice & double[n]) if two else once & single[n]) ^ negative
             for n in range(row_width(fmt, ends))]
    offset = row_offset(fmt, ends)
    if offset:
        parts[-1] = ~parts[-1]
    bits = Signal(len(parts), name=name)
    m.d.comb += bits.eq(Cat(parts))
    largest = max(digit * factor for digit in ends for factor in fmt.image_range)
    return Row(low, tuple(bits), high if ends[0] < 0 else None, largest + offset << low)
