"""A stream through registers, both ways."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RegisterSlice"]


class RegisterSlice(wiring.Component):
    """Keeps what is on one side of a stream from what is on the other: no way through it is free of
    registers, `ready` included.

    What is accepted in cycle t is at `o` from cycle t + 1 on; one in every cycle. It holds two.

    Parameters
    ----------
    width : int
        Bits of the payload.

    Members
    -------
    i : In(stream of width)
    o : Out(stream of width)
    """

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__({"i": In(stream.Signature(width)), "o": Out(stream.Signature(width))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        i, o = self.i, self.o
        full = Signal()                 # `spare` holds what came while `o` was waiting
        spare = Signal(self.width, reset_less=True)
        m.d.comb += i.ready.eq(~full)
        with m.If(~full):
            m.d.sync += spare.eq(i.payload)
        with m.If(o.ready | ~o.valid):
            m.d.sync += [o.valid.eq(i.valid | full), full.eq(0),
                         o.payload.eq(Mux(full, spare, i.payload))]
        with m.Elif(i.valid):
            m.d.sync += full.eq(1)
        return m
