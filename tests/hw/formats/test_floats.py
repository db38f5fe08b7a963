from fractions import Fraction
from math import floor, log

import numpy as np
import pytest
from hypothesis import given
from systolith.hw.formats import Float, catalogue, parse

from ... import oracles
from ...number_formats import floats, probes

NARROW_FLOATS = [(exp, man) for exp in range(1, 8) for man in range(8 - exp)]
#: What gfloat can express, by name: no flushing, no radix 4.
FLOATS = {name: fmt for name, fmt in catalogue().items()
          if isinstance(fmt, Float) and fmt.signed and fmt.radix == 2 and fmt.lowest != "flush"}


def equal_bits(values, expected):
    """Equal as floats, with -0.0 apart from 0.0 and nan equal to nan."""
    same = (values == expected) & (np.signbit(values) == np.signbit(expected))
    return (same | (np.isnan(values) & np.isnan(expected))).all()


class TestAgainstMlDtypes:
    @pytest.mark.parametrize("name", oracles.STANDARD_FLOATS)
    def test_every_code_decodes_equally(self, name):
        fmt = parse(name)
        assert fmt.width == oracles.STANDARD_FLOATS[name]
        codes = np.arange(1 << fmt.width)
        assert equal_bits(fmt.decode(codes), oracles.standard_decode(name, codes))

    @pytest.mark.parametrize("name", oracles.STANDARD_FLOATS)
    def test_values_midpoints_and_their_neighbours_encode_equally(self, name):
        fmt = parse(name)
        values = probes(fmt, np.float32)
        if name == "float8_e8m0fnu":
            # Between 2**-127 and 2**-126, where float32 is subnormal, ml_dtypes rounds up always.
            values = values[(abs(values) <= 2.0 ** -127) | (abs(values) >= 2.0 ** -126)]
        assert len(values) > 3 * (1 << fmt.width)
        codes = fmt.encode(values)
        expected = oracles.standard_encode(name, values)
        assert (codes == expected).all(), values[codes != expected]


class TestAgainstGfloat:
    @pytest.mark.parametrize("name", oracles.GFLOAT_FORMATS)
    def test_every_code_of_its_formats_decodes_equally(self, name):
        fmt = parse(name)
        codes = np.arange(1 << fmt.width)[::1 if fmt.width < 16 else 7]
        assert equal_bits(fmt.decode(codes), oracles.gfloat_decode(name, codes))

    @pytest.mark.parametrize("name", FLOATS)
    def test_every_code_of_the_catalogue_decodes_equally(self, name):
        fmt = FLOATS[name]
        codes = np.arange(1 << fmt.width)[::1 if fmt.width < 16 else 7]
        expected = oracles.gfloat_decode(fmt, codes)
        # The sign of a DLFloat's zero means nothing; gfloat keeps it.
        expected = expected + 0.0 if fmt.special == "dlfloat" else expected
        assert equal_bits(fmt.decode(codes), expected)

    @pytest.mark.parametrize("rounding", ["even", "away", "zero"])
    @pytest.mark.parametrize("name", FLOATS)
    def test_values_midpoints_and_their_neighbours_encode_equally(self, name, rounding):
        fmt = FLOATS[name]
        values = probes(fmt, np.float64)[::1 if fmt.width < 16 else 173]
        if fmt.lowest == "dlfloat":
            # Without subnormals gfloat has no rule for rounding below the smallest number.
            values = values[abs(values) >= fmt.decode(1)]
        if rounding == "away":
            # gfloat adds 0.5 in float64, which makes 1 of what is just below 0.5.
            values = values[abs(values) != np.nextafter(fmt.decode(1) / 2, 0)]
        codes = fmt.encode(values, rounding)
        expected = oracles.gfloat_encode(fmt, values, rounding)
        assert (codes == expected).all(), values[codes != expected]

    @pytest.mark.parametrize("exp,man", NARROW_FLOATS)
    def test_finite_floats_of_any_widths_decode_and_encode_equally(self, exp, man):
        fmt = Float(exp, man)
        codes = np.arange(1 << fmt.width)
        assert equal_bits(fmt.decode(codes), oracles.gfloat_decode(fmt, codes))
        values = probes(fmt, np.float64)[::3]
        codes = fmt.encode(values)
        expected = oracles.gfloat_encode(fmt, values)
        assert (codes == expected).all(), values[codes != expected]


