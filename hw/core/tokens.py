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
    near : int
        How many counters more there are of the tokens that ARRAY gives to POST: each gets them
        before the usual one, in the same order, and POST takes from all of them at once, as soon as
        one has a token; others may then be short of tokens, less than 2**bits.

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
    give_near : In(near)
        ARRAY gives a token to POST, as these counters see it.
    available_near : Out(near + 1)
        There is a token of ARRAY's for POST, of these and of the usual counter.
    come_near : Out(near + 1)
        So many tokens as have been taken have come.
    overflow : Out(1)
        Two cycles before, a counter was at its largest value, 2**bits, and got a token; the
        tokens are lost.
    """

    def __init__(self, bits: int, near: int = 0) -> None:
        self.bits, self.near = bits, near
        super().__init__({
            "available": Out(4).array(4), "take": In(4).array(4), "give": In(4).array(4),
            "clear": In(1), "overflow": Out(1), **({
                "give_near": In(near), "available_near": Out(near + 1), "come_near": Out(near + 1)}
                if near else {}),
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
                if self.near and (source, target) == (Unit.ARRAY, Unit.POST):
                    overflows += self._elaborate_near(m, give, taken, count, following)
        m.d.sync += self.overflow.eq(Cat(overflows).any() & ~self.clear)
        return m

    def _elaborate_near(self, m, give, taken, count, following):
        """The counters of tokens that come earlier; those of the usual one are given. Returns for
        each whether it overflows."""
        overflows = []
        counters = [(count, following, give)]
        for number in reversed(range(self.near)):
            own, then = (Signal.like(count, name=f"{what}_near_{number}") for what in (
                "count", "following"))
            given = Signal(name=f"given_near_{number}")
            overflows.append(~own[-1] & then[-1] & given & ~taken)
            m.d.comb += then.eq(own + taken.replicate(len(own)) + given)
            with m.If(self.clear):
                m.d.sync += [own.eq(-1), given.eq(0)]
            with m.Else():
                m.d.sync += [given.eq(self.give_near[number]), own.eq(then)]
            counters.insert(0, (own, then, self.give_near[number]))
        for number, (own, then, gives) in enumerate(counters):
            # less one, and with what is given now
            now = Signal(signed(len(own) + 1), name=f"now_near_{number}")
            some = Signal(name=f"some_near_{number}")
            come = Signal(init=1, name=f"come_near_{number}")
            m.d.comb += [now.eq(then + gives), self.available_near[number].eq(some),
                         self.come_near[number].eq(come)]
            with m.If(self.clear):
                m.d.sync += [some.eq(0), come.eq(1)]
            with m.Else():
                m.d.sync += [some.eq(now >= 0), come.eq(now >= -1)]
        return overflows
