"""The sequencer with its read arbiter: order, queues, END, every error, the watchdog; tokens."""

import random
from dataclasses import replace

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator
from systolith.hw.core import sequencer as sequencer_module
from systolith.hw.core.arbiter import ReadArbiter
from systolith.hw.core.sequencer import Sequencer
from systolith.hw.core.tokens import TokenCounters
from systolith.hw.spec import isa
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.instruction import Instruction, sealed
from systolith.hw.spec.isa import Opcode, Unit
from systolith.hw.spec.legality import OPTIONS
from systolith.hw.spec.registers import SEQUENCER, ErrorCode
from systolith.hw.spec.timing import FETCHES
from systolith.hw.spec.widths import payload_bits

from .axi_memory import AxiMemory

BASE = 0x10000
UNIT_OPCODES = [opcode for opcode in Opcode if opcode.unit is not None]


def begin(arch):
    return Instruction(Opcode.BEGIN, fields={"identity": identity(arch)})


def random_instruction(draw, opcode=None):
    opcode = opcode or draw.choice(UNIT_OPCODES)
    fields = {item.name: draw.randint(item.low, item.high) for item in isa.OPCODES[opcode]}
    for option in OPTIONS:                              # what only other chips have
        if option.opcode == opcode:
            fields[option.field] %= option.low
    own = 1 << opcode.unit
    return Instruction(opcode, wait=draw.randrange(16) & ~own, signal=draw.randrange(16) & ~own,
                       layer=draw.randrange(4096), fields=fields)


def encode(code, size=isa.INSTRUCTION_BYTES):
    code = sealed(code) if code[-1].opcode == Opcode.END else code
    return b"".join(item.to_bytes(size) for item in code)


class Bench:
    """A sequencer and its arbiter; the units are queues' readers that keep what they got."""

    def __init__(self, arch, image, *, program=0, latency=8, stalls=None, bad=(), window=None,
                 watchdog=0, pace=0.5, seed=0):
        self.arch, self.program, self.watchdog = arch, program, watchdog
        self.memory = AxiMemory(bytearray(image), bus_bits=arch.bus_bits, base=BASE,
                                latency=latency, stalls=stalls, bad={BASE + at for at in bad})
        self.draw, self.pace = random.Random(seed), pace
        self.sequencer, self.arbiter = Sequencer(arch=arch), ReadArbiter(arch=arch)
        self.got = {unit: [] for unit in Unit}
        self.done = self.report = None
        self.busy_until = 0
        m = Module()
        m.submodules.sequencer, m.submodules.arbiter = self.sequencer, self.arbiter
        wiring.connect(m, self.sequencer.read, self.arbiter.fetch)
        m.d.comb += [self.arbiter.window_base.eq(BASE),
                     self.arbiter.window_size.eq(len(image) if window is None else window),
                     self.arbiter.halt.eq(self.sequencer.halt),
                     self.sequencer.quiet.eq(self.arbiter.quiet),
                     self.sequencer.reports[1].eq(self.arbiter.report),
                     self.sequencer.progress.eq(self.arbiter.progress),
                     self.sequencer.watchdog.eq(watchdog)]
        self.simulator = Simulator(m)
        self.simulator.add_clock(1e-6)

    async def units(self, ctx):
        """Each pops its queue at random and is busy for a while after."""
        sequencer, busy = self.sequencer, [0] * 4
        while True:
            for unit in Unit:
                ctx.set(sequencer.o[unit].ready, self.draw.random() < self.pace)
                ctx.set(sequencer.unit_busy[unit], busy[unit] > 0)
            samples = [signal for output in sequencer.o
                       for signal in (output.valid, output.ready, output.payload.as_value())]
            _, _, *values = await ctx.tick().sample(*samples)
            for unit in Unit:
                valid, ready, payload = values[3 * unit:3 * unit + 3]
                busy[unit] -= busy[unit] > 0
                if valid and ready:
                    self.got[unit].append(payload)
                    busy[unit] = self.draw.randrange(30)

    def run(self, cycles=5000, inject=None):
        async def control(ctx):
            sequencer = self.sequencer
            for _ in range(2):          # a second run after the first must be the same
                ctx.set(sequencer.program, self.program)
                ctx.set(sequencer.start, 1)
                await ctx.tick()
                ctx.set(sequencer.start, 0)
                for self.cycles in range(cycles):
                    *_, busy, done, report, quiet = await ctx.tick().sample(
                        sequencer.busy, sequencer.done, sequencer.report, self.arbiter.quiet)
                    if inject and self.cycles >= inject[0]:
                        ctx.set(sequencer.reports[0], inject[1])
                    if not busy and quiet and self.cycles:
                        break
                else:
                    raise AssertionError("the sequencer never stops")
                if report.valid:
                    self.report = (ErrorCode(report.code), report.unit, report.layer,
                                   report.address)
                    return
                assert done
                self.done = self.done + 1 if self.done else 1

        async def read(ctx):
            await self.memory.read(ctx, self.arbiter.axi)
        self.simulator.add_testbench(control)
        self.simulator.add_testbench(self.units, background=True)
        self.simulator.add_testbench(read, background=True)
        self.simulator.run()


