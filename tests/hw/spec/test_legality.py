"""Every limit of an instruction: at it, one below and one above it."""

from dataclasses import replace

import pytest
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction, decode, encoded
from systolith.hw.spec.isa import HEAD, OPCODES, Opcode
from systolith.hw.spec.legality import BOUNDS, OPTIONS, RULES, executes, fault

from ...boundaries import limits

PLAIN = dict(rows=4, columns=4, post_lanes=2, accumulator_depth=64)
LARGE = Arch(**PLAIN | {"rows": 8, "columns": 8}, operand_depth=64, table_depth=512, depthwise=True)
BENT = replace(LARGE, leaky=True, slope_offsets=True)
WIDE = Arch(rows=4, columns=6, post_lanes=1, operand_depth=64)
FLOATS = Arch(**PLAIN, activation="e4m3fn", weight="e4m3fn", operand_depth=64, table_depth=256)
BINARY = Arch(**PLAIN, activation="bipolar1", weight="bipolar1", bit_planes=True)
SIGNS = Arch(**PLAIN | {"rows": 8, "columns": 8}, packed_signs=True, depthwise=True)
SIDE = Arch(**PLAIN, side_taps=True)
PLANES = Arch(**PLAIN | {"rows": 8}, lanes=8, activation="bipolar1", weight="bipolar1",
              bit_planes=True, plane_rows=True, tap_rows=True)
ROWS = Arch(**PLAIN, lanes=4, tap_rows=True)
WINDOWS = Arch(**PLAIN, load_windows=True)
#: A word of four bytes in a beat.
WINDOW = {"step_even": 1, "step_odd": 1, "spare": 4, "word_beats": 1}
SMALL = Arch(**PLAIN)
FOUR_BEATS = Arch(rows=16, columns=16, bus_bits=32)
NARROW = Arch(**PLAIN, weight_widths=(4, 2))


def instruction(opcode, **fields):
    return Instruction(opcode, fields)


@pytest.mark.parametrize("opcode, field", [
    (opcode, field) for opcode, fields in OPCODES.items() for field in fields],
    ids=lambda part: part.name)
def test_fields_hold_their_range_and_nothing_beyond(opcode, field):
    place = sum(item.width for item in [*HEAD, *OPCODES[opcode]][
        :len(HEAD) + OPCODES[opcode].index(field)])
    mask = (1 << field.width) - 1
    plain = instruction(opcode).encode() & ~(mask << place)
    for value, legal in limits(field):
        made = instruction(opcode, **{field.name: value})
        if legal:
            assert made.encode() == plain | (value & mask) << place
            assert decode(made.encode()) == made
            continue
        refused = (f"{opcode.name}.{field.name} must be from {field.low} to {field.high}, not "
                   f"{value}")
        with pytest.raises(ValueError, match=refused):
            made.encode()
        with pytest.raises(ValueError, match=refused):
            encoded([made])
        least = -(1 << field.width - 1) if field.signed else 0
        if least <= value < least + (1 << field.width):
            with pytest.raises(ValueError, match=refused):
                decode(plain | (value & mask) << place)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: f"{option.field}-{option.low}")
def test_options_are_for_chips_that_have_the_part(option):
    field = next(item for item in OPCODES[option.opcode] if item.name == option.field)
    with_part = {"counts_more": BINARY, "parts": SIGNS, "side_taps": SIDE,
                 "tap_rows": ROWS, "plane_rows": PLANES,
                 "load_windows": WINDOWS,
                 "weight_pools": replace(NARROW, weight_pools=(4,)),
                 "code_widths": replace(NARROW, weight_pools=(4,))}.get(option.part, BENT)
    without = LARGE if option.part == "slope_offsets" else SMALL
    for value in {option.low - 1, option.low, option.high, option.high + 1}:
        if field.low <= value <= field.high:
            rows = {"height": 1} if (option.field, value) == ("side", 3) else {}
            made = instruction(option.opcode, **rows | {
                "accumulate": 1, "pool_y": 15, "pad_valid": 1, option.field: value}
                if option.opcode == Opcode.ARRAY else
                WINDOW | {option.field: value} if option.field in WINDOW and value else
                {option.field: value})
            inside = option.low <= value <= option.high
            assert (fault(made, without) == option.lack) == inside
            if inside:
                assert fault(made, with_part) is None


