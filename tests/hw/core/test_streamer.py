"""The address generator against the loops that the instruction's definition writes down."""

import random

import pytest
from amaranth.sim import Simulator
from systolith.hw.core.streamer import PixelStreamer
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction

from .post_cases import layout_value

ARCH = Arch(rows=2, columns=2, activation_depth=1 << 13)


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
                    address = (i.base + block * i.stride_block + y + x) % ARCH.activation_depth
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
    return Instruction(isa.Opcode.ARRAY, {
        **counts, **strides, "stride_block": width * height, "base": rng.randint(0, 5000),
        "y_start": rng.randint(-3, 3) * width, "x_start": rng.randint(-3, 3),
        "y_last": (height - 1) * width, "x_last": width - 1,
        "replicate": rng.randrange(2)})


@pytest.mark.parametrize("seed", range(6))
def test_walks_through_passes_and_pixels_as_the_loops_say(seed):
    rng = random.Random(seed)
    programs = [instruction(rng) for _ in range(5)]
    dut = PixelStreamer(arch=ARCH)
    flags, steps, places = [], [], []

    async def bench(ctx):
        begun = 2                           # cycles since the last instruction has begun
        following = iter(programs)
        ready, there = 0, True
        while there or ready or begun < 3 or any(steps[-3:]) or ctx.get(dut.running):
            if begun == 2:                  # until then the last one is read
                item = next(following, None)
                there = item is not None
                if there:
                    ctx.set(dut.instruction, layout_value(item, ARCH))
            elif there and begun > 2:
                ready = ready or rng.random() < 0.5
            ctx.set(dut.ready, ready)
            ctx.set(dut.enter, rng.choice((0, 1, 2)))
            steps.append(ctx.get(dut.step))
            if steps[-1]:
                flags.append(tuple(bool(ctx.get(flag)) for flag in (
                    dut.first_pixel, dut.last_pixel, dut.first_pass, dut.last_pass)))
            assert ctx.get(dut.finish) == bool(steps[-1] and flags[-1][1] and flags[-1][3])
            if steps[-3:-2] == [1]:
                inside = bool(ctx.get(dut.inside))
                places.append((ctx.get(dut.address) if inside else None, inside))
            begun += 1
            if ctx.get(dut.begin):
                begun, ready = 1, 0
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    expected = [pixel for i in programs for pixel in loops(i)]
    assert flags == [tuple(rest) for _, _, *rest in expected]
    assert places == [(address, inside) for address, inside, *_ in expected]
