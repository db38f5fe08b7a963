"""Many counters of events that share one adder."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Counters"]


class Counters(wiring.Component):
    """Counts `count` events, each as often as once a cycle, in 32 bits.

    The counters go round in a ring of registers, one step a cycle. What happens in between is
    counted in a few bits for each, which are chosen in the cycle before the counter comes by, and
    added then. So there is one long adder, and one place to read from, instead of `count`.

    Parameters
    ----------
    count : int

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
        ring = [Signal(self.WIDTH, name=f"ring_{n}", reset_less=True) for n in range(self.count)]
        short = [Signal(range(self.count + 1), name=f"short_{n}") for n in range(self.count)]
        following = Signal.like(self.place)
        more = Signal.like(short[0])
        m.d.comb += self.value.eq(ring[0] + more)
        m.d.sync += [
            following.eq(Mux(following == self.count - 1, 0, following + 1)),
            self.place.eq(following), more.eq(Array(short)[following]),
            *(old.eq(new) for old, new in zip(ring, [*ring[1:], self.value], strict=True)),
            *(counter.eq(Mux(following == n, 0, counter) + self.events[n])
              for n, counter in enumerate(short))]
        with m.If(self.clear):
            m.d.sync += [counter.eq(0) for counter in [*ring, *short, more]]
        return m
