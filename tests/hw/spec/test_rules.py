from dataclasses import fields

import pytest
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.rules import RULES, ArchError

PLAIN = Arch(rows=2, columns=2).to_dict()
BINARY = {"activation": "bipolar1", "weight": "bipolar1"}
#: By rule: fields that break it and no rule before it, and fields next to them that break none.
BROKEN = {
    "_bursts_are_powers_of_two": ({"burst_beats": 3}, {"burst_beats": 4}),
    "_cores_have_windows": ({"cores": 2, "address_bits": 31}, {"cores": 2}),
    "_boards_have_narrow_buses": ({"board": "ulx3s-85f", "bus_bits": 256},
                                  {"board": "ulx3s-85f", "bus_bits": 128}),
    "_both_formats_are_binary_or_none": ({"weight": "bipolar1"}, BINARY),
    "_weights_can_be_multiplied": ({"weight": "lns9"}, {"weight": "e3m0x2"}),
    "_results_can_be_rounded": ({"activation": "ternary"}, {"activation": "int2"}),
    "_logarithms_meet_logarithms": ({"activation": "lns8", "weight": "lns8r4"},
                                    {"activation": "lns8", "weight": "lns6"}),
    "_operands_need_numbers": (BINARY | {"operand_depth": 1}, {"operand_depth": 1}),
    "_leaky_channels_need_numbers": (BINARY | {"leaky": True}, {"leaky": True}),
    "_offsets_follow_slopes": ({"slope_offsets": True}, {"slope_offsets": True, "leaky": True}),
    "_tables_need_numbers": (BINARY | {"table_depth": 2}, {"table_depth": 256}),
    "_tables_hold_all_codes": ({"table_depth": 128}, {"table_depth": 256}),
    "_columns_are_shared_evenly": ({"columns": 6, "shared_columns": 4},
                                   {"columns": 6, "shared_columns": 3}),
    "_blocks_are_whole_passes": ({"weight": "mxfp4", "rows": 3}, {"weight": "mxfp4", "rows": 4}),
    "_bit_planes_are_binary": ({"bit_planes": True}, BINARY | {"bit_planes": True}),
    "_planes_have_rows": (BINARY | {"rows": 8, "lanes": 3, "bit_planes": True, "plane_rows": True},
                          BINARY | {"rows": 8, "lanes": 2, "bit_planes": True, "plane_rows": True}),
    "_signs_fill_codes": ({"rows": 8, "columns": 4, "packed_signs": True},
                          {"rows": 8, "columns": 8, "packed_signs": True}),
    "_halves_fill_codes": ({"packed_halves": True, "activation": "int6", "weight": "int6"},
                           {"packed_halves": True, "activation": "int8", "weight": "int8"}),
    "_narrow_weights_are_integers": ({"weight_widths": (4, 8)}, {"weight_widths": (4, 7)}),
    "_pools_hold_integers": ({"weight_widths": (4, 7), "weight_pools": (4, 4)},
                             {"weight_widths": (4,), "weight_pools": (4, 4)}),
    "_wide_weights_are_integers": ({"wide_weights": True, "sums": "1-6-9"},
                                   {"wide_weights": True}),
    "_depthwise_arrays_are_square": ({"depthwise": True, "rows": 3}, {"depthwise": True}),
    "_depthwise_needs_a_zero": (BINARY | {"depthwise": True}, {"depthwise": True}),
    "_side_taps_need_even_parts": ({"rows": 6, "side_taps": True},
                                   {"rows": 4, "side_taps": True}),
    "_tap_rows_have_whole_groups": ({"rows": 8, "tap_rows": True},
                                    {"rows": 8, "lanes": 4, "tap_rows": True}),
    "_fillings_overlap_in_halves": ({"rows": 8, "two_fillings": True, "weight_widths": (4,)},
                                    {"rows": 8, "two_fillings": True}),
    "_windows_are_of_bytes": ({"load_windows": True, "activation": "int4", "weight": "int4"},
                              {"load_windows": True}),
    "_slots_fit_their_field": ({"rows": 256, "lanes": 3, "columns": 1},
                               {"rows": 256, "lanes": 2, "columns": 1}),
    "_weights_fill_the_array": ({"rows": 4, "weight_depth": 3}, {"rows": 4, "weight_depth": 4}),
    "_post_lanes_divide_a_group": ({"rows": 6, "columns": 6, "post_lanes": 4},
                                   {"rows": 6, "columns": 6, "post_lanes": 3}),
    "_parameters_hold_a_group": ({"rows": 8, "columns": 8, "post_lanes": 1, "parameter_depth": 7},
                                 {"rows": 8, "columns": 8, "post_lanes": 1, "parameter_depth": 8}),
    "_accumulators_hold_a_pass": ({"accumulator": 16}, {"accumulator": 17}),
    "_float_sums_are_of_numbers": (BINARY | {"sums": "1-6-9"}, {"sums": "1-6-9"}),
    "_exact_sums_fit_accumulators": ({"activation": "e5m2", "weight": "e5m2"},
                                     {"activation": "e4m3", "weight": "e4m3"}),
}


