"""The host's registers: every one of the list, start, soft reset, counters."""

import random
from dataclasses import replace

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator
from systolith.hw.core.csr import Csr
from systolith.hw.spec import registers
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.isa import Unit
from systolith.hw.spec.registers import COUNTED, UnitState

from .axi_lite import read, write

ARCH = Arch(rows=3, columns=5)
draw = random.Random(1)


def simulate(bench, background=None, arch=ARCH):
    m = Module()
    m.submodules.csr = component = Csr(arch=arch)

    async def run(ctx):
        await bench(ctx, component)
    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(run)
    if background is not None:
        async def behind(ctx):
            await background(ctx, component)
        simulator.add_testbench(behind, background=True)
    simulator.run()


def test_constants_and_reserved_offsets():
    async def bench(ctx, component):
        bus = component.bus
        assert await read(ctx, bus, "ID") == 0x53595354
        assert await read(ctx, bus, "VERSION") == registers.VERSION
        low, high = await read(ctx, bus, "IDENTITY_LOW"), await read(ctx, bus, "IDENTITY_HIGH")
        assert low | high << 32 == identity(ARCH)
        for offset in (0x64, 0x74, 0xFC):
            assert await read(ctx, bus, offset) == 0
    simulate(bench)


def test_written_registers_keep_their_value_but_not_while_busy():
    names = ("WINDOW_BASE", "WINDOW_SIZE", "PROGRAM", "WATCHDOG")

    async def bench(ctx, component):
        for name in names:
            await write(ctx, component.bus, name, 0x12345FFF)
        expected = [0x12345000, 0x12345FFF, 0x12345FC0, 0x12345FFF]
        assert [await read(ctx, component.bus, name) for name in names] == expected
        assert [ctx.get(getattr(component, name.lower())) for name in names] == expected
        ctx.set(component.busy, 1)
        for name in names:
            await write(ctx, component.bus, name, 0)
        assert [await read(ctx, component.bus, name) for name in names] == [*expected[:3], 0]
    simulate(bench)


def test_status_and_waiting_show_what_the_core_says():
    async def bench(ctx, component):
        ctx.set(component.busy, 1)
        assert await read(ctx, component.bus, "STATUS") == 1
        ctx.set(component.busy, 0)
        ctx.set(component.done, 1)
        assert ctx.get(component.irq)
        assert await read(ctx, component.bus, "STATUS") == 2
        ctx.set(component.done, 0)
        assert not ctx.get(component.irq)
        ctx.set(component.report, {"valid": 1, "code": 5, "unit": 4, "layer": 0xABC,
                                   "address": 0xDEADBEEF})
        assert ctx.get(component.irq)
        assert await read(ctx, component.bus, "STATUS") == 0xABC0454
        assert await read(ctx, component.bus, "ERROR_ADDRESS") == 0xDEADBEEF
        for unit in Unit:
            ctx.set(component.state[unit], unit + 1)
            ctx.set(component.missing[unit], 8 >> unit)
        # units whose tokens are missing: of array only, the others do not wait for any
        assert await read(ctx, component.bus, "WAITING") == 0x04034201
    simulate(bench)


@pytest.mark.parametrize("condition", ["idle", "busy", "error"])
def test_start_is_a_pulse_and_ignored_while_busy_or_after_an_error(condition):
    pulses = []

    async def watch(ctx, component):
        while True:
            *_, start = await ctx.tick().sample(component.start)
            pulses.append(start)

    async def bench(ctx, component):
        ctx.set(component.busy, condition == "busy")
        ctx.set(component.report.valid, condition == "error")
        await write(ctx, component.bus, "CONTROL", registers.CONTROL_START)
        await ctx.tick().repeat(5)
    simulate(bench, watch)
    assert sum(pulses) == (condition == "idle")


