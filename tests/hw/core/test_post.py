"""The POST unit against the instruction-level simulator: every result, wherever it goes, with
tokens and a store unit that come when they like; and the latencies that others count on."""

import random

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.sim import Simulator
from systolith.hw.core.post import Post
from systolith.hw.spec import words as layout
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Destination, Opcode, Pooling
from systolith.hw.spec.loops import chunk_count
from systolith.hw.spec.memories import item_bytes
from systolith.hw.spec.timing import ITEMS, POST_START, item_latency, read_period
from systolith.sim.machine import iss
from systolith.sim.random.fields import below_zero, offsets, parameters

from .placed import place_copies
from .post_cases import layout_value, random_post

MEMORIES = dict(accumulator_depth=128, activation_depth=64, parameter_depth=8, weight_depth=16)
ARCHS = {
    # two groups a word, three in the columns, two chunks a group
    "int8": Arch(rows=8, columns=12, post_lanes=2, operand_depth=32, table_depth=512, **MEMORIES),
    "leaky": Arch(rows=2, columns=4, post_lanes=2, activation="int6", weight="int4", leaky=True,
                  table_depth=64, **MEMORIES),
    "offsets": Arch(rows=4, columns=8, post_lanes=2, activation="int5", weight="int4", leaky=True,
                    slope_offsets=True, operand_depth=32, **MEMORIES),
    # a multiplication of operands in two cycles
    "folded": Arch(rows=4, columns=4, post_lanes=2, activation="int4", weight="int4", leaky=True,
                   multiplier_bits=17, post_multiplier="luts", operand_depth=32, **MEMORIES),
    "few": Arch(rows=4, columns=8, post_lanes=2, activation="int5", weight="int4", leaky=True,
                slope_offsets=True, table_depth=64, post_stages="few", prefetch=False, **MEMORIES),
    "few with operands": Arch(rows=4, columns=4, post_lanes=2, activation="int4", weight="int4",
                              multiplier_bits=15, operand_depth=32, post_stages="few", **MEMORIES),
    "few signs": Arch(rows=2, columns=4, lanes=4, post_lanes=2, activation="bipolar1",
                      weight="bipolar1", post_stages="few", **MEMORIES),
    "float": Arch(rows=2, columns=2, post_lanes=2, activation="e3m2", weight="e3m2",
                  operand_depth=32, prefetch=False, **MEMORIES),
    "signs": Arch(rows=2, columns=4, lanes=4, post_lanes=2, activation="bipolar1",
                  weight="bipolar1", **MEMORIES),
}


def joined(codes, width):
    return sum((int(code) & (1 << width) - 1) << width * n for n, code in enumerate(codes))


class Around(wiring.Component):
    """A POST unit with the memories around it."""

    def __init__(self, arch, accumulators, parameters, operands):
        self.post = Post(arch=arch)
        self.arch, self.contents = arch, (accumulators, parameters, operands)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.post = post = self.post
        accumulators, parameters, operands = self.contents

        def memory(name, data, address, content):
            shape = len(data.as_value() if hasattr(data, "as_value") else data)
            m.submodules[name] = memory = Memory(shape=shape, depth=len(content), init=content)
            port = memory.read_port()
            m.d.comb += [port.addr.eq(address), data.eq(port.data)]
            return memory
        memory("accumulators", post.read_data, post.read_address, accumulators)
        memory("parameters", post.parameter_data, post.parameter_address, parameters)
        if self.arch.operand_depth:
            self.operands = memory("operands", post.operand_data, post.operand_address, operands)
            port = self.operands.write_port(granularity=self.arch.group_bits)
            m.d.comb += [port.addr.eq(post.copy_address), port.data.eq(post.write_data),
                         port.en.eq(post.copy_enable)]
        return m