def test_a_plain_chip_refuses_what_needs_a_part():
    """All of it, by name: a table without its row would refuse nothing."""
    parts = {"LOAD.memory": {3, 4, 5}, "ARRAY.starts": {*range(1, 16)}, "ARRAY.double": {1},
             "ARRAY.signs": {1}, "POST.signs": {1}, "POST.destination": {2, 3},
             "POST.operand": {1, 2, 3}, "POST.table": {1}, "ARRAY.narrow": {1, 2, 3},
             "ARRAY.side": {1, 2, 3}, "ARRAY.planes": {1}, "LOAD.step_even": {*range(1, 128)},
             "LOAD.step_odd": {*range(1, 128)}}
    found = {f"{opcode.name}.{field.name}": values for opcode, fields in OPCODES.items()
             for field in fields if field.width < 8 and (values := {
                 value for value in range(max(field.low, 0), field.high + 1)
                 if not executes(SMALL, opcode, field.name, value)})}
    assert found == parts
    assert all(executes(LARGE, Opcode.POST, name) for name in ("operand", "table"))


#: Chips and instructions in which bounds matter, and the bounds' values.
CASES = [
    (SMALL, instruction(Opcode.LOAD), {"word_beats": (0, 1)}),
    (SMALL, instruction(Opcode.LOAD, memory=2), {"word_beats": (0, 3)}),
    (WINDOWS, instruction(Opcode.LOAD), {"word_beats": (0, 1)}),
    (SMALL, instruction(Opcode.ARRAY), {"pad_code": (0, 255), "height": (0, 4)}),
    (NARROW, instruction(Opcode.ARRAY), {"narrow": (0, 2)}),
    (SIGNS, instruction(Opcode.ARRAY, signs=1), {"height": (0, 0)}),
    (BINARY, instruction(Opcode.ARRAY), {"pad_code": (0, 1)}),
    (WIDE, instruction(Opcode.POST), {"group": (0, 6), "slot": (0, 1), "low": (-128, 127),
                                      "high": (-128, 127)}),
    (WIDE, instruction(Opcode.POST, raw=1, destination=1), {"group": (0, 2)}),
    (WIDE, instruction(Opcode.POST, pooling=1), {"group": (0, 2)}),
    (WIDE, instruction(Opcode.POST, operand=1, destination=1),
     {"slot": (0, 1), "operand_zero": (-128, 127)}),
    (replace(WIDE, multiplier_bits=17), instruction(Opcode.POST, operand=1, destination=1),
     {"gain": (-1 << 17, (1 << 17) - 1), "operand_gain": (-1 << 17, (1 << 17) - 1),
      "first_low": (-1 << 12, (1 << 12) - 1), "first_high": (-1 << 12, (1 << 12) - 1)}),
    (BENT, instruction(Opcode.POST, operand=3, destination=1),
     {"gain": (-1 << 26, (1 << 26) - 1), "operand_gain": (-1 << 19, (1 << 19) - 1)}),
    (SIGNS, instruction(Opcode.POST, signs=1), {"slot": (0, 7)}),
    (SMALL, instruction(Opcode.STORE), {"item_beats": (0, 0)}),
    (FOUR_BEATS, instruction(Opcode.STORE), {"item_beats": (0, 3)}),
    (FOUR_BEATS, instruction(Opcode.STORE, raw=1), {"item_beats": (0, 0)}),
    (FOUR_BEATS, instruction(Opcode.STORE, burst=1), {"item_beats": (0, 0)}),
    (LARGE, instruction(Opcode.POST, table=1), {"low": (-512, 511), "high": (-512, 511)}),
    (FLOATS, instruction(Opcode.POST, operand=1, low=-3, high=3),
     {"low": (-126, 126), "high": (-126, 126), "first_low": (-126, 126),
      "first_high": (-126, 126), "operand_zero": (0, 0)}),
    (FLOATS, instruction(Opcode.POST, table=1), {"low": (-126, 126), "high": (-126, 126)}),
]


