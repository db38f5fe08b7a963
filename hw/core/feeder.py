"""Fills the array with weights: which weight word is on its way to the array, and when."""

from amaranth.hdl import Array, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.narrow import parts_of
from systolith.hw.spec.timing import shortest_pass

__all__ = ["WeightFeeder"]


class WeightFeeder(wiring.Component):
    """Fills the array's weights, one filling per pass, in program order.

    The words of a filling follow that of the filling before it, but for an instruction's first
    one. A filling takes `arch.fill` cycles from the one in which it is swapped in, and the next one
    may be swapped in `timing.shortest_pass` cycles after it.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    loaded : Out(1)
        From the next cycle on, a filling can be swapped in.
    filled : Out(1)
        All words of the last one have been decided on.
    swap : In(1)
        A filling is swapped in by the pixel of this cycle; only after a cycle that was `loaded`.
    first : In(1)
        It is its instruction's first one.
    base : In(range(weight_depth))
        One cycle later: the instruction's first weight word.
    least : In(range(shortest_pass))
        Cycles after which another filling can be swapped in after one of the instruction's that is
        not its first, less one.
    more : In(range(arch.fill))
        One cycle after `swap`: words of a filling, less one.
    fetching : Out(1)
        A word was decided on in the cycle before.
    address : Out(range(weight_depth))
        Weight word, two cycles after it was decided on.
    narrow : In(range(len(code_widths) + 1))
        One cycle after `swap`: the instruction's field. Only on chips with narrow weights.
    part : Out(range(parts))
        While `fetching`: which of `narrow.parts_of` a row's weights are. Only on such chips.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        word = range(arch.weight_depth)
        super().__init__({
            "loaded": Out(1, init=1), "filled": Out(1), "swap": In(1), "first": In(1),
            "base": In(word), "address": Out(word), "least": In(range(shortest_pass(arch))),
            "more": In(range(arch.fill)), "fetching": Out(1), **({
                "narrow": In(range(len(arch.code_widths) + 1)),
                "part": Out(range(len(parts_of(arch)[0])))} if arch.code_widths else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows, shortest = self.arch.fill, shortest_pass(self.arch)
        left = Signal(range(shortest))      # cycles until the next filling may be swapped in
        with m.If(self.swap):
            m.d.sync += [left.eq(Mux(self.first, shortest - 1, self.least)), self.loaded.eq(0),
                         self.filled.eq(rows == 1)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
            with m.If(left == 2):
                m.d.sync += self.loaded.eq(1)
            if rows > 1:
                with m.If(left == shortest - rows + 1):
                    m.d.sync += self.filled.eq(1)

        swapped = Signal()
        first = Signal()
        filling = Signal()
        m.d.sync += [swapped.eq(self.swap), first.eq(self.first)]
        if rows > 1:
            more = Signal(range(rows))      # words after the one that comes next
            with m.If(swapped):
                m.d.sync += [filling.eq(self.more != 0), more.eq(self.more - 1)]
            with m.Elif(filling):
                m.d.sync += [filling.eq(more != 0), more.eq(more - 1)]
        m.d.comb += self.fetching.eq(swapped | filling)
        further: Value = Const(1)
        if self.arch.code_widths:
            parts, starts = parts_of(self.arch)
            following = Signal.like(self.part)
            further = Signal()
            m.d.comb += self.part.eq(Mux(swapped, Array(starts)[self.narrow], following))
            with m.Switch(self.part):
                for number, part in enumerate(parts):
                    with m.Case(number):
                        m.d.comb += further.eq(part.fresh)
                        m.d.sync += following.eq(part.next)
        with m.If(self.fetching):
            m.d.sync += self.address.eq(Mux(swapped & first, self.base, self.address + further))
        return m