RANGES = [
    # name, width, largest, smallest above 0, codes that are no finite numbers
    ("e4m3", 8, 480.0, 2.0 ** -9, 0),
    ("e4m3fn", 8, 448.0, 2.0 ** -9, 2),
    ("e4m3ieee", 8, 240.0, 2.0 ** -9, 16),
    ("float8_e4m3", 8, 240.0, 2.0 ** -9, 16),
    ("e4m3fnuz", 8, 240.0, 2.0 ** -10, 1),
    ("e4m3b11fnuz", 8, 30.0, 2.0 ** -13, 1),
    ("hfp8_fnuz", 8, 30.0, 2.0 ** -13, 1),
    ("hfp8", 8, 28.0, 1.125 * 2.0 ** -11, 2),
    ("e4m3b11dl", 8, 30.0, 1.125 * 2.0 ** -11, 0),
    ("e5m2", 8, 114688.0, 2.0 ** -16, 0),
    ("float8_e5m2", 8, 57344.0, 2.0 ** -16, 8),
    ("p3109_k8p3", 8, 49152.0, 2.0 ** -17, 3),
    ("p3109_k8p4", 8, 224.0, 2.0 ** -10, 3),
    ("p3109_k8p5", 8, 15.0, 2.0 ** -7, 3),
    ("p3109_k8p3sf", 8, 57344.0, 2.0 ** -17, 1),
    ("p3109_k8p5sf", 8, 15.5, 2.0 ** -7, 1),
    ("p3109_k6p3", 6, 12.0, 2.0 ** -5, 3),
    ("p3109_k4p2", 4, 2.0, 2.0 ** -2, 3),
    ("p3109_k5p2", 5, 8.0, 2.0 ** -4, 3),
    ("e3m4", 8, 31.0, 2.0 ** -6, 0),
    ("e3m4flush", 8, 31.0, 0.25, 0),
    ("float8_e3m4", 8, 15.5, 2.0 ** -6, 32),
    ("e3m2", 6, 28.0, 2.0 ** -4, 0),
    ("e2m1", 4, 6.0, 0.5, 0),
    ("e3m0", 4, 16.0, 0.25, 0),
    ("e3m0r4", 4, 256.0, 0.0625, 0),
    ("e8m0fnu", 8, 2.0 ** 127, 2.0 ** -127, 1),
    ("dlfloat16", 16, (2 - 2 ** -8) * 2.0 ** 32, (1 + 2 ** -9) * 2.0 ** -31, 2),
    ("bfloat16", 16, (2 - 2 ** -7) * 2.0 ** 127, 2.0 ** -133, 256),
    ("float16", 16, 65504.0, 2.0 ** -24, 2048),
]


@pytest.mark.parametrize("name,width,largest,smallest,special", RANGES)
def test_ranges_are_what_the_documents_say(name, width, largest, smallest, special):
    fmt = parse(name)
    values = fmt.decode(np.arange(1 << fmt.width))
    finite = values[np.isfinite(values)]
    assert (fmt.width, finite.max(), finite[finite > 0].min(), len(values) - len(finite)) == (
        width, largest, smallest, special)


@pytest.mark.parametrize("exp", range(1, 12))
def test_16_bits_of_any_exponent_width_are_exact(exp):
    """All codes with the format's own special rules; e11 needs a code less or a larger bias."""
    for special in ("none", "ieee", "fnuz") if exp < 11 else ("ieee", "fnuz", "p3109"):
        fmt = Float(exp, 15 - exp, special=special)
        codes = np.arange(1 << 16)
        values = fmt.decode(codes)
        codes, values = codes[np.isfinite(values)], values[np.isfinite(values)]
        assert (fmt.encode(values) == codes).all()
        for place in np.random.default_rng(exp).choice(len(codes), 100):
            assert Fraction(values[place].item()) == (
                int(fmt.image(codes[place])) * Fraction(2) ** fmt.exponent)
        assert abs(fmt.image(fmt.max_code)) == max(map(abs, fmt.image_range))


