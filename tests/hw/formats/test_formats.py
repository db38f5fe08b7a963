import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systolith.hw.formats import (
    Bipolar,
    Float,
    Format,
    Int,
    Lns,
    PowerSum,
    Ternary,
    catalogue,
    parse,
    sum_bits,
)

from ...number_formats import exact_formats, formats

NAMES = {
    "int1": Int(1), "uint16": Int(16, signed=False), "ternary": Ternary(), "bipolar3": Bipolar(3),
    "e4m3": Float(4, 3), "e4m3b-2": Float(4, 3, -2), "e4m3fn": Float(4, 3, special="fn"),
    "e5m2fnuz": Float(5, 2, 16, "fnuz"), "e4m3b11fnuz": Float(4, 3, 11, "fnuz"),
    "e8m0fnu": Float(8, 0, special="fn", signed=False),
    "e3m4flush": Float(3, 4, lowest="flush"), "e4m3dl": Float(4, 3, lowest="dlfloat"),
    "e4m3b11dlfn": Float(4, 3, 11, "fn", lowest="dlfloat"),
    "e6m9dlfloat": Float(6, 9, 31, "dlfloat", lowest="dlfloat"),
    "e4m3subdlfloat": Float(4, 3, special="dlfloat"),
    "e4m3flushdlfloat": Float(4, 3, special="dlfloat", lowest="flush"),
    "e5m2p3109": Float(5, 2, 16, "p3109"), "e3m0r4": Float(3, 0, radix=4),
    "e3m0x2": PowerSum(Float(3, 0), 2), "e3m0b7r4x3": PowerSum(Float(3, 0, 7, radix=4), 3),
    "lns8": Lns(8), "lns6r4t8": Lns(6, 4, 8),
}
ALIASES = {
    "e3m2fn": "e3m2", "float6_e3m2fn": "e3m2", "float6_e2m3fn": "e2m3", "float4_e2m1fn": "e2m1",
    "float8_e3m4": "e3m4ieee", "float8_e4m3": "e4m3ieee", "float8_e4m3fn": "e4m3fn",
    "float8_e4m3b11fnuz": "e4m3b11fnuz", "float8_e5m2": "e5m2ieee",
    "float8_e5m2fnuz": "e5m2fnuz", "float8_e8m0fnu": "e8m0fnu",
    "p3109_k8p3": "e5m2p3109", "p3109_k8p3se": "e5m2p3109", "p3109_k8p4sf": "e4m3fnuz",
    "bfloat16": "e8m7ieee", "float16": "e5m10ieee", "dlfloat16": "e6m9dlfloat",
    "hfp8": "e4m3b11dlfloat", "hfp8_fnuz": "e4m3b11fnuz", "e4m3b7": "e4m3", "e4m3r2": "e4m3",
    "lns8r8t6": "lns8",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_say_what_the_format_is(name):
    assert parse(name) == NAMES[name] and NAMES[name].name == str(NAMES[name]) == name


@pytest.mark.parametrize("name", ALIASES)
def test_other_names_are_read_too(name):
    assert parse(name).name == ALIASES[name]


@given(formats())
def test_names_and_representations_give_back_the_format(fmt):
    assert parse(fmt.name) == fmt == parse(str(fmt)) == eval(repr(fmt))
    assert hash(parse(fmt.name)) == hash(fmt)
    assert parse(fmt) is fmt


def test_the_catalogue_holds_every_family_once():
    formats = catalogue()
    assert {type(fmt) for fmt in formats.values()} == {Int, Ternary, Bipolar, Float, PowerSum, Lns}
    assert len(set(formats.values())) == len(formats)
    for name, fmt in formats.items():
        assert parse(name) == parse(fmt.name) == fmt


@given(exact_formats(), exact_formats(), st.integers(1, 1000))
def test_sum_bits_hold_the_largest_sum(activation, weight, terms):
    products = [a * w for a in activation.image_range for w in weight.image_range]
    bits = sum_bits(activation, weight, terms)
    for product in products:
        assert -(1 << (bits - 1)) <= terms * product < 1 << (bits - 1)


@pytest.mark.parametrize("name", [
    "", "int", "int8 ", "float8_e3m2", "float8_e4m3fnx", "e4", "m3", "bfloat8", "e4m3nz", "4",
    "float6_e3m2fnu", "e4m3x2", "p3109_k8", "p3109_k8p3ue", "lns", "e4m3dlflush"])
def test_unknown_names_are_refused_with_examples(name):
    with pytest.raises(ValueError, match="no number format; formats are named like int8"):
        parse(name)


def test_formats_are_immutable_values():
    assert isinstance(Int(8), Format) and Int(8) == Int(8) != Int(8, signed=False)
    assert Float(4, 3) == Float(4, 3, 7) != Float(4, 3, 8)
    with pytest.raises(AttributeError):
        Int(8).bits = 4
    assert np.array_equal(Int(8).image([1]), [1])
