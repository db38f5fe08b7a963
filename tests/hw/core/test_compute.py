"""The ARRAY unit against the instruction-level simulator: sums in the accumulators, tokens, and the
times that the cycle model counts on."""

import random

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.sim import Simulator
from systolith.hw.core import compute, feeder
from systolith.hw.core.accumulator import FLOAT_SUMS
from systolith.hw.core.compute import Compute
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode, Unit
from systolith.hw.spec.loops import results
from systolith.hw.spec.near import near_rows
from systolith.hw.spec.registers import UnitState
from systolith.hw.spec.timing import REVISIT, shortest_pass, word_latency
from systolith.sim.machine import iss
from systolith.sim.machine.access import AccessError, check

from .placed import place_copies
from .post_cases import layout_value
from .proofs import planted

MEMORIES = dict(accumulator_depth=32, activation_depth=64, weight_depth=32, parameter_depth=8)
ARCHS = {
    "int": Arch(rows=3, columns=2, activation="int4", weight="int3", **MEMORIES),
    "top": Arch(rows=3, columns=3, activation="int4", weight="int3", depthwise=True, **MEMORIES),
    "float": Arch(rows=2, columns=2, activation="e2m1", weight="e2m1", **MEMORIES),
    "signs": Arch(rows=3, columns=4, lanes=4, activation="int4", weight="int4", packed_signs=True,
                  structure="lut6", **MEMORIES),
    "signs, top": Arch(rows=4, columns=4, activation="int4", weight="int4", packed_signs=True,
                       depthwise=True, structure="dsp", **MEMORIES),
    "planes": Arch(rows=2, columns=2, lanes=4, activation="bipolar1", weight="bipolar1",
                   bit_planes=True, **MEMORIES),
    "plane rows": Arch(rows=9, columns=3, lanes=6, activation="bipolar1", weight="bipolar1",
                       bit_planes=True, plane_rows=True, structure="lut6",
                       **MEMORIES | {"weight_depth": 64}),
    "plane rows, shared": Arch(rows=8, columns=4, lanes=8, activation="bipolar1",
                               weight="bipolar1", bit_planes=True, plane_rows=True, tap_rows=True,
                               shared_columns=2, stages=1, prefetch=False,
                               **MEMORIES | {"weight_depth": 64}),
    "halves": Arch(rows=4, columns=2, activation="int8", weight="int8", packed_halves=True,
                   structure="lut6", **MEMORIES),
    "halves, dsp": Arch(rows=2, columns=2, activation="int4", weight="int4", packed_halves=True,
                        depthwise=True, structure="dsp", **MEMORIES),
    "narrow": Arch(rows=5, columns=2, activation="int4", weight="int5", weight_widths=(4, 3, 2),
                   **MEMORIES),
    "held, narrow": Arch(rows=4, columns=4, activation="int4", weight="int6", depthwise=True,
                         weight_widths=(2, 3), prefetch=False, **MEMORIES),
    "pools": Arch(rows=5, columns=2, activation="int4", weight="int7", weight_widths=(4,),
                  weight_pools=(3, 2), **MEMORIES),
    "pool": Arch(rows=4, columns=4, activation="int4", weight="int5", depthwise=True,
                 weight_pools=(4,), prefetch=False, **MEMORIES | {"activation_depth": 8192}),
    "pools, rows": Arch(rows=8, columns=2, lanes=2, activation="int4", weight="int3",
                        tap_rows=True, weight_pools=(2,), **MEMORIES),
    "floats": Arch(rows=3, columns=3, activation="e4m3", weight="e3m2", depthwise=True,
                   sums="1-6-9", largest_k=500, **MEMORIES),
    "floats of integers": Arch(rows=5, columns=2, lanes=2, activation="int8", weight="int8",
                               sums="1-6-9", prefetch=False, **MEMORIES),
    "floats of blocks": Arch(rows=4, columns=3, lanes=2, activation="int4", weight="nvfp4",
                             sums="1-6-9", **MEMORIES),
    "wide": Arch(rows=4, columns=4, activation="int8", weight="int4", depthwise=True,
                 wide_weights=True, largest_k=9999, **MEMORIES),
    "wide, narrow": Arch(rows=3, columns=2, activation="int4", weight="int3", wide_weights=True,
                         weight_widths=(2,), prefetch=False, **MEMORIES),
    "two fillings": Arch(rows=7, columns=3, activation="int4", weight="int3", two_fillings=True,
                         **MEMORIES),
    "two fillings, top": Arch(rows=8, columns=8, activation="int4", weight="int4", depthwise=True,
                              packed_halves=True, two_fillings=True, prefetch=False,
                              structure="lut6", **MEMORIES),
    "two fillings, rows": Arch(rows=16, columns=2, lanes=2, activation="bipolar1",
                               weight="bipolar1", tap_rows=True, two_fillings=True,
                               **MEMORIES | {"weight_depth": 64, "activation_depth": 4096}),
    "side": Arch(rows=8, columns=2, activation="int4", weight="int3", side_taps=True, **MEMORIES),
    "rows": Arch(rows=8, columns=2, lanes=2, activation="int4", weight="int3", tap_rows=True,
                 **MEMORIES),
    "rows, binary": Arch(rows=16, columns=2, lanes=2, activation="bipolar1", weight="bipolar1",
                         tap_rows=True, bit_planes=True, prefetch=False,
                         **MEMORIES | {"weight_depth": 64, "activation_depth": 4096}),
    "rows, two": Arch(rows=32, columns=2, lanes=2, activation="bipolar1", weight="bipolar1",
                      tap_rows=True, **MEMORIES | {"weight_depth": 128}),
    "near": Arch(rows=33, columns=2, activation="int4", weight="int3",
                 **MEMORIES | {"weight_depth": 128}),
    "near, two fillings": Arch(rows=64, columns=2, activation="int4", weight="int3",
                               two_fillings=True, **MEMORIES | {"weight_depth": 256}),
    "blocks": Arch(rows=4, columns=3, lanes=2, activation="int4", weight="nvfp4", stages=1,
                   **MEMORIES),
    "held": Arch(rows=3, columns=3, activation="int4", weight="int3", depthwise=True,
                 prefetch=False, **MEMORIES),
    # an address takes a cycle to its many blocks of RAM
    "large": Arch(rows=3, columns=3, activation="int4", weight="int3", depthwise=True,
                  **MEMORIES | {"activation_depth": 8192}),
}
LOAD, POST = 1 << Unit.LOAD, 1 << Unit.POST


