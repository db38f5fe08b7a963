"""Fills the array with weights: which weight word is on its way to the array, and when."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.timing import REVISIT

__all__ = ["WeightFeeder"]

_LAYOUT = isa.layout(isa.Opcode.ARRAY)


class WeightFeeder(wiring.Component):
    """Fills the array's weights, one filling per pass, in program order.

    A filling takes `rows` cycles from the one in which it is swapped in, which is at least
    `REVISIT` cycles after the previous one was: a pass's first sum must be in the accumulators when
    the next pass adds to it. So the shortest pass takes `timing.shortest_pass`.

    Members
    -------
    start : In(1)
        Take `instruction` (only when `idle`); its first filling begins in the next cycle at the
        earliest.
    idle : Out(1)
        No fillings are left to do, counting the cycle of the last word as done.
    loaded : Out(1)
        A filling can be swapped in.
    filling : Out(1)
        Words of a filling are still to be decided on, its first one not counted.
    swap : In(1)
        A filling is swapped in by the pixel of this cycle; only when `loaded`.
    address : Out(as weight_base)
        Weight word, one cycle after it was decided on.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        super().__init__({
            "start": In(1), "instruction": In(_LAYOUT), "idle": Out(1),
            "loaded": Out(1), "filling": Out(1), "swap": In(1),
            "address": Out(_LAYOUT["weight_base"].shape),
        })

    def elaborate(self, platform):
        m = Module()
        rows = self.arch.rows
        loops = ("blocks", "kernel_x", "kernel_y")
        counts = {n: Signal(_LAYOUT[n].shape, name=n, reset_less=True) for n in loops}
        left = {n: Signal(_LAYOUT[n].shape, name=f"{n}_left", reset_less=True) for n in loops}
        active = Signal()
        filling = Signal()
        step = Signal(range(rows))
        hold = Signal(range(REVISIT))
        address = Signal(_LAYOUT["weight_base"].shape, reset_less=True)

        end = Signal()
        last = Signal()
        m.d.comb += [
            end.eq((self.swap | filling) & (step == rows - 1)),
            last.eq(Cat(left[n] == 0 for n in loops).all()),
            self.idle.eq(~active | (end & last)),
            self.loaded.eq(active & ~filling & (hold == 0)), self.filling.eq(filling),
        ]
        with m.If(self.swap):
            m.d.sync += hold.eq(REVISIT - 1)
        with m.Elif(hold != 0):
            m.d.sync += hold.eq(hold - 1)
        with m.If(self.swap | filling):
            m.d.sync += [filling.eq(~end), step.eq(Mux(end, 0, step + 1)), address.eq(address + 1)]
            with m.If(end):
                with m.If(last):
                    m.d.sync += active.eq(0)
                with m.Elif(left["blocks"] != 0):
                    m.d.sync += left["blocks"].eq(left["blocks"] - 1)
                with m.Elif(left["kernel_x"] != 0):
                    m.d.sync += [left["kernel_x"].eq(left["kernel_x"] - 1),
                                 left["blocks"].eq(counts["blocks"] - 1)]
                with m.Else():
                    m.d.sync += [left["kernel_y"].eq(left["kernel_y"] - 1),
                                 left["kernel_x"].eq(counts["kernel_x"] - 1),
                                 left["blocks"].eq(counts["blocks"] - 1)]

        # Path of a word: address register, memory, then the array's edge.
        m.d.sync += self.address.eq(address)

        with m.If(self.start):
            m.d.sync += [active.eq(1), address.eq(self.instruction.weight_base)]
            for name in loops:
                m.d.sync += [counts[name].eq(self.instruction[name]),
                             left[name].eq(self.instruction[name] - 1)]
        return m
