from bisect import bisect_right
from fractions import Fraction
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systolith.hw.formats import Bipolar, Float, Format, Int, parse, sum_bits

from .. import oracles

NARROW_FLOATS = [(exp, man) for exp in range(1, 8) for man in range(8 - exp)]


def equal_bits(values, expected):
    """Equal as floats, with -0.0 apart from 0.0 and nan equal to nan."""
    same = (values == expected) & (np.signbit(values) == np.signbit(expected))
    return (same | (np.isnan(values) & np.isnan(expected))).all()


@cache
def finite_table(fmt):
    """Values of a format as exact fractions in ascending order, one code of each beside it."""
    codes = np.arange(1 << fmt.width)
    values = fmt.decode(codes)
    return sorted({Fraction(value): int(code) for code, value in zip(codes, values, strict=True)
                   if np.isfinite(value)}.items())


def probes(fmt, dtype):
    """Every value, every midpoint, the neighbours of each in `dtype`, and beyond the range."""
    values = np.array([float(value) for value, _ in finite_table(fmt)])
    points = np.concatenate([values, (values[1:] + values[:-1]) / 2])
    assert (points.astype(dtype) == points).all()
    largest = np.finfo(dtype).max
    beyond = np.clip([scale * end for scale in (1.001, 1.5, 8) for end in (-values[-1], values[-1])]
                     + [-1e30, 1e30], -largest, largest)
    points = np.concatenate([points, beyond, [-0.0]]).astype(dtype)
    return np.concatenate([points, *(np.nextafter(points, dtype(way)) for way in (-1e38, 1e38)),
                           dtype([-np.inf, np.inf])])


class TestAgainstOutsideJudges:
    @pytest.mark.parametrize("name", oracles.STANDARD_FLOATS)
    def test_every_code_of_standard_floats_decodes_equally(self, name):
        fmt = parse(name)
        assert fmt.width == oracles.STANDARD_FLOATS[name]
        codes = np.arange(1 << fmt.width)
        assert equal_bits(fmt.decode(codes), oracles.standard_decode(name, codes))

    @pytest.mark.parametrize("name", oracles.STANDARD_INTEGERS)
    def test_every_code_of_standard_integers_decodes_equally(self, name):
        fmt = parse(name)
        assert fmt.width == oracles.STANDARD_INTEGERS[name]
        codes = np.arange(1 << fmt.width)
        assert equal_bits(fmt.decode(codes), oracles.standard_decode(name, codes))

    @pytest.mark.parametrize("name", oracles.STANDARD_FLOATS)
    def test_standard_floats_encode_equally_at_values_midpoints_and_their_neighbours(self, name):
        fmt = parse(name)
        values = probes(fmt, np.float32)
        if name == "float8_e8m0fnu":
            # Between 2**-127 and 2**-126, where float32 is subnormal, ml_dtypes rounds up always.
            values = values[(abs(values) <= 2.0 ** -127) | (abs(values) >= 2.0 ** -126)]
        assert len(values) > 3 * (1 << fmt.width)
        codes = fmt.encode(values)
        expected = oracles.standard_encode(name, values)
        assert (codes == expected).all(), values[codes != expected]

    @pytest.mark.parametrize("exp,man", NARROW_FLOATS)
    def test_finite_floats_decode_and_encode_equally(self, exp, man):
        fmt = Float(exp, man)
        codes = np.arange(1 << fmt.width)
        assert equal_bits(fmt.decode(codes), oracles.finite_decode(exp, man, codes))
        values = probes(fmt, np.float64)
        codes = fmt.encode(values)
        expected = oracles.finite_encode(exp, man, values)
        assert (codes == expected).all(), values[codes != expected]


