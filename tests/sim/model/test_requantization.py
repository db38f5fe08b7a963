"""Requantization and operands as records: defaults, some of their channels, what a chip holds."""

from dataclasses import FrozenInstanceError
from fractions import Fraction
from functools import cache
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.hw.formats import Bipolar, Float, Int, Lns, parse
from systolith.hw.spec.numbers import MULTIPLIER_BITS, OFFSET_FRACTION, TIE_BITS
from systolith.sim.model.requantization import Below, Operand, Requantization, _leading_one

from ...logarithms import nearest

FORMATS = [Int(8), Int(4), Int(5, signed=False), parse("e3m2"), parse("e4m3"), parse("e2m1"),
           parse("hfp8"), parse("e3m2dl"), parse("lns8"), parse("lns6r4t8"), parse("lns5r1t0"),
           Float(4, 0), Float(1, 3), Bipolar(1)]
INT8 = Int(8)


def random_requantization(rng, channels):
    multiplier = rng.integers(1 << 20, 1 << MULTIPLIER_BITS, channels)
    factor = rng.integers(-(1 << 20), 1 << 20, channels)
    return Requantization(
        multiplier, rng.integers(20, 30, channels), (multiplier * rng.random(channels)).astype(int),
        rng.integers(0, 3, channels),
        Below(factor, rng.integers(20, 30, channels),
              (factor * rng.random(channels)).astype(int)), zero_point=3, low=-100, high=127)


def test_plain_results_are_the_sums_within_limits():
    sums = np.array([-300, -7, 0, 9, 300]).reshape(1, 1, 5)
    plain = Requantization.plain(1, low=-100, high=127)
    assert plain.results(sums, INT8).ravel().tolist() == [-100, -7, 0, 9, 127]


def test_sums_below_zero_have_numbers_of_their_own():
    own = Requantization([1], [0], below=Below([-1], [1], [0]), low=-128, high=127)
    sums = np.array([-8, -1, 0, 8]).reshape(1, 1, 4)
    assert own.results(sums, INT8).ravel().tolist() == [4, 0, 0, 8]
    assert not own.monotone
    assert Requantization([1], [0], below=Below([1], [1], [0])).monotone
    assert Requantization([1], [0]).monotone


def test_ties_go_where_each_channel_says():
    own = Requantization([1, 1, 1], [1, 1, 1], ties=[0, 1, 2], low=-128, high=127)
    sums = np.broadcast_to([1, 3, 5, -1], (1, 3, 4))
    assert own.results(sums, INT8)[0].tolist() == [[1, 2, 3, 0], [0, 2, 2, 0], [1, 1, 3, -1]]


@given(st.integers(0, 999))
def test_some_of_the_channels_give_their_results(seed):
    rng = np.random.default_rng(seed)
    own, sums = random_requantization(rng, 6), rng.integers(-9999, 9999, (2, 6, 3))
    some = rng.permutation(6)[:4]
    part = own.of_channels(some)
    assert (part.results(sums[:, some], INT8) == own.results(sums, INT8)[:, some]).all()
    assert (part.ties == own.ties[some]).all()              # few sums are half-way


@given(st.integers(0, 999), st.integers(0, MULTIPLIER_BITS))
def test_a_chip_holds_the_nearest_biases(seed, bits):
    rng = np.random.default_rng(seed)
    own, bias = random_requantization(rng, 5), rng.integers(-99, 99, 5)
    unit = 1 << MULTIPLIER_BITS - bits
    held_bias, held = own.held(bias, unit)
    for n in range(5):
        wanted, found = (Fraction(int(b)) + Fraction(int(r.addend[n]), int(r.multiplier[n]))
                         for b, r in ((bias[n], own), (held_bias[n], held)))
        assert held.addend[n] % unit == 0 and 0 <= held.addend[n] <= held.multiplier[n]
        # The next one up may be the next whole bias, closer than a unit.
        assert abs(wanted - found) <= Fraction(unit, 2 * int(own.multiplier[n]))
    assert (held.multiplier == own.multiplier).all() and (held.shift == own.shift).all()


def test_whole_biases_are_held_as_they_are():
    own, bias = Requantization([5, 6], [1, 1], low=-9, high=9), np.array([1, 2])
    found = own.held(bias, 1 << MULTIPLIER_BITS)
    assert found[0] is bias and found[1] is own


def test_records_do_not_change():
    given_array = np.array([3, 4])
    own = Requantization(given_array, [1, 1])
    with pytest.raises(FrozenInstanceError):
        own.low = 4
    with pytest.raises(ValueError, match="read-only"):
        own.multiplier[0] = 9
    given_array[0] = 5                  # the caller's array stays the caller's
    assert own.multiplier.tolist() == [3, 4]
    with pytest.raises(FrozenInstanceError):
        Operand("a").gain = 2


def test_an_operand_is_added_or_multiplied():
    first, codes = np.array([5, -6]).reshape(1, 1, 1, 2), np.array([7]).reshape(1, 1, 1, 1)
    total = Operand("r", gain=2, operand_gain=-3, operand_zero=4, shift=1, zero_point=1, low=-128,
                    high=127)
    # (2 * 5 - 3 * (7 - 4)) / 2 = 0.5 and (2 * -6 - 9) / 2 = -10.5, both to even, plus 1.
    assert total.results(first, codes, INT8).ravel().tolist() == [1, -9]
    product = Operand("r", product=True, gain=2, operand_zero=4, shift=0, low=-20, high=127)
    assert product.results(first, codes, INT8).ravel().tolist() == [30, -20]


