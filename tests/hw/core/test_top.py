"""The core, whole: programs from memory to memory, what the host sees, errors, soft reset."""

import random

import pytest
from amaranth.sim import Simulator
from systolith.gen.compile.tokens import synchronize
from systolith.hw.core.top import Core
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Unit
from systolith.hw.spec.registers import CONTROL_RESET, CONTROL_START, ErrorCode
from systolith.sim.machine import iss
from systolith.sim.random.programs import random_program

from .axi_lite import read, write
from .axi_memory import AxiMemory
from .placed import place_copies

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
    return random_program(ARCH, 4, synchronize, instructions=10)


def joined(codes, width):
    return sum((int(code) & (1 << width) - 1) << width * n for n, code in enumerate(codes))


class Bench:
    """A core, its memory and its host."""

    def __init__(self, program, **memory):
        self.program, self.core = program, Core(arch=program.arch)
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