def test_soft_reset_stops_at_once_and_resets_when_the_bus_is_quiet():
    resets = []

    async def watch(ctx, component):
        while True:
            *_, reset, quiet = await ctx.tick().sample(component.reset, component.quiet)
            resets.append((reset, quiet))

    async def bench(ctx, component):
        await write(ctx, component.bus, "CONTROL",
                    registers.CONTROL_RESET | registers.CONTROL_START)
        assert ctx.get(component.stop)
        await ctx.tick().repeat(10)
        assert ctx.get(component.stop)
        ctx.set(component.quiet, 1)
        await ctx.tick().repeat(3)
        assert not ctx.get(component.stop)
    simulate(bench, watch)
    assert sum(reset for reset, _ in resets) == 1
    assert resets[[reset for reset, _ in resets].index(1) - 1] == (0, 1)


@pytest.mark.parametrize("when", ["with it", "after it", "in its last cycle"])
@pytest.mark.parametrize("again", [False, True])
def test_a_start_that_meets_a_soft_reset_follows_it(when, again):
    seen = []

    async def watch(ctx, component):
        while True:
            *_, reset, start = await ctx.tick().sample(component.reset, component.start)
            seen.append("reset" if reset else "start" if start else None)

    async def bench(ctx, component):
        ctx.set(component.done, 1)
        start, reset = registers.CONTROL_START, registers.CONTROL_RESET
        ctx.set(component.report.valid, 1)      # a start alone would be ignored
        await write(ctx, component.bus, "CONTROL", reset | (start if when == "with it" else 0))
        await ctx.tick().repeat(5)
        assert await read(ctx, component.bus, "STATUS") & 9 == 8 | (when == "with it")
        assert ctx.get(component.irq) == (when != "with it")
        if when == "after it":
            await write(ctx, component.bus, "CONTROL", start)
        elif when == "in its last cycle":
            ctx.set(component.bus.awaddr, registers.address("CONTROL"))
            ctx.set(component.bus.wdata, start)
            ctx.set(component.bus.awvalid, 1)
            ctx.set(component.bus.wvalid, 1)
            await ctx.tick()
            ctx.set(component.quiet, 1)
            await ctx.tick()
            ctx.set(component.bus.awvalid, 0)
            ctx.set(component.bus.wvalid, 0)
            ctx.set(component.bus.bready, 1)
            await ctx.tick()
            ctx.set(component.bus.bready, 0)
        if again:       # a reset without a start takes it back
            await write(ctx, component.bus, "CONTROL", reset)
        ctx.set(component.quiet, 1)
        while ctx.get(component.stop):
            await ctx.tick()
        ctx.set(component.report.valid, 0)
        await ctx.tick().repeat(5)
        assert not await read(ctx, component.bus, "STATUS") & 8
    simulate(bench, watch)
    happened = [item for item in seen if item]
    if not again:
        assert happened == ["reset", "start"]
    elif when == "in its last cycle":
        assert happened[:2] == ["reset", "start"]       # it was under way
    else:
        assert happened == ["reset"]


def test_counters_count_states_and_start_again_from_0():
    async def bench(ctx, component):
        for cycles in (100, 40):
            expected = dict.fromkeys(counters, 0)
            await write(ctx, component.bus, "CONTROL", registers.CONTROL_START)
            ctx.set(component.busy, 1)
            for cycle in range(cycles):
                ctx.set(component.compute_start, cycle in (11, 20))
                ctx.set(component.result_written, cycle in (15, 33))
                for unit, states in COUNTED.items():
                    state = draw.choice([UnitState.IDLE, *states])
                    ctx.set(component.state[unit], state)
                    if state:
                        expected[registers.counter(unit, state)] += 1
                await ctx.tick()
            ctx.set(component.busy, 0)
            await ctx.tick()
            found = {name: await read(ctx, component.bus, name) for name in counters}
            assert found == (expected if arch.counters else dict.fromkeys(counters, 0))
            assert await read(ctx, component.bus, "COUNTERS") == arch.counters
            names = ("CYCLES", "COMPUTE_FIRST", "COMPUTE_LAST")
            assert [await read(ctx, component.bus, name) for name in names] == (
                [cycles, 11, 33] if arch.counters else [cycles, 0, 0])
    counters = [registers.counter(unit, state)
                for unit, states in COUNTED.items() for state in states]
    for arch in (ARCH, replace(ARCH, counters=False)):
        simulate(bench, arch=arch)
