"""Counters in a ring: every event of every counter, whenever it is read or cleared."""

import random

import pytest
from amaranth.sim import Simulator
from systolith.hw.core.counters import Counters


@pytest.mark.parametrize("count", [1, 2, 5, 13])
def test_every_event_is_counted(count):
    draw = random.Random(count)
    counters = Counters(count)

    async def bench(ctx):
        expected, before, places = [0] * count, [0] * count, []
        ctx.set(counters.clear, 1)
        await ctx.tick()
        share = 1.0
        for cycle in range(600):
            if cycle % 50 == 0:
                share = draw.choice([0.0, 0.3, 1.0])
            clear = draw.random() < 0.01
            events = sum((draw.random() < share) << n for n in range(count))
            ctx.set(counters.clear, clear)
            ctx.set(counters.events, events)
            place = ctx.get(counters.place)
            places.append(place)
            assert ctx.get(counters.value) == before[place]
            before = [0] * count if clear else expected
            expected = [0 if clear else old + (events >> n & 1) for n, old in enumerate(expected)]
            await ctx.tick()
        assert places[count:2 * count] == [(places[0] + n) % count for n in range(count)]
    simulator = Simulator(counters)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