def test_every_bound_has_a_case():
    assert {(made.opcode, name) for _, made, names in CASES for name in names} == {
        (bound.opcode, bound.field) for bound in BOUNDS}


@pytest.mark.parametrize("arch, made, limits", CASES)
def test_bounds_hold_at_below_and_above(arch, made, limits):
    for name, (low, high) in limits.items():
        widths = {item.name: (item.low, item.high) for item in OPCODES[made.opcode]}
        for value in (low - 1, low, high, high + 1):
            least, most = widths[name]
            if not least <= value <= most:
                continue
            # the other one of a pair must not stand in the way
            pair = {"low": {"high": max(value, 0)}, "high": {"low": min(value, 0)},
                    "first_low": {"first_high": max(value, 0)},
                    "first_high": {"first_low": min(value, 0)}}.get(name, {})
            pair = {other: max(low, min(high, end)) for other, end in pair.items()}
            changed = instruction(made.opcode, **made.fields | pair | {name: value})
            found = fault(changed, arch) or ""
            assert found.startswith(f"{name} must be from {low} to {high}, ") == (
                not low <= value <= high), (name, value, found)


#: By rule: instructions that break it and, next to them, that do not; on which chip.
BROKEN = {
    "_address_is_aligned": (SMALL, Opcode.LOAD, {"address": 4}, {"address": 8}),
    "_rows_are_aligned": (SMALL, Opcode.LOAD, {"rows": 2, "row_stride": 4},
                          {"rows": 1, "row_stride": 4}),
    "_windows_fill_their_run": (WINDOWS, Opcode.LOAD, WINDOW | {"spare": 5}, WINDOW),
    "_items_are_aligned": (SMALL, Opcode.STORE, {"items": 2, "item_stride": 2},
                           {"items": 2, "item_stride": 4}),
    "_bursts_join_whole_beats": (SMALL, Opcode.STORE, {"burst": 1}, {"burst": 1, "raw": 1}),
    "_positions_fit_counters": (
        SMALL, Opcode.ARRAY, {"x_start": 16382, "out_x": 3, "stride_ox": 1},
        {"x_start": 16382, "out_x": 2, "stride_ox": 1}),
    "_doubled_sums_are_kept": (BINARY, Opcode.ARRAY, {"double": 1},
                               {"double": 1, "accumulate": 1}),
    "_results_start_at_pixels": (
        LARGE, Opcode.ARRAY, {"starts": 3, "pool_y": 4, "start_y": 2},
        {"starts": 3, "pool_y": 5, "start_y": 2}),
    "_no_early_token_from_above": (LARGE, Opcode.ARRAY, {"starts": 1, "early": 1}, {"early": 1}),
    "_signs_come_from_the_left": (SIGNS, Opcode.ARRAY, {"signs": 1, "starts": 1}, {"signs": 1}),
    "_pixels_side_by_side_are_numbers": (SIDE, Opcode.ARRAY, {"side": 1},
                                         {"side": 1, "replicate": 1}),
    "_taps_have_rows": (
        ROWS, Opcode.ARRAY,
        {"side": 3, "pad_valid": 1, "height": 1, "kernel_y": 2, "kernel_x": 3},
        {"side": 3, "pad_valid": 1, "height": 1, "kernel_y": 2, "kernel_x": 2}),
    "_planes_are_of_one_pixel": (
        PLANES, Opcode.ARRAY, {"side": 3, "pad_valid": 1, "height": 1, "planes": 1},
        {"side": 3, "pad_valid": 1, "height": 1}),
    "_copies_are_there": (ROWS, Opcode.POST, {"slot": 3 << 2}, {"slot": (2 << 2) + 1}),
    "_groups_are_there": (WIDE, Opcode.POST, {"group": 3}, {"group": 4 + 2}),
    "_signs_go_to_activations": (SIGNS, Opcode.POST, {"signs": 1, "destination": 1}, {"signs": 1}),
    "_signs_and_operands_share_a_slot": (
        replace(SIGNS, rows=24, depthwise=False, operand_depth=16, post_lanes=None), Opcode.POST,
        {"signs": 1, "operand": 1}, {"operand": 1}),
    "_raw_results_are_plain": (SMALL, Opcode.POST, {"raw": 1}, {"raw": 1, "destination": 1}),
    "_limits_are_in_order": (SMALL, Opcode.POST, {"low": 5, "high": 4}, {"low": 5, "high": 5}),
    "_zero_point_is_near_the_limits": (
        SMALL, Opcode.POST, {"low": -5, "high": 5, "zero_point": 508},
        {"low": -5, "high": 5, "zero_point": 507}),
    "_first_limits_are_in_order": (
        LARGE, Opcode.POST, {"operand": 1, "first_low": 5, "first_high": 4},
        {"operand": 1, "first_low": 5, "first_high": 5}),
    "_looked_up_results_fit_the_table": (
        LARGE, Opcode.POST, {"table": 1, "low": -256, "high": 256},
        {"table": 1, "low": -256, "high": 255}),
}


