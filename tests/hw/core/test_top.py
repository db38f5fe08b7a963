"""The core, whole: programs from memory to memory, what the host sees, errors, soft reset."""

import random
from dataclasses import replace

import numpy as np
import pytest
from amaranth.sim import Simulator
from systolith.gen.compile.tokens import synchronize
from systolith.hw.core import compute, top
from systolith.hw.core.top import Core
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.instruction import Instruction, sealed
from systolith.hw.spec.isa import Destination, Memory, Opcode, Unit
from systolith.hw.spec.memories import word_bytes
from systolith.hw.spec.numbers import MULTIPLIER_BITS
from systolith.hw.spec.program import Program
from systolith.hw.spec.registers import CONTROL_RESET, CONTROL_START, ErrorCode
from systolith.sim.machine import iss
from systolith.sim.random.programs import random_program

from .axi_lite import read, write
from .axi_memory import AxiMemory
from .placed import place_copies
from .proofs import planted

ARCH = Arch(rows=2, columns=2, post_lanes=1, activation="int4", weight="int3", operand_depth=16,
            accumulator_depth=32, activation_depth=32, weight_depth=32, parameter_depth=8,
            bus_bits=32, queue_depth=2)
BASE, LIMIT = 0x5000, 6000
#: Bits of STATUS.
DONE, ERROR = 2, 4


@pytest.fixture(autouse=True)
def placed(monkeypatch):
    place_copies(monkeypatch)


@pytest.fixture(scope="module")
def program():
    return random_program(ARCH, 4, synchronize, instructions=12)


def joined(codes, width):
    return sum((int(code) & (1 << width) - 1) << width * n for n, code in enumerate(codes))


class Bench:
    """A core, its memory and its host."""

    def __init__(self, program, core=Core, **memory):
        self.program, self.core = program, core(arch=program.arch)
        content = bytearray(program.image).ljust(program.window_bytes, b"\0")
        self.memory = AxiMemory(content, bus_bits=program.arch.bus_bits, base=BASE, **memory)
        self.trace = []

    def simulate(self, host):
        simulator = Simulator(self.core)
        simulator.add_clock(1e-6)

        async def serve(ctx):
            await self.memory.serve(ctx, self.core.m_axi)

        async def listen(ctx):
            trace = self.core.trace
            while True:
                _, _, valid, layer, raw, item = await ctx.tick().sample(
                    trace.valid, trace.layer, trace.raw, trace.item)
                if valid:
                    self.trace.append((layer, raw, item))

        async def run(ctx):
            await host(ctx, self.core.s_axi)
        simulator.add_testbench(serve, background=True)
        simulator.add_testbench(listen, background=True)
        simulator.add_testbench(run)
        simulator.run()

    async def start(self, ctx, bus, **registers):
        """Start the program and return the status in which the core asks for attention."""
        for name, value in ({"WINDOW_BASE": BASE, "WINDOW_SIZE": self.program.window_bytes,
                             "PROGRAM": self.program.code_offset} | registers).items():
            await write(ctx, bus, name, value)
        assert not ctx.get(self.core.irq)
        await write(ctx, bus, "CONTROL", CONTROL_START)
        for _ in range(LIMIT):
            if ctx.get(self.core.irq):
                return await read(ctx, bus, "STATUS")
            await ctx.tick()
        raise AssertionError("the core neither finishes nor stops")


def model(program):
    """Memory after the program, and the trace of its results."""
    arch = program.arch
    memory = bytearray(program.image).ljust(program.window_bytes, b"\0")
    simulator = iss.Simulator(arch, memory)
    simulator.run(program.instructions)
    trace = [(result.layer, int(result.raw),
              joined(item, arch.raw_bits if result.raw else arch.activation.width))
             for result in simulator.results for item in result.items]
    return memory, trace


@pytest.mark.parametrize("stalls", [None, 1])
def test_a_program_leaves_the_models_memory(program, stalls):
    bench = Bench(program, latency=5, stalls=stalls and random.Random(stalls))
    memory, trace = model(program)
    assert memory != program.image and trace            # it does something

    async def host(ctx, bus):
        assert await bench.start(ctx, bus) & 0xF == DONE
        assert await read(ctx, bus, "CYCLES") >= await read(ctx, bus, "COMPUTE_LAST") > 0
    bench.simulate(host)
    assert bench.memory.content == memory
    assert bench.trace == trace


