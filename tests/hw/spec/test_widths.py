"""What a chip keeps of an instruction's fields."""

import re
from dataclasses import replace

import pytest
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode
from systolith.hw.spec.legality import fault
from systolith.hw.spec.widths import kept_bits, offset_bits, payload, payload_bits

SMALL = Arch(rows=4, columns=4, activation_depth=512, weight_depth=40, accumulator_depth=64,
             parameter_depth=8, address_bits=17)
LARGE = Arch(rows=1, columns=1, activation_depth=1 << 20, weight_depth=1 << 18,
             accumulator_depth=1 << 16, weight_widths=(4, 3, 2))
#: Groups of many beats.
WIDE = Arch(rows=256, columns=256, bus_bits=32)


def test_a_large_chip_keeps_all():
    for opcode, fields in isa.OPCODES.items():
        assert kept_bits(LARGE, opcode) == {item.name: item.width for item in fields} | (
            {"word_beats": 2, "step_even": 0, "step_odd": 0, "spare": 0}
            if opcode == Opcode.LOAD else {"item_beats": 0} if opcode == Opcode.STORE else {})
        if opcode not in (Opcode.LOAD, Opcode.STORE):
            assert payload(LARGE, opcode) == isa.layout(opcode)
    assert offset_bits(LARGE) == 32


def test_a_small_chip_keeps_what_its_memories_and_addresses_can_use():
    array = kept_bits(SMALL, Opcode.ARRAY)
    assert array["kernel_y"] == array["blocks"] == 6             # 40 fillings of a row each
    assert array["narrow"] == 0
    assert kept_bits(replace(SMALL, weight_widths=(4,)), Opcode.ARRAY)["narrow"] == 1
    assert array["out_y"] == array["out_x"] == 7 and array["pool_x"] == 4       # 64 sums
    assert array["y_start"] == array["stride_px"] == 12 and array["y_last"] == 11
    load, store = (kept_bits(SMALL, opcode) for opcode in (Opcode.LOAD, Opcode.STORE))
    assert load["address"] == load["row_stride"] == store["item_stride"] == 17
    assert load["words"] == 10 and offset_bits(SMALL) == 18
    assert store["item_beats"] == 0                             # a group has one beat
    assert kept_bits(WIDE, Opcode.STORE)["item_beats"] == 6     # 63 of 64
    assert kept_bits(replace(SMALL, rows=4, depthwise=True), Opcode.ARRAY)["out_x"] == 12
    load = kept_bits(replace(SMALL, load_windows=True), Opcode.LOAD)
    assert [load[name] for name in ("word_beats", "step_even", "step_odd", "spare")] == [
        12, 7, 7, 6]


def test_units_get_the_lowest_bits_of_each_field():
    fields = {"x_start": -3, "y_last": 500, "kernel_x": 5, "pad_code": 0xABCD, "starts": 9}
    code = Instruction(Opcode.ARRAY, fields, wait=5, signal=2, layer=77)
    got = payload(SMALL, code.opcode).from_bits(payload_bits(SMALL, code.opcode, code.encode()))
    assert {name: got[name] for name in fields} == fields
    assert (got.opcode, got.wait, got.signal, got.layer) == (code.opcode, 5, 2, 77)


@pytest.mark.parametrize("opcode, fields, good, text", [
    (Opcode.LOAD, {"address": 1 << 17}, {"address": (1 << 17) - 8},
     "address is 131072, .* 17 bits"),
    (Opcode.ARRAY, {"stride_px": -2049}, {"stride_px": -2048}, "stride_px is -2049, .* 12 bits"),
    (Opcode.ARRAY, {"x_last": 2048}, {"x_last": 2047}, "x_last is 2048, .* 11 bits"),
    (Opcode.ARRAY, {"blocks": 64}, {"blocks": 63}, "blocks is 64, .* 6 bits")])
def test_a_value_that_the_chip_would_cut_is_refused(opcode, fields, good, text):
    assert re.match(text, fault(Instruction(opcode, fields), SMALL))
    assert fault(Instruction(opcode, good), SMALL) is None
    assert fault(Instruction(opcode, fields), LARGE) is None
