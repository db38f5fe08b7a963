"""The address generator against the loops that the instruction's definition writes down."""

import random

import pytest
from amaranth.sim import Simulator
from systolith.hw.core.streamer import PixelStreamer
from systolith.hw.spec import isa


def loops(i):
    """(address, inside, first and last pixel of the pass, first and last pass) of each pixel."""
    for ky in range(i.kernel_y):
        for kx in range(i.kernel_x):
            for block in range(i.blocks):
                first_pass = (ky, kx, block) == (0, 0, 0)
                last_pass = (ky, kx, block) == (i.kernel_y - 1, i.kernel_x - 1, i.blocks - 1)
                pixels = [(oy, ox, py, px) for oy in range(i.out_y) for ox in range(i.out_x)
                          for py in range(i.pool_y) for px in range(i.pool_x)]
                for n, (oy, ox, py, px) in enumerate(pixels):
                    y = (i.y_start + ky * i.stride_ky + oy * i.stride_oy + py * i.stride_py)
                    x = (i.x_start + kx * i.stride_kx + ox * i.stride_ox + px * i.stride_px)
                    if i.replicate:
                        y, x = max(0, min(y, i.y_last)), max(0, min(x, i.x_last))
                    inside = 0 <= y <= i.y_last and 0 <= x <= i.x_last
                    address = (i.base + block * i.stride_block + y + x) % (1 << 20)
                    yield (address if inside else None, inside, n == 0, n == len(pixels) - 1,
                           first_pass, last_pass)


def instruction(rng):
    width, height = rng.randint(1, 9), rng.randint(1, 9)
    counts = {name: rng.choice((1, 1, 2, 3)) for name in
              ("kernel_y", "kernel_x", "blocks", "out_y", "out_x", "pool_y", "pool_x")}
    strides = {name: rng.randint(-2, 3) for name in
               ("stride_kx", "stride_ox", "stride_px")}
    strides |= {name: rng.randint(-2, 3) * width for name in
                ("stride_ky", "stride_oy", "stride_py")}
    return isa.Instruction(isa.Opcode.ARRAY, {
        **counts, **strides, "stride_block": width * height, "base": rng.randint(0, 5000),
        "y_start": rng.randint(-3, 3) * width, "x_start": rng.randint(-3, 3),
        "y_last": (height - 1) * width, "x_last": width - 1,
        "replicate": rng.randrange(2)})


@pytest.mark.parametrize("seed", range(6))
def test_walks_through_passes_and_pixels_as_the_loops_say(seed):
    rng = random.Random(seed)
    programs = [instruction(rng) for _ in range(5)]
    dut = PixelStreamer()
    seen, expected = [], [pixel for i in programs for pixel in loops(i)]

    async def bench(ctx):
        for number, i in enumerate(programs):
            pixels = list(loops(i))
            if number == 0:
                await start(ctx, i)
            for n in range(len(pixels)):
                while rng.random() < 0.3:           # it must stand still without a step
                    await ctx.tick()
                inside = ctx.get(dut.inside)
                now = (bool(inside),
                       bool(ctx.get(dut.first_pixel)), bool(ctx.get(dut.last_pixel)),
                       bool(ctx.get(dut.first_pass)), bool(ctx.get(dut.last_pass)))
                ctx.set(dut.step, 1)
                if n == len(pixels) - 1 and number + 1 < len(programs):
                    await start(ctx, programs[number + 1])      # in the cycle of the last step
                else:
                    await ctx.tick()
                ctx.set(dut.step, 0)
                seen.append((ctx.get(dut.address) if inside else None, *now))

    async def start(ctx, i):
        word = i.encode() & ((1 << isa.layout(isa.Opcode.ARRAY).size) - 1)
        ctx.set(dut.instruction.as_value(), word)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == expected
