"""Programs that give fields of instructions many values."""

import pytest
from systolith.gen.compile.tokens import synchronize
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode
from systolith.sim.machine.iss import Simulator
from systolith.sim.machine.races import find_stall
from systolith.sim.random import values as module
from systolith.sim.random.arch import random_arch
from systolith.sim.random.bins import bins
from systolith.sim.random.programs import random_program
from systolith.sim.random.values import program_of_values


def values(program):
    """(instruction, field, value) of all that a program has, and of all that it could have."""
    met, wanted = set(), set()
    for code in program.instructions:
        for name, (names, value) in bins(code, program.arch).items():
            if name in code.fields:
                met.add((code.opcode, name, value))
                wanted |= {(code.opcode, name, other) for other in names}
    return met, wanted


@pytest.mark.parametrize("number", [0, 1, 4, 5, 16])
def test_fields_have_nearly_all_values_and_programs_run(number):
    arch = random_arch(number)
    program = program_of_values(arch, number, synchronize)
    assert len(program.instructions) <= 140 and find_stall(program.instructions, arch) is None
    # reads of what no instruction has written, and codes of no number, are errors here
    Simulator(arch, bytearray(program.image)).run(program.instructions, number)
    met, wanted = values(program)
    drawn, _ = values(random_program(arch, number, synchronize, len(program.instructions)))
    assert len(met) > 0.85 * len(wanted)
    assert len(wanted - met) < 0.7 * len(wanted - drawn)
    assert program_of_values(arch, number, synchronize).image == program.image


def test_taps_in_rows_have_every_shape():
    arch = random_arch(1)
    assert arch.banks == 6
    for seed in range(3):
        found = {(code.height, code.kernel_y, code.kernel_x)
                 for code in program_of_values(arch, seed, synchronize).instructions
                 if code.opcode == Opcode.ARRAY and code.side == 3}
        assert found >= {(1, 4, 1), (1, 3, 2), (1, 2, 3), (1, 1, 4),
                         (2, 3, 1), (2, 1, 2), (2, 1, 3), (4, 1, 1)}


def test_addresses_reach_the_upper_half_of_a_short_window():
    arch = random_arch(1)
    assert arch.address_bits <= 18
    code = program_of_values(arch, 0, synchronize).instructions
    for opcode in (Opcode.LOAD, Opcode.STORE):
        assert max(i.address for i in code if i.opcode == opcode) >> arch.address_bits - 1 == 1


def test_what_is_not_known_is_not_read():
    """Of a program with one word in each memory: a changed instruction that reads another is left
    out."""
    writer = module._Values(Arch(rows=2, columns=2, activation_depth=64), 0, 20)
    writer.slots[7], writer.weights[:2], writer.sums[0] = True, True, 3

    def array(base):
        return Instruction(Opcode.ARRAY, dict(base=base))
    assert writer.append(array(7)) and not writer.append(array(8))
    assert writer.sums[0] == 0                  # its sums mean nothing to others
    post = Instruction(Opcode.POST, {})
    writer.parameters[:] = True
    assert not writer.append(post)
    writer.sums[0] = 1
    assert writer.append(post)
    assert writer.append(Instruction(Opcode.LOAD, dict(address=0)))
    assert not writer.append(Instruction(Opcode.LOAD, dict(address=1 << 30)))
