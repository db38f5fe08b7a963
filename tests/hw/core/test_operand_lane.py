"""What results and operands give to the post lane."""

import random

import pytest
from amaranth.sim import Simulator
from systolith.hw.core.operand_lane import OperandLane, product_apart
from systolith.hw.formats import Lns
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Combination
from systolith.hw.spec.timing import gain_by_pooling

from ...logarithms import Number


def image(form, ordered):
    if not form.floating:
        return ordered
    code = abs(ordered) | (ordered < 0) << form.width - 1
    if isinstance(form, Lns):
        return int(Number(form, code))
    return int(form.image(code))


def expected(form, first, code, facts):
    """(number, addend) by the definition."""
    c, r = image(form, first), int(form.image(code)) - facts["operand_zero"]
    scaled = r * facts["operand_gain"]
    return {Combination.PRODUCT: (c * r, 0), Combination.SUM: (c, scaled),
            Combination.LATE: (c + scaled, 0)}[facts["combination"]]


@pytest.mark.parametrize("activation", [
    "int8", "int8 narrow", "int8 plain", "int8 narrow plain", "int3", "int16", "e3m2", "e4m3",
    "e2m1", "e5m0", "e4m3fn", "hfp8", "e3m2dl", "lns8", "lns6r4", "lns5r1t0"])
def test_numbers_and_addends_are_exact(activation):
    activation, *narrow = activation.split()
    plain, narrow = "plain" in narrow, "narrow" in narrow
    arch = Arch(rows=2, columns=2, activation=activation, multiplier_bits=16 if narrow else 26,
                post_multiplier="luts" if narrow else "auto",
                weight={"e": "e2m1", "l": activation}.get(activation[0], "int8"), operand_depth=2,
                leaky=True, slope_offsets=activation[0] == "i" and not plain)
    form, rng = arch.activation, random.Random(activation)
    integers = not form.floating
    bottom, top = form.ordered_range
    reach = (1 << arch.gain_bits - 1) - 1
    first_top = (1 << arch.first_bits - 1) - 1 if integers else top
    first_bottom = -first_top - integers
    dut = OperandLane(arch=arch)
    batches = []
    for number in range(4):
        kind = Combination(1 + number % (2 + arch.slope_offsets))
        if kind == Combination.LATE:
            reach = (1 << arch.first_bits - 1) - 1
        facts = dict(
            combination=kind,
            operand_gain=rng.choice((reach, -reach - 1, rng.randint(-reach, reach))),
            operand_zero=rng.choice((bottom, top, rng.randint(bottom, top))) * integers)
        batches.append((facts, [(
            rng.choice((first_bottom, first_top, 0, rng.randint(first_bottom, first_top),
                        rng.randint(bottom, top))),
            rng.choice((0, rng.randrange(top + 1), rng.randrange(top + 1) | 1 << form.width - 1)),
            rng.random() < 0.8) for _ in range(150)]))

    async def bench(ctx):
        for facts, batch in batches:
            for name, value in facts.items():
                if name == "operand_gain" and gain_by_pooling(arch):
                    ctx.set(dut.load, 1)
                    ctx.set(dut.first, value)
                    await ctx.tick()
                    ctx.set(dut.load, 0)
                else:
                    ctx.set(getattr(dut, name), value)
            # one in two cycles, and others between that count for nothing
            batch = [(*batch[n], not n % 2) for n in range(len(batch))]
            for n in range(len(batch) + dut.latency):
                entering = n < len(batch) and batch[n][3]
                ctx.set(dut.entering, entering)
                if n < len(batch):
                    ctx.set(dut.first, batch[n][0])
                    ctx.set(dut.operand, batch[n][1])
                done = n - dut.latency + 1          # comes out in the next cycle
                valid = 0 <= done < len(batch) and batch[done][2] and batch[done][3]
                ctx.set(dut.valid, valid)
                await ctx.tick()
                number = ctx.get(dut.number)
                if product_apart(arch):         # either of them is 0
                    assert not (number and ctx.get(dut.product))
                    number += ctx.get(dut.product)
                found = number, ctx.get(dut.addend)
                assert found == (expected(form, *batch[done][:2], facts) if valid else (0, 0))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