def test_a_window_too_small_stops_the_core_and_a_reset_helps(program):
    bench = Bench(program, latency=5)
    code_end = program.code_offset + 48 * len(program.instructions)
    memory, _ = model(program)

    async def host(ctx, bus):
        size = min(code_end, program.window_bytes - 4)
        status = await bench.start(ctx, bus, WINDOW_SIZE=size)
        assert status & (DONE | ERROR) == ERROR
        assert status >> 4 & 15 == ErrorCode.WINDOW
        assert await read(ctx, bus, "ERROR_ADDRESS") + 4 * 256 >= size
        assert all(address < size for address, _ in bench.memory.written)
        await write(ctx, bus, "CONTROL", CONTROL_RESET)
        for _ in range(200):
            if not ctx.get(bench.core.irq):
                break
            await ctx.tick()
        assert await read(ctx, bus, "STATUS") == 0
        bench.memory.content[:] = bytearray(program.image).ljust(program.window_bytes, b"\0")
        assert await bench.start(ctx, bus) & 0xF == DONE
    bench.simulate(host)
    assert bench.memory.content == memory


def test_a_read_error_names_the_unit(program):
    load = next(i for i in program.instructions if i.unit == Unit.LOAD)
    bench = Bench(program, latency=5, bad={BASE + load.address})

    async def host(ctx, bus):
        status = await bench.start(ctx, bus)
        assert status & (DONE | ERROR) == ERROR and status >> 4 & 15 == ErrorCode.BUS
        assert status >> 8 & 7 == Unit.LOAD and status >> 16 == load.layer
    bench.simulate(host)


def test_the_watchdog_stops_a_core_whose_memory_does_not_answer(program):
    bench = Bench(program, latency=10**9)

    async def host(ctx, bus):
        status = await bench.start(ctx, bus, WATCHDOG=100)
        assert status & (DONE | ERROR) == ERROR and status >> 4 & 15 == ErrorCode.WATCHDOG
    bench.simulate(host)


@pytest.mark.parametrize("after, stalls", [(3, None), (60, None), (200, 2)])
def test_a_soft_reset_in_mid_run_and_the_next_run_at_once(program, after, stalls):
    bench = Bench(program, latency=17, stalls=stalls and random.Random(stalls))
    memory, trace = model(program)

    async def host(ctx, bus):
        await write(ctx, bus, "WINDOW_BASE", BASE)
        await write(ctx, bus, "WINDOW_SIZE", program.window_bytes)
        await write(ctx, bus, "PROGRAM", program.code_offset)
        await write(ctx, bus, "CONTROL", CONTROL_START)
        await ctx.tick().repeat(after)
        assert not ctx.get(bench.core.irq)          # it is in the middle
        # not waited for: what it had asked for is still to come
        await write(ctx, bus, "CONTROL", CONTROL_RESET | CONTROL_START)
        assert await read(ctx, bus, "STATUS") & 1
        for _ in range(LIMIT):
            if ctx.get(bench.core.irq):
                break
            await ctx.tick()
        assert await read(ctx, bus, "STATUS") & 0xF == DONE
    bench.simulate(host)
    assert bench.memory.content == memory
    assert bench.trace[-len(trace):] == trace


def colliding(memory, arch=ARCH, words=8, stride=1):
    """A program in which LOAD and POST write to different words of `memory` at the same time; what
    is there then is read by ARRAY, or as operands, and stored. Where there are more than 8 `words`
    LOAD writes each once. POST's words are `stride` apart."""
    operands = memory == Memory.OPERAND
    code, stored, offset = [], 2048, 4096
    place = 0                                   # of what is loaded, which is left to chance

    def load(memory, words, **fields):
        nonlocal place
        code.append(Instruction(Opcode.LOAD, {"memory": memory, "address": place, "words": words}
                                | fields))
        place += word_bytes(memory, arch) * words
    limits = {"low": -8, "high": 7, "first_low": -100, "first_high": 100}
    load(Memory.PARAMETER, 2)
    load(Memory.WEIGHT, arch.rows)
    count = 16 if operands else 16 + 16 * stride
    load(Memory.ACTIVATION, 8 if words == 8 else 16 if stride == 1 else count)
    pixels = {"out_y": 2, "out_x": 8, "stride_ox": 1, "x_last": 31}
    code.append(Instruction(Opcode.ARRAY, pixels))
    code.append(Instruction(Opcode.POST, limits | {
        "out_x": 8 if operands else 16, "stride_x": stride, "base": 16, "copy_base": 8,
        "destination": Destination.OPERAND if operands else Destination.ACTIVATION}))
    if words == 8:
        load(memory, 8, base=0 if operands else 8, rows=8)      # the same ones again and again
    else:
        load(memory, words, base=count)
        count += words
    code.append(Instruction(Opcode.ARRAY, pixels if operands else
                            pixels | {"out_y": 1, "out_x": count,
                                                            "x_last": count - 1}))
    code.append(Instruction(Opcode.POST, limits | {
        "out_x": count, "destination": Destination.STORE, "operand": int(operands), "stride_x": 1,
        "gain": 1 << 20, "operand_gain": 1 << 20, "operand_shift": 20}))
    code.append(Instruction(Opcode.STORE, {"address": stored, "items": count, "item_stride": 4}))
    begin = Instruction(Opcode.BEGIN, fields={"identity": identity(arch)})
    code = sealed([begin, *synchronize(code, arch), Instruction(Opcode.END)])
    factor = 1 << MULTIPLIER_BITS - 1 | MULTIPLIER_BITS + 1 << MULTIPLIER_BITS      # a quarter
    parameters = 2 * (factor << arch.accumulator_bits).to_bytes(
        word_bytes(Memory.PARAMETER, arch), "little")
    data = parameters + np.random.default_rng(memory).integers(0, 256, place, np.uint8).tobytes()
    image = data[:place].ljust(offset, b"\0") + b"".join(item.to_bytes() for item in code)
    return Program(arch, code, image, offset, 8192)


