import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systolith.hw.formats import (
    Bipolar,
    BlockFloat,
    BlockInt,
    Float,
    Format,
    Int,
    Lns,
    PowerSum,
    Ternary,
    catalogue,
    names,
    parse,
    sum_bits,
)

from ...number_formats import exact_formats, finite_table, formats

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
    assert {type(fmt) for fmt in formats.values()} == {
        Int, Ternary, Bipolar, Float, PowerSum, Lns, BlockInt, BlockFloat}
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


@pytest.mark.parametrize("name", [name for name, fmt in catalogue().items()
                                  if fmt.width <= 8])
def test_ordered_integers_sort_as_values(name):
    fmt = parse(name)
    codes = np.arange(1 << fmt.width)
    values = fmt.decode(codes)
    codes, values = codes[np.isfinite(values)], values[np.isfinite(values)]
    order = fmt.ordered(codes)
    assert ((order[:, None] < order) == (values[:, None] < values)).all()
    assert (fmt.decode(fmt.from_ordered(order)) == values).all()
    assert fmt.ordered_range == (order.min(), order.max())
    assert fmt.value_range == (values.min(), values.max())


@given(exact_formats(), exact_formats())
def test_a_format_holds_another_if_it_has_all_its_numbers(fmt, other):
    assert fmt.holds(fmt)
    if fmt.holds(other):
        assert {number for number, _ in finite_table(other)} <= {
            number for number, _ in finite_table(fmt)}


def test_ternary_numbers_are_integers_of_two_bits_but_not_the_other_way():
    assert Int(8).holds(Int(4)) and Int(2).holds(Ternary()) and Ternary().holds(Int(1))
    assert not Ternary().holds(Int(2)) and not Int(4).holds(Int(4, signed=False))
    assert not Int(8).holds(Float(2, 1)) and not Bipolar(1).holds(Int(1))
    assert [fmt for fmt in catalogue().values() if fmt.complete and not fmt.block_scale] == [
        Int(bits, signed) for signed, widths in ((True, (2, 4, 6, 8, 16)), (False, (4, 8)))
        for bits in widths]


@pytest.mark.parametrize("name", catalogue())
def test_what_a_chip_may_hold(name):
    fmt = parse(name)
    activation, weight = fmt.activation_fault(), fmt.weight_fault()
    assert weight or name not in ("uint8", "e8m0fnu", "bipolar2")
    for fault in (activation, weight):
        assert fault is None or (fault.startswith("must be ") and fmt.name in fault)
    # No format is one of activations only.
    assert weight is None or activation is not None
    assert fmt.chip_format.activation_fault() == (None if name.startswith("uint") else activation)


def test_a_file_registers_the_names_of_its_formats(monkeypatch):
    for known in ("_READERS", "_EXAMPLES", "_CATALOGUE"):
        monkeypatch.setattr(names, known, list(getattr(names, known)))
    monkeypatch.setattr(names, "_ALIASES", dict(names._ALIASES))
    names.register(r"whole(\d+)", lambda bits: Int(int(bits)) if int(bits) < 9 else None,
                   examples=["whole8"], catalogue="whole3 wholesome",
                   aliases={"wholesome": "whole5"})
    assert parse("whole3") == Int(3) and parse("wholesome") == Int(5)
    assert list(catalogue())[-2:] == ["whole3", "wholesome"]
    with pytest.raises(ValueError, match=r"'whole9' is no number format; .*, whole8$"):
        parse("whole9")


@pytest.mark.parametrize("name", [*NAMES, *ALIASES, *catalogue()])
def test_one_pattern_reads_a_name(name):
    text = names._ALIASES.get(name, name)
    assert sum(bool(pattern.fullmatch(text)) for pattern, _ in names._READERS) == 1
