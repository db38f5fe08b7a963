"""Word addresses of one POST instruction's results in a map."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa

__all__ = ["FIELDS", "MapAddress"]

_LAYOUT = isa.layout(isa.Opcode.POST)
#: What is needed of an instruction while it is worked on.
FIELDS = data.StructLayout({name: _LAYOUT[name].shape for name in ("stride_y", "stride_x")})


class MapAddress(wiring.Component):
    """Goes through a map, result by result and row by row, with the instruction's strides.

    Parameters
    ----------
    width : int
        Bits of an address.

    Members
    -------
    fields : In(FIELDS), base : In(width)
        Fields of the instruction that is worked on, and the address of its first result.
    begin : In(1)
        Stand at the first result from the next cycle on.
    step : In(1), last_x : In(1)
        Go on to the next result; the present one is its row's last.
    word : Out(width)
        The present result's address.
    upcoming_odd : Out(1)
        The lowest bit of `word` in the next cycle.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__({
            "fields": In(FIELDS), "base": In(width), "begin": In(1),
            "step": In(1), "last_x": In(1), "word": Out(width),
            "upcoming_odd": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fields, last = self.fields, self.last_x
        word, row = (Signal(self.width, name=name, reset_less=True)
                     for name in ("address", "row"))
        following = Signal(self.width)
        origin, by = (Signal(self.width, name=name) for name in ("origin", "by"))
        m.d.comb += [
            self.word.eq(word),
            self.upcoming_odd.eq(Mux(self.begin | self.step, following[0], word[0])),
            # (nothing but registers follows the addition)
            origin.eq(Mux(self.begin, self.base, Mux(last, row, word))),
            by.eq(Mux(self.begin, 0, Mux(last, fields.stride_y, fields.stride_x))),
            following.eq(origin + by)]
        with m.If(self.begin | self.step):
            m.d.sync += word.eq(following)
        with m.If(self.begin | (self.step & last)):
            m.d.sync += row.eq(following)
        return m
