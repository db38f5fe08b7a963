"""The load unit: every word of random instructions, full rate, bursts, tokens, errors."""

import random
from dataclasses import replace

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator
from systolith.hw.core.arbiter import ReadArbiter, load_tag
from systolith.hw.core.load import Load
from systolith.hw.spec import words as layout
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Memory, Opcode, Unit
from systolith.hw.spec.registers import SEQUENCER, ErrorCode
from systolith.hw.spec.timing import FETCHES, LOAD_BURSTS, burst_limit
from systolith.hw.spec.widths import has_window_base

from ...boundaries import WINDOW
from .axi_memory import AxiMemory, put
from .post_cases import layout_value

ARCHS = [
    Arch(rows=3, columns=5, lanes=2, bus_bits=32, burst_beats=8, operand_depth=9),
    Arch(rows=4, columns=6, activation="int4", weight="int4", post_lanes=1, table_depth=32),
    Arch(rows=1, columns=1, bus_bits=128, burst_beats=1, queue_depth=1, weight_pools=(4, 2)),
    Arch(rows=12, columns=8, activation="e3m2", weight="e3m2", bus_bits=32, post_lanes=2),
    Arch(rows=16, columns=4, lanes=3, activation="bipolar1", weight="bipolar1", bus_bits=64),
    Arch(rows=6, columns=6, bus_bits=64, load_windows=True),
    Arch(rows=20, columns=1, bus_bits=32, burst_beats=4, load_windows=True),
    Arch(rows=8, columns=24, bus_bits=32, side_taps=True),
]
BASE = 0x40000


def word_bytes(arch, memory):
    return (arch.activation_bytes, arch.weight_bytes, arch.parameter_bytes,
            arch.activation_bytes, arch.table_bytes, arch.pool_bytes)[memory]


def word_of(arch, memory, data):
    """The word on the chip, from its bytes outside, as an integer."""
    if memory in (Memory.ACTIVATION, Memory.OPERAND):
        codes = layout.unpack_activation_words(data, arch)[0]
        return sum(int(code) << n * arch.activation.width for n, code in enumerate(codes))
    bits = {Memory.WEIGHT: arch.weight_bits, Memory.TABLE: arch.activation.width,
            Memory.POOL: arch.weight.width}.get(
        memory, arch.post_lanes * arch.parameter_bits)
    return int.from_bytes(data, "little") & ((1 << bits) - 1)


def random_instruction(draw, arch, window):
    memory = draw.choice([*list(Memory)[:3], *[Memory.OPERAND] * bool(arch.operand_depth),
                          *[Memory.TABLE] * bool(arch.table_depth),
                          *[Memory.POOL] * bool(arch.weight_pools)])
    whole = word_bytes(arch, memory) // arch.beat_bytes
    if arch.load_windows and draw.random() < 0.6:
        return random_windows(draw, arch, window)
    word_beats = draw.choice([0, draw.randint(1, whole)])
    size = (word_beats or whole) * arch.beat_bytes
    rows, words = draw.choice([(1, draw.randint(1, 40)), (draw.randint(1, 6), draw.randint(1, 9))])
    stride = (words * size if draw.random() < 0.3
              else draw.randrange(0, 3 * words * size, arch.beat_bytes))
    address = draw.randrange(0, window - (rows - 1) * stride - words * size, arch.beat_bytes)
    return Instruction(Opcode.LOAD, signal=draw.randrange(16) & ~1, layer=draw.randrange(4096),
                       fields={"memory": memory, "address": address, "rows": rows, "words": words,
                               "row_stride": stride, "base": draw.randrange(1 << 20),
                               "base_stride": draw.randrange(1 << 20),
                               "word_beats": word_beats})