EXAMPLES = [
    # name, width, largest, smallest above 0, codes that are no finite numbers
    ("e4m3", 8, 480.0, 2.0 ** -9, 0),
    ("e4m3fn", 8, 448.0, 2.0 ** -9, 2),
    ("e4m3ieee", 8, 240.0, 2.0 ** -9, 16),
    ("float8_e4m3", 8, 240.0, 2.0 ** -9, 16),
    ("e4m3fnuz", 8, 240.0, 2.0 ** -10, 1),
    ("e4m3b11fnuz", 8, 30.0, 2.0 ** -13, 1),
    ("e5m2", 8, 114688.0, 2.0 ** -16, 0),
    ("float8_e5m2", 8, 57344.0, 2.0 ** -16, 8),
    ("e3m4", 8, 31.0, 2.0 ** -6, 0),
    ("e3m2", 6, 28.0, 2.0 ** -4, 0),
    ("e2m1", 4, 6.0, 0.5, 0),
    ("e8m0fnu", 8, 2.0 ** 127, 2.0 ** -127, 1),
    ("int4", 4, 7.0, 1.0, 0),
    ("uint8", 8, 255.0, 1.0, 0),
    ("bipolar1", 1, 1.0, 1.0, 0),
    ("bipolar3", 3, 7.0, 1.0, 0),
]


@pytest.mark.parametrize("name,width,largest,smallest,special", EXAMPLES)
def test_ranges_are_what_the_documents_say(name, width, largest, smallest, special):
    fmt = parse(name)
    values = fmt.decode(np.arange(1 << fmt.width))
    finite = values[np.isfinite(values)]
    assert (fmt.width, finite.max(), finite[finite > 0].min(), len(values) - len(finite)) == (
        width, largest, smallest, special)


@st.composite
def formats(draw):
    match draw(st.sampled_from(["int", "bipolar", "float", "float", "float"])):
        case "int":
            return Int(draw(st.integers(1, 12)), draw(st.booleans()))
        case "bipolar":
            return Bipolar(draw(st.integers(1, 8)))
    signed = draw(st.booleans())
    exp = draw(st.integers(1, 8))
    man = draw(st.integers(0, 12 - exp))
    special = ["none"]
    if exp + man > 1:
        special.append("ieee")
    if signed:
        special.append("fnuz")
    if signed + exp + man >= 8:
        special.append("fn")
    bias = draw(st.one_of(st.none(), st.integers(-256, 512)))
    return Float(exp, man, bias, draw(st.sampled_from(special)), signed)


@st.composite
def formats_and_values(draw, count=1):
    """A format and float64 values: any, or near one of its values or midpoints."""
    fmt = draw(formats())
    table = finite_table(fmt)
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


@given(formats())
def test_encode_gives_back_every_finite_code(fmt):
    codes = np.arange(1 << fmt.width)
    values = fmt.decode(codes)
    finite = np.isfinite(values)
    assert finite.any()
    assert (fmt.encode(values[finite]) == codes[finite]).all()


@given(formats_and_values(count=8))
def test_encode_takes_the_nearest_with_ties_to_even(drawn):
    fmt, values = drawn
    table = finite_table(fmt)
    for value, code in zip(values.tolist(), fmt.encode(values).tolist(), strict=True):
        result = Fraction(float(fmt.decode(code)))
        if value <= table[0][0]:
            assert result == table[0][0]
            continue
        if value >= table[-1][0]:
            assert result == table[-1][0]
            continue
        place = bisect_right(table, Fraction(value), key=lambda entry: entry[0])
        (low, low_code), (high, high_code) = table[place - 1], table[place]
        below, above = Fraction(value) - low, high - Fraction(value)
        if below != above:
            assert result == (low if below < above else high)
        elif isinstance(fmt, Bipolar):
            assert result == high
        elif isinstance(fmt, Float) and fmt.man == 0 and low != 0 and high != 0:
            assert result == max(low, high, key=abs)
        else:
            assert code % 2 == 0 and result in (low, high)
            assert low_code % 2 != high_code % 2


@given(formats_and_values(count=8))
def test_encode_is_monotonic(drawn):
    fmt, values = drawn
    results = fmt.decode(fmt.encode(np.sort(values)))
    assert all(low <= high for low, high in pairwise(results))


@given(formats())
def test_the_image_is_exact(fmt):
    codes = np.arange(1 << fmt.width)
    values = fmt.decode(codes)
    finite = np.isfinite(values)
    images = fmt.image(codes[finite])
    assert [int(image) * Fraction(2) ** fmt.exponent for image in images] == [
        Fraction(value) for value in values[finite]]
    assert fmt.image_range == (min(images), max(images))
    for code in codes[~finite]:
        with pytest.raises(ValueError, match="no image"):
            fmt.image(code)


@given(formats())
def test_names_and_representations_give_back_the_format(fmt):
    assert parse(fmt.name) == fmt == parse(str(fmt)) == eval(repr(fmt))
    assert hash(parse(fmt.name)) == hash(fmt)
    assert parse(fmt) is fmt


