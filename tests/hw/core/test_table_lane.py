"""One channel's table: what was written comes back, for every number modulo the depth."""

import random

import pytest
from amaranth.hdl import Fragment
from amaranth.sim import Simulator
from systolith.hw.core.table_lane import TableLane
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.timing import TABLE_LOOKUP


@pytest.mark.parametrize("activation, depth", [("int8", 512), ("int3", 8), ("e2m1", 32)])
def test_results_are_looked_up(activation, depth):
    weight = "e2m1" if activation[0] == "e" else "int8"
    arch = Arch(rows=2, columns=2, activation=activation, weight=weight, table_depth=depth)
    width, draw = arch.activation.width, random.Random(activation)
    dut = TableLane(arch=arch)
    table = [draw.randrange(-1 << width - 1, 1 << width - 1) for _ in range(depth)]
    numbers = draw.sample(range(-depth // 2, depth // 2), depth)

    async def bench(ctx):
        ctx.set(dut.write_enable, 1)
        for address, value in enumerate(table):
            ctx.set(dut.write_address, address)
            ctx.set(dut.write_data, value)
            await ctx.tick()
        ctx.set(dut.write_enable, 0)
        for n in range(depth + TABLE_LOOKUP):
            if n < depth:
                ctx.set(dut.number, numbers[n])
            if n >= TABLE_LOOKUP:
                assert ctx.get(dut.ordered) == table[numbers[n - TABLE_LOOKUP] % depth]
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_a_word_is_written_or_not():
    lane = TableLane(arch=Arch(rows=2, columns=2, table_depth=256))
    Fragment.get(lane, None)                # a component that nothing uses is an error
    assert len(lane.write_enable) == 1 and len(lane.write_data) == 8 == len(lane.write_address)
