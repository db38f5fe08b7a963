"""Token counters: one for every ordered pair of units."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.spec.isa import Unit

__all__ = ["TokenCounters"]


class TokenCounters(wiring.Component):
    """Counts the tokens that unit s has given to unit d and d has not yet taken.

    A token given in cycle t is available from cycle t + 1. A token taken in cycle t is not
    available from cycle t + 2 on: a unit takes none in two cycles that follow each other. It may
    only take what is available. Both are counted in the cycle after.

    Parameters
    ----------
    bits : int
        Of each counter.

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
        Two cycles before, a counter was at its largest value, 2**bits, and got a token; the
        tokens are lost.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
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
                # less one, so that the sign says whether there is a token
                count, following = (
                    Signal(signed(self.bits + 1), init=-1,
                           name=f"{what}_{source.name}_{target.name}".lower())
                    for what in ("count", "following"))
                some = Signal(name=f"some_{source.name}_{target.name}".lower())
                give, take = self.give[source][target], self.take[target][source]
                given, taken = (Signal(name=f"{what}_{source.name}_{target.name}".lower())
                                for what in ("given", "taken"))
                overflows.append(~count[-1] & following[-1] & given & ~taken)
                m.d.comb += [
                    self.available[target][source].eq(some),
                    # plus or minus one in a single adder
                    following.eq(count + taken.replicate(len(count)) + given)]
                with m.If(self.clear):
                    m.d.sync += [count.eq(-1), some.eq(0), given.eq(0), taken.eq(0)]
                with m.Else():
                    m.d.sync += [given.eq(give), taken.eq(take), count.eq(following),
                                 some.eq(give | ~following[-1])]
        m.d.sync += self.overflow.eq(Cat(overflows).any() & ~self.clear)
        return m
