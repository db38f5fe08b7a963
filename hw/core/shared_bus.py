"""One AXI4 port for several cores."""

from functools import reduce
from itertools import pairwise
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.timing import SHARED_READS, SHARED_WRITES

from .axi import AXI4Signature
from .register_slice import RegisterSlice

__all__ = ["Owners", "SharedBus", "Turns"]


class Turns(wiring.Component):
    """Whose turn it is, in a ring: a register.

    The turn goes to the next one that wants it when it was taken, or is not wanted; where nobody
    else wants it, it stays. So whoever waits sees each other one served once at the most.

    Parameters
    ----------
    number : int
        Of those that share.

    Members
    -------
    wanted : In(number)
    taken : In(1)
        Who has the turn is served in this cycle.
    turn : Out(number)
        One bit is set.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__({"wanted": In(number), "taken": In(1), "turn": Out(number, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        with m.If(self.taken | ~(self.wanted & self.turn).any()), m.Switch(self.turn):
            for own in range(self.number):
                with m.Case(1 << own):
                    for distance in reversed(range(1, self.number)):    # the next one overrides
                        other = (own + distance) % self.number
                        with m.If(self.wanted[other]):
                            m.d.sync += self.turn.eq(1 << other)
        return m


class Owners(wiring.Component):
    """Whose bursts are under way, in their order: a FIFO of registers.

    What is written in cycle t can be read from cycle t + 1 on. Nothing is written while it is full,
    nor read while it is empty.

    Parameters
    ----------
    width : int
        Bits of an entry.
    depth : int
        Entries.

    Members
    -------
    write, read : In(1)
        An entry is written, the oldest one removed, in this cycle.
    new : In(width), oldest : Out(width)
    some, full : Out(1)
        There is an entry; there is room for none.
    """

    def __init__(self, *, width: int, depth: int) -> None:
        self.width, self.depth = width, depth
        super().__init__({"write": In(1), "read": In(1), "new": In(width), "oldest": Out(width),
                          "some": Out(1), "full": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        entries = [Signal(self.width, name=f"entry_{n}", reset_less=True)
                   for n in range(self.depth)]
        # One bit is set: that of the first place without an entry. `read` comes late, so that no
        # sum follows it.
        free = Signal(self.depth + 1, init=1)
        m.d.comb += [self.some.eq(~free[0]), self.full.eq(free[-1]), self.oldest.eq(entries[0])]
        with m.If(self.write ^ self.read):
            m.d.sync += free.eq(Mux(self.write, free << 1, free >> 1))
        with m.If(self.read):
            m.d.sync += [entry.eq(after) for entry, after in pairwise(entries)]
        for n, entry in enumerate(entries):
            with m.If(self.write & Mux(self.read, free[n + 1], free[n])):
                m.d.sync += entry.eq(self.new)
        return m


class SharedBus(wiring.Component):
    """The AXI4 port that several cores share, each burst as it is.

    Bursts that are read and those that are written are each let through in turns (`Turns`), with
    the identifier that they have, so that answers come in their order; `Owners` says whose each one
    is. Read beats are counted: an RLAST at a wrong beat goes to the core that asked, and nothing to
    another one. What nothing has asked for goes to core 0, which reports it.

    Timing: every channel of `axi` has a `RegisterSlice`: an address or a beat takes one cycle more
    each way than without. A core that asks alone waits for its turn a cycle the first time; while
    others ask, for one burst of each. All that it drives, at `axi` and at the cores, follows from
    registers alone, never from an input of the same cycle.

    Parameters
    ----------
    cores : int
    data_bits : int
        Width of a beat.

    Members
    -------
    cores[core] : In(AXI4Signature(32, data_bits))
    axi : Out(AXI4Signature(32, data_bits))
    """

    def __init__(self, *, cores: int, data_bits: int) -> None:
        self.data_bits = data_bits
        super().__init__({"cores": In(AXI4Signature(32, data_bits)).array(cores),
                          "axi": Out(AXI4Signature(32, data_bits))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        number = (len(self.cores) - 1).bit_length()
        m.submodules.readers = readers = Owners(width=8 + number, depth=SHARED_READS)
        m.submodules.writers = writers = Owners(width=number, depth=SHARED_WRITES)
        m.submodules.answers = answers = Owners(width=number, depth=SHARED_WRITES)
        read, length, owner = self._elaborate_addresses(m, "ar", ~readers.full)
        m.d.comb += [readers.write.eq(read), readers.new.eq(Cat(length, owner))]
        write, _, owner = self._elaborate_addresses(m, "aw", ~writers.full & ~answers.full)
        for queue in (writers, answers):
            m.d.comb += [queue.write.eq(write), queue.new.eq(owner)]
        self._elaborate_data(m, writers)

        beat = Signal(8)                # of the burst that is being read
        last = Signal()
        m.d.comb += last.eq(beat == readers.oldest[:8])
        taken = self._elaborate_answers(m, "r", readers, readers.oldest[8:])
        m.d.comb += readers.read.eq(taken & readers.some & last)
        with m.If(taken & readers.some):
            m.d.sync += beat.eq(Mux(last, 0, beat + 1))
        taken = self._elaborate_answers(m, "b", answers, answers.oldest)
        m.d.comb += answers.read.eq(taken & answers.some)
        return m

    def _elaborate_addresses(self, m, channel, room):
        """An address channel; returns (an address is taken, its length, its core's number)."""
        m.submodules[f"{channel}_turns"] = turns = Turns(len(self.cores))
        slice_ = self._slice(m, channel)
        valid, ready, content = zip(*(_channel(core, channel) for core in self.cores), strict=True)
        out_valid, out_ready, out_content = _channel(self.axi, channel)
        taken = Signal(name=f"{channel}_taken")
        open_ = Signal(name=f"{channel}_open")
        m.d.comb += [
            open_.eq(slice_.i.ready & room),
            turns.wanted.eq(Cat(valid)), turns.taken.eq(taken),
            taken.eq((turns.wanted & turns.turn).any() & open_), slice_.i.valid.eq(taken),
            slice_.i.payload.eq(_chosen(turns.turn, content)),
            out_valid.eq(slice_.o.valid), out_content.eq(slice_.o.payload),
            slice_.o.ready.eq(out_ready),
            *(own.eq(turns.turn[core] & open_) for core, own in enumerate(ready)),
        ]
        length = _chosen(turns.turn, [getattr(core, f"{channel}len") for core in self.cores])
        return taken, length, _chosen(turns.turn, range(len(self.cores)))

    def _elaborate_data(self, m, writers):
        """Write data, of the oldest burst whose last beat has not come."""
        slice_ = self._slice(m, "w")
        valid, ready, content = zip(*(_channel(core, "w") for core in self.cores), strict=True)
        out_valid, out_ready, out_content = _channel(self.axi, "w")
        own = Cat(writers.some & (writers.oldest == core) for core in range(len(self.cores)))
        m.d.comb += [
            slice_.i.valid.eq((own & Cat(valid)).any()),
            slice_.i.payload.eq(_chosen(own, content)),
            out_valid.eq(slice_.o.valid), out_content.eq(slice_.o.payload),
            slice_.o.ready.eq(out_ready),
            writers.read.eq((own & Cat(valid) & Cat(core.wlast for core in self.cores)).any()
                            & slice_.i.ready),
            *(one.eq(own[core] & slice_.i.ready) for core, one in enumerate(ready)),
        ]

    def _elaborate_answers(self, m, channel, owners, owner):
        """A channel from memory; returns whether an answer is taken."""
        slice_ = self._slice(m, channel)
        in_valid, in_ready, in_content = _channel(self.axi, channel)
        m.d.comb += [slice_.i.valid.eq(in_valid), slice_.i.payload.eq(in_content),
                     in_ready.eq(slice_.i.ready)]
        ready = []
        for number, core in enumerate(self.cores):
            own = owner == number
            mine = (own | ~owners.some) if number == 0 else own & owners.some
            valid, accepts, content = _channel(core, channel)
            m.d.comb += [valid.eq(slice_.o.valid & mine), content.eq(slice_.o.payload)]
            ready.append(accepts & mine)
        m.d.comb += slice_.o.ready.eq(reduce(or_, ready))
        return slice_.o.valid & slice_.o.ready

    def _slice(self, m, channel):
        _, _, content = _channel(self.axi, channel)
        m.submodules[f"{channel}_slice"] = slice_ = RegisterSlice(len(content))
        return slice_


def _channel(axi, channel):
    """(valid, ready, all else side by side) of a channel of an AXI4 interface."""
    names = [name for name in AXI4Signature(32, len(axi.wdata)).members if name.startswith(channel)]
    return (getattr(axi, f"{channel}valid"), getattr(axi, f"{channel}ready"),
            Cat(getattr(axi, name) for name in names if not name.endswith(("valid", "ready"))))


def _chosen(bits, values):
    """The one of `values` whose bit is set; 0 where none is."""
    width = max(value.bit_length() if isinstance(value, int) else len(value) for value in values)
    return reduce(or_, ((Mux(bit, value, 0)) for bit, value in zip(bits, values, strict=True)
                        ))[:max(width, 1)]