def joined(codes, width):
    return sum((int(code) & (1 << width) - 1) << width * n for n, code in enumerate(codes))


def random_array(draw, arch, **fixed):
    """An ARRAY instruction that `arch` can execute; `fixed` fields are as given."""
    while True:
        width, height = draw.randint(1, 5), draw.randint(1, 5)
        counts = {name: draw.choice((1, 1, 2, 3)) for name in
                  ("kernel_y", "kernel_x", "blocks", "out_y", "out_x", "pool_y", "pool_x")}
        first = draw.randrange(2)
        fields = {
            **counts, **{name: draw.randint(0, 2) for name in
                         ("stride_kx", "stride_ox", "stride_px")},
            **{name: draw.randint(0, 2) * width for name in
               ("stride_ky", "stride_oy", "stride_py")},
            "stride_block": width * height, "base": draw.randrange(8),
            "weight_base": draw.randrange(8), "accumulator": draw.randrange(8),
            "y_start": draw.randint(-2, 1) * width, "x_start": draw.randint(-2, 1),
            "y_last": (height - 1) * width, "x_last": width - 1,
            "accumulate": first,
            "double": ((first and arch.bit_planes) or arch.wide_weights) and draw.randrange(2),
            "height": draw.choice((0, draw.randint(
                1, 6 if near_rows(arch) else min(arch.rows, 15)))),
            "pad_valid": draw.randrange(2), "replicate": draw.randrange(2),
            "signs": arch.parts and draw.randrange(2),
            "narrow": (arch.code_widths and draw.randint(0, len(arch.code_widths))) or 0,
            "planes": arch.plane_rows and draw.randrange(2),
            "side": (arch.side_taps and draw.randrange(3)) or (
                arch.tap_rows and draw.choice((0, 3))),
            "pad_code": int(draw.choice(arch.activation.finite_codes()))} | fixed
        if arch.depthwise and "starts" not in fixed and draw.random() < 0.6:
            starts = draw.randint(1, 2)
            fields |= {"starts": starts, "start_y": draw.randint(1, 2),
                       "start_x": draw.randint(1, 2), "pool_x": 1,
                       "pool_y": starts * 2 + arch.rows - 1, "height": 0}
            fields["results_x"] = draw.randint(1, (fields["out_x"] - 1) // fields["start_x"] + 1)
        instruction = Instruction(Opcode.ARRAY, fields)
        try:
            check(instruction, arch)
        except AccessError:
            continue
        return instruction


class Around(wiring.Component):
    """An ARRAY unit with the memories around it."""

    def __init__(self, arch, activations, weights):
        self.compute = Compute(arch=arch)
        self.contents = activations, weights
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.compute = compute = self.compute
        if compute.arch.banks > 1:
            size = compute.arch.activation_bits // compute.arch.banks
            for bank in range(compute.arch.banks):
                m.submodules[f"bank_{bank}"] = memory = Memory(
                    shape=size, depth=len(self.contents[0]),
                    init=[word >> bank * size & (1 << size) - 1 for word in self.contents[0]])
                port = memory.read_port()
                m.d.comb += [port.addr.eq(compute.activation_address[bank]),
                             compute.activation_data.word_select(bank, size).eq(port.data)]
        if compute.arch.two_fillings:
            size = compute.arch.weight_bits
            for odd in range(2):
                content = self.contents[1][odd::2]
                m.submodules[f"weights_{odd}"] = memory = Memory(
                    shape=size, depth=len(content), init=content)
                port = memory.read_port()
                m.d.comb += [port.addr.eq(compute.weight_address[odd]),
                             compute.weight_data.word_select(odd, size).eq(port.data)]
        for name, data, address, content in zip(
                ("activations", "weights"), (compute.activation_data, compute.weight_data),
                (compute.activation_address, compute.weight_address), self.contents, strict=True):
            if (compute.arch.banks > 1 if name == "activations" else compute.arch.two_fillings):
                continue
            m.submodules[name] = memory = Memory(shape=len(data), depth=len(content), init=content)
            port = memory.read_port()
            m.d.comb += [port.addr.eq(address), data.eq(port.data)]
        return m


class Bench:
    """The unit and its model, with the same content everywhere."""

    def __init__(self, arch, seed):
        self.arch, self.draw = arch, random.Random(seed)
        data = np.random.default_rng(seed)
        self.model = model = iss.Simulator(arch, bytearray(64), strict=False)
        model.activations[:] = data.choice(arch.activation.finite_codes(), model.activations.shape)
        model.pool[:] = data.choice(arch.weight.finite_codes(), model.pool.shape)
        model.weights[:] = data.choice(arch.weight.finite_codes(), model.weights.shape)
        self.around = Around(arch, [joined(word, arch.activation.width)
                                    for word in model.activations],
                             [joined(word, arch.weight.width) for word in model.weights])
        self.compute = self.around.compute
        self.cycle, self.starts, self.begins = 0, [], []
        self.takes, self.gives, self.states = [], [], []
        self.tokens = 0

    def run(self, instructions, available=lambda cycle: 15):
        simulator = Simulator(self.around)
        simulator.add_clock(1e-6)

        async def bench(ctx):
            dut = self.compute
            for address, code in enumerate(self.model.pool):
                ctx.set(dut.pool_address, address)
                ctx.set(dut.pool_data, int(code))
                ctx.set(dut.pool_enable, 1)
                await ctx.tick()
            if len(self.model.pool):
                ctx.set(dut.pool_enable, 0)
            for number, i in enumerate(instructions):
                ctx.set(dut.i.payload, layout_value(i, dut.arch))
                ctx.set(dut.i.valid, 1)
                while not await self.tick(ctx, available, number):
                    assert self.cycle < 5000
            ctx.set(dut.i.valid, 0)
            while ctx.get(dut.busy):
                await self.tick(ctx, available, len(instructions))
                assert self.cycle < 5000
            await ctx.tick().repeat(REVISIT)
            self.sums = []
            for address in range(self.arch.accumulator_depth):
                ctx.set(dut.read_address, address)
                await ctx.tick()
                held = [ctx.get(dut.read_data[n]) for n in range(self.arch.columns)]
                if self.arch.float_sums:
                    held = [int(FLOAT_SUMS.image(code & 0xffff)) for code in held]
                self.sums.append(held)
        simulator.add_testbench(bench)
        simulator.run()

    async def tick(self, ctx, available, number):
        dut = self.compute
        self.tokens |= available(self.cycle)        # they stay until they are taken
        ctx.set(dut.available, self.tokens)
        take, give = ctx.get(dut.take), ctx.get(dut.give)
        assert not take & ~self.tokens
        if take:
            self.tokens &= ~take
            self.takes.append((number, take))
        if give:
            self.gives.append((self.cycle, give))
        if ctx.get(dut.started):
            self.starts.append(self.cycle)
        accepted = ctx.get(dut.i.valid) and ctx.get(dut.i.ready)
        if accepted:
            self.begins.append(self.cycle)
        self.states.append((ctx.get(dut.state), ctx.get(dut.missing)))
        await ctx.tick()
        self.cycle += 1
        return accepted

    def check(self, instructions):
        self.model.run([Instruction(Opcode.ARRAY, i.fields) for i in instructions])
        written, lost = np.zeros((2, self.arch.accumulator_depth), bool)
        for i in instructions:
            mine = slice(i.accumulator, i.accumulator + results(i))
            written[mine] = True
            lost[mine] &= bool(i.accumulate)
            lost[mine][:(1 << i.side % 3) - 1] = True       # these sums mean nothing
        written &= ~lost
        assert written.any()
        assert (np.array(self.sums)[written] == self.model.accumulators[written]).all()
        for number, i in enumerate(instructions):
            taken = [mask for at, mask in self.takes if at == number]
            assert taken == [i.wait] * bool(i.wait)
        assert sum(give.bit_count() for _, give in self.gives) == sum(
            i.signal.bit_count() for i in instructions)


@pytest.fixture(autouse=True)
def placed(monkeypatch):
    place_copies(monkeypatch)


@pytest.mark.parametrize("name", ARCHS)
def test_sums_are_the_models_whatever_waits(name):
    arch = ARCHS[name]
    bench = Bench(arch, 3)
    draw = bench.draw
    # What an instruction adds to must be there: the first one starts all sums.
    fresh = random_array(draw, arch, starts=0, accumulate=0, double=0, accumulator=0,
                         kernel_y=1, kernel_x=1, blocks=1, out_y=4, out_x=2, pool_y=2, pool_x=2)
    instructions = [fresh] + [random_array(draw, arch) for _ in range(5)]
    for i in instructions:
        i.wait, i.signal = draw.choice((0, 1, 4, 5)), draw.choice((0, 1, 4, 8, 13))
    bench.run(instructions, lambda cycle: sum((draw.random() < 0.2) << n for n in range(4)))
    bench.check(instructions)


@pytest.mark.parametrize("name", [name for name in ARCHS if name.startswith("rows")])
@pytest.mark.parametrize("seed", range(3))
def test_steps_of_the_kernel_in_rows_of_their_own_are_one_pass(name, seed):
    arch = ARCHS[name]
    bench = Bench(arch, seed)
    draw, instructions = bench.draw, []
    fresh = dict(accumulate=0, double=0, accumulator=0)
    for number in range(6):
        height = draw.choice((1, 1, 2, 4))
        sizes = [(y, x) for y in range(1, 5) for x in range(1, 5)
                 if height * y * x <= arch.banks and y * x > 1]
        down, across = draw.choice(sizes)
        instructions.append(random_array(
            draw, arch, side=3, kernel_y=down, kernel_x=across, height=height, pad_valid=1,
            replicate=0, blocks=1, **fresh if number == 0 else {}))
        if draw.random() < 0.3:
            instructions.append(random_array(draw, arch, side=0, **fresh if number == 0 else {}))
    bench.run(instructions)
    bench.check(instructions)
    passes = sum(1 if i.side else i.kernel_y * i.kernel_x * i.blocks for i in instructions)
    assert len(bench.starts) == passes


def one_pass(pixels, **fields):
    return Instruction(Opcode.ARRAY, {"out_x": pixels, "stride_ox": 1, "x_last": 40,
                                      "y_last": 0} | fields)


@pytest.mark.parametrize("pixels", [1, 3, 7])
def test_passes_follow_each_other_without_a_gap(pixels):
    arch = ARCHS["int"]
    bench = Bench(arch, 0)
    instructions = [one_pass(pixels, kernel_x=2), one_pass(pixels, accumulator=16)]
    bench.run(instructions)
    bench.check(instructions)
    first, second, third = bench.starts
    assert second - first == max(pixels, shortest_pass(arch))
    assert third - second == max(pixels, shortest_pass(arch))


def test_a_pass_that_adds_waits_for_the_sums_of_the_instruction_before():
    arch = ARCHS["int"]
    gaps = []
    for accumulate in (0, 1):
        bench = Bench(arch, 0)
        instructions = [one_pass(5), one_pass(5, accumulate=accumulate)]
        bench.run(instructions)
        bench.check(instructions)
        gaps.append(bench.starts[1] - bench.starts[0])
    assert gaps == [5, 5 + REVISIT - 1]


@pytest.mark.parametrize("early", [0, 1])
def test_tokens_are_given_when_their_sums_are_written(early):
    arch = ARCHS["int"]
    bench = Bench(arch, 0)
    i = one_pass(7, kernel_x=2, early=early)
    i.signal = LOAD | POST
    bench.run([i])
    bench.check([i])
    last_pass = bench.starts[1]
    last = (last_pass + 6 + bench.compute.latency, LOAD | (0 if early else POST))
    assert bench.gives == [(last_pass + bench.compute.latency, POST)] * early + [last]


def test_an_instruction_without_prefetch_stays_until_its_last_word_enters_the_array():
    bench = Bench(ARCHS["held"], 0)
    instructions = [one_pass(7), one_pass(4, accumulator=16)]
    bench.run(instructions)
    bench.check(instructions)
    assert [popped - start for start, popped in zip(bench.starts, bench.begins, strict=True)] == [
        6 + word_latency(bench.arch), 3 + word_latency(bench.arch)]


def test_an_instruction_waits_for_all_its_tokens():
    arch = ARCHS["int"]
    bench = Bench(arch, 0)
    i = one_pass(4)
    i.wait = LOAD | POST
    bench.run([i], lambda cycle: LOAD * (cycle >= 10) | POST * (cycle >= 20))
    bench.check([i])
    # begun a cycle after they are there, popped in the next one
    assert bench.takes == [(0, LOAD | POST)] and bench.begins == [22]
    assert bench.states[5] == (UnitState.TOKENS, LOAD | POST)
    assert bench.states[15] == (UnitState.TOKENS, POST)
    assert bench.states[22] == (UnitState.RUNNING, 0)


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("base", [8, 9])
def test_a_short_filling_leaves_the_words_of_the_one_before_alone(height, base):
    """The lower rows' words of a pass are still being read when the next instruction's pass, which
    has words for some of the upper rows alone, has begun."""
    arch = ARCHS["two fillings"]
    bench = Bench(arch, 5)
    fixed = dict(kernel_y=1, kernel_x=1, blocks=1, out_y=1, out_x=4, pool_y=1, pool_x=1, starts=0,
                 accumulate=0, double=0)
    instructions = [random_array(bench.draw, arch, **fixed, height=0, weight_base=0, accumulator=0),
                    random_array(bench.draw, arch, **fixed, height=height, weight_base=base,
                                 accumulator=8)]
    bench.run(instructions)
    bench.check(instructions)


def overlapping(seed):
    """Whether short passes one after the other give the model's sums where fillings overlap."""
    arch = ARCHS["two fillings"]
    bench = Bench(arch, seed)
    draw = bench.draw
    instructions = [random_array(
        draw, arch, accumulate=0, out_y=1, out_x=draw.randint(4, 8), pool_y=1, pool_x=1,
        kernel_y=1, blocks=draw.randint(1, 2), accumulator=8 * (n % 4)) for n in range(8)]
    try:
        bench.run(instructions)
        bench.check(instructions)
    except AssertionError:
        return False
    return True


def test_short_passes_where_fillings_overlap():
    assert all(overlapping(seed) for seed in range(4))


@pytest.mark.parametrize("module, old, new", [
    (compute, "may_begin &= feeder.alone | (", "may_begin &= feeder.loaded | ("),
    (compute, "may_go_on &= feeder.alone | (", "may_go_on &= feeder.loaded | ("),
    (compute, "Mux(feeder.asks & (feeder.address[0] == odd),", "Mux(feeder.address[0] == odd,"),
    (compute, "weights[size:], weights[:size])", "weights[:size], weights[size:])"),
    (feeder, "enters.eq(goes_on)", "enters.eq(ends)"),
    (feeder, "odd.eq(start[0])", "odd.eq(~start[0])"),
    (feeder, "self.alone.eq(undecided <= 1)", "self.alone.eq(1)")])
def test_faults_where_fillings_overlap_are_noticed(module, old, new, monkeypatch):
    made = planted(module, old, new)
    if module is compute:
        made.place = compute.place
        monkeypatch.setitem(globals(), "Compute", made.Compute)
    else:
        monkeypatch.setattr(compute, "WeightFeeder", made.WeightFeeder)
    assert not all(overlapping(seed) for seed in range(12))
