"""The window reader against the order of reads that the access model writes down."""

import random

import pytest
from amaranth.sim import Simulator
from systolith.hw.core.window_reader import WindowReader
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Destination, Pooling
from systolith.hw.spec.loops import chunk_count
from systolith.hw.spec.loops import reads as words_of
from systolith.hw.spec.timing import read_period

from .post_cases import fields_value, random_post

ARCH = Arch(rows=6, columns=6, post_lanes=2, accumulator_depth=256, activation_depth=64,
            operand_depth=64)                        # three chunks a group
KEPT = (Pooling.CARRIED, Pooling.LEAD)


def expected(i, arch):
    """(address, chunk, first, last, column, carried, whole, end_row, end, takes room) of every
    read, in order.

    The model says which words a chunk reads; each result's are read once for every chunk.
    """
    words = words_of(i).tolist()
    for y in range(i.out_y):
        for x in range(i.out_x):
            columns = i.pool_x + (i.pooling == Pooling.LEAD and x == 0)
            window, words = words[:columns * i.pool_y], words[columns * i.pool_y:]
            for chunk in range(chunk_count(i, arch)):
                for n, word in enumerate(window):
                    first = n == 0
                    yield (word, chunk, first, n == len(window) - 1, n % i.pool_y == 0,
                           first and i.pooling in KEPT and x > 0,
                           chunk == chunk_count(i, arch) - 1, x == i.out_x - 1,
                           (x, y) == (i.out_x - 1, i.out_y - 1),
                           first and i.destination == Destination.STORE
                           and (bool(i.raw) or chunk == 0))
    assert not words


def run(instructions, room):
    """What the reader does in each cycle in which it reads; `room` says when there is room. And in
    which cycles it could not, by how many words had been read then."""
    dut = WindowReader(arch=ARCH)
    seen, waits, cycles = [], [], []

    async def bench(ctx):
        for i in instructions:
            ctx.set(dut.fields, fields_value(i, dut.fields.shape()))
            ctx.set(dut.begin, 1)
            await ctx.tick()
            ctx.set(dut.begin, 0)
            count, before, cycle = len(list(expected(i, ARCH))), len(seen), 0
            while len(seen) < before + count:
                ctx.set(dut.room, room())
                mark, flags = ctx.get(dut.mark), None
                assert mark.valid == ctx.get(dut.read)
                if mark.valid:
                    flags = (mark.chunk, *(bool(mark[name]) for name in (
                        "first", "last", "column", "carried", "whole", "end_row", "end")),
                        bool(ctx.get(dut.reserve)))
                    cycles.append(cycle)
                else:
                    assert not ctx.get(dut.reserve)
                assert not (mark.valid and ctx.get(dut.waiting))
                if ctx.get(dut.waiting):
                    waits.append(len(seen))
                await ctx.tick()
                cycle += 1
                if flags is not None:
                    seen.append((ctx.get(dut.address), *flags))
            for _ in range(3):
                assert not ctx.get(dut.read) and not ctx.get(dut.waiting)
                await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen, waits, cycles


@pytest.mark.parametrize("pooling", Pooling)
def test_reads_each_window_for_each_chunk_as_the_model_says(pooling):
    draw = random.Random(int(pooling))
    instructions = [random_post(draw, ARCH, pooling=pooling) for _ in range(8)]
    seen, waits, cycles = run(instructions, lambda: 1)
    reads = [list(expected(i, ARCH)) for i in instructions]
    assert seen == [read for words in reads for read in words]
    assert not waits and cycles == [                 # one word in a cycle, or in two
        n * read_period(i.operand) for i, words in zip(instructions, reads, strict=True)
        for n in range(len(words))]


def test_waits_for_room_at_an_item_s_first_word_only():
    draw = random.Random(9)
    fixed = dict(destination=Destination.STORE)
    instructions = [random_post(draw, ARCH, **fixed) for _ in range(6)]
    instructions += [random_post(draw, ARCH, pooling=Pooling.LARGEST, raw=True, **fixed)]
    seen, waits, _ = run(instructions, lambda: draw.random() < 0.3)
    reference = [read for i in instructions for read in expected(i, ARCH)]
    assert seen == reference
    assert waits and all(reference[n][-1] for n in waits)


def test_results_for_memories_need_no_room():
    draw = random.Random(4)
    i = random_post(draw, ARCH, destination=Destination.ACTIVATION, raw=False)
    seen, waits, _ = run([i], lambda: 0)
    assert seen == list(expected(i, ARCH)) and not waits
