"""The result writer: chunks to groups, to memories and to the store unit."""

import random
import re
from dataclasses import replace

import pytest
from amaranth.back import verilog
from amaranth.sim import Simulator
from systolith.hw.core.result_writer import ResultWriter
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Destination
from systolith.hw.spec.loops import chunk_count
from systolith.hw.spec.timing import ITEMS

from .post_cases import fields_value, random_post

ARCH = Arch(rows=8, columns=4, post_lanes=2, accumulator_depth=256, activation_depth=64,
            operand_depth=64)                        # two chunks a group, two groups a word
LANES, WIDTH, SUMS = ARCH.post_lanes, ARCH.activation.width, ARCH.accumulator_bits + 1


def joined(codes, width):
    return sum((code & (1 << width) - 1) << width * n for n, code in enumerate(codes))


class Bench:
    """Feeds chunks, one a cycle at most, and records every write and item."""

    def __init__(self, draw, taken=0.5):
        self.draw, self.taken = draw, taken
        self.dut = ResultWriter(arch=ARCH)
        self.writes, self.copies, self.items, self.finishes = [], [], [], 0
        self.expected_writes, self.expected_copies, self.expected_items = [], [], []
        self.written = []

    def run(self, instructions):
        self.simulator = simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)

        async def bench(ctx):
            for number, i in enumerate(instructions):
                await self.feed(ctx, i)
                assert self.finishes == number + 1
            ctx.set(self.dut.items.ready, 1)
            for _ in range(ITEMS + 3):
                await self.tick(ctx, ready=1)
        simulator.add_testbench(bench)
        simulator.run()

    async def tick(self, ctx, ready=None):
        dut = self.dut
        ctx.set(dut.items.ready, self.draw.random() < self.taken if ready is None else ready)
        if ctx.get(dut.items.valid) and ctx.get(dut.items.ready):
            self.items.append(ctx.get(dut.items.payload))
        for enable, address, into in ((dut.write_enable, dut.write_address, self.writes),
                                      (dut.copy_enable, dut.copy_address, self.copies)):
            if ctx.get(enable):
                slot = ctx.get(enable).bit_length() - 1
                assert ctx.get(enable) == 1 << slot and ctx.get(dut.written)
                data = ctx.get(dut.write_data) >> slot * ARCH.group_bits
                into.append((ctx.get(address), slot, data & (1 << ARCH.group_bits) - 1))
        if ctx.get(dut.written):
            self.written.append(ctx.get(dut.item))
        self.finishes += ctx.get(dut.finish)
        await ctx.tick()

    async def feed(self, ctx, i):
        dut, draw = self.dut, self.draw
        ctx.set(dut.fields, fields_value(i, dut.fields.shape()))
        ctx.set(dut.begin, 1)
        await self.tick(ctx)
        ctx.set(dut.begin, 0)
        store = i.destination == Destination.STORE
        for n in range(i.out_y * i.out_x):
            offset = n // i.out_x * i.stride_y + n % i.out_x * i.stride_x
            group = []
            chunks = chunk_count(i, ARCH)
            for chunk in range(chunks):
                codes = [draw.randrange(1 << WIDTH) for _ in range(LANES)]
                raws = [draw.randrange(-(1 << SUMS - 1), 1 << SUMS - 1) for _ in range(LANES)]
                group += codes
                if store and (i.raw or chunk == 0):
                    while not ctx.get(dut.room):
                        await self.tick(ctx)
                    ctx.set(dut.reserve, 1)
                while draw.random() < 0.2:
                    ctx.set(dut.mark, {"valid": 0, "chunk": draw.randrange(ARCH.chunks),
                                       "whole": 1, "end": 1, "end_row": 1})
                    await self.tick(ctx)
                    ctx.set(dut.reserve, 0)
                # combined results, or pooled ones; the others do not matter
                numbers, others = ([draw.randrange(-top, top) for _ in range(LANES)]
                                   for top in 2 * [1 << ARCH.first_bits - 1])
                numbers = [(number & -1 << WIDTH) + code
                           for number, code in zip(numbers, codes, strict=True)]
                ctx.set(dut.combines, i.operand != 0)
                ctx.set(dut.combined, numbers if i.operand else others)
                ctx.set(dut.results, others if i.operand else numbers)
                ctx.set(dut.raws, raws)
                ctx.set(dut.mark, {
                    "valid": 1, "chunk": chunk, "whole": chunk == chunks - 1,
                    "end_row": (n + 1) % i.out_x == 0, "end": n == i.out_y * i.out_x - 1})
                await self.tick(ctx)
                ctx.set(dut.reserve, 0)
                ctx.set(dut.mark, {"valid": 0})
                if i.raw:
                    self.expected_items.append(joined(raws, ARCH.raw_bits))
            item = joined(group, WIDTH)
            if i.destination in (Destination.ACTIVATION, Destination.BOTH):
                self.expected_writes.append((i.base + offset, i.slot, item))
            if i.destination in (Destination.OPERAND, Destination.BOTH):
                self.expected_copies.append((i.copy_base + offset, i.slot, item))
            if store and not i.raw:
                self.expected_items.append(item)
        await self.tick(ctx)


@pytest.mark.parametrize("seed", range(4))
def test_every_result_goes_where_its_instruction_says(seed):
    draw = random.Random(seed)
    bench = Bench(draw)
    bench.run([random_post(draw, ARCH) for _ in range(12)])
    assert bench.writes == bench.expected_writes and bench.writes
    assert bench.copies == bench.expected_copies and bench.copies
    assert bench.items == bench.expected_items and bench.items


def test_what_is_written_is_shown_wherever_it_goes():
    draw = random.Random(8)
    bench = Bench(draw)
    i = random_post(draw, ARCH, destination=Destination.ACTIVATION, raw=False)
    bench.run([i])
    assert bench.written == [data for _, _, data in bench.expected_writes]


def test_no_more_items_are_begun_than_the_store_unit_has_room_for():
    dut = ResultWriter(arch=ARCH)

    async def bench(ctx):
        for _ in range(ITEMS):
            assert ctx.get(dut.room)
            ctx.set(dut.reserve, 1)
            await ctx.tick()
        ctx.set(dut.reserve, 0)
        i = random_post(random.Random(0), ARCH, destination=Destination.STORE, raw=True)
        ctx.set(dut.fields, fields_value(i, dut.fields.shape()))
        for _ in range(ITEMS):          # they all come, none has been taken
            assert not ctx.get(dut.room)
            ctx.set(dut.mark, {"valid": 1})
            await ctx.tick()
        ctx.set(dut.mark, {"valid": 0})
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.room)
        taken = 0
        ctx.set(dut.items.ready, 1)
        while ctx.get(dut.items.valid):
            await ctx.tick()
            taken += 1
            assert ctx.get(dut.room)
        assert taken == ITEMS

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("lanes", [2, 4])
def test_the_codes_are_in_the_verilog_too(lanes):
    """Amaranth can drop an assignment that its own simulator executes."""
    text = verilog.convert(ResultWriter(arch=replace(ARCH, post_lanes=lanes)), emit_src=False)
    codes = re.search(r"assign codes = \{ (.*) \};", text)
    assert codes and text.count(f"{codes[1]} }};") > 1