class Bench:
    """The unit and its model, with the same content everywhere."""

    def __init__(self, arch, seed):
        self.arch, self.draw = arch, random.Random(seed)
        data = np.random.default_rng(seed)
        self.memory = bytearray(1 << 16)
        self.model = model = iss.Simulator(arch, self.memory, strict=False)
        scale = min(1 << arch.accumulator_bits - 1, arch.term_bound * arch.vector)
        model.accumulators[:] = data.integers(-scale, scale, model.accumulators.shape)
        shape = (arch.parameter_depth, arch.post_lanes)
        parts = parameters(arch, data, shape, scale)
        below = below_zero(arch, data, *parts[1:3]) if arch.leaky else None
        words = layout.pack_parameter_words(*parts[:3], arch, below, parts[3],
                                            data.integers(0, 4, shape) if arch.tie_bits else None,
                                            offsets(arch, data, shape)
                                            if arch.slope_offsets else None)
        model.parameters[:] = layout.unpack_parameter_words(words, arch)
        model.operands[:] = data.choice(arch.activation.finite_codes(), model.operands.shape)
        bottom, top = arch.activation.ordered_range
        model.table[:] = data.integers(bottom, top + 1, arch.table_depth)
        size, bits = arch.parameter_bytes, arch.post_lanes * arch.parameter_bits
        self.around = Around(
            arch, [joined(word, arch.accumulator_bits) for word in model.accumulators],
            [int.from_bytes(words[n:n + size], "little") & (1 << bits) - 1
             for n in range(0, len(words), size)],
            [joined(word, arch.activation.width) for word in model.operands])
        self.post = self.around.post
        self.activations = model.activations.copy()
        self.items, self.traced, self.takes, self.gives = [], [], [], []
        self.reads, self.writes, self.cycle, self.taken = [], [], 0, 0

    def run(self, instructions, *, tokens=1.0, taken=1.0):
        """Execute them; a token, and the store unit's taking an item, comes in a share of cycles.
        """
        simulator = Simulator(self.around)
        simulator.add_clock(1e-6)

        async def bench(ctx):
            post = self.post
            for address, word in enumerate(self.model.table.tolist()):
                ctx.set(post.table_enable, 1)
                ctx.set(post.table_address, address)
                ctx.set(post.table_data, word)
                await ctx.tick()
            if self.arch.table_depth:
                ctx.set(post.table_enable, 0)
            for i in instructions:
                ctx.set(post.i.payload, layout_value(i, post.arch))
                ctx.set(post.i.valid, 1)
                accepted = False
                while not accepted:
                    accepted = await self.tick(ctx, tokens, taken)
                ctx.set(post.i.valid, 0)
                ctx.set(post.i.payload, {})
                while ctx.get(post.busy):
                    await self.tick(ctx, tokens, taken)
            for _ in range(ITEMS + 3):
                await self.tick(ctx, tokens, 1.0)
            if self.arch.operand_depth:
                self.operands = [ctx.get(self.around.operands.data[n])
                                 for n in range(self.arch.operand_depth)]
        simulator.add_testbench(bench)
        simulator.run()

    async def tick(self, ctx, tokens, taken):
        post, arch, draw = self.post, self.arch, self.draw
        ctx.set(post.available, sum((draw.random() < tokens) << n for n in range(4)))
        ctx.set(post.items.ready, draw.random() < taken)
        if ctx.get(post.items.valid) and ctx.get(post.items.ready):
            self.items.append(ctx.get(post.items.payload))
        if ctx.get(post.trace_valid):
            self.traced.append((ctx.get(post.trace_layer), ctx.get(post.trace_raw),
                                ctx.get(post.trace_item)))
            self.writes.append(self.cycle)
        assert ctx.get(post.written) == ctx.get(post.trace_valid)
        if enable := ctx.get(post.write_enable):
            slot = enable.bit_length() - 1
            assert enable == 1 << slot
            data, width = ctx.get(post.write_data), arch.activation.width
            for n in range(arch.group):
                at = slot * arch.group + n
                self.activations[ctx.get(post.write_address), at] = (
                    data >> at * width & (1 << width) - 1)
        accepted = ctx.get(post.i.valid) and ctx.get(post.i.ready)
        take, give = ctx.get(post.take), ctx.get(post.give)
        assert not take & ~ctx.get(post.available)
        self.taken |= take
        if accepted:
            self.takes.append(self.taken)
            self.taken = 0
            self.reads.append(self.cycle + POST_START)
        else:
            assert not take or not arch.prefetch
        if give:
            assert ctx.get(post.written)
            self.gives.append(give)
        await ctx.tick()
        self.cycle += 1
        return accepted

    def check(self, instructions):
        """Everything that came out is what the model says."""
        arch, width = self.arch, self.arch.activation.width
        program, address = [], 0
        for i in instructions:
            program.append(Instruction(Opcode.POST, i.fields, layer=i.layer))
            if i.destination == Destination.STORE:
                items = i.out_y * i.out_x * (arch.chunks if i.raw else 1)
                size = item_bytes(i.raw, arch)
                program.append(Instruction(Opcode.STORE, {
                    "address": address, "items": items, "item_stride": size, "raw": i.raw}))
                address += items * size + -items * size % 64
        self.model.run(program)
        assert (self.activations == self.model.activations).all()
        if arch.operand_depth:
            assert self.operands == [joined(word, width) for word in self.model.operands]
        expected, stored = [], []
        for result, i in zip(self.model.results, instructions, strict=True):
            bits = arch.raw_bits if result.raw else width
            words = [joined(item, bits) for item in result.items]
            expected += [(i.layer, int(i.raw), word) for word in words]
            stored += words if i.destination == Destination.STORE else []
        assert self.traced == expected
        assert self.items == stored
        assert self.takes == [i.wait for i in instructions]
        assert self.gives == [i.signal for i in instructions if i.signal]


