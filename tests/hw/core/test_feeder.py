"""The weight feeder alone: each word of each filling once, in order, at its address."""

import random

import pytest
from amaranth.sim import Simulator
from systolith.hw.core.feeder import WeightFeeder
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.timing import REVISIT, shortest_pass

MEMORIES = dict(activation_depth=64, accumulator_depth=32, weight_depth=256, parameter_depth=8)


def fetched(arch, fillings, draw, cycles=900):
    """Fillings as [(first weight word, words)], passes of the same first word being those of one
    instruction, are swapped in as early as may be, or a little later. Returns the addresses of the
    upper rows' and of the lower rows' words, and the cycles in which they were read, (upper, lower,
    cycles of the upper, of the lower)."""
    feeder = WeightFeeder(arch=arch)
    upper, lower, when, when_lower = [], [], [], []
    overlap = arch.two_fillings

    async def bench(ctx):
        waiting, late = list(fillings), 0
        state = dict(loaded=False, turn=0, alone=True, reads=False, reads_lower=False)
        following = None
        for cycle in range(cycles):
            if state["reads"]:
                upper.append(ctx.get(feeder.address))
                when.append(cycle)
            if state["reads_lower"]:
                lower.append(ctx.get(feeder.below))
                when_lower.append(cycle)
            swaps = False
            if following is not None:           # one cycle after `swap`
                ctx.set(feeder.base, following[0])
                ctx.set(feeder.more, following[1] - 1)
            if waiting and state["loaded"]:
                base, words, first, start = waiting[0]
                if not overlap or state["alone"] or start % 2 == state["turn"]:
                    swaps = late == 0
                    late = draw.choice((0, 0, 1, 5)) if swaps else late - 1
            ctx.set(feeder.swap, swaps)
            following = None
            if swaps:
                following = base, words
                ctx.set(feeder.first, first)
                limit = shortest_pass(arch) if words > (arch.upper_rows if overlap else 0) else max(
                    REVISIT, words)
                ctx.set(feeder.least, limit - 1)
                waiting.pop(0)
            state = dict(
                loaded=ctx.get(feeder.loaded) and not swaps, reads=ctx.get(feeder.fetching),
                reads_lower=overlap and ctx.get(feeder.fetching_below),
                alone=overlap and ctx.get(feeder.alone), turn=overlap and ctx.get(feeder.turn))
            await ctx.tick()
        assert not waiting

    simulator = Simulator(feeder)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return upper, lower, when, when_lower


@pytest.mark.parametrize("rows", [3, 7, 8])
@pytest.mark.parametrize("seed", range(3))
def test_overlapping_fillings_read_each_word_once_and_not_two_of_one_memory(rows, seed):
    arch = Arch(rows=rows, columns=2, two_fillings=True, **MEMORIES)
    draw, fillings, expected, expected_lower = random.Random(seed), [], [], []
    for _ in range(30):
        base, words = draw.randrange(100), draw.choice((rows, rows, draw.randint(1, rows)))
        for number in range(draw.randint(1, 3)):
            start = base + number * words
            fillings.append((base, words, number == 0, start))
            top = min(words, arch.upper_rows)
            expected += range(start, start + top)
            expected_lower += range(start + top, start + words)
    upper, lower, when, when_lower = fetched(arch, fillings, draw)
    assert upper == expected
    assert lower == expected_lower
    both = set(when) & set(when_lower)
    assert both or rows == 3                    # they overlap
    at, below = dict(zip(when, upper, strict=True)), dict(zip(when_lower, lower, strict=True))
    assert all((at[cycle] ^ below[cycle]) & 1 for cycle in both)
