"""The queues of instructions: order, room, and when an instruction reaches its unit."""

import random

import pytest
from amaranth.sim import Simulator
from systolith.hw.core.queues import InstructionQueues
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Opcode, Unit
from systolith.hw.spec.timing import FETCHES, delivery_beats, delivery_cycles
from systolith.hw.spec.widths import payload_bits

OPCODES = {code.unit: code for code in Opcode if code.unit is not None}


class Bench:
    def __init__(self, **options):
        self.arch = Arch(rows=2, columns=2, **options)
        self.queues = InstructionQueues(arch=self.arch)
        self.cycle, self.out = 0, {unit: [] for unit in Unit}

    def run(self, steps):
        async def bench(ctx):
            await steps(self, ctx)
        simulator = Simulator(self.queues)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()

    async def tick(self, ctx, ready=0):
        """A cycle in which the units of a mask are ready; what they get."""
        for unit in Unit:
            stream = self.queues.o[unit]
            ctx.set(stream.ready, ready >> unit & 1)
            if ready >> unit & 1 and ctx.get(stream.valid):
                self.out[unit].append((self.cycle, ctx.get(stream.payload.as_value())))
        await ctx.tick()
        self.cycle += 1
        ctx.set(self.queues.write, 0)
        ctx.set(self.queues.commit, 0)

    async def put(self, ctx, unit, value, ready=lambda: 0, commit=True):
        """Write an instruction and commit it in the cycle after its last beat."""
        width = self.arch.bus_bits
        for place in range(self.queues.beats):
            ctx.set(self.queues.write, 1)
            ctx.set(self.queues.unit, unit)
            ctx.set(self.queues.place, place)
            ctx.set(self.queues.beat, value >> place * width & (1 << width) - 1)
            await self.tick(ctx, ready())
        if commit:
            ctx.set(self.queues.commit, 1 << unit)
            await self.tick(ctx, ready())


def instruction(draw, arch, unit):
    """Any bits; and those that the unit gets."""
    value = draw.getrandbits(isa.INSTRUCTION_BITS)
    return value, payload_bits(arch, OPCODES[unit], value)


@pytest.mark.parametrize("bus_bits, depth", [(32, 1), (64, 4), (128, 3)])
def test_each_unit_gets_its_instructions_in_order(bus_bits, depth):
    bench, draw = Bench(bus_bits=bus_bits, queue_depth=depth), random.Random(bus_bits)
    expected = {unit: [] for unit in Unit}

    async def steps(bench, ctx):
        def ready():
            return sum((draw.random() < 0.1) << unit for unit in Unit)
        for _ in range(60):
            while ctx.get(bench.queues.full):
                await bench.tick(ctx, ready())
            for _ in range(draw.randint(1, FETCHES)):       # those that were asked for before
                unit = draw.choice(list(Unit))
                value, kept = instruction(draw, bench.arch, unit)
                expected[unit].append(kept)
                await bench.put(ctx, unit, value, ready)
        while not ctx.get(bench.queues.empty):
            await bench.tick(ctx, 15)
    bench.run(steps)
    assert {unit: [value for _, value in out] for unit, out in bench.out.items()} == expected


def test_full_is_the_queue_depth_and_what_is_read_does_not_count():
    bench, draw = Bench(queue_depth=2), random.Random(1)
    full = []

    async def steps(bench, ctx):
        for _ in range(4):
            await bench.put(ctx, Unit.POST, instruction(draw, bench.arch, Unit.POST)[0])
            for _ in range(20):
                await bench.tick(ctx)
            full.append(ctx.get(bench.queues.full))
        await bench.tick(ctx, 15)
        await bench.tick(ctx)
        full.append(ctx.get(bench.queues.full))
    bench.run(steps)
    assert full == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("bus_bits", [32, 64, 128, 256, 512])
def test_instructions_are_read_one_after_the_other_as_is_said(bus_bits):
    bench, draw = Bench(bus_bits=bus_bits), random.Random(2)
    committed = []

    async def steps(bench, ctx):
        for unit in Unit:
            await bench.put(ctx, unit, instruction(draw, bench.arch, unit)[0], commit=False)
        committed.append(bench.cycle)
        ctx.set(bench.queues.commit, 15)
        for _ in range(60):
            await bench.tick(ctx, 15)
    bench.run(steps)
    chosen = committed[0] + 1
    for unit in Unit:
        beats = delivery_beats(bench.arch, OPCODES[unit])
        assert [cycle for cycle, _ in bench.out[unit]] == [
            chosen + delivery_cycles(bench.arch, OPCODES[unit])], unit
        chosen += 1 + beats


def test_a_program_starts_with_queues_that_do_not_know_of_what_was_not_committed():
    bench, draw = Bench(), random.Random(3)

    async def steps(bench, ctx):
        for place in range(bench.queues.beats):
            ctx.set(bench.queues.write, 1)
            ctx.set(bench.queues.place, place)
            await bench.tick(ctx)
        ctx.set(bench.queues.clear, 1)
        await bench.tick(ctx)
        ctx.set(bench.queues.clear, 0)
        await bench.put(ctx, Unit.LOAD, value)
        for _ in range(20):
            await bench.tick(ctx, 15)
    value, kept = instruction(draw, bench.arch, Unit.LOAD)
    bench.run(steps)
    assert [got for _, got in bench.out[Unit.LOAD]] == [kept]