@pytest.mark.parametrize("bus_bits, depth, stalled", [
    (32, 1, False), (64, 4, True), (64, 2, False), (128, 3, True), (512, 4, True)])
def test_every_unit_gets_its_instructions_in_order(bus_bits, depth, stalled):
    arch = Arch(rows=3, columns=5, bus_bits=bus_bits, queue_depth=depth)
    draw = random.Random(bus_bits + depth)
    code = [random_instruction(draw) for _ in range(40)]
    offset = 4096 - 64 * draw.randrange(1, 8)           # instructions straddle a page
    image = bytes(offset) + encode([begin(arch), *code, Instruction(Opcode.END)],
                                   arch.instruction_bytes) + bytes(64)
    bench = Bench(arch, image, program=offset, stalls=draw if stalled else None)
    bench.run()
    assert bench.done == 2
    for unit in Unit:
        assert bench.got[unit] == 2 * [payload_bits(arch, item.opcode, item.encode())
                                       for item in code if item.unit == unit]


def test_what_follows_end_does_not_matter():
    arch = Arch(rows=2, columns=2)
    code = encode([begin(arch), Instruction(Opcode.END)])
    for image, bad in ((code, ()), (code + b"\xFF" * 200, ()), (code + bytes(200), (96, 104))):
        bench = Bench(arch, image, bad=bad)
        bench.run()
        assert bench.done == 2


@pytest.mark.parametrize("seed", (4, 6, 8, 9, 12, 14))         # with such stalls two did
def test_instructions_of_one_beat_may_come_in_successive_cycles(seed):
    """After BEGIN, which alone may be the first, and after END, which what follows does not
    matter to."""
    arch = Arch(rows=2, columns=2, bus_bits=512)
    code = [begin(arch), random_instruction(random.Random(seed)), Instruction(Opcode.END)]
    image = encode(code, arch.instruction_bytes) + b"\xFF" * 256
    bench = Bench(arch, image, stalls=random.Random(seed), latency=30)
    bench.run()
    assert bench.done == 2 and bench.report is None


def test_end_waits_until_every_unit_is_idle():
    arch = Arch(rows=2, columns=2)
    code = [begin(arch), random_instruction(random.Random(1), Opcode.POST), Instruction(Opcode.END)]
    slow, fast = (Bench(arch, encode(code), pace=pace) for pace in (0.01, 1))
    slow.run()
    fast.run()
    assert slow.done == fast.done == 2
    assert slow.cycles > fast.cycles + 20


