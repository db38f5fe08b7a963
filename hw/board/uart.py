"""Asynchronous serial line: 8 data bits, no parity, 1 stop bit."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartTransmitter"]


class UartTransmitter(wiring.Component):
    """Sends bytes over an asynchronous serial line.

    Parameters
    ----------
    divisor : int
        Clock cycles per bit, from 2 up.

    Members
    -------
    i : In(stream of 8 bits)
        Taken when the line is free; the byte then takes 10 * divisor cycles.
    line : Out(1)
        High when idle.
    """

    def __init__(self, *, divisor: int) -> None:
        if divisor < 2:
            raise ValueError(f"divisor must be at least 2 cycles per bit, not {divisor!r}")
        self.divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "line": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        timer = Signal(range(self.divisor))
        left = Signal(range(11))
        bits = Signal(9)
        m.d.comb += self.i.ready.eq(left == 0)
        with m.If(left == 0):
            with m.If(self.i.valid):
                m.d.sync += [self.line.eq(0), bits.eq(Cat(self.i.payload, 1)), left.eq(10),
                             timer.eq(self.divisor - 1)]
        with m.Elif(timer == 0):
            m.d.sync += [self.line.eq(bits[0]), bits.eq(Cat(bits[1:], 1)), left.eq(left - 1),
                         timer.eq(self.divisor - 1)]
        with m.Else():
            m.d.sync += timer.eq(timer - 1)
        return m


class UartReceiver(wiring.Component):
    """Receives bytes from an asynchronous serial line; each bit is sampled in its middle.

    Parameters
    ----------
    divisor : int
        Clock cycles per bit, from 4 up.

    Members
    -------
    line : In(1)
        Asynchronous.
    data, strobe : Out
        A byte, for the one cycle in which `strobe` is high. A byte without its stop bit is
        dropped.
    """

    def __init__(self, *, divisor: int) -> None:
        if divisor < 4:
            raise ValueError(f"divisor must be at least 4 cycles per bit, not {divisor!r}")
        self.divisor = divisor
        super().__init__({"line": In(1, init=1), "data": Out(8), "strobe": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.line, line, init=1)
        timer = Signal(range(self.divisor))
        left = Signal(range(11))                # bits to come: start, 8 data, stop
        bits = Signal(8)
        m.d.comb += self.data.eq(bits)
        m.d.sync += self.strobe.eq(0)
        with m.If(left == 0):
            with m.If(~line):
                m.d.sync += [left.eq(10), timer.eq(self.divisor // 2 - 1)]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self.divisor - 1), left.eq(left - 1)]
            with m.Switch(left):
                with m.Case(10):
                    with m.If(line):            # a glitch, not a start bit
                        m.d.sync += left.eq(0)
                with m.Case(1):
                    m.d.sync += self.strobe.eq(line)
                with m.Default():
                    m.d.sync += bits.eq(Cat(bits[1:], line))
        return m
