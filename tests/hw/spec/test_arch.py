import pytest
from systolith.hw.formats import parse
from systolith.hw.spec.arch import Arch


@pytest.mark.parametrize("name", ["ternary", "e3m0x2", "e3m4flush", "e4m1dl", "e4m0dl",
                                  "e3m0r4"])
def test_formats_that_post_processing_cannot_round_to_are_no_activations(name):
    with pytest.raises(ValueError, match="the formats that post-processing can round to"):
        Arch(rows=2, columns=2, activation=name, weight="int8")


@pytest.mark.parametrize("name", ["int8", "int1", "e4m3", "e4m3fn", "e4m3fnuz", "e4m3p3109",
                                  "e3m0", "bipolar1", "e4m3b11dlfloat", "e4m3dl", "lns8"])
def test_formats_that_post_processing_rounds_to_are_activations(name):
    assert Arch(rows=2, columns=2, activation=name, weight=name).activation.name == name


def test_tables_and_leaky_channels_are_for_chips_that_compute_numbers():
    with pytest.raises(ValueError, match="table_depth must be 0 or a power of two from 256 up"):
        Arch(rows=2, columns=2, table_depth=128)
    with pytest.raises(ValueError, match="table_depth must be 0 or a power of two from 64 up"):
        Arch(rows=2, columns=2, activation="e3m2", weight="e3m2", table_depth=96)
    for facts in ({"table_depth": 2}, {"leaky": True}):
        with pytest.raises(ValueError, match="on binary chips"):
            Arch(rows=2, columns=2, activation="bipolar1", weight="bipolar1", **facts)


@pytest.mark.parametrize("weight, more, exponent", [
    ("int8", 0, 0), ("e2m1", 0, parse("e2m1").exponent), ("mxfp4", 1, parse("e2m1").exponent),
    ("mxint8", 1, None)])
def test_a_filling_has_a_word_a_row_and_one_of_scales(weight, more, exponent):
    arch = Arch(rows=4, columns=4, lanes=8, weight=weight)
    assert arch.fill == 4 + more
    scale = arch.weight.block_scale
    assert bool(scale) == bool(more)
    if exponent is not None:
        assert arch.weight.exponent == exponent
    # the smallest image times the smallest, a scale's fraction bits included
    assert arch.sum_exponent == arch.activation.exponent + arch.weight.exponent - (
        scale.man if scale else 0)


def test_accumulators_of_floats_have_room_for_one_that_rounds_up():
    """A float nearest to the largest sum can be larger, twice as large at most."""
    fields = dict(rows=4, columns=4, activation="e4m3", weight="e3m2", largest_k=500)
    exact, rounded = Arch(**fields), Arch(**fields, sums="1-6-9")
    assert rounded.accumulator_bits == exact.accumulator_bits + 1
