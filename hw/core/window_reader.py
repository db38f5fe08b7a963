"""Which accumulator word POST reads in each cycle, and what that word is to its result."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.legality import executes
from systolith.hw.spec.widths import payload

from .products import register

__all__ = ["WindowReader", "mark_layout", "reader_fields"]


def reader_fields(arch: Arch) -> data.StructLayout:
    """What a WindowReader needs of an instruction while it is worked on."""
    whole = payload(arch, isa.Opcode.POST)
    return data.StructLayout({name: whole[name].shape for name in (
        "accumulator", "out_y", "out_x", "pool_x", "pool_y", "row", "jump", "turn", "pooling",
        "destination", "raw", "operand", "group")})


def mark_layout(arch: Arch) -> data.StructLayout:
    """Flags that travel through POST's pipeline with an accumulator word.

    `valid`: there is a word. `again`: no word, but a result's second turn. `first`, `last`: of its
    window, in this chunk. `column`: first of a column of the window. `carried`: first of a window
    that begins with the column that the window before it has read last. `chunk`: which one of its
    group, `whole`: the last one that is read. `end_row`: of the last result of its row, `end`: of
    the instruction's last result.
    """
    flags = ("valid", "again", "first", "last", "column", "carried", "whole", "end_row", "end")
    return data.StructLayout({**dict.fromkeys(flags, 1), "chunk": range(arch.chunks)})


class WindowReader(wiring.Component):
    """Reads the accumulator words of one POST instruction, at most one a cycle; at most one in two
    cycles where results are combined with operands (`timing.read_period`).

    Loops from the outermost to the innermost: rows of results, results of a row, chunks of a
    group (as many as the instruction says), columns of the result's window, rows of the window. A
    result that goes to the store unit waits at its first word until there is room for it: a group
    for all chunks together, a raw result for each chunk.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    begin : In(1), fields : In(reader_fields(arch))
        Read the instruction whose fields are these from now on; its first word in the next cycle
        at the earliest.
    room : In(1)
        The store unit's FIFO has room for one more item.
    read : Out(1)
        A word is read in this cycle.
    waiting : Out(1)
        None, for want of room.
    reserve : Out(1)
        A word is read, and the room for an item is taken with it.
    mark : Out(mark_layout(arch))
        What the word is.
    address : Out(range(accumulator_depth))
        The word, one cycle later.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        super().__init__({
            "begin": In(1), "fields": In(reader_fields(arch)), "room": In(1),
            "read": Out(1), "waiting": Out(1), "reserve": Out(1),
            "address": Out(range(arch.accumulator_depth)), "mark": Out(mark_layout(arch)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        arch, fields, mark = self.arch, self.fields, self.mark
        reading, odd, to_store, needs_room = (Signal(name=name) for name in (
            "reading", "odd", "to_store", "needs_room"))
        # Registers: the first word is read in the cycle after the one in which `fields` are there.
        raw = Signal(reset_less=True)
        m.d.sync += [to_store.eq(fields.destination == isa.Destination.STORE), raw.eq(fields.raw)]
        pool_first, column_first, row_first = (
            Signal(name=f"{what}_first", reset_less=True) for what in ("pool", "column", "row"))
        carried = Signal()
        lead = fields.pooling == isa.Pooling.LEAD
        m.d.sync += carried.eq(lead | (fields.pooling == isa.Pooling.CARRIED))

        # Each loop steps where the ones inside it are at their last.
        last_row = self._loop(m, "row", fields.pool_y, self.read)
        next_column = self.read & last_row
        wide = Signal()                             # the next window reads one column more
        last_column = self._loop(m, "column", fields.pool_x, next_column, wide)
        last_pool = last_row & last_column
        next_chunk = self.read & last_pool
        chunk, last_chunk = self._chunks(m, next_chunk)
        next_result = next_chunk & last_chunk
        last_x = self._loop(m, "x", fields.out_x, next_result)
        next_row = next_result & last_x
        last_y = self._loop(m, "y", fields.out_y, next_row)
        m.d.comb += wide.eq(lead & (self.begin | Mux(last_chunk, last_x, row_first)))

        address = self._elaborate_address(m, last_row, last_pool, last_chunk, last_x)
        group_first = Const(1) if arch.chunks == 1 else chunk == 0
        m.d.comb += [
            needs_room.eq(to_store & pool_first & (raw | group_first)),
            self.read.eq(reading & (~needs_room | self.room)),
            self.waiting.eq(reading & needs_room & ~self.room),
            self.reserve.eq(self.read & needs_room),
            self.address.eq(address),
            mark.valid.eq(self.read), mark.first.eq(pool_first), mark.last.eq(last_pool),
            mark.column.eq(column_first), mark.chunk.eq(chunk),
            mark.carried.eq(carried & pool_first & ~row_first),
            mark.whole.eq(last_chunk), mark.end_row.eq(last_x), mark.end.eq(last_x & last_y),
        ]
        if executes(arch, isa.Opcode.POST, "operand"):
            combined = Signal(reset_less=True)
            m.d.sync += [odd.eq(~odd & ~self.begin), combined.eq(fields.operand.any())]
            m.d.comb += self.read.eq(reading & ~(combined & odd)
                                     & (~needs_room | self.room))
        with m.If(self.read):
            m.d.sync += [pool_first.eq(last_pool), column_first.eq(last_row)]
        with m.If(next_result):
            m.d.sync += row_first.eq(last_x)
        with m.If(next_row & last_y):
            m.d.sync += reading.eq(0)
        with m.If(self.begin):
            m.d.sync += [reading.eq(1), pool_first.eq(1), column_first.eq(1), row_first.eq(1)]
        return m

    def _loop(self, m, name, count, step, wide=0):
        """Counts `count` steps (one more where it begins `wide`), again and again; returns that the
        last one is at hand."""
        # The number of the next step: what it is compared with is there before the step.
        following = Signal(len(count), name=f"next_{name}", reset_less=True)
        last = Signal(name=f"last_{name}", reset_less=True)
        restart = Signal(name=f"{name}_restarts")
        m.d.comb += restart.eq(self.begin | last)
        with m.If(self.begin | step):
            m.d.sync += [following.eq(Mux(restart, Mux(wide, 1, 2), following + 1)),
                         last.eq(Mux(restart, (count == 1) & ~wide, following == count))]
        return last

    def _chunks(self, m, step):
        """The chunk, and whether it is the last one."""
        count, (which, bits) = self.arch.chunks, self.arch.group_bits_of_post
        if count == 1:
            return Const(0), Const(1)
        chunk = Signal(range(count), name="chunk", reset_less=True)
        last, following = Signal(reset_less=True), Signal(range(count), name="next_chunk")
        m.d.comb += following.eq(Mux(self.begin | last, 0, chunk + 1))
        final = Signal(range(count), reset_less=True)           # the number of the last one
        asked = self.fields.group[which:which + bits]
        m.d.sync += final.eq(Mux(asked.any(), asked, count) - 1)
        with m.If(self.begin | step):
            m.d.sync += [chunk.eq(following),
                         last.eq(Mux(self.begin, asked == 1, following == final))]
        return chunk, last

    def _elaborate_address(self, m, last_row, last_pool, last_chunk, last_x):
        """The word, one cycle after the decision to read it: each one follows from another by one
        addition, which takes a cycle to itself."""
        fields = self.fields
        address, column, origin, following = (
            Signal(range(self.arch.accumulator_depth), name=name, reset_less=True)
            for name in ("word", "column_word", "origin", "following"))
        other_chunk, next_result = last_pool & ~last_chunk, last_pool & last_chunk
        # The 1 beyond jump and turn is the carry into the addition.
        stride = Mux(self.begin, fields.accumulator, Mux(~last_row, fields.row, Mux(
            next_result, Mux(last_x, fields.turn, fields.jump), 0)))[:len(address)]
        read, down, other_chunk, next_result, begun, stride, one = (
            register(m, value, f"{name}_decided") for name, value in (
                ("read", self.read | self.begin), ("down", ~last_row & ~self.begin),
                ("other_chunk", other_chunk), ("next_result", next_result), ("begin", self.begin),
                ("stride", stride), ("one", last_row & ~other_chunk & ~self.begin)))
        start = Mux(down, address, Mux(other_chunk, origin, column))
        m.d.comb += following.eq((Cat(Const(1, 1), Mux(begun, 0, start)) + Cat(one, stride))[1:])
        with m.If(read):
            m.d.sync += address.eq(following)
        with m.If(read & ~down):
            m.d.sync += column.eq(following)
        with m.If(read & (begun | next_result)):
            m.d.sync += origin.eq(following)
        return address
