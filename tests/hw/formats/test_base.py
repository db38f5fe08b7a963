"""What holds for every format: rounding by its words, images, refusals."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.hw.formats import Int, parse

from ...number_formats import (
    DETERMINISTIC,
    exact_formats,
    finite_table,
    formats,
    formats_and_values,
    neighbours,
    rounded,
)


def decoded(fmt, codes):
    return [Fraction(value) for value in np.atleast_1d(fmt.decode(codes)).tolist()]


@settings(max_examples=200)
@given(formats_and_values(exact_formats()), st.sampled_from(DETERMINISTIC))
def test_encode_rounds_by_the_words(drawn, rounding):
    fmt, values = drawn
    assert decoded(fmt, fmt.encode(values, rounding)) == [
        rounded(fmt, value, rounding) for value in values.tolist()]


@settings(max_examples=40)
@given(formats_and_values(formats()), st.sampled_from(DETERMINISTIC))
def test_encode_is_monotonic(drawn, rounding):
    fmt, values = drawn
    results = fmt.decode(fmt.encode(np.sort(values), rounding))
    assert all(low <= high for low, high in pairwise(results))


@given(formats(), st.sampled_from((*DETERMINISTIC, "stochastic")))
def test_encode_keeps_every_number_and_gives_its_lowest_code(fmt, rounding):
    codes = np.arange(1 << fmt.width)
    values = fmt.decode(codes)
    codes, values = codes[np.isfinite(values)], values[np.isfinite(values)]
    assert len(codes)
    result = fmt.encode(values, rounding, 1 if rounding == "stochastic" else None)
    assert (fmt.decode(result) == values).all()
    lowest = dict(finite_table(fmt))
    for code, value in zip(result.tolist(), values.tolist(), strict=True):
        # A negative zero has a code of its own.
        assert code == lowest[value] or (value == 0 and np.signbit(value)
                                         and code == 1 << (fmt.width - 1))


@settings(max_examples=30)
@given(formats_and_values(formats()), st.integers(0, 1000))
def test_stochastic_rounding_gives_a_neighbour_and_the_value_on_average(drawn, seed):
    fmt, values = drawn
    count = 2000
    many = np.repeat(values[:, None], count, axis=1)
    codes = fmt.encode(many, "stochastic", seed)
    assert (codes == fmt.encode(many, "stochastic", np.random.default_rng(seed))).all()
    for value, results in zip(values.tolist(), fmt.decode(codes), strict=True):
        low, high = neighbours(fmt, value)
        assert set(map(Fraction, results.tolist())) <= {low, high}
        if low < high:
            share = float((Fraction(value) - low) / (high - low))
            deviation = np.sqrt(share * (1 - share) / count)
            # Six deviations of the mean, and one draw where nearly all go one way.
            assert abs((results == float(high)).mean() - share) <= 6 * deviation + 1 / count


def test_another_seed_draws_other_numbers_and_a_seed_goes_with_stochastic_only():
    fmt, values = Int(8), np.full(100, 0.5)
    assert (fmt.encode(values, "stochastic", 1) != fmt.encode(values, "stochastic", 2)).any()
    for rounding, seed in (("stochastic", None), ("even", 1)):
        with pytest.raises(ValueError, match="stochastic rounding needs a seed"):
            fmt.encode(values, rounding, seed)
    with pytest.raises(ValueError, match="rounding must be one of even, away, zero, log, stoch"):
        fmt.encode(values, "up")


@given(exact_formats())
def test_the_image_is_exact(fmt):
    codes = np.arange(1 << fmt.width)
    values = fmt.decode(codes)
    finite = np.isfinite(values)
    images = fmt.image(codes[finite])
    assert [int(image) * Fraction(2) ** fmt.exponent for image in images] == [
        Fraction(value) for value in values[finite]]
    assert fmt.image_range == (min(images), max(images))
    assert images.dtype == (object if max(map(abs, fmt.image_range)) >> 63 else np.int64)
    for code in codes[~finite]:
        with pytest.raises(ValueError, match="no image"):
            fmt.image(code)


@given(formats())
def test_the_zero_code_is_zero(fmt):
    values = fmt.decode(np.arange(1 << fmt.width))
    if fmt.zero_code is None:
        assert not (values == 0).any()
    else:
        assert values[fmt.zero_code] == 0 and not np.signbit(values[fmt.zero_code])


@given(exact_formats(), exact_formats(), st.data())
def test_products_are_products_of_values(activation, weight, data):
    unit = Fraction(2) ** (activation.exponent + weight.exponent)
    codes = [data.draw(st.lists(st.sampled_from([code for _, code in finite_table(fmt)]),
                                min_size=4, max_size=4)) for fmt in (activation, weight)]
    products = activation.product_image(weight, codes[0], codes[1])
    assert [int(product) * unit for product in products] == [
        a * w for a, w in zip(*(decoded(fmt, part) for fmt, part in
                                zip((activation, weight), codes, strict=True)), strict=True)]
    assert activation.product_bound(weight) == max(
        abs(a * w) for a in activation.image_range for w in weight.image_range)


@given(formats())
def test_nan_is_refused_with_its_index(fmt):
    with pytest.raises(ValueError, match=rf"NaN has no code in {fmt.name} \(at index \[1, 0\]\)"):
        fmt.encode([[0.0], [np.nan]])


def test_infinities_saturate():
    for name in ("int4", "e4m3fn", "e5m2ieee", "p3109_k8p3", "lns8", "e3m0x2", "ternary"):
        fmt = parse(name)
        values = [value for value, _ in finite_table(fmt)]
        for rounding in DETERMINISTIC:
            assert decoded(fmt, fmt.encode([-np.inf, np.inf], rounding)) == [values[0], values[-1]]
        assert decoded(fmt, fmt.encode([np.inf], "stochastic", 0)) == [values[-1]]


def test_shapes_are_kept():
    for fmt in map(parse, ("int5", "uint3", "bipolar2", "e3m2", "e4m3fn", "e8m0fnu", "e8m1",
                           "ternary", "e3m0x2", "e4m3flush", "e4m3dl", "e3m0r4")):
        for shape in ((), (0,), (3, 1, 2)):
            codes = np.zeros(shape, np.uint8)
            assert fmt.decode(codes).shape == fmt.image(codes).shape == shape
            assert fmt.decode(codes).dtype == np.float64
            for rounding, seed in (("even", None), ("stochastic", 1)):
                assert fmt.encode(np.zeros(shape), rounding, seed).shape == shape
                assert fmt.encode(np.zeros(shape), rounding, seed).dtype == np.int64


def test_codes_must_be_integers_within_the_width():
    with pytest.raises(TypeError, match="codes of int8 must be integers, not float64"):
        Int(8).decode([1.0])
    with pytest.raises(ValueError, match="codes of int4 must be from 0 to 15"):
        Int(4).decode([16])
    with pytest.raises(ValueError, match="codes of e3m2 must be from 0 to 63"):
        parse("e3m2").image([-1])


@pytest.mark.parametrize("name", ["int5", "uint4", "e4m3fn", "e2m1", "bipolar1", "e3m0x2"])
def test_codes_of_images(name):
    fmt = parse(name)
    codes = fmt.finite_codes()
    images = fmt.image(codes)
    assert (fmt.image(fmt.from_image(images)) == images).all() and fmt.has_image(images).all()
    low, high = fmt.image_range
    others = np.setdiff1d(np.arange(low - 2, min(high, 1 << 12) + 3), images)
    assert len(others) >= 2 and not fmt.has_image(others).any()
    assert fmt.image(fmt.from_image(high + 1 if high < 1 << 12 else 2 * high)) == high
