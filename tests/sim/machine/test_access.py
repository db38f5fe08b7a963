"""Intervals against sets; what instructions touch is tested with the simulator (test_iss)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Destination, Memory, Opcode, Pooling
from systolith.hw.spec.memories import Space
from systolith.hw.spec.program import Program
from systolith.sim.machine.access import (
    Access,
    AccessError,
    Pattern,
    accesses,
    check,
    check_program,
    merge,
    overlap,
    words,
)

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
                                                     r"only on|reaches byte|do not|same pixel|"
                                                     r"no rows of the chip"):
                    check(Instruction(opcode, {field.name: value}), arch)
    assert refused


@pytest.mark.parametrize("intervals", [[], [[2, 5]], [[0, 1], [4, 6], [9, 10]]])
@pytest.mark.parametrize("base", [0, 3, 20])
def test_words_of_a_part_of_a_memory_are_chosen(intervals, base):
    access = Access(Space.ACTIVATION, Pattern(np.array(intervals, int).reshape(-1, 2)), base, False)
    mine = [base + word for a, b in intervals for word in range(a, b)]
    for start, stop in ((0, None), (0, 40), (4, 9), (5, 26), (25, 26), (12, 12), (31, 40)):
        held = np.arange(start, 40 if stop is None else stop)
        assert held[access.index(start, stop)].tolist() == [
            word for word in mine if word >= start and word < (stop or 40)], (start, stop)


@pytest.mark.parametrize("destination, written", [
    (Destination.ACTIVATION, {Space.ACTIVATION: 40}), (Destination.OPERAND, {Space.OPERAND: 5}),
    (Destination.BOTH, {Space.ACTIVATION: 40, Space.OPERAND: 5}), (Destination.STORE, {})])
def test_results_are_written_where_the_destination_says(destination, written):
    post = Instruction(Opcode.POST, {"destination": destination, "base": 40, "copy_base": 5,
                                     "out_x": 2, "stride_x": 2})
    found = {access.space: words(access.intervals).tolist()
             for access in accesses(post, _PLAIN) if access.is_write}
    assert found == {space: [base, base + 2] for space, base in written.items()}


@pytest.mark.parametrize("pooling", [Pooling.LARGEST, Pooling.CARRIED, Pooling.LEAD, Pooling.SUM])
@pytest.mark.parametrize("out, pool", [((1, 1), (1, 1)), ((2, 3), (1, 2)), ((3, 1), (1, 4))])
def test_windows_one_after_the_other_read_all_words(out, pool, pooling):
    post = Instruction(Opcode.POST, {"out_y": out[0], "out_x": out[1], "pool_x": pool[1],
                                     "pooling": pooling})
    found, = (access for access in accesses(post, _PLAIN) if access.space == Space.ACCUMULATOR)
    # with LEAD a row reads a column more
    assert words(found.intervals).tolist() == list(range(
        out[0] * (out[1] * pool[1] + (pooling == Pooling.LEAD))))


@pytest.mark.parametrize("base, copy, refused", [(0, 2, False), (2, 0, False), (0, 1, True),
                                                 (1, 0, True), (3, 3, True)])
def test_operands_are_not_overwritten_while_they_are_read(base, copy, refused):
    post = Instruction(Opcode.POST, {"destination": Destination.OPERAND, "out_x": 2, "stride_x": 1,
                                     "operand": 1, "operand_base": base, "copy_base": copy})
    if refused:
        with pytest.raises(AccessError, match="must not overlap"):
            check(post, _PLAIN)
    else:
        check(post, _PLAIN)
