"""A function of a result, looked up in a table: one channel's copy of the table memory."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.arch import Arch

from .rounding import register

__all__ = ["TableLane"]


class TableLane(wiring.Component):
    """One channel's table memory; a new result every cycle, `TABLE_LOOKUP` cycles later.

    A result is a number; the word whose address is that number modulo the memory's depth takes its
    place. So the compiler chooses by the zero point where in the memory a table of integers begins.

    Parameters
    ----------
    arch : Arch
        With a table memory.

    Members
    -------
    number : In(signed(arch.table_address_bits))
        An ordered integer; what is cut off above changes nothing modulo the depth.
    ordered : Out(signed(activation.width + 1))
        What stands there, an ordered integer.
    write_enable : In(1), write_address, write_data : In
        A word to be written: an ordered integer in two's complement, `activation.width` bits.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        super().__init__({
            "number": In(signed(arch.table_address_bits)),
            "ordered": Out(signed(arch.activation.width + 1)),
            "write_enable": In(1), "write_address": In(arch.table_address_bits),
            "write_data": In(arch.activation.width),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Tokens keep a word from being read while it is written.
        m.submodules.memory = memory = Memory(
            shape=self.arch.activation.width, depth=self.arch.table_depth, init=[],
            attrs={"no_rw_check": 1})
        read = memory.read_port()
        write = memory.write_port()
        found = Signal.like(read.data)
        m.d.comb += [
            read.addr.eq(self.number),
            write.en.eq(self.write_enable), write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            found.eq(register(m, read.data, "found")),
            self.ordered.eq(Cat(found, found[-1])),
        ]
        return m
