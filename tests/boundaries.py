"""Where instructions begin to be illegal: for every limit of the instruction set and of the window
what is at it, one below and one above. The tests of decoder, simulator and hardware go through
the same tables."""

from collections.abc import Iterator

from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import OPCODES, Field, Opcode
from systolith.hw.spec.legality import OPTIONS
from systolith.hw.spec.widths import kept_bits


def limits(field: Field) -> Iterator[tuple[int, bool]]:
    """(value, whether it is legal on a chip that has all) around both ends of a field's range."""
    for value in (field.low - 1, field.low, field.low + 1, field.high - 1, field.high,
                  field.high + 1):
        yield value, field.low <= value <= field.high


def values(arch: Arch, opcode: Opcode) -> Iterator[tuple[Field, int, bool]]:
    """(field, value, whether the sequencer of a chip lets it pass) around the ends of each range
    of an instruction's fields, those of the chip's addresses and of parts that it lacks among
    them; values that fit the field's bits only."""
    for field in OPCODES[opcode]:
        high = field.high
        if field.name in ("address", "row_stride", "item_stride"):
            high = (1 << kept_bits(arch, opcode)[field.name]) - 1
        refused = [(option.low, option.high) for option in OPTIONS
                   if (option.opcode, option.field) == (opcode, field.name)
                   and not getattr(arch, option.part)]
        ends = {0, field.low, field.high, high, *(end for pair in refused for end in pair)}
        least = -(1 << field.width - 1) if field.signed else 0
        for value in sorted({end + step for end in ends for step in (-1, 0, 1)}):
            if least <= value < least + (1 << field.width):
                yield field, value, field.low <= value <= high and not any(
                    first <= value <= last for first, last in refused)


#: A transfer of a LOAD or STORE with beats of 8 bytes, which is one burst: (its first byte, its
#: beats, the window's bytes, whether it lies within the window).
WINDOW = [
    (0, 1, 7, False), (0, 1, 8, True), (0, 1, 9, True), (0, 1, 16, True),
    (0, 2, 15, False), (0, 2, 16, True), (0, 2, 17, True), (0, 2, 8, False),
    (8, 1, 8, False), (8, 1, 15, False), (8, 1, 16, True), (8, 1, 24, True),
    (4088, 1, 4088, False), (4088, 1, 4095, False), (4088, 1, 4096, True), (4088, 1, 4097, True),
    (4096, 1, 4096, False), (4096, 1, 4104, True), (4080, 2, 4095, False), (4080, 2, 4096, True),
    ((1 << 32) - 8, 1, 4096, False)]