@pytest.mark.parametrize("surplus", [False, True])
@pytest.mark.parametrize("bus_bits", [32, 128, 512])
@pytest.mark.parametrize("place", [64, 128])
def test_an_answer_too_many_is_noticed_by_the_burst_that_ends_a_program(bus_bits, place, surplus):
    """Also one that looks like a burst of one beat and comes as late as can be."""
    arch = Arch(rows=2, columns=2, bus_bits=bus_bits)
    image = bytes(place) + encode([begin(arch), Instruction(Opcode.END)])
    beats = 2 if bus_bits == 512 else isa.INSTRUCTION_BYTES // arch.beat_bytes
    image = bytes(place) + encode([begin(arch), Instruction(Opcode.END)], arch.instruction_bytes)
    bench = Bench(arch, image.ljust(1024, b"\0"), program=place)
    accept, begun = bench.memory._accept_read, []
    # where the bus is as wide as an instruction, the aligned pair that BEGIN is of, never asked for
    # before; else BEGIN, once more
    at, number = (place & -128, 1) if bus_bits == 512 else (place, 2)

    def with_one_more(now):
        if (now["arvalid"] and now["arready"]
                and (now["araddr"], now["arlen"] + 1) == (BASE + at, beats)):
            begun.append(now["araddr"])
            if len(begun) == number and surplus:
                bench.memory.reads.append((bench.memory.cycle, 0, BASE, True))
        accept(now)
    bench.memory._accept_read = with_one_more
    bench.run()
    assert len(begun) == number * (1 if surplus else 2)
    if surplus:
        assert bench.report[0] == ErrorCode.LAST
    else:
        assert bench.done == 2


@pytest.mark.parametrize("watchdog, least", [(0, 64), (40, 40), (200, 64)])
def test_a_reset_in_vain_is_told_after_the_bound(watchdog, least, monkeypatch):
    monkeypatch.setattr(sequencer_module, "RESET_CYCLES", 64)
    sequencer = Sequencer(arch=Arch(rows=2, columns=2))

    async def bench(ctx):
        ctx.set(sequencer.watchdog, watchdog)
        ctx.set(sequencer.stop, 1)
        for cycle in range(100):
            if cycle == 10:                     # the bus still moves
                ctx.set(sequencer.progress, 1)
            *_, report, halt = await ctx.tick().sample(sequencer.report, sequencer.halt)
            ctx.set(sequencer.progress, 0)
            if report.valid:
                break
        assert halt and (report.code, report.unit) == (ErrorCode.RESET, SEQUENCER)
        assert least + 10 <= cycle <= least + 14
        ctx.set(sequencer.quiet, 1)
        ctx.set(sequencer.stop, 0)
    simulator = Simulator(sequencer)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("one, other, overflow, held", [
    (1, 1, 1, (ErrorCode.BUS, Unit.LOAD, 5)), (0, 1, 1, (ErrorCode.WINDOW, Unit.STORE, 6)),
    (1, 0, 0, (ErrorCode.BUS, Unit.LOAD, 5)), (0, 0, 1, (ErrorCode.TOKENS, SEQUENCER, 0))])
def test_of_several_errors_in_one_cycle_one_is_held_and_later_ones_are_not(
        one, other, overflow, held):
    sequencer = Sequencer(arch=Arch(rows=2, columns=2))

    async def bench(ctx):
        ctx.set(sequencer.start, 1)
        await ctx.tick()
        ctx.set(sequencer.start, 0)
        await ctx.tick().repeat(3)
        reports = ({"valid": one, "code": ErrorCode.BUS, "unit": Unit.LOAD, "layer": 5},
                   {"valid": other, "code": ErrorCode.WINDOW, "unit": Unit.STORE, "layer": 6})
        for own, report in zip(sequencer.reports, reports, strict=True):
            ctx.set(own, report)
        await ctx.tick()
        for own in sequencer.reports:
            ctx.set(own, {"valid": 0})
        ctx.set(sequencer.overflow, overflow)       # a unit's report takes a cycle more
        await ctx.tick()
        ctx.set(sequencer.overflow, 0)
        ctx.set(sequencer.reports[0], {"valid": 1, "code": ErrorCode.PROTOCOL, "layer": 7})
        await ctx.tick().repeat(4)
        report = ctx.get(sequencer.report)
        assert (report.valid, report.code, report.unit, report.layer) == (1, *held)
    simulator = Simulator(sequencer)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def zero_count(arch):
    code = random_instruction(random.Random(2), Opcode.ARRAY)
    field = next(item for item in isa.OPCODES[Opcode.ARRAY] if item.name == "out_x")
    word, position = code.encode(), sum(item.width for item in isa.HEAD)
    for item in isa.OPCODES[Opcode.ARRAY]:
        if item == field:
            return code.layer, word & ~(((1 << item.width) - 1) << position)
        position += item.width
    raise AssertionError