@pytest.fixture(autouse=True)
def placed(monkeypatch):
    place_copies(monkeypatch)


def instructions_for(draw, arch, count, **fixed):
    found = [random_post(draw, arch, **fixed) for _ in range(count)]
    for i in found:
        i.wait, i.signal = draw.choice((0, 2, 10, 11)), draw.choice((0, 1, 9))
    return found


@pytest.mark.parametrize("name", ARCHS)
def test_results_are_the_models_whatever_waits(name):
    arch = ARCHS[name]
    bench = Bench(arch, 1)
    instructions = instructions_for(bench.draw, arch, 8)
    bench.run(instructions, tokens=0.3, taken=0.1)
    bench.check(instructions)


@pytest.mark.parametrize("pooling", Pooling)
def test_pooling(pooling):
    arch = ARCHS["leaky"]
    bench = Bench(arch, 5)
    instructions = instructions_for(bench.draw, arch, 5, pooling=pooling)
    bench.run(instructions)
    bench.check(instructions)


@pytest.mark.parametrize("kind", [
    {}, {"table": 1}, {"operand": 1}, {"operand": 1, "table": 1}, {"raw": 1}])
def test_an_item_is_written_latency_cycles_after_its_last_read(kind):
    arch = ARCHS["int8"]
    bench = Bench(arch, 2)
    kind = {"raw": 0, "operand": 0, "table": 0} | kind
    fixed = dict(pooling=Pooling.LARGEST, out_y=1, out_x=1, **kind)
    if not kind["raw"]:
        fixed["destination"] = Destination.ACTIVATION
    i = random_post(bench.draw, arch, **fixed)
    while i.operand and not i.gain:
        i = random_post(bench.draw, arch, **fixed)
    bench.run([i])
    bench.check([i])
    reads = [bench.reads[0] + n * read_period(i.operand)
             for n in range(chunk_count(i, arch) * i.pool_x * i.pool_y)]
    assert bench.writes == [read + item_latency(arch, **kind)
                            for read in (reads if i.raw else reads[-1:])]


def test_the_store_unit_that_takes_nothing_stops_reads_not_items():
    arch = ARCHS["leaky"]
    bench = Bench(arch, 3)
    i = random_post(bench.draw, arch, destination=Destination.STORE, raw=True, out_y=4, out_x=5,
                    jump=0, turn=0)
    assert i.out_y * i.out_x * arch.chunks > ITEMS
    bench.run([i], taken=0.02)
    bench.check([i])


@pytest.mark.parametrize("operand", [1, 2, 3])
def test_parameters_of_both_turns_come_at_full_rate(operand):
    """Each result's first turn and another one's second turn read parameters, of other chunks."""
    arch = ARCHS["offsets"]
    bench = Bench(arch, 4)
    fixed = dict(operand=operand, raw=0, table=0, out_y=2, out_x=6, pool_y=1, pool_x=1, jump=0,
                 turn=0)
    instructions = instructions_for(bench.draw, arch, 3, **fixed)
    bench.run(instructions)
    bench.check(instructions)