def test_every_rule_has_a_case():
    assert {rule.__name__ for rules in RULES.values() for rule in rules} == set(BROKEN)


@pytest.mark.parametrize("name", BROKEN)
def test_rules_refuse_what_breaks_them_and_nothing_beside_it(name):
    arch, opcode, broken, kept = BROKEN[name]
    rule = next(rule for rule in RULES[opcode] if rule.__name__ == name)
    assert rule(instruction(opcode, **broken), arch) == fault(instruction(opcode, **broken), arch)
    assert fault(instruction(opcode, **broken), arch) is not None
    assert fault(instruction(opcode, **kept), arch) is None


@pytest.mark.parametrize("arch, opcode, broken, kept", [
    (SMALL, Opcode.ARRAY, {"x_start": -16383, "out_x": 3, "stride_ox": -1},
     {"x_start": -16383, "out_x": 2, "stride_ox": -1}),
    (LARGE, Opcode.ARRAY, {"starts": 1, "results_x": 3, "start_x": 2, "out_x": 4},
     {"starts": 1, "results_x": 3, "start_x": 2, "out_x": 5}),
    (LARGE, Opcode.ARRAY, {"starts": 1, "pool_x": 2}, {"starts": 1}),
    (SMALL, Opcode.POST, {"low": -5, "high": 5, "zero_point": -507},
     {"low": -5, "high": 5, "zero_point": -506})], ids=lambda part: "")
def test_rules_have_other_ends_too(arch, opcode, broken, kept):
    assert fault(instruction(opcode, **broken), arch) is not None
    assert fault(instruction(opcode, **kept), arch) is None


ROW = {"side": 3, "pad_valid": 1, "height": 2, "kernel_x": 2}


@pytest.mark.parametrize("change", [
    {"height": 0}, {"height": 3}, {"height": 4}, {"kernel_x": 3}, {"blocks": 2}, {"pad_valid": 0},
    {"replicate": 1}, {"height": 1, "kernel_x": 5}, {"height": 1, "kernel_y": 5, "kernel_x": 1}])
def test_taps_that_cannot_have_rows_of_their_own(change):
    large = replace(ROWS, rows=8)
    assert fault(instruction(Opcode.ARRAY, **ROW), ROWS) is None
    chip = large if "kernel_x" in change and change.get("height") == 1 else ROWS
    assert "taps with rows of their own" in fault(instruction(Opcode.ARRAY, **ROW | change), chip)


@pytest.mark.parametrize("slot, good", [
    (0, True), (3, True), (4, True), (5, False), (8, True), (9, True), (10, False), (12, False)])
def test_slots_of_copies_name_the_first_one(slot, good):
    """ROWS has four parts of a group each."""
    assert (fault(instruction(Opcode.POST, slot=slot), ROWS) is None) == good
    assert (fault(instruction(Opcode.POST, slot=slot), SMALL) is None) == (slot < 1)


@pytest.mark.parametrize("change, said", [
    ({"step_odd": 0}, "windows are activations"), ({"memory": 1}, "windows are activations"),
    ({"step_even": 0}, "windows are activations"), ({"spare": 12, "word_beats": 2}, "the run's"),
    ({"words": 2}, "the run's"), ({"word_beats": 2}, "the run's")])
def test_windows_that_are_none(change, said):
    assert fault(instruction(Opcode.LOAD, **WINDOW | change), WINDOWS).startswith(said)