@pytest.mark.parametrize("form, text", [
    ("uint8", "must be a signed integer format such as int8, not uint8; unsigned codes of a "),
    ("e8m0fnu", "must be a float format with a sign, not e8m0fnu"),
    ("bipolar2", "must be bipolar1 on a binary chip, not bipolar2"),
    ("lns9", "must be a logarithm of 8 bits or fewer .*, not lns9")])
def test_formats_say_why_a_chip_cannot_hold_them(form, text):
    with pytest.raises(ArchError, match=f"^weight {text}") as caught:
        Arch(**PLAIN | {"weight": form, "activation": "bipolar1" if "bipolar" in form else "int8"})
    assert caught.value.field == "weight"


@pytest.mark.parametrize("fields, text", [
    ({"activation": "int8", "weight": "lns8"}, "activation and weight must be logarithms"),
    ({"activation": "lns8", "weight": "lns8t8"}, "activation and weight must be logarithms"),
    ({"activation": "lns8", "weight": "lns8", "accumulator": 48}, 'accumulator must be "exact"'),
    ({"activation": "lns8", "weight": "lns8", "sums": "1-6-9"}, 'sums must be "integers"')])
def test_logarithms_are_for_exact_sums_of_their_own_products(fields, text):
    with pytest.raises(ArchError, match=f"^{text}"):
        Arch(**PLAIN | fields)


def test_every_rule_has_a_case():
    assert [rule.__name__ for rule in RULES] == list(BROKEN)


@pytest.mark.parametrize("fields, message", [
    ({"weight": "nvfp4", "rows": 16, "lanes": 2}, "rows times lanes must divide the 16 weights"),
    ({"weight": "nvfp4", "rows": 16}, "lanes must be at least 2, so that the 6 bits of"),
    ({"weight": "mxint8", "depthwise": True}, "depthwise must be false where weights are in"),
    ({"weight": "mxint8", "activation": "mxint8"}, "activation must be a format without blocks"),
    ({"weight": "mxfp4", "weight_depth": 2}, "weight_depth must hold the 2 rows and the scales"),
    ({"weight": "mxint8", "accumulator": 23}, "accumulator must be \"exact\" or from 24 ")])
def test_blocks_of_weights(fields, message):
    with pytest.raises(ArchError, match=f"^{message}"):
        Arch(**PLAIN | {"post_lanes": None} | fields)


@pytest.mark.parametrize("fields, message", [
    ({}, "largest_k of 4608 needs exact sums of 79 bits, more than 64, for products of"),
    ({"sums": "1-6-9"}, "largest_k of 4608 needs exact sums of 80 bits, more than 64, for products "
                        "of"),
    ({"accumulator": 64}, "accumulator has 64 bits at most, and one pass's sum of products of")])
def test_sums_that_no_accumulator_holds(fields, message):
    """What is advised can help: no largest_k and no saturation make room for one pass's sum."""
    with pytest.raises(ArchError) as caught:
        Arch(**PLAIN | {"activation": "e5m2", "weight": "e5m2"} | fields)
    has = " has 68" if "accumulator" in fields else ""
    assert str(caught.value) == (f"{message} e5m2 and e5m2{has}; choose an activation or weight "
                                 "with shorter exponents")


def test_the_advised_largest_k_is_the_largest():
    form = PLAIN | {"activation": "e4m3fn", "weight": "mxfp8_e5m2", "weight_depth": 4}
    with pytest.raises(ArchError, match=r"choose a largest_k of at most (\d+), .* or accumulator = "
                                        "64, which saturates$") as caught:
        Arch(**form)
    most = int(caught.value.text.split("at most ")[1].split(",")[0])
    assert Arch(**form | {"largest_k": most}).accumulator_bits == 64
    with pytest.raises(ArchError, match=f"^largest_k of {most + 1} needs exact sums of 65 bits"):
        Arch(**form | {"largest_k": most + 1})
    assert Arch(**form | {"accumulator": 64}).accumulator_bits == 64


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rules_refuse_what_breaks_them_and_nothing_beside_it(rule):
    broken, kept = BROKEN[rule.__name__]
    with pytest.raises(ArchError) as caught:
        Arch(**PLAIN | {"post_lanes": None} | broken)
    field, text = caught.value.field, caught.value.text
    assert str(caught.value) == f"{field} {text}"
    assert field in {item.name for item in fields(Arch)} and field in {*broken, "rows", "largest_k",
                                                                       "activation"}
    arch = Arch(**PLAIN | {"post_lanes": None} | kept)
    assert rule(arch) is None
