"""Random chips and programs: legal, varied, and the same for the same seed."""

import random
from collections import Counter

import pytest
from systolith.gen.compile.tokens import synchronize
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction, decode
from systolith.hw.spec.isa import (
    INSTRUCTION_BYTES,
    OPCODES,
    Destination,
    Opcode,
    Pooling,
)
from systolith.hw.spec.numbers import PAGE_BYTES
from systolith.hw.spec.widths import kept_bits
from systolith.sim.machine.access import AccessError, check_program
from systolith.sim.machine.iss import Simulator
from systolith.sim.machine.races import find_stall
from systolith.sim.random import fields, programs
from systolith.sim.random.arch import random_arch
from systolith.sim.random.fields import limits
from systolith.sim.random.programs import random_program


def test_programs_differ_and_come_back_from_their_image():
    seen = set()
    for seed in range(20):
        arch = random_arch(seed)
        program = random_program(arch, seed, synchronize, 30)
        assert len(program.instructions) <= 36
        assert find_stall(program.instructions, arch) is None
        start = program.code_offset
        for n, i in enumerate(program.instructions):
            place = start + arch.instruction_bytes * n
            assert decode(program.image[place:place + INSTRUCTION_BYTES]) == i
            seen.add(i.opcode)
            if i.opcode == Opcode.POST:
                seen.add((Destination(i.destination), bool(i.raw), i.pool_x * i.pool_y > 1))
                seen.add(Pooling(i.pooling))
            if i.opcode == Opcode.ARRAY:
                seen |= {("accumulate", i.accumulate), ("early", i.early),
                         ("kernel_y", i.kernel_y), ("kernel_x", i.kernel_x)}
            if i.opcode == Opcode.STORE:
                seen |= {("burst", i.burst), ("rows", i.rows > 1)}
        again = random_program(arch, seed, synchronize, 30)
        assert again.image == program.image
    assert seen >= set(Opcode) | {
        (Destination.ACTIVATION, False, True), (Destination.STORE, False, True),
        (Destination.ACTIVATION, False, False), (Destination.STORE, True, False)}
    assert seen >= {(name, value) for name in ("accumulate", "early", "burst", "rows")
                    for value in (0, 1)}
    assert seen >= {("kernel_y", size) for size in (1, 2, 3)}
    assert seen >= {("kernel_x", size) for size in (1, 2, 3, 5)}


@pytest.mark.parametrize("activation, weight", [
    ("p3109_k5p2", "p3109_k5p2"), ("int6", "ternary"), ("e5m2ieee", "e4m3fnuz"),
    ("hfp8", "hfp8")])
def test_programs_read_numbers_alone_where_a_code_may_be_none(activation, weight):
    arch = Arch(rows=4, columns=4, activation=activation, weight=weight, operand_depth=64,
                table_depth=256, bus_bits=32, largest_k=200)
    for seed in range(3):
        program = random_program(arch, seed, synchronize)
        # A code that is no number has no image, which is an error here.
        Simulator(arch, bytearray(program.image)).run(program.instructions, seed)


def test_a_program_must_not_overwrite_itself():
    arch = random_arch(1)
    program = random_program(arch, 1, synchronize)
    check_program(program)
    stores = [i for i in program.instructions if i.opcode == Opcode.STORE]
    stores[0].fields["address"] = program.code_offset
    with pytest.raises(AccessError, match="overwrites the program's code"):
        check_program(program)
    program.instructions.pop()
    with pytest.raises(AccessError, match="only BEGIN and ends with its only END"):
        check_program(program)


def test_ends_of_a_field_are_those_that_the_chip_keeps():
    arch = Arch(rows=2, columns=2, weight_depth=64, activation_depth=128)
    program = random_program(arch, 3, synchronize)
    checked = 0
    for code in program.instructions:
        for item in OPCODES.get(code.opcode, ()):
            bits = kept_bits(arch, code.opcode)[item.name]
            if bits >= item.width or item.low != 0 or (ends := limits(code, item, arch)) is None:
                continue
            assert 0 <= ends[0] <= ends[1] < 1 << bits
            if (code.opcode, item.name) not in fields._WORDS and (
                    code.opcode, item.name) not in fields._BOUNDS and item.high >= 1 << bits:
                assert ends == (0, (1 << bits) - 1)
                checked += 1
    assert checked


def test_none_to_three_fields_are_stretched():
    arch = Arch(rows=2, columns=2)
    code = Instruction(Opcode.LOAD, {item.name: 3 for item in OPCODES[Opcode.LOAD]
                                     if item.width > 2} | {"memory": 0}, layer=5)
    counts, layers = Counter(), set()
    for seed in range(200):
        changed = fields.stretched(code, arch, random.Random(seed))
        counts[sum(changed.fields[name] != code.fields[name] for name in code.fields)] += 1
        layers.add(changed.layer)
    assert set(counts) == {0, 1, 2, 3} and min(counts.values()) > 10 and layers == {5, 0xFFF}


def test_factors_of_operands_are_large():
    """Results would be 0 with small ones."""
    arch = Arch(rows=2, columns=2, operand_depth=32)
    top = (1 << arch.gain_bits - 1) - 1
    gains = [fields.operand_fields(arch, random.Random(seed))[0]["gain"] for seed in range(200)]
    assert all(top // 4 <= abs(gain) <= top for gain in gains)
    assert min(gains) < 0 and {gain > top // 2 for gain in gains if gain > 0} == {False, True}


def test_room_for_data_is_one_or_three_pages():
    rooms = set()
    for seed in range(20):
        writer = programs._Writer(Arch(rows=2, columns=2), seed, 10)
        rooms.add(writer.window - writer.free)
    assert rooms == {PAGE_BYTES, 3 * PAGE_BYTES}


def test_taps_in_rows_have_all_parts_of_the_rows():
    """Of a chip whose rows see pixels of their own: every power of two of them that there is room
    for, and every kernel with it."""
    arch = random_arch(1)
    assert arch.banks == 6
    found = {(code.height, code.kernel_x) for seed in range(60)
             for code in random_program(arch, seed, synchronize).instructions
             if code.opcode == Opcode.ARRAY and code.side == 3}
    assert found == {(height, width) for height in (1, 2, 4) for width in (1, 2, 3, 4)
                     if height * width <= 6}
