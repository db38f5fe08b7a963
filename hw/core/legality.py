"""Whether a chip executes an instruction, found while its beats pass by."""

from collections import defaultdict
from collections.abc import Iterator
from functools import reduce
from operator import and_, or_

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.isa import HEAD, OPCODES, Opcode
from systolith.hw.spec.legality import OPTIONS
from systolith.hw.spec.widths import kept_bits

__all__ = ["InstructionCheck"]


class InstructionCheck(wiring.Component):
    """Checks an instruction beat by beat: opcode, tokens, and `legality.OPTIONS`.

    A field is looked at when its last bit comes, so that none needs the instruction as a whole. A
    beat that comes in cycle t counts in `illegal` and `foreign` from cycle t + 2 on, until the
    first beat of the next instruction does.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    valid : In(1)
        There is a beat in this cycle.
    beat, last_beat : In(bus_bits)
        It, and the one before it.
    place : In(range(beats))
        Which one of its instruction it is.
    illegal : Out(1)
        The opcode is unknown, a field is out of its range, or needs a part that the chip lacks, or
        a token goes to or comes from the unit itself.
    foreign : Out(1)
        It is a BEGIN with the identity of another chip.
    opcode : Out(3)
        One cycle after the first beat, and kept.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        self.beats = arch.instruction_bytes // arch.beat_bytes
        super().__init__({
            "valid": In(1), "beat": In(arch.bus_bits), "last_beat": In(arch.bus_bits),
            "place": In(range(self.beats)),
            "illegal": Out(1), "foreign": Out(1), "opcode": Out(HEAD[0].width),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid = Signal()
        place = Signal.like(self.place)
        m.d.sync += [valid.eq(self.valid), place.eq(self.place)]
        with m.If(self.valid & (self.place == 0)):
            m.d.sync += self.opcode.eq(self.beat[:len(self.opcode)])
        illegal = [(place == 0) & ~reduce(or_, (self.opcode == code for code in Opcode))]
        foreign: list[Value] = []
        for code in Opcode:
            for number, conditions in self._conditions(code).items():
                kept = Signal(name=f"{code.name.lower()}_{number}", reset_less=True)
                m.d.sync += kept.eq(reduce(and_, conditions))
                (foreign if code == Opcode.BEGIN else illegal).append(
                    (self.opcode == code) & (place == number) & ~kept)
        with m.If(valid):
            for found, terms in ((self.illegal, illegal), (self.foreign, foreign)):
                m.d.sync += found.eq((found & (place != 0)) | reduce(or_, terms))
        return m

    def _conditions(self, opcode: Opcode) -> dict[int, list[Value]]:
        """What must hold, by the number of the beat in which it is found."""
        found: defaultdict[int, list[Value]] = defaultdict(list)
        if opcode == Opcode.BEGIN:
            position, width = sum(item.width for item in HEAD), self.arch.bus_bits
            wanted = identity(self.arch) << position
            for number in range(position // width, (position + 63) // width + 1):
                start = max(position - number * width, 0)
                part = self.beat[start:position + 64 - number * width]
                found[number].append(
                    part == wanted >> number * width + start & (1 << len(part)) - 1)
        if opcode.unit is not None:
            for name in ("wait", "signal"):
                number, mask = self._field(opcode, name)
                found[number].append(~mask[opcode.unit])
        for name, low, high, wanted in ranges(self.arch, opcode):
            number, value = self._field(opcode, name)
            inside = _within(value, low, high)
            found[number].append(inside if wanted else ~inside)
        return found

    def _field(self, opcode: Opcode, name: str) -> tuple[int, Value]:
        """The beat in which a field ends, and the field, from this beat and the last one."""
        position, width = 0, self.arch.bus_bits
        for item in HEAD + OPCODES[opcode]:
            if item.name == name:
                break
            position += item.width
        number = (position + item.width - 1) // width
        low = position - (number - 1) * width
        value = Cat(self.last_beat, self.beat)[low:low + item.width]
        return number, value.as_signed() if item.signed else value


def ranges(arch: Arch, opcode: Opcode) -> Iterator[tuple[str, int, int, bool]]:
    """(field, low, high, whether its values must be from low to high or must not) of all that a
    chip checks of an instruction with this opcode besides its tokens."""
    for item in OPCODES[opcode]:
        # Addresses depend on the host, too; the others are those of a program for this chip.
        address = "address" in item.name or item.name in ("row_stride", "item_stride")
        high = (1 << kept_bits(arch, opcode)[item.name]) - 1 if address else item.high
        if item.least is not None or item.most is not None or high < item.high:
            yield item.name, item.low, high, True
    for option in OPTIONS:
        if option.opcode == opcode and option.missing(arch):
            yield option.field, option.low, option.high, False


def _within(value, low, high):
    """Whether a field is from `low` to `high`; what its width says already takes no logic."""
    shape = value.shape()
    least = -(1 << shape.width - 1) if shape.signed else 0
    most = least + (1 << shape.width) - 1
    if low == high:
        return value == low
    # a mask's comparison needs no carry chain
    bits = (high + 1).bit_length() - 1
    below = ~value[bits:].any() if high + 1 == 1 << bits and not shape.signed else value <= high
    if low == least:
        return below
    above = value != least if low == least + 1 else value >= low
    return above if high == most else above & below