@given(floats())
def test_what_hardware_reads_gives_the_images(fmt):
    codes = np.arange(fmt.max_code + 1)
    field, fraction = codes >> fmt.man, codes & ((1 << fmt.man) - 1)
    hidden = field > 0
    if fmt.hidden_at_zero:
        hidden |= (codes > 0) | (not fmt.signed)
    significand = (fraction + (hidden << fmt.man)).astype(object)
    if fmt.lowest == "flush":
        significand[field == 0] = 0
    assert (significand << fmt.shift_of(field).astype(object) == fmt.image(codes)).all()
    assert fmt.largest_shift == fmt.shift_of(field).max() and isinstance(fmt.largest_shift, int)


@given(floats())
def test_the_largest_code_is_largest(fmt):
    values = fmt.decode(np.arange(1 << fmt.width))
    assert values[fmt.max_code] == values[np.isfinite(values)].max()


def test_radix_4_rounds_by_the_published_rule():
    """4**floor(log4(1.6 x)) is linear rounding to nearest, ties up."""
    fmt = Float(3, 0, radix=4)
    exponents = range(1 - fmt.bias, 8 - fmt.bias)
    for value in np.random.default_rng(4).uniform(0.07, 200, 3000).tolist():
        power = min(max(floor(log(1.6 * value, 4)), exponents[0]), exponents[-1])
        assert fmt.decode(fmt.encode([-value, value])).tolist() == [-4.0 ** power, 4.0 ** power]
    boundaries = [2.5 * 4.0 ** n for n in exponents[:-1]]
    assert fmt.decode(fmt.encode(boundaries)).tolist() == [4.0 ** n for n in exponents[1:]]


def test_powers_of_two_part_at_either_boundary():
    fmt = Float(3, 0)
    below = float(np.nextafter(1.5, 0)), float(np.nextafter(2 ** 0.5, 0))
    assert fmt.decode(fmt.encode([below[0], 1.5])).tolist() == [1, 2]
    assert fmt.decode(fmt.encode([below[1], 2 ** 0.5, -1.5], "log")).tolist() == [1, 2, -2]
    assert Fraction(below[1]) ** 2 < 2 < Fraction(2 ** 0.5) ** 2


def test_negative_zero_is_kept_where_it_has_a_code():
    for name in ("e4m3", "e4m3flush", "e4m3dl", "e4m3fn"):
        assert parse(name).encode([-0.0, 0.0, -1e-9]).tolist() == [0x80, 0, 0x80]
    for name in ("e4m3fnuz", "e4m3p3109", "e4m3dlfloat"):
        assert parse(name).encode([-0.0, 0.0, -1e-9]).tolist() == [0, 0, 0]
    values = parse("e4m3dlfloat").decode([0, 0x80])
    assert (values == 0).all() and not np.signbit(values).any()


@pytest.mark.parametrize("make,message", [
    (lambda: Float(0, 3), "a Float must have at least 1 exponent bit"),
    (lambda: parse("p3109_k8p8"), "a Float must have at least 1 exponent bit"),
    (lambda: Float(8, 8), "at most 16 bits in all, not exp=8, man=8"),
    (lambda: Float(4, 3, special="nan"), "special of a Float must be one of none, fn, fnuz"),
    (lambda: Float(4, 3, lowest="zero"), "lowest of a Float must be one of subnormal, flush"),
    (lambda: Float(4, 3, radix=8), "radix of a Float must be one of 2, 4, not 8"),
    (lambda: Float(3, 2, special="fn"), "fewer than 8 bits"),
    (lambda: parse("e4m3fnuzu"), "without sign"),
    (lambda: parse("e4m3flushu"), "without sign"),
    (lambda: parse("e1m0ieee"), "a finite number besides 0"),
    (lambda: parse("e1m0p3109"), "a finite number besides 0"),
    (lambda: parse("e1m2flushieee"), "a finite number besides 0"),
    (lambda: parse("e11m4"), r"below 2\*\*1024 .*; e11m4 has 2\*\*1024 and 2\*\*-1026: .* bias"),
    (lambda: parse("e15m0"), r"e15m0 has 2\*\*16384 and 2\*\*-16382: .* fewer exponent"),
    (lambda: parse("e4m3b1072"), r"multiples of 2\*\*-1073, .* e4m3b1072 has "),
])
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