def test_an_operand_of_floats_is_added_as_numbers():
    form = parse("e3m2")
    codes = form.encode(np.array([1.0, -3.0]).reshape(1, 1, 1, 2))
    first = form.ordered(form.encode(np.array([0.5, 2.0]).reshape(1, 1, 1, 2)))
    own = Operand("r", low=-31, high=31)
    found = form.decode(form.from_ordered(own.results(first, codes, form)))
    assert found.ravel().tolist() == [1.5, -1.0]


# Rounding, against Fractions.

@cache
def magnitudes(format):
    """All magnitudes of a float format in units of its smallest: [(value, code)]."""
    codes = range(format.max_code + 1)
    return [(int(format.image(np.int64(code))), code) for code in codes]


def contract(total, own, channel, format):
    """One result by the contract's words, in Fractions: an ordered integer."""
    product = total * int(own.multiplier[channel])
    if isinstance(format, Bipolar):
        return int(product >= 0)
    value = Fraction(product, 1 << int(own.shift[channel]))
    if isinstance(format, Lns):
        result = nearest(format, value)
    elif isinstance(format, Float):
        # The nearest of all magnitudes, the even code on a tie.
        magnitude = min(magnitudes(format),
                        key=lambda item: (abs(item[0] - abs(value)), item[1] & 1))[1]
        result = -magnitude if value < 0 else magnitude
    else:
        result = round(value) + own.zero_point         # Python rounds Fractions to even
    return min(max(result, own.low), own.high)


@st.composite
def requantizations(draw):
    format = draw(st.sampled_from(FORMATS))
    channels, size = draw(st.integers(1, 4)), draw(st.sampled_from([4, 12, 30, 44, 62, 80]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def numbers(*shape, bits):
        values = [int.from_bytes(rng.bytes(12)) % (1 << int(rng.integers(1, bits + 1)))
                  for _ in range(int(np.prod(shape)))]
        signs = rng.integers(0, 2, len(values)) * 2 - 1
        return np.array([value * int(sign) for value, sign in zip(values, signs, strict=True)],
                        dtype=object if bits > 62 else np.int64).reshape(shape)
    total = numbers(2, channels, 2, 2, bits=size)
    scale = draw(st.integers(0, min(63, size + 4)))
    if isinstance(format, Int):
        low, high = format.image_range
    else:
        high = 1 if isinstance(format, Bipolar) else format.max_code
        low = 0 if isinstance(format, Bipolar) else -high
    own = Requantization(
        multiplier=(rng.integers(0, 1 << MULTIPLIER_BITS, channels)
                    >> rng.integers(0, MULTIPLIER_BITS, channels)),
        shift=np.clip(scale + rng.integers(-3, 4, channels), 0, 63),
        zero_point=draw(st.integers(-9, 9)) if isinstance(format, Int) else 0,
        low=draw(st.integers(low, (low + high) // 2)),
        high=draw(st.integers((low + high) // 2, high)))
    return total, own, format


@settings(max_examples=120)
@given(requantizations())
def test_requantizing_follows_the_contract(case):
    total, own, format = case
    results = own.results(total, format)
    expected = np.empty(total.shape, dtype=np.int64)
    for index in np.ndindex(total.shape):
        expected[index] = contract(int(total[index]), own, index[1], format)
    assert (results == expected).all()
    codes = format.from_ordered(results)
    assert codes.min() >= 0 and codes.max() < 1 << format.width


@pytest.mark.parametrize("format", [Int(8), parse("e3m2"), parse("e4m3")], ids=str)
def test_ties_round_to_even_codes(format):
    # Halves of every image step: shift 1.
    total = np.arange(-2000, 2000)[None, None, None]
    low, high = (format.image_range if isinstance(format, Int)
                 else (-format.max_code, format.max_code))
    own = Requantization(np.ones(1, int), np.ones(1, int), low=low, high=high)
    codes = format.from_ordered(own.results(total, format))
    assert (format.decode(codes)
            == format.decode(format.encode(np.ldexp(total / 2, format.exponent)))).all()


def test_a_result_that_rounds_to_zero_is_plus_zero():
    own = Requantization(np.ones(1, int), np.full(1, 9), low=-31, high=31)
    results = own.results(np.full((1, 1, 1, 1), -1), parse("e3m2"))
    assert parse("e3m2").from_ordered(results).item() == 0


@pytest.mark.parametrize("shift", [0, 3, TIE_BITS, TIE_BITS + 1, TIE_BITS + 2, 40])
def test_an_offset_is_added_before_rounding(shift):
    sums = np.arange(-40, 40).reshape(1, 2, 40)
    multiplier, offset = [max(1 << shift >> 1, 1), (1 << shift) + 5], [-3, 37]
    own = Requantization(multiplier, [shift, shift], ties=[0, 0], offset=offset, low=-128, high=127)
    found = own.results(sums, INT8)
    for channel in range(2):
        wanted = [floor(Fraction(int(total) * multiplier[channel], 1 << shift)
                        + Fraction(offset[channel], 1 << OFFSET_FRACTION) + Fraction(1, 2))
                  for total in sums[0, channel]]
        assert found[0, channel].tolist() == np.clip(wanted, -128, 127).tolist()


def test_the_leading_one_of_numbers_that_float64_rounds_up():
    numbers = [0, 1, 2, 3, 4, (1 << 53) - 1, (1 << 54) - 1, (1 << 54) + 1, (1 << 62) - 1, 1 << 62]
    assert _leading_one(np.array(numbers)).tolist() == [
        max(number.bit_length() - 1, 0) for number in numbers]
    assert _leading_one(np.array([*numbers, 1 << 80], object)).tolist()[-1] == 80
