"""Instructions as words and as text, and the ranges of their fields."""

import random

import pytest
from systolith.hw.spec import isa
from systolith.hw.spec.isa import (
    HEAD,
    OPCODES,
    Destination,
    Instruction,
    Memory,
    Opcode,
    Pooling,
    Unit,
)


def drawn(opcode, draw):
    """An instruction with values from the whole range of each field, its ends more often."""
    fields = {item.name: draw.choice((item.low, item.high, draw.randint(item.low, item.high)))
              for item in OPCODES[opcode]}
    return Instruction(opcode, fields, wait=draw.randrange(16), signal=draw.randrange(16),
                       layer=draw.choice((0, 4095, draw.randrange(4096))))


def test_fields_that_name_something_end_with_the_last_of_it():
    fields = {(opcode, item.name): item for opcode, items in OPCODES.items() for item in items}
    for place, names in {(Opcode.LOAD, "memory"): Memory, (Opcode.POST, "pooling"): Pooling,
                         (Opcode.POST, "destination"): Destination}.items():
        assert (fields[place].low, fields[place].high) == (min(names), max(names))
    counts = [item for item in fields.values() if item.least is not None]
    assert {item.least for item in counts} == {1} and not any(item.signed for item in counts)
    assert all(sum(item.width for item in HEAD + items) <= isa.INSTRUCTION_BITS
               for items in OPCODES.values())
    assert [item.width for item in HEAD] == [4, 4, 4, 12]
    assert set(Opcode) == set(OPCODES) == set(range(1, 7))


@pytest.mark.parametrize("opcode", Opcode, ids=lambda opcode: opcode.name)
def test_words_and_text_say_the_same(opcode):
    draw = random.Random(opcode)
    for _ in range(20):
        made = drawn(opcode, draw)
        for word in (made.encode(), made.to_bytes(), bytearray(made.to_bytes(64))):
            assert isa.decode(word) == made
        assert isa.assemble(str(made)) == made
        assert made.unit == (Unit[opcode.name] if opcode.name in Unit.__members__ else None)
        # each bit is that of one field
        places, position, word = {}, 0, made.encode()
        for item in HEAD + OPCODES[opcode]:
            places[item.name] = word >> position & (1 << item.width) - 1
            position += item.width
        assert places == {"opcode": opcode, "wait": made.wait, "signal": made.signal,
                          "layer": made.layer} | {
            item.name: made.fields[item.name] % (1 << item.width) for item in OPCODES[opcode]}
        assert word >> position == 0


def test_what_is_no_instruction_is_refused():
    for opcode in (0, 7, 15):
        with pytest.raises(ValueError, match=f"^{opcode} is no opcode$"):
            isa.decode(opcode)
    used = sum(item.width for item in HEAD + OPCODES[Opcode.END])
    with pytest.raises(ValueError, match=r"^END has bits set after its last field$"):
        isa.decode(Opcode.END | 1 << used)
    assert isa.decode(Opcode.END | 1 << used - 1).checksum == 1 << 31
    with pytest.raises(ValueError, match=r"^LOAD\.rows must be from 1 to 4095, not 0$"):
        isa.decode(Opcode.LOAD)
    with pytest.raises(ValueError, match=r"^END has no field 'sum'; it has checksum$"):
        Instruction(Opcode.END, {"sum": 1})
    with pytest.raises(ValueError, match=r"^'jump' is no instruction; there are begin, load, "):
        isa.assemble("jump")
    with pytest.raises(AttributeError, match="no attribute 'rows'"):
        _ = Instruction(Opcode.END).rows


@pytest.mark.parametrize("opcode", Opcode, ids=lambda opcode: opcode.name)
def test_a_bit_that_is_flipped_changes_the_sum_of_a_program(opcode):
    draw = random.Random(opcode)
    code = isa.sealed([drawn(opcode, draw), drawn(Opcode.ARRAY, draw), Instruction(Opcode.END)])
    assert isa.program_sum(code) == 0 and isa.sealed(code) == code
    for item in OPCODES[opcode]:
        for bit in range(item.width):
            value = code[0].fields[item.name] ^ (-(1 << bit) if item.signed and
                                                 bit == item.width - 1 else 1 << bit)
            if item.low <= value <= item.high:
                changed = Instruction(opcode, code[0].fields | {item.name: value}, code[0].wait,
                                      code[0].signal, code[0].layer)
                assert isa.program_sum([changed, *code[1:]]) != 0
    assert isa.program_sum([code[1], code[0], code[2]]) != 0 or code[0] == code[1]
