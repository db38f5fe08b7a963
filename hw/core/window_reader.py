"""Which accumulator word POST reads in each cycle, and what that word is to its result."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch

__all__ = ["FIELDS", "WindowReader", "mark_layout"]

_LAYOUT = isa.layout(isa.Opcode.POST)
#: What is needed of an instruction while it is worked on.
FIELDS = data.StructLayout({name: _LAYOUT[name].shape for name in (
    "out_x", "pool_x", "pool_y", "row", "jump", "turn", "pooling", "destination", "raw")})


def mark_layout(arch: Arch) -> data.StructLayout:
    """Flags that travel through POST's pipeline with an accumulator word.

    `valid`: there is a word. `first`, `last`: of its window, in this chunk. `column`: first of a
    column of the window. `carried`: first of a window that begins with the column that the window
    before it has read last. `chunk`: which one of its group.
    """
    return data.StructLayout({"valid": 1, "first": 1, "last": 1, "column": 1, "carried": 1,
                              "chunk": range(arch.chunks)})


class WindowReader(wiring.Component):
    """Reads the accumulator words of one POST instruction, at most one a cycle.

    Loops from the outermost to the innermost: rows of results, results of a row, chunks of a
    group, columns of the result's window, rows of the window. A result that goes to the store unit
    waits at its first word until there is room for it: a group for all chunks together, a raw
    result for each chunk.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    start : In(1), instruction : In(POST layout)
        Read `instruction` in this cycle; its first word is read in the next cycle at the earliest.
    fields : In(FIELDS)
        Fields of the instruction that is worked on, from the cycle after `start` on.
    room : In(1)
        The store unit's FIFO has room for one more item.
    reading : Out(1)
        Words are left to be read.
    read : Out(1)
        A word is read in this cycle.
    reserve : Out(1)
        And the room for an item is taken with it.
    address : Out(range(accumulator_depth))
        The word.
    mark : Out(mark_layout(arch))
        What it is.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        super().__init__({
            "start": In(1), "instruction": In(_LAYOUT), "fields": In(FIELDS), "room": In(1),
            "reading": Out(1), "read": Out(1), "reserve": Out(1),
            "address": Out(range(arch.accumulator_depth)), "mark": Out(mark_layout(arch)),
        })

    def elaborate(self, platform):
        m = Module()
        arch, fields, mark = self.arch, self.fields, self.mark
        reading = Signal()
        x_left = Signal(_LAYOUT["out_x"].shape, reset_less=True)
        y_left = Signal(_LAYOUT["out_y"].shape, reset_less=True)
        columns_left = Signal(_LAYOUT["pool_x"].shape, reset_less=True)
        rows_left = Signal(_LAYOUT["pool_y"].shape, reset_less=True)
        chunk = Signal(range(arch.chunks), reset_less=True)
        pool_first, column_first, row_first = (
            Signal(name=f"{what}_first", reset_less=True) for what in ("pool", "column", "row"))
        address, column, origin = (
            Signal(range(arch.accumulator_depth), name=name, reset_less=True)
            for name in ("word", "column", "origin"))
        needs_room = Signal()
        last_pool = Signal()
        last_chunk, last_row, last_x = chunk == arch.chunks - 1, rows_left == 0, x_left == 0
        next_column = Signal.like(column)
        carried = ((fields.pooling == isa.Pooling.CARRIED)
                   | (fields.pooling == isa.Pooling.LEAD))
        m.d.comb += [
            last_pool.eq(last_row & (columns_left == 0)),
            next_column.eq(column + 1 + Mux(last_pool, Mux(last_x, fields.turn, fields.jump), 0)),
            needs_room.eq((fields.destination == isa.Destination.STORE) & pool_first
                          & (fields.raw | (chunk == 0))),
            self.reading.eq(reading),
            self.read.eq(reading & (~needs_room | self.room)),
            self.reserve.eq(self.read & needs_room),
            self.address.eq(address),
            mark.valid.eq(self.read), mark.first.eq(pool_first), mark.last.eq(last_pool),
            mark.column.eq(column_first), mark.chunk.eq(chunk),
            mark.carried.eq(carried & pool_first & ~row_first),
        ]

        with m.If(self.read):
            m.d.sync += [pool_first.eq(last_pool), column_first.eq(last_row)]
            with m.If(~last_row):
                m.d.sync += [rows_left.eq(rows_left - 1), address.eq(address + fields.row)]
            with m.Elif(last_pool & ~last_chunk):
                m.d.sync += [rows_left.eq(fields.pool_y - 1), chunk.eq(chunk + 1),
                             columns_left.eq(_columns(fields, row_first)),
                             address.eq(origin), column.eq(origin)]
            with m.Else():
                m.d.sync += [rows_left.eq(fields.pool_y - 1), columns_left.eq(columns_left - 1),
                             address.eq(next_column), column.eq(next_column)]
                with m.If(last_pool):
                    m.d.sync += [columns_left.eq(_columns(fields, last_x)), chunk.eq(0),
                                 origin.eq(next_column), row_first.eq(last_x),
                                 x_left.eq(x_left - 1)]
                    with m.If(last_x):
                        m.d.sync += [x_left.eq(fields.out_x - 1), y_left.eq(y_left - 1)]
                        with m.If(y_left == 0):
                            m.d.sync += reading.eq(0)
        with m.If(self.start):
            new, first = self.instruction, self.instruction.accumulator
            m.d.sync += [reading.eq(1), chunk.eq(0), pool_first.eq(1), column_first.eq(1),
                         row_first.eq(1), rows_left.eq(new.pool_y - 1),
                         columns_left.eq(_columns(new, 1)),
                         x_left.eq(new.out_x - 1), y_left.eq(new.out_y - 1),
                         address.eq(first), column.eq(first), origin.eq(first)]
        return m


def _columns(instruction, first_of_row):
    """Columns to read for a result, less one."""
    return instruction.pool_x - 1 + ((instruction.pooling == isa.Pooling.LEAD) & first_of_row)
