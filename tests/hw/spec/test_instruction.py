"""Instructions as words and as text, and the checksum of a program."""

import random

import pytest
from systolith.hw.spec.instruction import Instruction, assemble, decode, program_sum, sealed
from systolith.hw.spec.isa import HEAD, OPCODES, Opcode, Unit


def drawn(opcode, draw):
    """An instruction with values from the whole range of each field, its ends more often."""
    fields = {item.name: draw.choice((item.low, item.high, draw.randint(item.low, item.high)))
              for item in OPCODES[opcode]}
    return Instruction(opcode, fields, wait=draw.randrange(16), signal=draw.randrange(16),
                       layer=draw.choice((0, 4095, draw.randrange(4096))))


@pytest.mark.parametrize("opcode", Opcode, ids=lambda opcode: opcode.name)
def test_words_and_text_say_the_same(opcode):
    draw = random.Random(opcode)
    for _ in range(20):
        made = drawn(opcode, draw)
        for word in (made.encode(), made.to_bytes(), bytearray(made.to_bytes(64))):
            assert decode(word) == made
        assert assemble(str(made)) == made
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
    for opcode in (0, 7):
        with pytest.raises(ValueError, match=f"^{opcode} is no opcode$"):
            decode(opcode | 1 << HEAD[0].width)
    used = sum(item.width for item in HEAD + OPCODES[Opcode.END])
    with pytest.raises(ValueError, match=r"^END has bits set after its last field$"):
        decode(Opcode.END | 1 << used)
    assert decode(Opcode.END | 1 << used - 1).checksum == 1 << 31
    with pytest.raises(ValueError, match=r"^LOAD\.rows must be from 1 to 4095, not 0$"):
        decode(Opcode.LOAD)
    with pytest.raises(ValueError, match=r"^END has no field 'sum'; it has checksum$"):
        Instruction(Opcode.END, {"sum": 1})
    with pytest.raises(ValueError, match=r"^'jump' is no instruction; there are begin, load, "):
        assemble("jump")
    with pytest.raises(AttributeError, match="no attribute 'rows'"):
        _ = Instruction(Opcode.END).rows


@pytest.mark.parametrize("opcode", Opcode, ids=lambda opcode: opcode.name)
def test_a_bit_that_is_flipped_changes_the_sum_of_a_program(opcode):
    draw = random.Random(opcode)
    code = sealed([drawn(opcode, draw), drawn(Opcode.ARRAY, draw), Instruction(Opcode.END)])
    assert program_sum(code) == 0 and sealed(code) == code
    for item in OPCODES[opcode]:
        for bit in range(item.width):
            value = code[0].fields[item.name] ^ (-(1 << bit) if item.signed and
                                                 bit == item.width - 1 else 1 << bit)
            if item.low <= value <= item.high:
                changed = Instruction(opcode, code[0].fields | {item.name: value}, code[0].wait,
                                      code[0].signal, code[0].layer)
                assert program_sum([changed, *code[1:]]) != 0
    assert program_sum([code[1], code[0], code[2]]) != 0 or code[0] == code[1]
