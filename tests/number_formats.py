"""What tests of number formats share: random formats, their numbers, and the roundings in words."""

from bisect import bisect_right
from fractions import Fraction
from functools import cache

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from systolith.hw.formats import Bipolar, Float, Int, Lns, PowerSum, Ternary
from systolith.hw.formats.floats import LOWEST, SPECIALS

#: The roundings that draw no random numbers.
NEAREST = ("even", "away", "log")
DETERMINISTIC = (*NEAREST, "zero")


@st.composite
def floats(draw):
    """Any Float of at most 12 bits."""
    exp = draw(st.integers(1, 11))
    man = draw(st.integers(0, max(0, 10 - exp)))
    # With the biases of 10 and 11 exponent bits float64 holds all numbers.
    low, high = {10: (0, 512), 11: (1024, 1060)}.get(exp, (-256, 512))
    bias = draw(st.one_of(st.none(), st.integers(low, high)))
    try:
        return Float(exp, man, bias, draw(st.sampled_from(SPECIALS)), draw(st.booleans()),
                     draw(st.sampled_from(LOWEST)), draw(st.sampled_from((2, 2, 4))))
    except ValueError:
        return Float(exp, man, bias if exp < 11 else 1024)


@st.composite
def power_sums(draw):
    radix = draw(st.sampled_from((2, 4)))
    exp = draw(st.integers(1, 5 if radix == 2 else 4))
    terms = draw(st.integers(1, 10 // (1 + exp)))
    bias = draw(st.one_of(st.none(), st.integers(-9, 40)))
    return PowerSum(Float(exp, 0, bias, radix=radix), terms)


@st.composite
def logarithms(draw):
    return Lns(draw(st.integers(3, 10)), draw(st.sampled_from((1, 2, 4, 8, 16))),
               2 * draw(st.integers(0, 6)))


def exact_formats():
    """Formats whose numbers are images: all but logarithms."""
    return st.one_of(
        st.builds(Int, st.integers(1, 10), st.booleans()), st.builds(Ternary),
        st.builds(Bipolar, st.integers(1, 8)), floats(), floats(), floats(), power_sums())


def formats():
    return st.one_of(exact_formats(), logarithms())


@cache
def finite_table(fmt):
    """Values of a format as exact fractions in ascending order, the lowest code of each beside."""
    codes = np.arange(1 << fmt.width)
    values = fmt.decode(codes)
    table = {}
    for value, code in zip(values.tolist(), codes.tolist(), strict=True):
        if np.isfinite(value):
            table.setdefault(Fraction(value), code)
    return sorted(table.items())


def probes(fmt, dtype):
    """Every value, every midpoint, the neighbours of each in `dtype`, and beyond the range."""
    values = fmt.decode(np.arange(1 << fmt.width))
    values = np.unique(values[np.isfinite(values)])
    points = np.concatenate([values, values[1:] / 2 + values[:-1] / 2])
    assert (points.astype(dtype) == points).all()
    largest = np.finfo(dtype).max
    with np.errstate(over="ignore"):
        beyond = np.clip([scale * end for scale in (1.001, 1.5, 8)
                          for end in (-values[-1], values[-1])] + [-1e30, 1e30], -largest, largest)
        points = np.concatenate([points, beyond, [-0.0]]).astype(dtype)
        return np.concatenate([points, *(np.nextafter(points, dtype(way))
                                         for way in (-np.inf, np.inf)),
                               dtype([-np.inf, np.inf])])


@st.composite
def formats_and_values(draw, strategy, count=8):
    """A format and float64 values: any, or near one of its values or of its midpoints."""
    fmt = draw(strategy)
    table = finite_table(fmt)
    assume(len(table) > 1)
    values = []
    for _ in range(count):
        if draw(st.booleans()):
            values.append(draw(st.floats(allow_nan=False)))
            continue
        place = draw(st.integers(0, len(table) - 2))
        # Twice the same is a value, two neighbours make a midpoint.
        value = float((table[place][0] + table[place + draw(st.integers(0, 1))][0]) / 2)
        values.append(draw(st.sampled_from([
            value, *(float(np.nextafter(value, way)) for way in (-np.inf, np.inf))])))
    return fmt, np.array(values)


def neighbours(fmt, value):
    """The numbers (Fractions) of a format below and above a value, twice the same if it has one
    or if the value lies beyond its range."""
    table = finite_table(fmt)
    if value <= table[0][0]:
        return table[0][0], table[0][0]
    if value >= table[-1][0]:
        return table[-1][0], table[-1][0]
    place = bisect_right(table, Fraction(value), key=lambda entry: entry[0])
    low, high = table[place - 1][0], table[place][0]
    return (low, low) if low == value else (low, high)


def rounded(fmt, value, rounding):
    """The number (a Fraction) that a deterministic rounding makes of a value, by its words."""
    low, high = neighbours(fmt, value)
    if low == high:
        return low
    value = Fraction(value)
    if rounding == "zero" and low * high >= 0:
        return min(low, high, key=abs)
    below, above = value - low, high - value
    if rounding == "log" and low * high > 0:
        # The square against the product: less is nearer to zero.
        below, above = (value ** 2, low * high) if value > 0 else (low * high, value ** 2)
    if below != above:
        return low if below < above else high
    if rounding == "even" and 0 in (low, high) and isinstance(fmt, (Float, PowerSum)):
        return Fraction(0)
    has_no_parity = isinstance(fmt, (Bipolar, PowerSum)) or (
        isinstance(fmt, Float) and fmt.man == 0)
    if rounding != "even" or has_no_parity:
        up = isinstance(fmt, Bipolar) and rounding == "even"
        return high if up or abs(high) >= abs(low) else low
    codes = dict(finite_table(fmt))
    assert codes[low] % 2 != codes[high] % 2
    return low if codes[low] % 2 == 0 else high
