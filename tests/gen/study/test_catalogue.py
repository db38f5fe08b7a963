"""Entries of the table of processing elements: names, references, what they are built of."""

import pytest
from systolith.gen.kit.errors import UserError
from systolith.gen.study.catalogue import Entry, every_entry, parse_entries, reference
from systolith.hw.spec.structures import structure_of


def test_the_whole_table_has_what_it_must():
    labels = {entry.label for entry in every_entry()}
    assert {f"int{bits}" for bits in range(2, 17)} <= labels
    assert {"e2m1", "e2m3", "e3m2", "e3m4", "e4m3", "e5m2", "int8 x e3m0", "e4m3 x e5m2",
            "int8 x ternary"} <= labels
    assert {f"bipolar1, {lanes} lanes" for lanes in (64, 128, 256)} <= labels
    assert {"int8 x mxint8", "e4m3fn x mxfp8", "e2m1 x mxfp4", "e2m1 x nvfp4"} <= labels
    assert len(set(every_entry())) == len(every_entry())


def test_entries_from_names():
    assert parse_entries(["e3m2", "int8:e3m0", "bipolar1:bipolar1:9", "e3m2"]) == [
        Entry("e3m2", "e3m2"), Entry("int8", "e3m0"), Entry("bipolar1", "bipolar1", 9)]
    assert [entry.lanes for entry in parse_entries(["bipolar1"])] == [64, 128, 256]
    assert parse_entries(["mxfp4", "int8:mxfp4", "mxint8"]) == [
        Entry("e2m1", "mxfp4"), Entry("int8", "mxfp4"), Entry("int8", "mxint8")]
    assert parse_entries(["int8:int8:1:2"]) == [Entry("int8", "int8", 1, 2)]
    assert parse_entries(["all"]) == every_entry()


@pytest.mark.parametrize("text, message", [
    ("int99", "'int99': bits of an Int"), ("int8:foo", "'int8:foo': 'foo' is no number format"),
    ("mxfp4:mxfp4", "the activation must be a format without blocks"),
    ("int8:int8:0", "with 1 to 1024 lanes"), ("int8:int8:x", "ACTIVATION:WEIGHT:LANES"),
    ("int8:int8:1:65", "1 to 64 columns"), ("int8:int8:1:1:1", "ACTIVATION:WEIGHT:LANES")])
def test_wrong_entries(text, message):
    with pytest.raises(UserError, match=message):
        parse_entries([text])


def test_references_of_16_bits():
    assert reference(Entry("e3m4", "e3m4")) == Entry("e3m12", "e3m12")
    assert reference(Entry("e4m3", "e5m2")) == Entry("e4m11", "e5m10")
    assert reference(Entry("int4", "int8")) == Entry("int16", "int16")
    assert reference(Entry("bipolar1", "bipolar1", 64)) is None
    assert reference(Entry("int8", "int8", plain=True)) is None


def test_small_products_beside_scales_of_blocks_stay_luts():
    luts, dsp = (structure_of("xc7", there) for there in (False, True))
    assert luts != dsp
    assert Entry("e2m1", "nvfp4").structure("xc7", True) == luts
    assert Entry("e2m1", "e2m1").structure("xc7", True) == dsp
    assert Entry("int8", "mxint8").structure("xc7", True) == dsp
    assert Entry("int8", "mxint8").structure("xc7", False) == luts
