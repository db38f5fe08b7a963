"""The store unit: every byte of random instructions, bursts, tokens, errors."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator
from systolith.hw.core.store import Store
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode
from systolith.hw.spec.registers import ErrorCode
from systolith.hw.spec.timing import burst_limit

from ...boundaries import WINDOW
from .axi_memory import AxiMemory, put
from .post_cases import layout_value

ARCHS = [
    Arch(rows=3, columns=6, lanes=2, bus_bits=32, burst_beats=8),                   # 8, 8 bytes
    Arch(rows=4, columns=4, activation="int4", weight="int4", post_lanes=1),        # 2, 4 bytes
    Arch(rows=1, columns=1, bus_bits=128, burst_beats=2),                           # 1, 4 bytes
    Arch(rows=12, columns=12, activation="e3m2", weight="e3m2", bus_bits=32),       # 12 bytes
    Arch(rows=32, columns=32, bus_bits=64, post_lanes=8),                           # 32, 32 bytes
]
BASE = 0x70000


def item_bytes(arch, raw):
    return arch.raw_bytes if raw else arch.group_bytes


def random_instruction(draw, arch, window):
    raw = draw.randrange(2)
    size = item_bytes(arch, raw)
    burst = draw.random() < 0.6 and size % arch.beat_bytes == 0
    rows, items = draw.choice([(1, draw.randint(1, 30)), (draw.randint(1, 5), draw.randint(1, 7))])
    unit = min(size, arch.beat_bytes)
    item_stride = 0 if burst else draw.randrange(size, 4 * size + 1, unit)
    span = (items * size if burst else (items - 1) * item_stride + size)
    row_stride = -(-span // unit) * unit + unit * draw.choice([0, 1, 5])
    address = draw.randrange(0, window - (rows - 1) * row_stride - span, unit)
    return Instruction(Opcode.STORE, signal=draw.randrange(8), layer=draw.randrange(4096),
                       fields={"address": address, "rows": rows, "items": items,
                               "row_stride": row_stride, "item_stride": item_stride,
                               "raw": raw, "burst": int(burst), "item_beats": 0 if raw or burst
                               else draw.choice((0, draw.randrange(arch.group_beats)))})


def addresses(arch, code):
    size = item_bytes(arch, code.raw)
    stride = size if code.burst else code.item_stride
    return [code.address + row * code.row_stride + item * stride
            for row in range(code.rows) for item in range(code.items)]


class Bench:
    """A store unit in front of a memory; records tokens and reports."""

    def __init__(self, arch, content, *, latency=8, stalls=None, bad=(), window=None,
                 identifier=0):
        self.memory = AxiMemory(content, bus_bits=arch.bus_bits, base=BASE, latency=latency,
                                stalls=stalls, bad={BASE + offset for offset in bad})
        self.arch, self.stalls = arch, stalls
        self.store = Store(arch=arch)
        self.gives, self.reports, self.beats = [], [], []
        m = Module()
        m.submodules.store = self.store
        m.d.comb += [self.store.window_base.eq(BASE), self.store.axi.bid.eq(identifier),
                     self.store.window_size.eq(len(content) if window is None else window)]
        self.simulator = Simulator(m)
        self.simulator.add_clock(1e-6)

    async def watch(self, ctx):
        store, halted, cycle = self.store, False, 0
        while True:
            ctx.set(store.halt, halted)
            _, _, give, report, beat, ready, response = await ctx.tick().sample(
                store.give, store.report, store.axi.wvalid, store.axi.wready, store.axi.bvalid)
            if give:
                self.gives.append((give, cycle))
            if beat and ready:
                self.beats.append(cycle)
            if response:
                self.last_response = cycle
            if report.valid and not halted:
                halted = True
                self.reports.append((ErrorCode(report.code), report.unit, report.layer,
                                     report.address))
            cycle += 1

    def run(self, instructions, items):
        """Feed instructions and items (integers, or None for a pause of 20 cycles)."""
        fed = []

        async def feed(ctx):
            ctx.set(self.store.available, 15)
            for code in instructions:
                await put(ctx, self.store.i, layout_value(code, self.store.arch))
            await ctx.tick()        # busy from the cycle after the instruction is taken
            fed.append(True)

        async def send(ctx):
            for item in items:
                if item is None:
                    await ctx.tick().repeat(20)
                    continue
                if self.stalls is not None and self.stalls.random() < 0.5:
                    await ctx.tick().repeat(self.stalls.choice([1, 1, 2, 9]))
                await put(ctx, self.store.items, item)

        async def wait(ctx):
            for _ in range(20000):
                *_, busy, quiet, halted = await ctx.tick().sample(
                    self.store.busy, self.store.quiet, self.store.halt)
                if (halted or (fed and not busy)) and quiet:
                    return
            raise AssertionError("the unit never becomes idle")

        async def write(ctx):
            await self.memory.write(ctx, self.store.axi)
        for bench in (feed, send, write, self.watch):
            self.simulator.add_testbench(bench, background=True)
        self.simulator.add_testbench(wait)
        self.simulator.run()


@pytest.mark.parametrize("stalled", [False, True])
@pytest.mark.parametrize("arch", ARCHS, ids=lambda arch: f"{arch.rows}x{arch.columns}")
def test_random_instructions_write_their_bytes_and_no_others(arch, stalled):
    draw = random.Random(f"store {arch.rows} {stalled}")
    content = bytearray(draw.randbytes(12288))
    expected = bytearray(content)
    code = [random_instruction(draw, arch, len(content)) for _ in range(8)]
    items = []
    for item in code:
        size = item_bytes(arch, item.raw)
        for address in addresses(arch, item):
            data = draw.randbytes(size)
            written = item.item_beats * arch.beat_bytes or size
            expected[address:address + written] = data[:written]
            # what stands behind the item must not matter
            items.append(int.from_bytes(data, "little")
                         | draw.getrandbits(arch.item_bits) >> 8 * size << 8 * size)
    bench = Bench(arch, content, stalls=draw if stalled else None)
    bench.run(code, items)
    assert content == expected
    assert [give for give, _ in bench.gives] == [item.signal for item in code if item.signal]
    assert not bench.reports
    assert not bench.memory.addresses and not bench.memory.data
    assert max(burst[2] for burst in bench.memory.bursts) <= burst_limit(arch)


def test_contiguous_items_take_one_beat_a_cycle():
    arch = Arch(rows=16, columns=16, bus_bits=64, burst_beats=16)
    bench = Bench(arch, bytearray(4096), latency=8)
    bench.run([Instruction(Opcode.STORE, fields={"items": 64, "burst": 1})], range(64))
    assert [beats for _, _, beats, _ in bench.memory.bursts] == [16] * 8
    assert bench.beats == list(range(bench.beats[0], bench.beats[0] + 128))


def test_long_rows_take_the_bus_nearly_whole():
    arch = Arch(rows=16, columns=16, bus_bits=64)
    bench = Bench(arch, bytearray(8192), latency=32)
    bench.run([Instruction(Opcode.STORE, fields={"items": 512, "burst": 1})], range(512))
    assert len(bench.beats) == 1024
    assert len(bench.beats) / (bench.beats[-1] - bench.beats[0] + 1) > 0.98


def test_items_that_are_bursts_do_not_wait_for_responses():
    arch = Arch(rows=8, columns=8, bus_bits=64)
    bench = Bench(arch, bytearray(8192), latency=24)
    bench.run([Instruction(Opcode.STORE, fields={"items": 200, "item_stride": 16})], range(200))
    assert bench.beats == list(range(bench.beats[0], bench.beats[0] + 600, 3))


def test_tokens_are_given_in_the_cycle_after_the_last_response():
    arch = Arch(rows=16, columns=16)
    bench = Bench(arch, bytearray(4096), latency=30)
    bench.run([Instruction(Opcode.STORE, signal=5, fields={"items": 3, "burst": 1})], range(3))
    assert bench.gives == [(5, bench.last_response + 1)]
    assert bench.last_response == bench.beats[-1] + 30


def test_an_address_is_sent_only_when_its_first_item_is_there():
    arch = Arch(rows=8, columns=8)
    bench = Bench(arch, bytearray(4096))
    bench.run([Instruction(Opcode.STORE, fields={"items": 2, "item_stride": 64})],
              [None, 1, None, 2])
    assert [offset for _, offset, _, _ in bench.memory.bursts] == [0, 64]
    first, second = (cycle for *_, cycle in bench.memory.bursts)
    assert first > 20 and second > first + 20


def test_the_next_instruction_does_not_wait_for_responses():
    arch = Arch(rows=8, columns=8)
    bench = Bench(arch, bytearray(4096), latency=100)
    bench.run([Instruction(Opcode.STORE, signal=1, fields={"address": 64 * n})
               for n in range(4)], range(4))
    assert bench.beats[-1] - bench.beats[0] <= 12
    assert len(bench.gives) == 4


def test_a_burst_outside_the_window_is_reported_and_never_begun():
    arch = Arch(rows=8, columns=8, burst_beats=4)
    content = bytearray(range(256)) * 16
    before = bytes(content)
    bench = Bench(arch, content, window=64)
    bench.run([Instruction(Opcode.STORE, layer=3, fields={"address": 16, "items": 20, "burst": 1})],
              [0] * 20)
    assert bench.reports == [(ErrorCode.WINDOW, 3, 3, 64)]
    assert content[64:] == before[64:]
    assert [burst[1:3] for burst in bench.memory.bursts] == [(16, 2), (32, 4)]


@pytest.mark.parametrize("address, beats, window, inside", WINDOW)
def test_the_window_ends_with_its_last_byte(address, beats, window, inside):
    arch = Arch(rows=8, columns=8)
    content = bytearray(8192)
    bench = Bench(arch, content, window=window)
    bench.run([Instruction(Opcode.STORE, layer=3, fields={
        "address": address, "items": beats, "burst": 1})], [(1 << 64) - 1] * beats)
    assert bench.reports == ([] if inside else [(ErrorCode.WINDOW, 3, 3, address)])
    written = 8 * beats if inside else 0
    address %= len(content)
    assert content == bytes(address) + b"\xff" * written + bytes(8192 - address - written)


@pytest.mark.parametrize("stalled", [False, True])
def test_a_bus_error_is_reported_and_promised_beats_are_sent_without_strobes(stalled):
    arch = Arch(rows=8, columns=8, burst_beats=16)
    bench = Bench(arch, bytearray(8192), bad={128},
                  stalls=random.Random(3) if stalled else None)
    # the third burst is begun, but has one item only
    bench.run([Instruction(Opcode.STORE, layer=9, fields={"address": 128, "items": 60,
                                                          "burst": 1})], [0xFF] * 33)
    assert bench.reports == [(ErrorCode.BUS, 3, 9, 128)]
    assert not bench.memory.addresses and not bench.memory.data
    strobes = dict(bench.memory.written)
    assert strobes[128] == 0xFF
    assert 0 in strobes.values()
    assert sum(beats for _, _, beats, _ in bench.memory.bursts) == len(bench.memory.written)


def test_an_answer_that_nothing_asked_for_is_an_error():
    arch = Arch(rows=8, columns=8)
    bench = Bench(arch, bytearray(4096))
    bench.memory.responses.append((5, 0))
    bench.run([Instruction(Opcode.STORE)], [])
    assert [report[0] for report in bench.reports] == [ErrorCode.PROTOCOL]


def test_an_answer_to_another_master_is_no_bus_error():
    """Not even where the memory refused the burst as well."""
    for bad in ((), (128,)):
        bench = Bench(Arch(rows=8, columns=8), bytearray(4096), bad=bad, identifier=1)
        bench.run([Instruction(Opcode.STORE, layer=9, fields={"address": 128, "items": 1})], [7])
        assert bench.reports == [(ErrorCode.PROTOCOL, 3, 9, 128)]


@pytest.mark.parametrize("held", ["awready", "wready"])
def test_the_unit_is_not_quiet_while_anything_of_it_is_on_the_bus(held):
    """Not even where a memory answers before it has taken address and data: a reset would take
    back what is on the bus."""
    bench = Bench(Arch(rows=8, columns=8), bytearray(4096))
    store, axi, seen = bench.store, bench.store.axi, []

    async def run(ctx):
        for name in {"awready", "wready"} - {held}:
            ctx.set(getattr(axi, name), 1)
        ctx.set(store.available, 15)
        await put(ctx, store.i, layout_value(Instruction(Opcode.STORE), bench.arch))
        await put(ctx, store.items, 7)
        await ctx.tick().repeat(8)
        ctx.set(axi.bvalid, 1)
        await ctx.tick().until(axi.bready)
        ctx.set(axi.bvalid, 0)
        for n in range(12):
            if n == 8:
                ctx.set(getattr(axi, held), 1)
            valid = held.replace("ready", "valid")
            *_, quiet, waits = await ctx.tick().sample(store.quiet, getattr(axi, valid))
            seen.append((quiet, waits))
    bench.simulator.add_testbench(run)
    bench.simulator.run()
    assert seen[:8] == [(0, 1)] * 8 and seen[-1] == (1, 0)
