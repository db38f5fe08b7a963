"""The check of instructions, beat by beat, against the tables of the instruction set."""

import pytest
from amaranth.sim import Simulator
from systolith.hw.core.legality import InstructionCheck
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.isa import Opcode, Unit

from ...boundaries import values

ARCHS = {
    "small": Arch(rows=2, columns=2, bus_bits=32),
    "large": Arch(rows=4, columns=4, operand_depth=8, table_depth=256, depthwise=True),
    "binary": Arch(rows=4, columns=4, activation="bipolar1", weight="bipolar1", bit_planes=True,
                   bus_bits=128),
    "narrow": Arch(rows=2, columns=2, bus_bits=32, address_bits=17),
}


def word(opcode, **fields):
    """An instruction of any fields, legal or not."""
    value, position = 0, 0
    for item in isa.HEAD + isa.OPCODES[opcode]:
        default = opcode if item.name == "opcode" else max(
            item.low, 0) if item in isa.OPCODES[opcode] else 0
        value |= (fields.get(item.name, default) & (1 << item.width) - 1) << position
        position += item.width
    return value


def judged(arch, words, gap=0):
    """(illegal, foreign) of each word; beats come `gap` cycles after each other."""
    check, found = InstructionCheck(arch=arch), []
    width, last_beat = arch.bus_bits, 0

    async def bench(ctx):
        nonlocal last_beat
        for value in [*words, 0]:
            for place in range(check.beats):
                beat = value >> place * width & (1 << width) - 1
                ctx.set(check.valid, 1)
                ctx.set(check.place, place)
                ctx.set(check.beat, beat)
                ctx.set(check.last_beat, last_beat)
                if place == 1 and value is not words[0]:
                    assert ctx.get(check.opcode) == value & 7
                last_beat = beat
                await ctx.tick()
                ctx.set(check.valid, 0)
                for _ in range(gap):
                    ctx.set(check.beat, ~beat & (1 << width) - 1)    # must not matter
                    await ctx.tick()
                if place == 0 and gap == 0:
                    found.append((ctx.get(check.illegal), ctx.get(check.foreign)))
            if gap:
                found.append((ctx.get(check.illegal), ctx.get(check.foreign)))
    simulator = Simulator(check)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found[1:len(words) + 1] if gap == 0 else found[:len(words)]


def cases(arch, opcode):
    """(word, whether it is legal): each field alone at and around the ends of its ranges."""
    for field, value, legal in values(arch, opcode):
        yield word(opcode, **{field.name: value}), legal
    for name in ("wait", "signal"):
        for unit in Unit:
            yield word(opcode, **{name: 1 << unit}), unit != opcode.unit


@pytest.mark.parametrize("opcode", [opcode for opcode in Opcode if opcode.unit is not None])
@pytest.mark.parametrize("name", ARCHS)
def test_what_is_legal_is_what_the_table_says(opcode, name):
    arch = ARCHS[name]
    words, legal = zip(*cases(arch, opcode), strict=True)
    assert set(legal) == {False, True}
    assert judged(arch, words) == [(not good, 0) for good in legal]


@pytest.mark.parametrize("gap", [0, 2])
def test_opcodes_and_the_chips_identity(gap):
    arch = ARCHS["small"]
    own = identity(arch)
    words = [word(Opcode.BEGIN, identity=own), *range(8),
             *(word(Opcode.BEGIN, identity=own ^ 1 << bit) for bit in (0, 7, 8, 39, 40, 63)),
             word(Opcode.END), word(Opcode.BEGIN, identity=own)]
    known = {*Opcode} - {code for code in Opcode if code.unit is not None}
    expected = [(0, 0), *((code not in known, code == Opcode.BEGIN) for code in range(8)),
                *[(0, 1)] * 6, (0, 0), (0, 0)]
    assert judged(arch, words, gap) == expected
