"""Fills the array with weights: which weight word is on its way to the array, and when."""

from amaranth.hdl import Array, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.narrow import parts_of
from systolith.hw.spec.near import near_rows
from systolith.hw.spec.timing import shortest_pass

__all__ = ["WeightFeeder"]


class WeightFeeder(wiring.Component):
    """Fills the array's weights, one filling per pass, in program order.

    The words of a filling follow that of the filling before it, but for an instruction's first
    one. A filling takes `arch.fill` cycles from the one in which it is swapped in, and the next one
    may be swapped in `timing.shortest_pass` cycles after it. On chips with arch.two_fillings that
    can be before it ends: the words of the lower half of the rows then go on beside the first ones
    of the next filling. As words of even and of odd numbers lie in two memories, and both fillings
    go on by a word a cycle, they never want the same one if they do not in the first cycle.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    loaded : Out(1)
        From the next cycle on, a filling can be swapped in.
    filled : Out(1)
        All words of the last one have been decided on; those of the upper rows where fillings
        overlap.
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
    idle : In(1)
        One cycle after `swap`: the instruction's first filling needs as many cycles as the others,
        since the rows beyond are idle already. Only where fillings overlap, as all that follows.
    near : In(1), near_least : In(range(shortest_pass))
        One cycle after `swap`: the instruction's first filling is one of near rows, which takes so
        many cycles, less one. Only in arrays that have near rows.
    asks : Out(1)
        A cycle after `fetching`.
    below : Out(range(weight_depth)), fetching_below : Out(1)
        As `address` and `fetching`, for the words of the lower rows, which are not those of others.
    next_odd : Out(1)
        Whether the first word of the instruction's next filling has an odd number.
    alone : Out(1), turn : Out(1)
        In the next cycle a filling may be swapped in as no words of the lower rows are left, or if
        the lowest bit of its first word's number is `turn`.
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
            **({"idle": In(1), "asks": Out(1), "below": Out(word), "fetching_below": Out(1),
                "next_odd": Out(1), "alone": Out(1), "turn": Out(1)}
               if arch.two_fillings else {}),
            **({"near": In(1), "near_least": In(range(shortest_pass(arch)))}
               if near_rows(arch) else {}),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows = self.arch.upper_rows if self.arch.two_fillings else self.arch.fill
        shortest = shortest_pass(self.arch)
        left = Signal(range(shortest))      # cycles until the next filling may be swapped in
        swapped = Signal()
        first = Signal()
        filling = Signal()
        m.d.sync += [swapped.eq(self.swap), first.eq(self.first)]
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

        if near_rows(self.arch):
            with m.If(swapped & first & self.near):
                m.d.sync += left.eq(self.near_least - 1)
        if self.arch.two_fillings:
            with m.If(swapped & first & self.idle):
                m.d.sync += left.eq(self.least - 1)
            self._elaborate_two(m, swapped, first, filling)
            return m
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

    def _elaborate_two(self, m, swapped, first, filling):
        """The words of the upper rows, and those of the lower rows after them."""
        rows, fill = self.arch.upper_rows, self.arch.fill
        word = range(self.arch.weight_depth)
        start = Signal(word)
        following = Signal(word, reset_less=True)
        # words of both after the one that comes next; those of the lower rows that are not begun
        upper, lower = (Signal(range(count), name=name, reset_less=True) for name, count in (
            ("upper", rows), ("lower", fill - rows + 1)))
        rest = Signal.like(lower)
        new_upper = Signal.like(upper)
        new_rest = Signal.like(rest)
        ends, enters, filling_below = (Signal(name=name) for name in (
            "ends", "enters", "filling_below"))
        beyond = self.more >= rows
        m.d.comb += [
            start.eq(Mux(first, self.base, following)),
            new_upper.eq(Mux(beyond, rows - 1, self.more)),
            new_rest.eq(Mux(beyond, self.more - (rows - 1), 0)),
            self.fetching.eq(swapped | filling),
            self.fetching_below.eq(filling_below),
            ends.eq(self.fetching & (Mux(swapped, new_upper, upper) == 0)),
        ]
        with m.If(swapped):
            m.d.sync += [filling.eq(new_upper != 0), upper.eq(new_upper - 1), rest.eq(new_rest),
                         following.eq(start + self.more + 1)]
        with m.Elif(filling):
            m.d.sync += [filling.eq(upper != 0), upper.eq(upper - 1)]
        waiting = Signal.like(rest)
        goes_on = Signal()                  # with the lower rows, of which others may be read yet
        m.d.comb += [waiting.eq(Mux(swapped, new_rest, rest)), goes_on.eq(ends & (waiting != 0))]
        m.d.sync += [enters.eq(goes_on), self.asks.eq(self.fetching)]
        with m.If(goes_on):
            m.d.sync += [filling_below.eq(1), lower.eq(waiting - 1)]
        with m.Elif(filling_below):
            m.d.sync += [filling_below.eq(lower != 0), lower.eq(lower - 1)]
        with m.If(self.fetching):
            m.d.sync += self.address.eq(Mux(swapped, start, self.address + 1))
        with m.If(filling_below):
            m.d.sync += self.below.eq(Mux(enters, self.address, self.below) + 1)

        # When all words will have been decided on, and whether the one that would be next is odd.
        undecided = Signal(range(fill))
        odd = Signal()
        m.d.comb += [self.alone.eq(undecided <= 1),
                     self.turn.eq(odd), self.next_odd.eq(following[0])]
        with m.If(swapped):
            m.d.sync += [undecided.eq(Mux(self.more == 0, 0, self.more - 1)), odd.eq(start[0])]
        with m.Else():
            m.d.sync += odd.eq(~odd)
            with m.If(undecided != 0):
                m.d.sync += undecided.eq(undecided - 1)
