"""The queues of items and bursts: all comes out in order, and when their texts say it can."""

import random
from collections import deque

import pytest
from amaranth.sim import Simulator
from systolith.hw.core.burst_queue import BurstQueue
from systolith.hw.core.item_queue import ItemQueue


def run(component, bench):
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_items_come_out_in_order_one_in_each_cycle(share):
    draw = random.Random(int(10 * share))
    queue = ItemQueue(width=8, depth=4)

    async def bench(ctx):
        inside = deque()                # (item, the cycle from which it is at the output)
        taken = 0
        for cycle in range(400):
            write, ready = len(inside) < 4 and draw.random() < share, draw.random() < 0.7
            item = draw.randrange(256)
            ctx.set(queue.write, write)
            ctx.set(queue.item, item)
            ctx.set(queue.o.ready, ready)
            there = bool(inside) and inside[0][1] <= cycle
            assert ctx.get(queue.o.valid) == there
            if there:
                assert ctx.get(queue.o.payload) == inside[0][0]
                if ready:
                    inside.popleft()
                    taken += 1
            if write:
                inside.append((item, cycle + 2))
            await ctx.tick()
        assert taken > 60
    run(queue, bench)


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_bursts_come_out_in_order_one_in_two_cycles(share):
    draw = random.Random(int(10 * share))
    queue = BurstQueue(width=8, depth=4)

    async def bench(ctx):
        inside = deque()
        earliest = taken = 0
        for cycle in range(400):
            assert ctx.get(queue.held) == bool(inside)
            assert ctx.get(queue.full) == (len(inside) == 4)
            there = bool(inside) and max(inside[0][1], earliest) <= cycle
            assert ctx.get(queue.some) == there
            read = there and draw.random() < 0.8
            write, entry = len(inside) < 4 and draw.random() < share, draw.randrange(256)
            ctx.set(queue.write, write)
            ctx.set(queue.new, entry)
            ctx.set(queue.read, read)
            if there:
                assert ctx.get(queue.oldest) == inside[0][0]
            if read:
                inside.popleft()
                taken += 1
                earliest = cycle + 2
            if write:
                inside.append((entry, cycle + 3))
            await ctx.tick()
        assert taken > 60
    run(queue, bench)

