"""Addresses of results in a map."""

import random

from amaranth.sim import Simulator
from systolith.hw.core.map_address import MapAddress
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode

from .post_cases import fields_value


def test_goes_through_the_map_with_the_strides():
    draw = random.Random(3)
    width = 9
    dut, seen, expected = MapAddress(width), [], []
    instructions = [Instruction(Opcode.POST, {
        "out_y": draw.randint(1, 4), "out_x": draw.choice((1, 2, 5)),
        "stride_y": draw.randint(-40, 40), "stride_x": draw.randint(-5, 5)}) for _ in range(8)]
    # the longest row and column that an instruction can have
    instructions += [Instruction(Opcode.POST, {"out_y": 1, "out_x": 2047, "stride_x": 1}),
                     Instruction(Opcode.POST, {"out_y": 1023, "out_x": 1, "stride_y": 1})]

    async def bench(ctx):
        for i in instructions:
            base = draw.randrange(1 << width)
            ctx.set(dut.fields, fields_value(i, dut.fields.shape()))
            ctx.set(dut.base, base)
            ctx.set(dut.begin, 1)
            await ctx.tick()
            ctx.set(dut.begin, 0)
            for y in range(i.out_y):
                for x in range(i.out_x):
                    ctx.set(dut.last_x, x == i.out_x - 1)
                    if draw.random() < 0.05:         # it must stand still without a step
                        ctx.set(dut.step, 0)
                        await ctx.tick()
                    expected.append((base + y * i.stride_y + x * i.stride_x) % (1 << width))
                    seen.append(ctx.get(dut.word))
                    ctx.set(dut.step, 1)
                    await ctx.tick()
            ctx.set(dut.step, 0)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == expected
