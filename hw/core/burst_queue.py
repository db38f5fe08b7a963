"""The queue of bursts that are outstanding."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["BurstQueue"]


class BurstQueue(wiring.Component):
    """A FIFO in block RAM whose flags, addresses and output are registers.

    What is written in cycle t can be read from cycle t + 3 on, and the next entry two cycles after
    the one before. Nothing is written while it is full, nor read while `some` is low.

    The memory is read ahead: the entry after `oldest` waits at its output, so that `read` leads to
    flags alone, and to no address.

    Parameters
    ----------
    width : int
        Bits of an entry.
    depth : int
        Entries; a power of two.
    later : int
        Bits of an entry that come in the cycle after it is written.

    Members
    -------
    write, read : In(1)
        An entry is written, the oldest one removed, in this cycle.
    new : In(width), oldest : Out(width)
    late : In(later), oldest_late : Out(later)
        Where there are any: the bits of the entry that was written in the cycle before, and those
        of `oldest`.
    held, full : Out(1)
        There is an entry; there is room for none.
    some : Out(1)
        There is an entry, and `oldest` is it.
    """

    def __init__(self, *, width: int, depth: int, later: int = 0) -> None:
        if depth & (depth - 1):
            raise ValueError(f"depth must be a power of two, not {depth}")
        self.width, self.depth, self.later = width, depth, later
        super().__init__({"write": In(1), "read": In(1), "new": In(width), "oldest": Out(width),
                          "some": Out(1), "held": Out(1), "full": Out(1),
                          **({"late": In(later), "oldest_late": Out(later)} if later else {})})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Never read where it is being written: what is read then is not used.
        m.submodules.entries = entries = Memory(
            shape=self.width, depth=self.depth, init=[],
            attrs={"no_rw_check": 1, "ram_style": "block"})
        target = entries.write_port()
        source = entries.read_port()
        level = Signal(range(self.depth + 1))
        number = Signal(range(self.depth))      # of the entry that is read
        fetched = Signal()              # the memory's output is it
        moves = Signal()                # it becomes the oldest one
        oldest = Signal(self.width, reset_less=True)
        # `read` comes late, so that a register is all that follows it: what it does to the flags
        # is seen with that register in the next cycle, and done at its end.
        there, any_held, more, filled, was_read = (Signal(name=name) for name in (
            "there", "any_held", "more", "filled", "was_read"))
        m.d.sync += was_read.eq(self.read)
        m.d.comb += [
            target.en.eq(self.write), target.data.eq(self.new), self.oldest.eq(oldest),
            source.addr.eq(number), self.some.eq(there & ~was_read), moves.eq(fetched & ~self.some),
            self.held.eq(any_held & (more | ~was_read)),
            self.full.eq(filled & ~was_read),
        ]
        m.d.sync += [
            # all entries but `oldest` are in the memory
            fetched.eq(Mux(self.some, more, self.held) & ~moves),
            there.eq(moves | self.some),
        ]
        with m.If(moves):
            m.d.sync += [oldest.eq(source.data), number.eq(number + 1)]
        with m.If(self.write):
            m.d.sync += target.addr.eq(target.addr + 1)
        with m.If(self.write ^ was_read):       # plus or minus one in a single adder
            m.d.sync += level.eq(level + Cat(Const(1, 1), was_read.replicate(len(level) - 1)))
        with m.If(self.write & ~was_read):
            m.d.sync += [any_held.eq(1), more.eq(any_held),
                         filled.eq(level == self.depth - 1)]
        with m.Elif(was_read & ~self.write):
            m.d.sync += [any_held.eq(more), more.eq(level > 2), filled.eq(0)]
        if self.later:
            # An entry becomes the oldest one two cycles after it was written at the earliest.
            m.submodules.late_bits = bits = Memory(shape=self.later, depth=self.depth, init=[],
                                                   attrs={"no_rw_check": 1})
            into = bits.write_port()
            out = bits.read_port(domain="comb")
            m.d.sync += [into.en.eq(self.write), into.addr.eq(target.addr)]
            m.d.comb += [into.data.eq(self.late), out.addr.eq(number)]
            with m.If(moves):
                m.d.sync += self.oldest_late.eq(out.data)
        return m