@given(formats())
def test_the_zero_code_is_zero_and_the_largest_code_is_largest(fmt):
    values = fmt.decode(np.arange(1 << fmt.width))
    if fmt.zero_code is None:
        assert not (values == 0).any()
    else:
        assert values[fmt.zero_code] == 0 and not np.signbit(values[fmt.zero_code])
    if isinstance(fmt, Float):
        assert values[fmt.max_code] == values[np.isfinite(values)].max()


@given(formats(), formats(), st.integers(1, 1000))
def test_sum_bits_hold_the_largest_sum(activation, weight, terms):
    products = [a * w for a in activation.image_range for w in weight.image_range]
    bits = sum_bits(activation, weight, terms)
    for product in products:
        assert -(1 << (bits - 1)) <= terms * product < 1 << (bits - 1)


@given(formats())
def test_nan_is_refused(fmt):
    with pytest.raises(ValueError, match=f"NaN has no code in {fmt.name}"):
        fmt.encode([0.0, np.nan])


def test_shapes_are_kept():
    for fmt in map(parse, ("int5", "uint3", "bipolar2", "e3m2", "e4m3fn", "e8m0fnu", "e8m1")):
        for shape in ((), (0,), (3, 1, 2)):
            codes = np.zeros(shape, np.uint8)
            assert fmt.decode(codes).shape == fmt.image(codes).shape == shape
            assert fmt.decode(codes).dtype == np.float64
            assert fmt.encode(np.zeros(shape)).shape == shape
            assert fmt.encode(np.zeros(shape)).dtype == np.int64


def test_negative_zero_is_kept_where_it_has_a_code():
    assert parse("e4m3").encode([-0.0, 0.0, -1e-9]).tolist() == [0x80, 0, 0x80]
    assert parse("e4m3fnuz").encode([-0.0, 0.0, -1e-9]).tolist() == [0, 0, 0]


def test_short_names_with_fn_are_finite_only():
    assert parse("float6_e3m2fn") == parse("e3m2fn") == parse("e3m2") == Float(3, 2)
    assert parse("float4_e2m1fn") == Float(2, 1)


@pytest.mark.parametrize("name", [
    "", "int", "int8 ", "float8_e3m2", "float8_e4m3fnx", "e4", "m3", "bfloat8", "e4m3nz", "4",
    "float6_e3m2fnu"])
def test_unknown_names_are_refused_with_examples(name):
    with pytest.raises(ValueError, match="no number format; formats are named like int8"):
        parse(name)


@pytest.mark.parametrize("make,message", [
    (lambda: Int(0), "bits of an Int must be from 1 to 16, not 0"),
    (lambda: parse("uint17"), "bits of an Int must be from 1 to 16, not 17"),
    (lambda: Bipolar(9), "bits of a Bipolar must be from 1 to 8, not 9"),
    (lambda: Float(0, 3), "a Float must have from 1 to 8 exponent bits"),
    (lambda: parse("e9m2"), "a Float must have from 1 to 8 exponent bits"),
    (lambda: Float(8, 8), "at most 16 bits in all, not exp=8, man=8"),
    (lambda: Float(4, 3, special="nan"), "special of a Float must be one of none, fn"),
    (lambda: Float(3, 2, special="fn"), "fewer than 8 bits"),
    (lambda: parse("e4m3fnuzu"), "without sign"),
    (lambda: parse("e1m0ieee"), "a finite number besides 0"),
    (lambda: parse("e4m3b513"), "bias of a Float must be from -256 to 512, not 513"),
    (lambda: Int(4).decode([16]), "codes of int4 must be from 0 to 15"),
    (lambda: Float(3, 2).image([-1]), "codes of e3m2 must be from 0 to 63"),
])
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_codes_must_be_integers():
    with pytest.raises(TypeError, match="codes of int8 must be integers, not float64"):
        Int(8).decode([1.0])


def test_formats_are_immutable_values():
    assert isinstance(Int(8), Format) and Int(8) == Int(8) != Int(8, signed=False)
    assert Float(4, 3) == Float(4, 3, 7) != Float(4, 3, 8)
    with pytest.raises(AttributeError):
        Int(8).bits = 4