def patched(arch, opcode, **fields):
    code = random_instruction(random.Random(3), opcode)
    for name, value in fields.items():
        if name in ("wait", "signal"):
            setattr(code, name, value)
        else:
            code.fields[name] = value
    return code.layer, code.encode()


@pytest.mark.parametrize("bad", [
    lambda arch: (0x123, 0x123 << 11),                                  # opcode 0
    lambda arch: (0xFFF, (1 << isa.INSTRUCTION_BITS) - 1),              # opcode 7
    zero_count,
    lambda arch: patched(arch, Opcode.LOAD, memory=3),
    lambda arch: patched(arch, Opcode.POST, destination=2),
    lambda arch: patched(arch, Opcode.ARRAY, starts=1),
    lambda arch: patched(arch, Opcode.ARRAY, double=1),                 # without bit planes
    lambda arch: patched(arch, Opcode.LOAD, wait=1),
    lambda arch: patched(arch, Opcode.STORE, signal=8),
    lambda arch: (0, begin(arch).encode()),                             # twice
])
def test_an_illegal_instruction_stops_the_core_and_is_named(bad):
    arch = Arch(rows=2, columns=2)
    layer, word = bad(arch)
    draw = random.Random(4)
    image = (encode([begin(arch)] + [random_instruction(draw) for _ in range(3)])
             + word.to_bytes(48, "little") + encode([random_instruction(draw)] * 3))
    bench = Bench(arch, bytes(64) + image, program=64)
    bench.run()
    assert bench.report == (ErrorCode.ILLEGAL, SEQUENCER, layer, 64 + 4 * 48)
    assert sum(map(len, bench.got.values())) <= 3


@pytest.mark.parametrize("bits", [32, 64, 128, 256, 512])
def test_a_program_that_was_changed_is_not_done(bits):
    """Bits that no other check looks at: of numbers, and after the last field."""
    arch = Arch(rows=2, columns=2, bus_bits=bits)
    draw = random.Random(8)
    each = arch.instruction_bytes
    image = encode([begin(arch), *(random_instruction(draw, Opcode.LOAD) for _ in range(2)),
                    Instruction(Opcode.END, layer=6)], each)
    fine = Bench(arch, image)
    fine.run()
    assert fine.done and fine.report is None
    # LOAD.address; after LOAD's last field; END.checksum, and after it; two instructions swapped
    changes = [1 << 8 * each * number + bit for number, bit in (
        (1, 30), (2, 200), (3, 40), (3, 8 * each - 1))]
    number = int.from_bytes(image, "little")
    one, two, three = (slice(n * each, (n + 1) * each) for n in range(3))
    swapped = image[one] + image[three] + image[two] + image[3 * each:]
    for changed in [*((number ^ change).to_bytes(len(image), "little") for change in changes),
                    swapped]:
        bench = Bench(arch, changed)
        bench.run()
        assert not bench.done
        assert bench.report == (ErrorCode.CHECKSUM, SEQUENCER, 6, 3 * each)
        # Without the sum nothing is said of it.
        bench = Bench(replace(arch, checksum=False), changed)
        bench.run()
        assert bench.done and bench.report is None
        without = Bench(replace(arch, checksum=False), image)
        without.run()
        assert without.done and without.cycles == fine.cycles


def test_a_program_must_begin_with_begin_and_the_right_identity():
    arch = Arch(rows=2, columns=2)
    bench = Bench(arch, encode([Instruction(Opcode.END, layer=5)] * 4))
    bench.run()
    assert bench.report == (ErrorCode.ILLEGAL, SEQUENCER, 5, 0)
    other = Instruction(Opcode.BEGIN, fields={"identity": identity(arch) ^ 1 << 63})
    bench = Bench(arch, encode([other, *[Instruction(Opcode.END)] * 4]))
    bench.run()
    assert bench.report == (ErrorCode.IDENTITY, SEQUENCER, 0, 0)


