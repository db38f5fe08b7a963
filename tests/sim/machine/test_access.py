"""Intervals against sets; what instructions touch is tested with the simulator (test_iss)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Instruction, Opcode
from systolith.hw.spec.program import Program
from systolith.sim.machine.access import AccessError, check_program, merge, overlap, words

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
