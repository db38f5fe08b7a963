"""Ties of integers, told from all that is next to them."""

import random

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.sim import Simulator
from systolith.hw.core import rounding
from systolith.hw.spec.numbers import SHIFT_BITS, TIE_BITS

from .proofs import planted

WIDTH, LIMIT, LATENCY = 47, 12, 6


def expected(number, shift, ties):
    """The nearest integer within -2**LIMIT to 2**LIMIT - 1, by the definition."""
    places = number << 64 >> shift >> 64 - (TIE_BITS + 1)
    whole, fraction = divmod(places, 2 << TIE_BITS)
    up = fraction >> TIE_BITS
    if ties and fraction in (1 << TIE_BITS, (1 << TIE_BITS) - 1):
        up = (whole & 1) ^ (ties >> 1)
    return max(-1 << LIMIT, min((1 << LIMIT) - 1, whole + up))


def cases(draw):
    """Numbers whose fraction is a tie, or a tie but for one bit, at every shift."""
    for shift in range(1 << SHIFT_BITS):
        for _ in range(40):
            half = draw.randrange(2)
            rest = 0 if half else (1 << TIE_BITS) - 1
            bits = (half << TIE_BITS) + rest
            if draw.random() < 0.7:
                bits ^= 1 << draw.choice((0, TIE_BITS - 1, draw.randrange(TIE_BITS + 1)))
            whole = draw.choice((draw.randint(-9, 9), draw.randint(-2 << LIMIT, 2 << LIMIT)))
            number = ((whole << TIE_BITS + 1) + bits << 64 >> TIE_BITS + 1 << shift >> 64)
            number += draw.randrange(1 << max(0, shift - TIE_BITS - 1))
            number = (number + (1 << WIDTH - 1)) % (1 << WIDTH) - (1 << WIDTH - 1)
            yield number, shift, draw.randrange(3)


def check(module, luts, few):
    """All cases through `nearest_integer` of a module."""
    m, number, shift, ties = Module(), Signal(signed(WIDTH)), Signal(SHIFT_BITS), Signal(2)
    low, high, zero = (Signal(signed(LIMIT + 2), init=init) for init in (
        -1 << LIMIT, (1 << LIMIT) - 1, 0))
    value = module.nearest_integer(m, number, shift, limit=LIMIT, ties=ties, zero_point=zero,
                                   low=low, high=high, luts=luts, few=few)
    latency, vectors = 2 if few else LATENCY, [*cases(random.Random(luts))]

    async def bench(ctx):
        for n in range(len(vectors) + latency):
            if n >= latency:
                assert ctx.get(value) == expected(*vectors[n - latency]), vectors[n - latency]
            if n < len(vectors):
                for signal, item in zip((number, shift, ties), vectors[n], strict=True):
                    ctx.set(signal, item)
            await ctx.tick()
    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("luts", [False, True])
def test_ties_are_told_from_their_neighbours(luts, few):
    check(rounding, luts, few)


@pytest.mark.parametrize("old, new", [
    ("range(1, _GROUPS + 4)]\n", "range(2, _GROUPS + 5)]\n"), ("fours > n", "fours >= n"),
    ("other[2] & ~shift.all()", "other[2]"), ("~end[2] & end[3]", "end[3]"),
    ("return alike & below & above", "return below & above")])
def test_a_wrong_tie_is_found(old, new):
    with pytest.raises(AssertionError):
        check(planted(rounding, old, new), True, False)
