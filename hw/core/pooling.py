"""Pooling: the results of a window's words become one result."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.timing import POOLING, gain_by_pooling, pooled_bits

from .products import less, register
from .window_reader import mark_layout

__all__ = ["Pooling"]


class Pooling(wiring.Component):
    """Takes the largest (or smallest) result of each window, channel by channel.

    First the largest result of a column of the window so far is found, then that of all columns so
    far. The column that was read last is kept for each chunk, since the next window may begin with
    it (`mark.carried`). For sums over a window the last result is taken, which is that of the whole
    sum.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    mark : In(mark_layout(arch))
        What the results of this cycle are.
    results : In(ArrayLayout(signed(arch.first_bits), arch.post_lanes))
        One ordered integer a channel.
    least : In(arch.post_lanes)
        1: the channel's smallest result is taken, not its largest; only for bipolar results.
    summed : In(1)
        1: the last result is taken.
    preset : In(1), gain : In(signed(arch.gain_bits))
        On chips with `timing.gain_by_pooling`: `best` is the gain in the next cycle.
    coming : Out(mark_layout(arch))
        What `pooled` is in the next cycle.
    pooled : Out(mark_layout(arch)), best : Out(as results, of pooled_bits(arch) bits)
        `mark` and the window's result so far, `timing.POOLING` cycles later; final where the mark
        is valid and the window's last.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        results = data.ArrayLayout(signed(arch.first_bits), arch.post_lanes)
        super().__init__({
            "mark": In(mark_layout(arch)), "results": In(results), "summed": In(1),
            **({"least": In(arch.post_lanes)} if arch.activation.binary else {}),
            **({"preset": In(1), "gain": In(signed(arch.gain_bits))} if gain_by_pooling(arch)
               else {}),
            "coming": Out(mark_layout(arch)), "pooled": Out(mark_layout(arch)),
            "best": Out(data.ArrayLayout(signed(pooled_bits(arch)), arch.post_lanes)),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # With a reset: no result that was under way may be written after one.
        mark = Signal.like(self.mark, name="column_mark")
        m.d.sync += mark.eq(self.mark)
        stages = [mark]
        for stage in range(1, POOLING):
            delayed = Signal.like(mark, name=f"mark_{stage}")
            m.d.sync += delayed.eq(stages[-1])
            stages.append(delayed)
        m.d.comb += [self.coming.eq(stages[-2]), self.pooled.eq(stages[-1])]
        for lane in range(self.arch.post_lanes):
            self._elaborate_lane(m, lane, mark)
        return m

    def _elaborate_lane(self, m, lane, mark):
        """`mark` is that of the last word that `column` holds."""
        new, following, shape = self.results[lane], self.mark, signed(self.arch.first_bits)
        column, known = (Signal(shape, name=f"{name}_{lane}", reset_less=True)
                         for name in ("column", "known"))
        least = [Const(0)] * 2
        if self.arch.activation.binary:
            least = [self.least[lane], register(m, self.least[lane], f"least_{lane}")]

        # Either of two equal results may be taken. Comparisons come late: one gate follows each.
        smaller = less(column, new)
        with m.If(following.valid & (following.column | self.summed | (smaller ^ least[0]))):
            m.d.sync += column.eq(new)

        # The window's columns before this one, and what this one has so far; at the window's first
        # word what is kept for it.
        begins, better, kept_comes = (Signal(name=f"{name}_{lane}") for name in (
            "begins", "better", "kept_comes"))
        m.d.comb += [
            begins.eq(self.summed | (mark.first & ~mark.carried)),
            better.eq(begins | ~(less(column, known) ^ least[1])),
            kept_comes.eq(following.valid & following.carried),
        ]
        # At a window's begin `column` is the last one of the window before it, that of another
        # chunk; the last column of this chunk's window before is as many windows ago as chunks.
        kept, carried = column, following.valid & following.carried
        for chunk in range(1, self.arch.chunks):
            before, kept = kept, Signal(shape, name=f"kept_{lane}_{chunk}", reset_less=True)
            with m.If(following.valid & following.first):
                m.d.sync += kept.eq(before)
        if self.arch.chunks > 1:
            kept = Mux(carried, kept, column)
        with m.If(kept_comes | (mark.valid & better)):
            m.d.sync += known.eq(kept)
        better, column, known = (register(m, value, f"{name}_{lane}_then") for name, value in (
            ("better", better), ("column", column), ("known", known)))
        best = Mux(better, column, known)
        if gain_by_pooling(self.arch):
            best = Mux(self.preset, self.gain, best)
        m.d.comb += self.best[lane].eq(register(m, best, f"best_{lane}"))
