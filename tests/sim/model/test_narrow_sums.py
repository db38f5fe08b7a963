"""The golden models of inexact accumulation against exact arithmetic, term by term."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from systolith.hw.formats import Float, parse
from systolith.hw.spec.lfsr import RANDOM_BITS, Lfsr
from systolith.sim.model.narrow_sums import (
    block_sums,
    chunked_sum,
    chunked_sums,
    float_sums,
    random_numbers,
    rounded,
    windowed,
)

DLFLOAT = parse("dlfloat16")


@given(st.data(), st.integers(1, 5), st.integers(1, 3), st.integers(0, 9), st.integers(2, 9))
def test_window_row_by_row(data, rows, lanes, cut, bits):
    products = data.draw(st.lists(st.integers(-2000, 2000), min_size=rows * lanes,
                                  max_size=rows * lanes))
    total = 0
    for row in range(rows):
        dot = sum(products[row * lanes:(row + 1) * lanes])
        total += dot // 2 ** cut
        total = max(-2 ** (bits - 1), min(2 ** (bits - 1) - 1, total))
    assert windowed(products, rows, lanes, cut, bits) == total
    assert windowed([products] * 2, rows, lanes, cut, bits).tolist() == [total] * 2
    large = np.array(products, object) << 70
    assert windowed(large, rows, lanes, cut + 70, bits) == total


def neighbours(exact, format):
    """The numbers of the format at or below and at or above a Fraction, saturating."""
    numbers = np.unique(format.decode(format.finite_codes()))
    numbers = [Fraction(float(number)) for number in numbers]
    below = [number for number in numbers if number <= exact]
    above = [number for number in numbers if number >= exact]
    return below[-1] if below else numbers[0], above[0] if above else numbers[-1]


@given(st.sampled_from(["e4m3", "e4m3b11dlfloat", "e3m2", "e5m2ieee"]),
       st.sampled_from(["even", "away", "zero"]), st.data())
def test_every_step_is_the_exact_sum_rounded_once(name, rounding, data):
    format = parse(name)
    codes = data.draw(st.lists(st.sampled_from(format.finite_codes().tolist()), min_size=1,
                               max_size=12))
    chunk = data.draw(st.sampled_from([None, 1, 2, 5]))
    inside, totals = chunked_sums(codes, format, chunk, rounding)
    step = chunk or len(codes)
    values = [Fraction(float(value)) for value in format.decode(np.array(codes))]
    before, total = Fraction(0), Fraction(0)
    sums = []

    def check(exact, found):
        below, above = neighbours(exact, format)
        found = Fraction(float(found))
        assert found in (below, above)
        assert format.decode(format.encode(float(exact), rounding)) == found
        return found

    for n, value in enumerate(values):
        before = check((before if n % step else 0) + value, inside[n])
        if n % step == step - 1 or n == len(values) - 1:
            total = check(total + before, totals[len(sums)])
            sums.append(total)
    assert len(sums) == len(totals)
    assert chunked_sum(codes, format, chunk, rounding) == format.encode(totals[-1] + 0.0)


def test_sums_that_float64_does_not_hold():
    tiny, large, half = 2.0 ** -31 * 513 / 512, 2.0 ** 31, 2.0 ** 21
    for sign in (1, -1):
        codes = DLFLOAT.encode(np.array([large, sign * tiny]))
        for rounding in ("even", "away"):
            assert DLFLOAT.decode(chunked_sum(codes, DLFLOAT, rounding=rounding)) == large
    # Toward zero the smallest number counts.
    codes = DLFLOAT.encode(np.array([large, -tiny]))
    down = DLFLOAT.decode(chunked_sum(codes, DLFLOAT, rounding="zero"))
    assert down == large - half                         # below 2^31 the last place is 2^21


def test_a_naive_sum_stalls_and_chunks_do_not():
    random = np.random.default_rng(1)
    positive = random.triangular(0, 0, 3, 65536)                            # mean 1
    deviation_1 = random.uniform(1 - 3 ** 0.5, 1 + 3 ** 0.5, 65536)         # mean 1 too
    terms = DLFLOAT.encode(np.stack([positive, deviation_1]))
    exact = DLFLOAT.decode(terms).sum(axis=1)
    assert DLFLOAT.decode(chunked_sum(terms, DLFLOAT)).tolist() == [4096, 4096]
    error = np.abs(DLFLOAT.decode(chunked_sum(terms, DLFLOAT, 64)) / exact - 1)
    assert error[0] < 0.004 and error[1] < 0.01


def test_random_numbers():
    numbers = random_numbers(1, 3000)
    assert len(np.unique(numbers)) > 2900 and numbers.min() >= 0
    assert numbers.max() < 1 << RANDOM_BITS
    assert abs(numbers.mean() / (1 << (RANDOM_BITS - 1)) - 1) < 0.03
    later = random_numbers(np.array([1, Lfsr.after(1)]), 2999)
    assert (later == [numbers[:-1], numbers[1:]]).all()


def test_stochastic_rounding_keeps_the_mean():
    numbers = np.arange(1 << RANDOM_BITS)
    for value in (1.0, 1.0 + 2.0 ** -11, -3.14159, 2.0 ** -31 * 1.3337, 5e9, -2.0 ** -30):
        results = rounded(np.full(len(numbers), value), DLFLOAT, "stochastic", numbers)
        place = 2.0 ** (np.floor(np.log2(abs(value))) - 9)
        nearest = min(abs(value), DLFLOAT.decode(DLFLOAT.max_code)) * np.sign(value)
        assert abs(results.mean() - nearest) <= place / (1 << RANDOM_BITS)
        assert len(np.unique(results)) <= 2
    # In the gap below the smallest number: the nearest.
    for share, expected in ((0.4, 0.0), (0.6, 2.0 ** -31 * 513 / 512)):
        gap = rounded(np.full(9, share * 2.0 ** -31), DLFLOAT, "stochastic", np.arange(9))
        assert (gap == expected).all()


def test_stochastic_sums_do_not_stall():
    random = np.random.default_rng(1)
    terms = DLFLOAT.encode(random.triangular(0, 0, 3, (100, 4096)))
    exact = DLFLOAT.decode(terms).sum(axis=1)
    found = DLFLOAT.decode(chunked_sum(terms, DLFLOAT, rounding="stochastic",
                                       seed=random.integers(1, 1 << 32, 100)))
    assert abs((found / exact).mean() - 1) < 0.01
    naive = DLFLOAT.decode(chunked_sum(terms, DLFLOAT))
    assert (naive / exact).mean() < 0.9


def test_blocks_are_scaled_and_saturate_one_by_one():
    """Both ends of the window, and that a block after a saturated one begins at the end."""
    scale = Float(8, 0, special="fn", signed=False)
    one = int(scale.encode(1.0))
    half = int(scale.encode(0.5))
    found = block_sums([[100, 100, -30, -90, -127, -127]], [[one] * 6],
                       [[one, one, half, one, one, one]], activation_scale=scale,
                       weight_scale=scale, sum_exponent=0, exponent=0, bits=8)
    assert found.tolist() == [[100, 127, 112, 22, -105, -128]]
    large = block_sums([-1000, 300], one, one, activation_scale=scale, weight_scale=scale,
                       sum_exponent=0, exponent=0, bits=8)
    assert large.tolist() == [-128, -1]


@given(st.lists(st.integers(-1 << 62, 1 << 62), min_size=1, max_size=8), st.integers(0, 61))
def test_sums_as_floats_are_the_nearest_of_ten_bits(numbers, shift):
    numbers = [number >> shift for number in numbers]
    found = float_sums(np.array(numbers))
    assert (float_sums(np.array(numbers, object)) == found).all()
    for number, other in zip(numbers, found, strict=True):
        step = 1 << max(0, abs(number).bit_length() - 10)
        assert int(other) == round(Fraction(number, step)) * step