@pytest.mark.parametrize("memory", [Memory.ACTIVATION, Memory.OPERAND])
def test_a_load_waits_while_post_writes_to_the_same_memory(memory):
    program = colliding(memory)
    bench = Bench(program, latency=5)
    content, trace = model(program)

    async def host(ctx, bus):
        assert await bench.start(ctx, bus) & 0xF == DONE
        assert await read(ctx, bus, "WAIT_UNIT_LOAD") > 0       # they have met
    bench.simulate(host)
    assert bench.memory.content == content
    assert bench.trace == trace and len({item for *_, item in trace}) > 4


TWO_WRITES = replace(ARCH, two_writes=True, activation_depth=128, accumulator_depth=128)


def as_the_model_says(program, core=Core):
    """Whether a core leaves what the model does, and when LOAD has waited for POST."""
    content, trace = model(program)
    bench, waited = Bench(program, core=core, latency=5), []

    async def host(ctx, bus):
        assert await bench.start(ctx, bus) & 0xF == DONE
        waited.append(await read(ctx, bus, "WAIT_UNIT_LOAD"))
    bench.simulate(host)
    assert len({item for *_, item in trace}) > 4
    return bench.memory.content == content and bench.trace == trace, waited[0]


@pytest.mark.parametrize("operands", [False, True])
def test_words_of_several_groups_are_loaded_while_post_writes(operands):
    program = colliding(Memory.OPERAND if operands else Memory.ACTIVATION, replace(ARCH, rows=4))
    assert program.arch.slots > 1
    right, waited = as_the_model_says(program)
    assert right and waited > 0
    made = planted(top, "post.writes if space == Space.ACTIVATION else post.copies",
                   "post.copies if space == Space.ACTIVATION else post.writes")
    assert not as_the_model_says(program, made.Core)[0]


def test_load_and_post_write_words_of_different_parity_in_one_cycle():
    """POST writes in every other cycle. Where its words are of one parity, LOAD waits once, and has
    words of the other one from then on; where they alternate, LOAD's have the same one again."""
    waits = []
    for stride in (1, 2):
        for arch in (TWO_WRITES, replace(TWO_WRITES, two_writes=False)):
            right, waited = as_the_model_says(colliding(Memory.ACTIVATION, arch, 60, stride))
            assert right
            waits.append(waited)
    alternating, of_one_memory, apart, apart_of_one_memory = waits
    assert alternating == of_one_memory > apart_of_one_memory > apart == 1


@pytest.mark.parametrize("module, old, new", [
    (top, "post.upcoming_odd == load.upcoming_odd", "post.upcoming_odd != load.upcoming_odd"),
    (top, "writes & (address[0] == part)", "writes"),
    (top, "loading &= new.address[0] == part", "loading &= new.address[0] != part"),
    (top, "port.addr.eq(address[parts - 1:]),", "port.addr.eq(address),"),
    (compute, "word.word_select(arch.banks + bank, each),", "even,"),
    (compute, 'Mux(later(at[0], 2, f"odd_{bank}")', 'Mux(later(at[0], 1, f"odd_{bank}")')])
def test_faults_of_memories_of_even_and_odd_words_are_noticed(module, old, new, monkeypatch):
    made = planted(module, old, new)
    if module is top:
        core = made.Core
    else:
        made.place = compute.place
        monkeypatch.setattr(top, "Compute", made.Compute)
        core = Core
    assert not as_the_model_says(colliding(Memory.ACTIVATION, TWO_WRITES, 64), core)[0]
