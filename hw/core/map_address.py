"""Word addresses of one POST instruction's results in a map."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa

__all__ = ["FIELDS", "MapAddress"]

_LAYOUT = isa.layout(isa.Opcode.POST)
#: What is needed of an instruction while it is worked on.
FIELDS = data.StructLayout({name: _LAYOUT[name].shape for name in (
    "out_x", "stride_y", "stride_x")})


class MapAddress(wiring.Component):
    """Goes through a map, result by result and row by row, with the instruction's strides.

    Parameters
    ----------
    width : int
        Bits of an address.

    Members
    -------
    start : In(1), instruction : In(POST layout), base : In(width)
        Stand at the first result of `instruction`, at `base`, from the next cycle on.
    fields : In(FIELDS)
        Fields of the instruction that is worked on, from the cycle after `start` on.
    step : In(1)
        Go on to the next result.
    word : Out(width)
        The present result's address.
    last_x : Out(1)
        The present result is its row's last.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__({
            "start": In(1), "instruction": In(_LAYOUT), "base": In(width),
            "fields": In(FIELDS), "step": In(1),
            "word": Out(width), "last_x": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        fields = self.fields
        x_left = Signal(_LAYOUT["out_x"].shape, reset_less=True)
        word, row = (Signal(self.width, name=name, reset_less=True)
                     for name in ("address", "row"))
        m.d.comb += [self.word.eq(word), self.last_x.eq(x_left == 0)]
        with m.If(self.step):
            m.d.sync += [x_left.eq(x_left - 1), word.eq(word + fields.stride_x)]
            with m.If(self.last_x):
                m.d.sync += [x_left.eq(fields.out_x - 1),
                             word.eq(row + fields.stride_y), row.eq(row + fields.stride_y)]
        with m.If(self.start):
            m.d.sync += [x_left.eq(self.instruction.out_x - 1),
                         word.eq(self.base), row.eq(self.base)]
        return m
