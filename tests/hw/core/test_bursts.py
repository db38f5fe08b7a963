"""Bursts against the window: as long as it, and a beat or a byte longer or shorter."""

import pytest
from amaranth.sim import Simulator
from systolith.hw.core.bursts import Outside
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.numbers import PAGE_BYTES


@pytest.mark.parametrize("bus_bits", [32, 64, 128])
def test_a_burst_is_inside_as_long_as_its_last_byte_is(bus_bits):
    arch = Arch(rows=2, columns=2, bus_bits=bus_bits, burst_beats=64)
    check, size, base = Outside(arch=arch), arch.beat_bytes, 0x7000
    page = PAGE_BYTES // size

    async def bench(ctx):
        ctx.set(check.window_base, base)
        for start in (0, 3, page - 1, page, 5 * page + 1):
            for beats in {1, min(2, page - start % page), min(64, page - start % page)}:
                end = (start + beats) * size
                ctx.set(check.offset, start)
                ctx.set(check.last, (start + beats - 1) % page)
                for window in (0, 1, end - size, end - 1, end, end + 1, end + size, (1 << 32) - 1):
                    ctx.set(check.window_size, window)
                    assert ctx.get(check.outside) == (window < end), (start, beats, window)
                assert ctx.get(check.address) == base + start * size
                assert ctx.get(check.length) == beats - 1
    simulator = Simulator(check)
    simulator.add_testbench(bench)
    simulator.run()
