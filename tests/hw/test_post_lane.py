"""The requantizer's hardware against exact rational arithmetic."""

import random
from fractions import Fraction

import pytest
from amaranth.sim import Simulator
from systolith.hw.arch import MULTIPLIER_BITS, SHIFT_BITS, Arch
from systolith.hw.formats import Bipolar, Float
from systolith.hw.post_lane import PostLane


def expected(arch, accumulator, bias, multiplier, shift, zero_point, low, high):
    """The ordered integer, by the definition: the nearest number of the format, ties to even."""
    form = arch.activation
    exact = Fraction((accumulator + bias) * multiplier, 1 << shift)
    if isinstance(form, Bipolar):
        return int(exact >= 0)
    if isinstance(form, Float):
        magnitude = abs(exact)
        step = 0
        while magnitude >= 2 << (form.man + step):
            step += 1
        code = min(round(magnitude / (1 << step)) + (step << form.man), form.max_code)
        value = -code if exact < 0 else code
    else:
        value = round(exact) + zero_point           # round() of a Fraction is half to even
    return max(low, min(high, value))


@pytest.mark.parametrize("activation, weight, accumulator, leaky", [
    ("int8", "int8", None, False), ("int4", "int8", 24, False), ("int1", "int3", None, False),
    ("int16", "int16", 48, False), ("e3m2", "e3m2", None, False), ("e4m3", "e4m3", None, False),
    ("e2m1", "e2m1", None, False), ("e5m0", "e2m3", None, False),
    ("e4m3fn", "e4m3fn", None, False), ("bipolar1", "bipolar1", None, False),
    ("int8", "int8", None, True), ("e3m2", "e3m2", None, True),
])
def test_every_stage_rounds_as_the_numerics_say(activation, weight, accumulator, leaky):
    arch = Arch(rows=2, columns=2, activation=activation, weight=weight, accumulator=accumulator,
                leaky=leaky)
    rng = random.Random(f"{activation} {weight}")
    bits, width = arch.accumulator_bits, arch.activation.width
    top = (1 << (bits - 1)) - 1
    largest = (1 << (width - 1)) - 1
    dut = PostLane(arch=arch)
    clip = sorted(rng.randint(-largest - 1, largest) for _ in range(2))
    constants = [(rng.randint(-largest - 1, largest), -largest - 1, largest), (0, *clip)]
    vectors = []
    for zero_point, low, high in constants:
        batch = []
        for _ in range(400):
            size = rng.randint(1, bits - 1)
            a = rng.choice((top, -top - 1, 0, rng.randint(-(1 << size), (1 << size) - 1)))
            b = rng.choice((top, -top - 1, 0, rng.randint(-(1 << size), (1 << size) - 1), -a))
            b = max(-top - 1, min(top, b))
            m = rng.choice((0, 1, 3, 1 << 17, (1 << MULTIPLIER_BITS) - 1,
                            rng.getrandbits(MULTIPLIER_BITS)))
            s = rng.choice((0, 1, size, min(63, size + 17), 63, rng.getrandbits(SHIFT_BITS)))
            below = rng.getrandbits(MULTIPLIER_BITS + SHIFT_BITS + 1) * leaky
            batch.append((a, b, m, min(s, 63), below, rng.random() < 0.2, rng.random() < 0.3))
        vectors.append(((zero_point, low, high), batch))

    async def bench(ctx):
        total, sums = 0, []
        for (zero_point, low, high), batch in vectors:
            ctx.set(dut.zero_point, zero_point)
            ctx.set(dut.low, low)
            ctx.set(dut.high, high)
            for n in range(len(batch) + dut.latency):
                if n < len(batch):
                    a, b, m, s, below, raw, more = batch[n]
                    more &= n > 0
                    total = a + (total if more else b)
                    total = (total + (1 << bits)) % (2 << bits) - (1 << bits)
                    sums.append(total)
                    ctx.set(dut.more, more)
                    ctx.set(dut.accumulator, a)
                    ctx.set(dut.parameters, b % (1 << bits) | m << bits
                            | s << (bits + MULTIPLIER_BITS)
                            | below << (bits + MULTIPLIER_BITS + SHIFT_BITS))
                    ctx.set(dut.raw, raw)
                if n >= dut.latency:
                    _, _, m, s, below, raw, _ = batch[n - dut.latency]
                    a = sums.pop(0)
                    if leaky and a < 0:
                        m = below % (1 << MULTIPLIER_BITS)
                        s = below >> MULTIPLIER_BITS & 63
                        m = -m if below >> MULTIPLIER_BITS + SHIFT_BITS else m
                    if raw:
                        assert ctx.get(dut.raw_out) == a
                    else:
                        assert ctx.get(dut.ordered) == expected(
                            arch, a, 0, m, s, zero_point, low, high), (a, m, s)
                    if isinstance(arch.activation, Bipolar):
                        assert ctx.get(dut.least) == s % 2
                await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
