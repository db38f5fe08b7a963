"""Sums and products with operands against exact rational arithmetic."""

import random
from fractions import Fraction

import pytest
from amaranth.sim import Simulator
from systolith.hw.core.operand_lane import OperandLane
from systolith.hw.formats import Float
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.numbers import GAIN_BITS, TIE_BITS


def image(form, ordered):
    if not isinstance(form, Float):
        return ordered
    code = abs(ordered) | (ordered < 0) << form.width - 1
    return int(form.image(code))


def expected(form, first, code, facts):
    """The ordered integer, by the definition: the nearest number of the format; ties to even, those
    of integers as wanted, as far as TIE_BITS tell."""
    c, r = image(form, first), int(form.image(code)) - facts["operand_zero"]
    total = c * r * facts["gain"] if facts["product"] else (
        c * facts["gain"] + r * facts["operand_gain"])
    exact = Fraction(total, 1 << facts["shift"])
    if isinstance(form, Float):
        step = 0
        while abs(exact) >= 2 << (form.man + step):
            step += 1
        value = min(round(abs(exact) / (1 << step)) + (step << form.man), form.max_code)
        value = -value if exact < 0 else value
    else:
        bits = 1 << TIE_BITS + 1
        odd = facts["ties"] >> 1
        if exact * bits // 1 % bits in (bits // 2, bits // 2 - 1) and facts["ties"]:
            exact = exact // 1 + Fraction(1, 2)
        value = round(exact + odd) - odd if facts["ties"] else (exact + Fraction(1, 2)) // 1
        value += facts["zero_point"]
    return max(facts["low"], min(facts["high"], value))


@pytest.mark.parametrize("activation", ["int8", "int3", "int16", "e3m2", "e4m3", "e2m1", "e5m0",
                                        "e4m3fn"])
def test_every_stage_rounds_as_the_numerics_say(activation):
    arch = Arch(rows=2, columns=2, activation=activation,
                weight="e2m1" if activation[0] == "e" else "int8", operand_depth=2)
    form, rng = arch.activation, random.Random(activation)
    top = form.max_code if isinstance(form, Float) else (1 << form.width - 1) - 1
    bottom = -top - (not isinstance(form, Float))
    reach = (1 << GAIN_BITS - 1) - 1
    first_top = (1 << arch.first_bits - 1) - 1 if not isinstance(form, Float) else top
    first_bottom = -first_top - (not isinstance(form, Float))
    dut = OperandLane(arch=arch)
    batches, differ = [], set()
    for number in range(8):
        integers = not isinstance(form, Float)
        facts = dict(
            product=number % 2, gain=rng.choice((reach, -reach - 1, rng.randint(-reach, reach))),
            operand_gain=rng.choice((reach, -reach - 1, rng.randint(-reach, reach))),
            operand_zero=rng.randint(bottom, top) * integers,
            shift=rng.choice((0, 20, 26, 26 + form.width, 34, 63)), ties=number // 2 % 3,
            zero_point=rng.randint(bottom, top) * integers,
            **dict(zip(("low", "high"), (bottom, top) if number < 6 else sorted(
                rng.randint(bottom, top) for _ in range(2)), strict=True)))
        if number < 6:                           # ties, the last ones nearly so
            nearly = number // 4
            facts |= dict(gain=(1 << 25) - nearly, operand_gain=1 << 24, shift=26)
        batches.append((facts, [(
            rng.choice((first_bottom, first_top, 0, rng.randint(first_bottom, first_top),
                        rng.randint(bottom, top))),
            rng.choice((0, rng.randrange(top + 1),
                        rng.randrange(top + 1) | 1 << form.width - 1))) for _ in range(200)]))

    async def bench(ctx):
        for facts, batch in batches:
            for name, value in facts.items():
                ctx.set(getattr(dut, name), value)
            for n in range(len(batch) + dut.latency):
                if n < len(batch):
                    ctx.set(dut.first, batch[n][0])
                    ctx.set(dut.operand, batch[n][1])
                if n >= dut.latency:
                    wanted = expected(form, *batch[n - dut.latency], facts)
                    assert ctx.get(dut.ordered) == wanted, (facts, batch[n - dut.latency])
                    differ.add(wanted)
                await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(differ) > min(top, 12)
