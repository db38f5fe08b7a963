"""Intervals against sets; what instructions touch is tested with the simulator (test_iss)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Memory, Opcode
from systolith.hw.spec.program import Program
from systolith.sim.machine.access import AccessError, check, check_program, merge, overlap, words

from ...boundaries import WINDOW, values

RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)), max_size=6)


def union(ranges):
    return {word for start, length in ranges for word in range(start, start + length)}


def merged(ranges):
    pairs = np.array(ranges, np.int64).reshape(-1, 2)
    return merge(pairs[:, 0], pairs.sum(axis=1))


@given(RANGES, RANGES)
def test_intervals_are_sets_of_words(one, other):
    first, second = merged(one), merged(other)
    assert words(first).tolist() == sorted(union(one))
    assert (first[1:, 0] > first[:-1, 1]).all()
    assert overlap(first, second) == bool(union(one) & union(other))


@pytest.mark.parametrize("code, offset, text", [
    ([Opcode.BEGIN], 0, "starts with its only BEGIN"),
    ([Opcode.BEGIN, Opcode.BEGIN, Opcode.END], 0, "starts with its only BEGIN"),
    ([Opcode.BEGIN, Opcode.END], 4, "must start at a multiple of 16 bytes"),
    ([Opcode.BEGIN, Opcode.END], 168, "lie in the window, not in bytes 168 to 264"),
])
def test_programs_out_of_shape_are_refused(code, offset, text):
    arch = Arch(rows=2, columns=2, bus_bits=64)
    code = [Instruction(opcode) for opcode in code]
    check_program(Program(arch, [Instruction(Opcode.BEGIN), Instruction(Opcode.END)], b"", 0, 256))
    with pytest.raises(AccessError, match=text):
        check_program(Program(arch, code, b"", offset, 256))


#: Instructions with one field at its limit: one more is refused with these words.
_PLAIN = Arch(rows=2, columns=2, bus_bits=64, activation_depth=64, weight_depth=32,
              accumulator_depth=16, operand_depth=8, post_lanes=2, address_bits=20)
LIMITS = {
    "a LOAD's last byte in the window": (
        Opcode.LOAD, "address", 1016, 8, {"memory": Memory.WEIGHT, "word_beats": 1},
        "reaches byte 1032 of a window of 1024 bytes"),
    "a STORE's last byte in the window": (
        Opcode.STORE, "address", 1022, 2, {}, "reaches byte 1026 of a window of 1024 bytes"),
    "the last word of a memory that is loaded": (
        Opcode.LOAD, "base", 31, 1, {"memory": Memory.WEIGHT},
        "writes weight words 32 to 32; the chip has 32"),
    "the last activation that is read": (
        Opcode.ARRAY, "base", 63, 1, {}, "reads activation words 64 to 64; the chip has 64"),
    "the last sum that is written": (
        Opcode.ARRAY, "accumulator", 15, 1, {},
        "writes accumulator words 16 to 16; the chip has 16"),
    "the last sum that is read": (
        Opcode.POST, "accumulator", 15, 1, {},
        "reads accumulator words 16 to 16; the chip has 16"),
}


@pytest.mark.parametrize("what", LIMITS)
def test_words_and_bytes_at_a_limit_and_one_beyond(what):
    opcode, field, last, step, others, text = LIMITS[what]
    for value in (last - step, last):
        check(Instruction(opcode, others | {field: value}), _PLAIN, 1024)
    with pytest.raises(AccessError, match=text):
        check(Instruction(opcode, others | {field: last + step}), _PLAIN, 1024)


@pytest.mark.parametrize("address, beats, window, inside", WINDOW)
@pytest.mark.parametrize("opcode, fields", [(Opcode.LOAD, {"memory": Memory.WEIGHT}),
                                            (Opcode.STORE, {"burst": 1})])
def test_the_window_ends_with_its_last_byte(opcode, fields, address, beats, window, inside):
    arch = Arch(rows=8, columns=8, bus_bits=64)
    made = Instruction(opcode, fields | {
        "address": address, "words" if opcode == Opcode.LOAD else "items": beats})
    if inside:
        check(made, arch, window)
    else:
        with pytest.raises(AccessError, match=f"reaches byte {address + 8 * beats} of a window "
                                              f"of {window} bytes"):
            check(made, arch, window)


@pytest.mark.parametrize("opcode", [opcode for opcode in Opcode if opcode.unit is not None])
def test_what_a_sequencer_refuses_the_simulator_refuses(opcode):
    """Not the other way round: what needs arithmetic the simulator alone finds."""
    refused = 0
    for arch in (_PLAIN, Arch(rows=2, columns=2, bus_bits=64, address_bits=20)):
        for field, value, legal in values(arch, opcode):
            if not legal:
                refused += 1
                with pytest.raises(ValueError, match=r"must be|does not fit|the chip has no|"
                                                     r"only on|reaches byte|do not"):
                    check(Instruction(opcode, {field.name: value}), arch)
    assert refused
