"""Token counters: one for every ordered pair of units."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.isa import Unit
from systolith.hw.spec.numbers import TOKEN_BITS

__all__ = ["TokenCounters"]


class TokenCounters(wiring.Component):
    """Counts the tokens that unit s has given to unit d and d has not yet taken.

    A token given in cycle t is available from cycle t + 1. A token taken in cycle t is not
    available from cycle t + 2 on: a unit takes none in two cycles that follow each other. It may
    only take what is available. Both are counted in the cycle after.

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
        Two cycles before, a counter was at its largest value, 2**TOKEN_BITS - 1, and got a token,
        which is lost.
    """

    def __init__(self) -> None:
        super().__init__({
            "available": Out(4).array(4), "take": In(4).array(4), "give": In(4).array(4),
            "clear": In(1), "overflow": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        m = Module()
        overflows = []
        for source in Unit:
            for target in Unit:
                if source == target:
                    continue
                count = Signal(TOKEN_BITS, name=f"count_{source.name}_{target.name}".lower())
                some = Signal(name=f"some_{source.name}_{target.name}".lower())
                give, take = self.give[source][target], self.take[target][source]
                given, taken = (Signal(name=f"{what}_{source.name}_{target.name}".lower())
                                for what in ("given", "taken"))
                full = count.all()
                overflows.append(full & given & ~taken)
                m.d.comb += self.available[target][source].eq(some)
                with m.If(self.clear):
                    m.d.sync += [count.eq(0), some.eq(0), given.eq(0), taken.eq(0)]
                with m.Else():
                    m.d.sync += [given.eq(give), taken.eq(take),
                                 some.eq(give | given | Mux(taken, count != 1, some))]
                    with m.If((given ^ taken) & ~(full & given)):
                        # plus or minus one in a single adder
                        m.d.sync += count.eq(count + taken.replicate(TOKEN_BITS) + given)
        m.d.sync += self.overflow.eq(Cat(overflows).any() & ~self.clear)
        return m