def test_a_program_that_leaves_the_window_or_meets_a_bus_error_is_reported():
    arch = Arch(rows=2, columns=2)
    image = encode([begin(arch)] + [random_instruction(random.Random(5))] * 3)
    bench = Bench(arch, image)
    bench.run()
    assert bench.report[:2] + bench.report[3:] == (ErrorCode.WINDOW, SEQUENCER, 4 * 48)
    bench = Bench(arch, image, bad=[48 + 16])
    bench.run()
    assert bench.report[:2] + bench.report[3:] == (ErrorCode.BUS, SEQUENCER, 48)


def test_the_first_report_of_a_unit_is_held_and_halts():
    arch = Arch(rows=2, columns=2)
    image = encode([begin(arch)] + [random_instruction(random.Random(6))] * 20
                   + [Instruction(Opcode.END)])
    bench = Bench(arch, image, pace=0.01)
    bench.run(inject=(60, {"valid": 1, "code": 4, "unit": Unit.LOAD, "layer": 77, "address": 1234}))
    assert bench.report == (ErrorCode.BUS, Unit.LOAD, 77, 1234)


def test_the_watchdog_reports_a_core_without_progress():
    arch = Arch(rows=2, columns=2, queue_depth=1)
    image = encode([begin(arch)] + [random_instruction(random.Random(7), Opcode.POST)] * 12
                   + [Instruction(Opcode.END)] * 5)
    bench = Bench(arch, image, pace=0, watchdog=200)
    bench.run()
    code, unit, _, address = bench.report
    assert (code, unit) == (ErrorCode.WATCHDOG, SEQUENCER)
    # BEGIN, one before its unit, one in the queue, and those that were asked for before
    assert 3 * 48 <= address <= (3 + FETCHES) * 48 and address % 48 == 0
    assert 200 < bench.cycles < 300


class TestTokens:
    def simulate(self, steps):
        """Steps of (give masks, take masks) by unit; returns available after each."""
        tokens = TokenCounters(bits=10)
        seen = []

        async def bench(ctx):
            for give, take in steps:
                for unit in Unit:
                    ctx.set(tokens.give[unit], give[unit])
                    ctx.set(tokens.take[unit], take[unit])
                _, _, overflow = await ctx.tick().sample(tokens.overflow)
                seen.append(([ctx.get(tokens.available[unit]) for unit in Unit], overflow))
        simulator = Simulator(tokens)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()
        return seen

    def test_counters_follow_a_naive_model(self):
        draw = random.Random(8)
        counts = {(giver, taker): 0 for giver in Unit for taker in Unit if giver != taker}
        taken = dict.fromkeys(counts, False)
        steps, expected = [], []
        for _ in range(400):
            give, take = [0] * 4, [0] * 4
            for pair, count in counts.items():
                giver, taker = pair
                gives = draw.random() < 0.5
                # never twice in a row
                takes = bool(count and not taken[pair] and draw.random() < 0.7)
                give[giver] |= gives << taker
                take[taker] |= takes << giver
                counts[pair] = count + gives - takes
                taken[pair] = takes
            steps.append((give, take))
            # what is taken is there for one more cycle
            expected.append(([sum((counts[giver, taker] + taken[giver, taker] > 0) << giver
                                  for giver in Unit if giver != taker) for taker in Unit], 0))
        assert self.simulate(steps) == expected

    def test_one_token_too_many_is_an_overflow(self):
        seen = self.simulate([([2, 0, 0, 0], [0] * 4)] * 1025 + [([0] * 4, [0] * 4)] * 2)
        assert [overflow for _, overflow in seen] == [0] * 1026 + [1]

    def test_a_full_counter_gives_and_takes_at_once(self):
        give, both = ([2, 0, 0, 0], [0] * 4), ([2, 0, 0, 0], [0, 1, 0, 0])
        rest = ([0] * 4, [0] * 4)
        seen = self.simulate([give] * 1024 + [both, rest, both, rest, rest, rest])
        assert not any(overflow for _, overflow in seen)
