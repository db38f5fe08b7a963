"""The queue of items from POST to STORE."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["ItemQueue"]


class ItemQueue(wiring.Component):
    """A FIFO of few items, with a register at its output: that of block RAM would be late.

    What is written in cycle t is at `o` from cycle t + 2 on; one item can leave in each cycle.
    Whoever writes counts the free places.

    Parameters
    ----------
    width : int
        Bits of an item.
    depth : int
        Items; a power of two.

    Members
    -------
    write : In(1), item : In(width)
    o : Out(stream of width)
    """

    def __init__(self, *, width: int, depth: int) -> None:
        if depth & (depth - 1):
            raise ValueError(f"depth must be a power of two, not {depth}")
        self.width, self.depth = width, depth
        super().__init__({"write": In(1), "item": In(width), "o": Out(stream.Signature(width))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # An item at the output is not in the memory any more, and is there while others are: so
        # equal addresses always mean an empty memory, which is not read.
        m.submodules.items = items = Memory(
            shape=self.width, depth=self.depth, init=[], attrs={"no_rw_check": 1})
        write = items.write_port()
        read = items.read_port(domain="comb")
        first = Signal(self.width, reset_less=True)
        fetch = Signal()
        m.d.comb += [
            write.en.eq(self.write), write.data.eq(self.item),
            fetch.eq((write.addr != read.addr) & (~self.o.valid | self.o.ready)),
            self.o.payload.eq(first),
        ]
        with m.If(self.write):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(fetch):
            m.d.sync += [first.eq(read.data), read.addr.eq(read.addr + 1), self.o.valid.eq(1)]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        return m
