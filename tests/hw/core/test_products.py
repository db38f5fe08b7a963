"""Products of wide factors in hardware against Python's integers."""

import random

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.sim import Simulator
from systolith.hw.core.products import folded_product, product
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.timing import booth_digits, product_latency


@pytest.mark.parametrize("multiplier", ["dsp", "luts"])
@pytest.mark.parametrize("one, other, addend", [
    (29, 27, 36), (29, 17, 27), (27, 29, 27), (9, 27, None), (20, 28, 27), (10, 27, 27),
    (3, 2, None), (3, 2, 5), (20, 19, 10), (34, 18, 20), (52, 22, 30)])
def test_products_with_an_addend_are_exact(one, other, addend, multiplier):
    """Corners of both factors and of the addend, and others; a new one every cycle."""
    luts = multiplier == "luts"
    m, rng = Module(), random.Random(f"{one} {other}")
    ports = [Signal(signed(bits)) for bits in (one, other, addend or 1)]
    found = product(m, *ports[:2], ports[2] if addend else None, "product", luts=luts)
    assert len(found) == one + other
    arch = Arch(rows=2, columns=2, post_multiplier=multiplier)
    latency = product_latency(arch, one, other, bool(addend))

    def number(bits):
        top = 1 << bits - 1
        return rng.choice((-top, top - 1, 0, -1, 1, rng.randrange(-top, top),
                           rng.randrange(-top, top) >> rng.randrange(bits)))
    corners = [(a, b, c) for a in (-1 << one - 1, (1 << one - 1) - 1)
               for b in (-1 << other - 1, (1 << other - 1) - 1)
               for c in ((-1 << addend - 1, (1 << addend - 1) - 1) if addend else (0,))]
    batch = corners + [(number(one), number(other), number(addend) if addend else 0)
                       for _ in range(40)]

    async def bench(ctx):
        for n in range(len(batch) + latency):
            if n < len(batch):
                for port, value in zip(ports, batch[n], strict=True):
                    ctx.set(port, value)
            if n >= latency:
                a, b, c = batch[n - latency]
                wide = 1 << one + other
                assert ctx.get(found) == (a * b + c + wide // 2) % wide - wide // 2, (a, b, c)
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("number, factor", [(29, 17), (20, 8), (9, 27), (12, 2), (5, 3)])
def test_a_folded_product_is_exact(number, factor):
    """Corners of both factors and others, each for two cycles; a pair of cycles after each other,
    and with gaps."""
    m, rng = Module(), random.Random(f"{number} {factor}")
    ports, first = [Signal(signed(bits)) for bits in (number, factor)], Signal()
    found = folded_product(m, *ports, first, "folded")
    assert len(found) == number + factor

    def some(bits):
        top = 1 << bits - 1
        return rng.choice((-top, top - 1, 0, -1, 1, rng.randrange(-top, top)))
    batch = [(a, b) for a in (-1 << number - 1, (1 << number - 1) - 1)
             for b in (-1 << factor - 1, (1 << factor - 1) - 1)]
    batch += [(some(number), some(factor)) for _ in range(60)]

    async def bench(ctx):
        for pair in batch:
            for begins in (1, 0):
                ctx.set(first, begins)
                for port, value in zip(ports, pair, strict=True):
                    ctx.set(port, value)
                await ctx.tick()
                if not begins:              # the cycle after the second one
                    assert ctx.get(found) == pair[0] * pair[1], pair
            for _ in range(rng.choice((0, 0, 2))):
                ctx.set(first, 0)
                await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_each_digit_is_a_row_and_two_rows_are_added_in_a_cycle():
    assert [booth_digits(bits) for bits in (2, 9, 12, 13, 17, 18, 27)] == [1, 5, 6, 7, 9, 9, 14]
    arch = Arch(rows=2, columns=2, post_multiplier="luts")
    assert [product_latency(arch, 29, bits, True) for bits in (2, 9, 17, 27)] == [1, 3, 5, 7]
