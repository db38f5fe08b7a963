"""Many counters of events that share one adder."""

from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Counters"]

#: Bit 0 of a register's next state is the XNOR of these two bits: by the register's bits. From 0 on
#: it then goes through all states but that of ones, and is at 0 again.
_TAPS = {2: (1, 0), 3: (2, 1), 4: (3, 2), 5: (4, 2), 6: (5, 4)}


class Counters(wiring.Component):
    """Counts `count` events, each as often as once a cycle, in 32 bits.

    The counters go round in a ring of registers, one step a cycle. What happens in between is
    counted in a few bits for each, which are chosen in the cycle before the counter comes by, and
    added then. So there is one long adder, and one place to read from, instead of `count`. These
    few bits are a shift register with feedback, whose state says how often it was shifted: that
    takes a LUT or two for each counter, and one table for all.

    Parameters
    ----------
    count : int
        1 to 62.

    Members
    -------
    clear : In(1)
        All become 0, events of this cycle included.
    events : In(count)
    place : Out(range(count))
        Which counter `value` is, one after the other.
    value : Out(32)
        Its events before the last cycle.
    """

    WIDTH = 32

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__({"clear": In(1), "events": In(count), "place": Out(range(count)),
                          "value": Out(self.WIDTH)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = max(2, (self.count + 1).bit_length())
        one, other = _TAPS[bits]
        ring = [Signal(self.WIDTH, name=f"ring_{n}", reset_less=True) for n in range(self.count)]
        short = [Signal(bits, name=f"short_{n}") for n in range(self.count)]
        # One bit, at the counter that comes next, goes round, too.
        following = Signal(self.count, init=1)
        more = Signal(bits)
        m.d.comb += self.value.eq(ring[0] + Array(_counts(bits, (one, other)))[more])
        m.d.sync += [
            following.eq(following.rotate_left(1)),
            self.place.eq(Mux(following[0], 0, self.place + 1)),
            more.eq(reduce(or_, (state & here.replicate(bits)
                                 for state, here in zip(short, following, strict=True)))),
            *(old.eq(new) for old, new in zip(ring, [*ring[1:], self.value], strict=True))]
        for n, state in enumerate(short):
            with m.If(following[n]):
                m.d.sync += state.eq(self.events[n])
            with m.Elif(self.events[n]):
                m.d.sync += state.eq(Cat(~(state[one] ^ state[other]), state))
        with m.If(self.clear):
            m.d.sync += [counter.eq(0) for counter in [*ring, *short, more]]
        return m


def _counts(bits, taps):
    """How often a register was shifted from 0 on, by its state; of ones, which none reaches, 0."""
    found, state = [0] * (1 << bits), 0
    for number in range((1 << bits) - 1):
        found[state] = number
        state = (state << 1 | ~(state >> taps[0] ^ state >> taps[1]) & 1) & (1 << bits) - 1
    return found
