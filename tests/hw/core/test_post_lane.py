"""The requantizer's hardware against exact rational arithmetic."""

import random
from fractions import Fraction

import pytest
from amaranth.sim import Simulator
from systolith.hw.core.post_lane import PostLane
from systolith.hw.formats import Bipolar, Float, Lns
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.numbers import OFFSET_FRACTION, SHIFT_BITS, TIE_BITS

from ...logarithms import nearest


def expected(arch, total, multiplier, addend, shift, ties, zero_point, low, high, offset=0):
    """The ordered integer, by the definition: the nearest number of the format; ties to even, those
    of integers as wanted, as far as TIE_BITS tell. The offset is in 2**-OFFSET_FRACTION."""
    form = arch.activation
    exact = Fraction(total * multiplier + addend, 1 << shift) + Fraction(
        offset, 1 << OFFSET_FRACTION)
    if isinstance(form, Bipolar):
        return int(exact >= 0)
    if isinstance(form, Lns):
        value = nearest(form, exact)
    elif isinstance(form, Float):
        magnitude = abs(exact)
        step = 0
        if form.hidden_at_zero:
            code = min(range(form.max_code + 1),
                       key=lambda item: (abs(int(form.image(item)) - magnitude), item & 1))
        else:
            while magnitude >= 2 << (form.man + step):
                step += 1
            code = min(round(magnitude / (1 << step)) + (step << form.man), form.max_code)
        value = -code if exact < 0 else code
    else:
        bits = 1 << TIE_BITS + 1
        if exact * bits // 1 % bits in (bits // 2, bits // 2 - 1) and ties:
            exact = exact // 1 + Fraction(1, 2)
        # round() is half to even
        value = round(exact + ties // 2) - ties // 2 if ties else (exact + Fraction(1, 2)) // 1
        value += zero_point
    return max(low, min(high, value))


def packed(arch, bias, above, below, offset=0):
    """The parameters' word."""
    word, place = 0, 0
    for value, size in zip((bias, *above, *below, offset), (
            arch.accumulator_bits, arch.multiplier_bits, SHIFT_BITS, arch.addend_bits,
            arch.tie_bits, *(size * arch.leaky for size in (
                arch.multiplier_bits + 1, SHIFT_BITS, arch.addend_bits and arch.addend_bits + 1)),
            arch.slope_offsets * (arch.last_bits + 1 + OFFSET_FRACTION)),
            strict=True):
        word |= value % (1 << size) << place
        place += size
    assert place == arch.parameter_bits
    return word


def set_limits(ctx, dut, zero_point, low, high):
    """The ports of a result's zero point and limits, from limits that hold it; floats have none."""
    zero_point *= not dut.arch.activation.floating
    ctx.set(dut.zero_point, zero_point)
    ctx.set(dut.low, low - zero_point)
    ctx.set(dut.high, high - zero_point)


@pytest.mark.parametrize("activation, weight, accumulator, leaky, fraction", [
    ("int8", "int8", None, False, 16), ("int8", "int8", None, False, (17, 16)),
    ("int4 few", "int4", None, False, (15, 0)), ("int8 few", "int8", None, True, 16),
    ("e3m2", "e3m2", None, True, (16, 9)), ("int4", "int8", 24, False, 26),
    ("int1", "int3", None, False, 0), ("int16", "int16", 48, False, 16),
    ("e3m2", "e3m2", None, False, 16), ("e4m3", "e4m3", None, False, 0),
    ("e2m1", "e2m1", None, False, 16), ("e5m0", "e2m3", None, False, 26),
    ("e4m3fn", "e4m3fn", None, False, 16), ("bipolar1", "bipolar1", None, False, 16),
    ("int8", "int8", None, True, 16), ("e3m2", "e3m2", None, True, 16),
    ("int4", "int4", None, True, 0), ("hfp8", "hfp8", None, False, 16),
    ("e3m2dl", "e3m2", None, True, 16), ("lns8", "lns8", None, False, 16),
    ("lns8t10", "lns6t10", None, True, 16), ("lns6r4", "lns6r4", None, False, 0),
    ("lns4r1t0", "lns5r1t0", None, False, 16), ("lns5r2t4", "lns5r2t4", None, False, 16),
])
def test_every_stage_rounds_as_the_numerics_say(activation, weight, accumulator, leaky, fraction):
    narrow, fraction = fraction if isinstance(fraction, tuple) else (26, fraction)
    activation, _, few = activation.partition(" ")
    arch = Arch(rows=2, columns=2, activation=activation, weight=weight, accumulator=accumulator,
                leaky=leaky, bias_fraction=fraction, multiplier_bits=narrow,
                post_stages=few or "auto")
    unit = arch.addend_unit
    rng = random.Random(f"{activation} {weight}")
    bits, width = arch.accumulator_bits, arch.activation.width
    top = (1 << (bits - 1)) - 1
    largest = (1 << (width - 1)) - 1
    dut = PostLane(arch=arch)
    clip = sorted(rng.randint(-largest - 1, largest) for _ in range(2))
    reach = 1 << arch.rounded_bits
    constants = [(rng.randint(-largest - 1, largest), -largest - 1, largest), (0, *clip),
                 # the farthest zero points
                 (min(reach - 1, clip[0] + reach), *clip),
                 (max(-reach, clip[1] - reach + 1), *clip)]
    vectors = []
    for facts in constants:
        batch = []
        for _ in range(250):
            size = rng.randint(1, bits - 1)
            a = rng.choice((top, -top - 1, 0, rng.randint(-(1 << size), (1 << size) - 1)))
            b = rng.choice((top, -top - 1, 0, rng.randint(-(1 << size), (1 << size) - 1), -a))
            b = max(-top - 1, min(top, b))
            m = rng.choice((0, 1, 3, 1 << 14, 1 << arch.multiplier_bits - 1,
                            (1 << arch.multiplier_bits) - 1,
                            rng.getrandbits(arch.multiplier_bits)))
            s = rng.choice((0, 1, size, min(63, size + 17), 25, 63, rng.getrandbits(SHIFT_BITS)))
            d = rng.choice((0, rng.randrange(1 << arch.addend_bits)))
            below = (rng.randint(-1 << arch.multiplier_bits, (1 << arch.multiplier_bits) - 1),
                     rng.getrandbits(SHIFT_BITS),
                     rng.randint(-1 << arch.addend_bits, (1 << arch.addend_bits) - 1)
                     * (arch.addend_bits > 0))
            ties = rng.randrange(4) if arch.tie_bits else 0
            batch.append((a, b, (m, min(s, 63), d, ties), below, rng.random() < 0.3))
        vectors.append((facts, batch))

    async def bench(ctx):
        total, sums = 0, []
        ctx.set(dut.counts, 1)
        for facts, batch in vectors:
            set_limits(ctx, dut, *facts)
            for n in range(len(batch) + dut.latency):
                if n < len(batch):
                    a, b, above, below, more = batch[n]
                    more &= n > 0
                    total = a + (total if more else b)
                    total = (total + (1 << bits)) % (2 << bits) - (1 << bits)
                    sums.append(total)
                    ctx.set(dut.more, more)
                    ctx.set(dut.accumulator, a)
                    ctx.set(dut.parameters, packed(arch, b, above, below))
                if n >= dut.latency:
                    _, _, above, below, _ = batch[n - dut.latency]
                    a = sums.pop(0)
                    *above, ties = above
                    m, s, d = below if leaky and a < 0 else above
                    assert ctx.get(dut.ordered) == expected(
                        arch, a, m, d * unit, s, ties, *facts), (a, m, d, s, ties)
                    if isinstance(arch.activation, Bipolar):
                        assert ctx.get(dut.least) == s % 2
                await ctx.tick()
                if n < len(batch):
                    assert ctx.get(dut.raw_out) == sums[-1]

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("activation, depth, stages", [
    ("int8", 2, "auto"), ("int4", 0, "auto"), ("int8", 0, "few"), ("int2", 2, "few")])
def test_offsets_and_late_slopes(activation, depth, stages):
    """Turns of every kind one after the other: first and second ones, those whose slopes and
    offsets they are and others, offsets of either unit."""
    arch = Arch(rows=2, columns=2, activation=activation, weight=activation, leaky=True,
                slope_offsets=True, operand_depth=depth, post_stages=stages)
    rng = random.Random(f"offsets {activation} {depth}")
    dut, form, bits = PostLane(arch=arch), arch.activation, arch.accumulator_bits
    size, m_bits = arch.parameters["offset"][0], arch.multiplier_bits
    reach = len(dut.number) if depth else 1
    low, high = form.ordered_range
    facts = dict(low=low, high=high, zero_point=1)
    if depth:
        gain = rng.randint(1 << 25, (1 << 26) - 1)
        facts |= dict(gain=gain, gain_shift=34, gain_ties=1)
    batch, wanted = [], []
    for n in range(700):
        again = bool(depth) and n % 2 == 1
        number = rng.getrandbits(reach) - (1 << reach - 1) >> rng.randrange(20)
        a = rng.getrandbits(bits) - (1 << bits - 1) >> rng.randrange(bits)
        b = rng.choice((0, -a, rng.randint(-9, 9)))
        b = max(-1 << bits - 1, min(b, (1 << bits - 1) - 1))
        above = rng.getrandbits(m_bits), min(63, 25 + rng.randrange(bits - 6)), 0, rng.randrange(3)
        below = (rng.randint(-1 << m_bits, (1 << m_bits) - 1), rng.randrange(20, 50), 0)
        offset = rng.choice((0, rng.getrandbits(size) - (1 << size - 1) >> rng.randrange(size),
                             -1 << size - 1, (1 << size - 1) - 1))
        bent, coarse = rng.random() < 0.7, bool(depth) and not again and rng.random() < 0.5
        batch.append((again, number, a, b, above, below, offset, bent, coarse))
        total = number if again else a + b
        m, s, _, ties = (gain, 34, 0, 1) if again else above
        if total < 0 and bent:
            m, s, _ = below
        moved = bent * offset << coarse * (arch.rounded_bits - arch.last_bits)
        wanted.append(expected(arch, total, m, 0, s, ties, 1, low, high, moved))

    async def bench(ctx):
        set_limits(ctx, dut, *(facts.pop(name) for name in ("zero_point", "low", "high")))
        for name, value in facts.items():
            ctx.set(getattr(dut, name), value)
        ctx.set(dut.counts, 1)
        for n in range(len(batch) + dut.latency):
            if n < len(batch):
                again, number, a, b, above, below, offset, bent, coarse = batch[n]
                if again:
                    a, b, above = 0, 0, (0, 0, 0, 0)
                if depth:
                    ctx.set(dut.again, again)
                    ctx.set(dut.number, number if again else 0)
                ctx.set(dut.bent, bent)
                ctx.set(dut.coarse, coarse)
                ctx.set(dut.accumulator, a)
                ctx.set(dut.parameters, packed(arch, b, above, below, offset))
            if n >= dut.latency:
                assert ctx.get(dut.ordered) == wanted[n - dut.latency], batch[n - dut.latency]
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("activation, leaky, accumulator, multiplier", [
    ("int8", False, None, "dsp"), ("int4", True, 16, "luts"), ("e3m2", False, None, "luts"),
    ("e4m3", True, None, "dsp"), ("int8", True, None, "17 luts")])
def test_second_turns_come_between_others_and_leave_them_alone(activation, leaky, accumulator,
                                                               multiplier):
    """Every second cycle a number and an addend; window sums go on in the others."""
    arch = Arch(rows=2, columns=2, activation=activation, weight=activation, leaky=leaky,
                accumulator=accumulator, operand_depth=2, post_multiplier=multiplier[-4:].strip(),
                multiplier_bits=17 if "17" in multiplier else 26)
    rng = random.Random(activation)
    dut, form = PostLane(arch=arch), arch.activation
    bits, low, high = arch.accumulator_bits, *form.ordered_range
    reach = 1 << len(dut.number) - 1
    ties = 1 if arch.tie_bits else 0
    shift = min(63, max(0, len(dut.number) + 25 - form.width - 4))
    gain = rng.randint(-1 << arch.multiplier_bits, (1 << arch.multiplier_bits) - 1)
    batch, facts = [], dict(gain=gain, gain_shift=shift, gain_ties=ties, low=low, high=high)
    for n in range(600):
        size = rng.randint(1, len(dut.number) - 1)
        number = rng.randint(-1 << size, (1 << size) - 1)
        addend = rng.choice((0, rng.getrandbits(len(dut.addend)) - (1 << len(dut.addend) - 1)))
        a, b = (rng.randint(-(1 << bits - 1), (1 << bits - 1) - 1) >> rng.randrange(bits)
                for _ in range(2))
        m, s = rng.getrandbits(arch.multiplier_bits), min(63, 25 + rng.randrange(bits - 6))
        batch.append((n % 2 and rng.random() < 0.8, number, addend, a, b, (m, s, 0, ties),
                      rng.random() < 0.4))

    async def bench(ctx):
        total, wanted = 0, []
        for name, value in facts.items():
            ctx.set(getattr(dut, name), value)
        for n in range(len(batch) + dut.latency):
            if n < len(batch):
                again, number, addend, a, b, (m, s, d, ties), more = batch[n]
                more, counts = more and n > 2, not n % 2
                ctx.set(dut.again, again)
                ctx.set(dut.number, number if again else 0)
                ctx.set(dut.addend, addend if again else 0)
                ctx.set(dut.counts, counts)
                ctx.set(dut.more, more and counts)
                ctx.set(dut.accumulator, 0 if again else a)
                ctx.set(dut.parameters, 0 if again else packed(
                    arch, b, (m, s, d, ties), (m, s, d)))
                if again:
                    wanted.append((number, gain, addend, shift))
                elif counts:
                    total = (a + (total if more else b) + (1 << bits)) % (2 << bits) - (1 << bits)
                    wanted.append((total, m, 0, s))
                else:
                    wanted.append(None)
            if n >= dut.latency and wanted[n - dut.latency]:
                number, m, d, s = wanted[n - dut.latency]
                if abs(number * m + d) < reach << arch.multiplier_bits - 1:
                    assert ctx.get(dut.ordered) == expected(
                        arch, number, m, d, s, ties, 0, low, high), (n, wanted[n - dut.latency])
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
