"""The window reader against the order of reads that the access model writes down."""

import random

import pytest
from amaranth.sim import Simulator
from systolith.hw.core.window_reader import WindowReader
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Destination, Pooling
from systolith.hw.spec.loops import reads

from .post_cases import fields_value, layout_value, random_post

ARCH = Arch(rows=2, columns=4, post_lanes=2, accumulator_depth=256, activation_depth=64)
KEPT = (Pooling.CARRIED, Pooling.LEAD)


def expected(i, arch):
    """(address, chunk, first, last, column, carried, takes room) of every read, in order.

    The model says which words a chunk reads; each result's are read once for every chunk.
    """
    words = reads(i).tolist()
    for _ in range(i.out_y):
        for x in range(i.out_x):
            columns = i.pool_x + (i.pooling == Pooling.LEAD and x == 0)
            window, words = words[:columns * i.pool_y], words[columns * i.pool_y:]
            for chunk in range(arch.chunks):
                for n, word in enumerate(window):
                    first = n == 0
                    yield (word, chunk, first, n == len(window) - 1, n % i.pool_y == 0,
                           first and i.pooling in KEPT and x > 0,
                           first and i.destination == Destination.STORE
                           and (bool(i.raw) or chunk == 0))
    assert not words


def run(instructions, room):
    """What the reader does in each cycle in which it reads; `room` says when there is room."""
    dut = WindowReader(arch=ARCH)
    seen, waits = [], []

    async def bench(ctx):
        for i in instructions:
            value = layout_value(i)
            ctx.set(dut.instruction, value)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            ctx.set(dut.instruction, {})             # it must be taken from `fields` from now on
            ctx.set(dut.fields, fields_value(i, dut.fields.shape()))
            while ctx.get(dut.reading):
                ctx.set(dut.room, room())
                mark = ctx.get(dut.mark)
                if ctx.get(dut.read):
                    assert mark.valid
                    seen.append((ctx.get(dut.address), mark.chunk, bool(mark.first),
                                 bool(mark.last), bool(mark.column), bool(mark.carried),
                                 bool(ctx.get(dut.reserve))))
                else:
                    assert not mark.valid and not ctx.get(dut.reserve)
                    waits.append(len(seen))
                await ctx.tick()
            assert not ctx.get(dut.read)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen, waits


@pytest.mark.parametrize("pooling", Pooling)
def test_reads_each_window_for_each_chunk_as_the_model_says(pooling):
    draw = random.Random(int(pooling))
    instructions = [random_post(draw, ARCH, pooling=pooling) for _ in range(8)]
    seen, waits = run(instructions, lambda: 1)
    assert seen == [read for i in instructions for read in expected(i, ARCH)]
    assert not waits                                 # one word a cycle


def test_waits_for_room_at_an_item_s_first_word_only():
    draw = random.Random(9)
    fixed = dict(destination=Destination.STORE)
    instructions = [random_post(draw, ARCH, **fixed) for _ in range(6)]
    instructions += [random_post(draw, ARCH, pooling=Pooling.LARGEST, raw=True, **fixed)]
    seen, waits = run(instructions, lambda: draw.random() < 0.3)
    reference = [read for i in instructions for read in expected(i, ARCH)]
    assert seen == reference
    assert waits and all(reference[n][-1] for n in waits)


def test_results_for_memories_need_no_room():
    draw = random.Random(4)
    i = random_post(draw, ARCH, destination=Destination.ACTIVATION, raw=False)
    seen, waits = run([i], lambda: 0)
    assert seen == list(expected(i, ARCH)) and not waits
