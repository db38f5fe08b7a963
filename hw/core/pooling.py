"""Pooling: the results of a window's words become one result."""

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.arch import Arch

from .window_reader import mark_layout

__all__ = ["Pooling"]


class Pooling(wiring.Component):
    """Takes the largest (or smallest) result of each window, channel by channel.

    For sums over a window it takes the last result, which is that of the whole sum. The largest
    result of the column that was read last is kept for each chunk, since the next window may begin
    with it (`mark.carried`).

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
    best : Out(as results)
        The window's result so far, this cycle's results included; final with `mark.last`.
    largest : Out(as results)
        `best`, one cycle later.
    """

    def __init__(self, *, arch: Arch) -> None:
        self.arch = arch
        results = data.ArrayLayout(signed(arch.first_bits), arch.post_lanes)
        super().__init__({
            "mark": In(mark_layout(arch)), "results": In(results), "summed": In(1),
            **({"least": In(arch.post_lanes)} if arch.activation.binary else {}),
            "best": Out(results), "largest": Out(results),
        })

    def elaborate(self, platform):
        m = Module()
        for lane in range(self.arch.post_lanes):
            self._elaborate_lane(m, lane)
        return m

    def _elaborate_lane(self, m, lane):
        mark = self.mark
        least = self.least[lane] if self.arch.activation.binary else 0
        new, old, top, known, best = (
            Signal(signed(self.arch.first_bits), name=f"{name}_{lane}", reset_less=True)
            for name in ("new", "old", "top", "known", "best"))
        tops = Array(Signal.like(new, name=f"top_{lane}_{chunk}", reset_less=True)
                     for chunk in range(self.arch.chunks))
        # Either of two equal results may be taken.
        m.d.comb += [
            new.eq(self.results[lane]), top.eq(tops[mark.chunk]),
            known.eq(Mux(mark.carried, top, old)),
            best.eq(Mux((mark.first & ~mark.carried) | self.summed | ((new > known) ^ least),
                        new, known)),
            self.best[lane].eq(best), self.largest[lane].eq(old),
        ]
        with m.If(mark.valid):
            m.d.sync += old.eq(best)
            with m.If(mark.column | ((new > top) ^ least)):
                m.d.sync += tops[mark.chunk].eq(new)