def random_windows(draw, arch, window):
    rows, words = draw.randint(1, 4), draw.randint(1, 30)
    steps = [draw.randint(1, draw.choice((3, arch.vector, 40))) for _ in "ab"]
    size = words // 2 * steps[0] + (words - 1) // 2 * steps[1] + arch.window_bytes
    beats = -(-size // arch.beat_bytes)
    stride = draw.randrange(0, 2 * size, arch.beat_bytes)
    address = draw.randrange(0, window - (rows - 1) * stride - beats * arch.beat_bytes,
                             arch.beat_bytes)
    return Instruction(Opcode.LOAD, signal=draw.randrange(16) & ~1, layer=draw.randrange(4096),
                       fields={"memory": 0, "address": address, "rows": rows, "words": words,
                               "row_stride": stride, "base": draw.randrange(1 << 20),
                               "base_stride": draw.randrange(1 << 20), "word_beats": beats,
                               "step_even": steps[0], "step_odd": steps[1],
                               "spare": beats * arch.beat_bytes - size})


def expected_words(arch, code, content):
    bits = load_tag(arch)["base"].width
    for row in range(code.rows):
        for word in range(code.words):
            whole = word_bytes(arch, code.memory)
            size = code.word_beats * arch.beat_bytes or whole
            start = code.address + row * code.row_stride + word * size
            if code.step_even:
                start += (word + 1) // 2 * code.step_even + word // 2 * code.step_odd - word * size
                yield (0, (code.base + row * code.base_stride + word) % (1 << bits),
                       int.from_bytes(content[start:start + arch.window_bytes], "little"))
                continue
            data = bytes(content[start:start + size])
            if arch.side_taps and code.word_beats.bit_count() == 1 and code.memory in (
                    Memory.WEIGHT, Memory.PARAMETER):
                data = (data * whole)[:whole]
            data = data.ljust(whole, b"\0")
            yield (code.memory, (code.base + row * code.base_stride + word) % (1 << bits),
                   word_of(arch, code.memory, data))


class Bench:
    """A load unit and its arbiter before a memory; records words, tokens and reports."""

    def __init__(self, arch, content, *, latency=8, stalls=None, bad=(), flipped=(), twice=(),
                 window=None):
        self.arch = arch
        base = BASE if has_window_base(arch) else 0
        self.memory = AxiMemory(content, bus_bits=arch.bus_bits, base=base, latency=latency,
                                stalls=stalls, bad={base + offset for offset in bad},
                                flipped={base + offset for offset in flipped},
                                twice={base + offset for offset in twice})
        self.stalls = stalls
        self.load, self.arbiter = Load(arch=arch), ReadArbiter(arch=arch)
        self.words, self.gives, self.takes, self.reports = [], [], [], []
        m = Module()
        m.submodules.load, m.submodules.arbiter = self.load, self.arbiter
        wiring.connect(m, self.load.read, self.arbiter.load)
        m.d.comb += [self.arbiter.window_base.eq(BASE),
                     self.arbiter.window_size.eq(len(content) if window is None else window)]
        self.simulator = Simulator(m)
        self.simulator.add_clock(1e-6)

    async def watch(self, ctx):
        load, cycle = self.load, 0
        names = {Memory.ACTIVATION: "activation", Memory.WEIGHT: "weight",
                 Memory.PARAMETER: "parameter", Memory.OPERAND: "activation",
                 Memory.TABLE: "table", Memory.POOL: "pool"}
        halted = False
        while True:
            ctx.set(load.o.ready, self.stalls is None or self.stalls.random() < 0.6)
            ctx.set(self.arbiter.halt, halted)
            _, _, valid, ready, word, give, take, report = await ctx.tick().sample(
                load.o.valid, load.o.ready, load.o.payload, load.give, load.take,
                self.arbiter.report)
            if valid and ready:
                memory = Memory(word.memory.bit_length() - 1)
                assert word.memory == 1 << memory
                self.words.append((memory, word.address, getattr(word, names[memory]), cycle))
            if give:
                self.gives.append((give, cycle))
            if take:
                self.takes.append((take, cycle))
            if report.valid and not halted:
                halted = True
                self.reports.append((ErrorCode(report.code), report.unit, report.layer,
                                     report.address))
            cycle += 1

    def run(self, instructions, available=None):
        """Returns the cycle in which all is quiet."""
        fed = []

        async def feed(ctx):
            if available is None:
                ctx.set(self.load.available, 15)
            for code in instructions:
                await put(ctx, self.load.i, layout_value(code, self.load.arch))
            await ctx.tick()        # busy from the cycle after the instruction is taken
            fed.append(True)

        async def wait(ctx):
            for _ in range(20000):
                *_, busy, quiet, halted = await ctx.tick().sample(
                    self.load.busy, self.arbiter.quiet, self.arbiter.halt)
                if (halted or (fed and not busy)) and quiet:
                    return
            raise AssertionError("the unit never becomes idle")

        async def read(ctx):
            await self.memory.read(ctx, self.arbiter.axi)
        self.simulator.add_testbench(feed, background=True)
        self.simulator.add_testbench(wait)
        self.simulator.add_testbench(read, background=True)
        self.simulator.add_testbench(self.watch, background=True)
        if available is not None:
            async def drive(ctx):
                await available(ctx, self.load)
            self.simulator.add_testbench(drive, background=True)
        self.simulator.run()
        return self.memory.cycle


@pytest.mark.parametrize("stalled", [False, True])
@pytest.mark.parametrize("arch", ARCHS, ids=lambda arch: f"{arch.rows}x{arch.columns}")
def test_random_instructions_write_every_word_in_order(arch, stalled):
    draw = random.Random(f"load {arch.rows} {stalled}")
    content = bytearray(draw.randbytes(20000))
    code = [random_instruction(draw, arch, len(content)) for _ in range(6)]
    bench = Bench(arch, content, stalls=draw if stalled else None)
    bench.run(code)
    assert [word[:3] for word in bench.words] == [
        word for item in code for word in expected_words(arch, item, content)]
    assert [give for give, _ in bench.gives] == [item.signal for item in code if item.signal]
    assert not bench.reports
    for _, _, beats, _ in bench.memory.bursts:
        assert beats <= burst_limit(arch)


def test_tokens_are_given_in_the_cycle_after_the_last_word():
    arch = ARCHS[1]
    content = bytearray(random.Random(1).randbytes(4096))
    code = [Instruction(Opcode.LOAD, signal=2, fields={
        "memory": Memory.WEIGHT, "words": count}) for count in (1, 5, 2)]
    bench = Bench(arch, content)
    bench.run(code)
    ends = [bench.words[n - 1][3] for n in (1, 6, 8)]
    assert bench.gives == [(2, end + 1) for end in ends]


@pytest.mark.parametrize("burst_beats", [16, 64])
def test_long_rows_take_one_beat_a_cycle(burst_beats):
    arch = Arch(rows=16, columns=16, bus_bits=64, burst_beats=burst_beats)
    content = bytearray(16 * 600)
    bench = Bench(arch, content, latency=32)
    bench.run([Instruction(Opcode.LOAD, fields={"memory": Memory.WEIGHT, "words": 600})])
    cycles = [word[3] for word in bench.words]
    assert cycles == list(range(cycles[0], cycles[0] + 1200, 2))


def test_the_latency_of_small_loads_overlaps():
    arch = Arch(rows=8, columns=8, bus_bits=64)
    bench = Bench(arch, bytearray(4096), latency=32)
    bench.run([Instruction(Opcode.LOAD, fields={"memory": Memory.WEIGHT, "words": 8})] * 12)
    # 8 beats and the cycle between two instructions, where four are under way at a time
    assert bench.words[-1][3] - bench.words[0][3] < 12 * 12


def test_an_instruction_waits_for_its_tokens_and_takes_them_once():
    arch = ARCHS[1]

    async def available(ctx, load):
        await ctx.tick().repeat(20)
        ctx.set(load.available, 0b0010)
        await ctx.tick().repeat(20)
        ctx.set(load.available, 0b0110)
    bench = Bench(arch, bytearray(4096))
    bench.run([Instruction(Opcode.LOAD, wait=0b0110, fields={"memory": Memory.WEIGHT})], available)
    assert bench.takes == [(0b0110, 40)]
    assert [burst[3] for burst in bench.memory.bursts] == [43]


def test_a_run_beyond_the_last_address_is_reported():
    """Although only the lowest bits of an address are kept, and none of WINDOW_BASE."""
    arch = Arch(rows=2, columns=2, bus_bits=32, burst_beats=4, address_bits=13)
    bench = Bench(arch, bytearray(8192), window=12288)
    bench.run([Instruction(Opcode.LOAD, {"address": 8192 - 8, "words": 4}, layer=9)])
    assert bench.reports == [(ErrorCode.WINDOW, Unit.LOAD, 9, 8192)]


def test_a_burst_outside_the_window_is_reported_and_never_asked_for():
    arch = Arch(rows=8, columns=8, bus_bits=64, burst_beats=4)
    bench = Bench(arch, bytearray(8192), window=64)
    bench.run([Instruction(Opcode.LOAD, layer=7, fields={
        "memory": Memory.WEIGHT, "address": 8, "words": 20})] * 2)
    assert bench.reports == [(ErrorCode.WINDOW, 0, 7, 64)]
    assert [(offset, beats) for _, offset, beats, _ in bench.memory.bursts] == [(8, 3), (32, 4)]


@pytest.mark.parametrize("address, beats, window, inside", WINDOW)
def test_the_window_ends_with_its_last_byte(address, beats, window, inside):
    bench = Bench(Arch(rows=8, columns=8, bus_bits=64), bytearray(8192), window=window)
    bench.run([Instruction(Opcode.LOAD, layer=5, fields={
        "memory": Memory.WEIGHT, "address": address, "words": beats})])
    assert bench.reports == ([] if inside else [(ErrorCode.WINDOW, Unit.LOAD, 5, address)])
    assert len(bench.words) == (beats if inside else 0)


def test_a_fetch_that_ends_wrongly_has_no_layer():
    """Although a LOAD waits whose layer is known."""
    arch = Arch(rows=8, columns=8, bus_bits=64)
    arbiter, reports = ReadArbiter(arch=arch), []

    async def bench(ctx):
        axi = arbiter.axi
        for signal, value in ((arbiter.window_size, 4096), (axi.arready, 1),
                              (arbiter.load.request.payload.tag.layer, 9),
                              (arbiter.load.beats.ready, 1)):
            ctx.set(signal, value)
        for asks in (arbiter.fetch.request, arbiter.load.request):
            ctx.set(asks.payload.offset, 3)
            ctx.set(asks.payload.last, 3)
            ctx.set(asks.valid, 1)
            await ctx.tick().until(asks.ready)
            ctx.set(asks.valid, 0)
            await ctx.tick().repeat(9)
            ctx.set(axi.rvalid, 1)              # without RLAST
            await ctx.tick().until(axi.rready)
            ctx.set(axi.rvalid, 0)
            for _ in range(4):
                *_, report = await ctx.tick().sample(arbiter.report)
                if report.valid:
                    reports.append((report.unit, ErrorCode(report.code), report.layer,
                                    report.address))
    simulator = Simulator(arbiter)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert reports == [(SEQUENCER, ErrorCode.LAST, 0, 24), (Unit.LOAD, ErrorCode.LAST, 9, 24)]


@pytest.mark.parametrize("stalled", [False, True])
def test_a_bus_error_is_reported_with_its_burst_and_all_reads_are_drained(stalled):
    arch = Arch(rows=8, columns=8, bus_bits=64, burst_beats=8)
    stalls = random.Random(5) if stalled else None
    bench = Bench(arch, bytearray(8192), bad={200}, stalls=stalls)
    code = Instruction(Opcode.LOAD, layer=9, fields={"memory": Memory.WEIGHT, "words": 60})
    bench.run([code] * 3)
    assert bench.reports == [(ErrorCode.BUS, 0, 9, 192)]
    assert not bench.memory.reads


@pytest.mark.parametrize("stalled", [False, True])
@pytest.mark.parametrize("offset, burst", [(192, 192), (200, 192), (248, 192), (256, 256),
                                           (1432, 1408)])
def test_rlast_at_the_wrong_beat_is_an_error_of_its_own_and_all_reads_are_drained(
        offset, burst, stalled):
    arch = Arch(rows=8, columns=8, bus_bits=64, burst_beats=8)
    code = Instruction(Opcode.LOAD, layer=9, fields={"memory": Memory.WEIGHT, "words": 60})
    others = [replace(code, fields=code.fields | {"address": 480 * n}) for n in (1, 2)]
    bench = Bench(arch, bytearray(8192), flipped={offset},
                  stalls=random.Random(6) if stalled else None)
    bench.run([code, *others])
    assert bench.reports == [(ErrorCode.LAST, 0, 9, burst)]
    assert not bench.memory.reads


@pytest.mark.parametrize("offset, burst", [(0, 0), (192, 192), (248, 192), (1432, 1408)])
def test_a_beat_that_comes_twice_is_noticed(offset, burst):
    arch = Arch(rows=8, columns=8, bus_bits=64, burst_beats=8)
    bench = Bench(arch, bytearray(8192), twice={offset})
    bench.run([Instruction(Opcode.LOAD, layer=9, fields={
        "memory": Memory.WEIGHT, "words": 60, "address": 480 * n}) for n in range(3)])
    ((code, _, layer, address),) = bench.reports
    # the burst itself, the one after, or none: the last beat of all was one more
    assert code == (ErrorCode.PROTOCOL if offset == 1432 else ErrorCode.LAST) and layer == 9
    assert address in (burst, burst + 64) or offset == 1432


def test_an_answer_that_nothing_asked_for_is_an_error():
    arch = Arch(rows=8, columns=8, bus_bits=64)
    bench = Bench(arch, bytearray(64))
    bench.memory.reads.append((5, 0, BASE, True))
    bench.run([Instruction(Opcode.LOAD, wait=2, fields={"memory": Memory.WEIGHT})],
              lambda ctx, load: ctx.tick().repeat(1))
    assert [report[0] for report in bench.reports] == [ErrorCode.PROTOCOL]


def test_the_queue_of_reads_has_room_for_all_and_no_more():
    """LOAD's bursts, and fetched instructions in two parts each; a power of two."""
    assert ReadArbiter.OUTSTANDING // 2 < LOAD_BURSTS + 2 * FETCHES <= ReadArbiter.OUTSTANDING
