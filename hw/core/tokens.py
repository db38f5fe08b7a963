"""Token counters: one for every ordered pair of units."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.isa import Unit
from systolith.hw.spec.numbers import TOKEN_BITS

__all__ = ["TokenCounters"]


class TokenCounters(wiring.Component):
    """Counts the tokens that unit s has given to unit d and d has not yet taken.

    A token given in cycle t is available from cycle t + 1. A give and a take of the same counter
    in the same cycle leave it as it is. A unit may only take what is available.

    Members
    -------
    available[d] : Out(4)
        Bit s: there is a token from unit s for unit d.
    take[d] : In(4)
        Bit s: unit d takes a token of unit s in this cycle.
    give[s] : In(4)
        Bit d: unit s gives a token to unit d in this cycle.
    clear : In(1)
        All counters become 0.
    overflow : Out(1)
        A counter is at its largest value, 2**TOKEN_BITS - 1, and gets a token, which is lost.
    """

    def __init__(self) -> None:
        super().__init__({
            "available": Out(4).array(4), "take": In(4).array(4), "give": In(4).array(4),
            "clear": In(1), "overflow": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        overflows = []
        for source in Unit:
            for target in Unit:
                if source == target:
                    continue
                count = Signal(TOKEN_BITS, name=f"count_{source.name}_{target.name}".lower())
                some = Signal(name=f"some_{source.name}_{target.name}".lower())
                give = self.give[source][target]
                take = self.take[target][source]
                full = count.all()
                overflows.append(full & give & ~take)
                m.d.comb += self.available[target][source].eq(some)
                with m.If(self.clear):
                    m.d.sync += [count.eq(0), some.eq(0)]
                with m.Elif((give ^ take) & ~(full & give)):
                    # plus or minus one in a single adder
                    m.d.sync += [count.eq(count + take.replicate(TOKEN_BITS) + give),
                                 some.eq(give | (count != 1))]
        m.d.comb += self.overflow.eq(sum(overflows[1:], overflows[0]) != 0)
        return m
