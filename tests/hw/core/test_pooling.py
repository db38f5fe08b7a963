"""Pooling against windows that are kept whole."""

import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator
from systolith.hw.core import pooling
from systolith.hw.core.pooling import Pooling
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.timing import POOLING

from .proofs import planted

#: Two lanes; one, two and three chunks.
ARCHS = [Arch(rows=2 * chunks, columns=2 * chunks, post_lanes=2) for chunks in (1, 2, 3)]
ARCH = ARCHS[1]
SIGNS = Arch(rows=4, columns=4, post_lanes=2, activation="bipolar1", weight="bipolar1")
TOP = (1 << ARCH.first_bits - 1) - 1


def run(windows, arch, least=None, summed=0, pause=lambda: False, gain=None,
        module=pooling):
    """Results of each window and chunk. `windows`: lists of columns of words, a word with one
    number a lane for each chunk ([column][row][chunk][lane]), or the string "carried", which says
    that the window begins with the column that was read last."""
    dut, seen = module.Pooling(arch=arch), []

    async def bench(ctx):
        if least is not None:
            ctx.set(dut.least, least)
        ctx.set(dut.summed, summed)
        if gain is not None:
            ctx.set(dut.gain, gain)
            ctx.set(dut.preset, 1)
            await ctx.tick()
            assert [ctx.get(dut.best[lane]) for lane in range(2)] == [gain] * 2
            ctx.set(dut.preset, 0)
        for window in windows:
            carried = window[0] == "carried"
            columns = window[carried:]
            for chunk in range(arch.chunks):
                for c, column in enumerate(columns):
                    for r, word in enumerate(column):
                        while pause():               # what stands there meanwhile must not count
                            await step(ctx, {"valid": 0, "column": c + r & 1, "chunk": chunk,
                                             "first": 1, "carried": 1}, [1, 0])
                        ends = (c, r) == (len(columns) - 1, len(column) - 1)
                        await step(ctx, {
                            "valid": 1, "first": c == r == 0, "last": ends, "column": r == 0,
                            "carried": carried and c == r == 0, "chunk": chunk}, word[chunk])
        for _ in range(POOLING):
            await step(ctx, {"valid": 0}, [0, 0])

    async def step(ctx, mark, results):
        ctx.set(dut.mark, mark)
        ctx.set(dut.results, results)
        pooled = ctx.get(dut.pooled)
        if pooled.valid and pooled.last:
            assert pooled.chunk == len(seen) % arch.chunks
            seen.append([ctx.get(dut.best[lane]) for lane in range(2)])
        await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


def expected(windows, arch, pick):
    """`pick` of each lane's numbers in a window, the column before it included where carried."""
    results, column = [], None
    for window in windows:
        columns = [column, *window[1:]] if window[0] == "carried" else window
        results += [[pick[lane]([word[chunk][lane] for words in columns for word in words])
                     for lane in range(2)] for chunk in range(arch.chunks)]
        column = columns[-1]
    return results


def random_windows(draw, arch, kept, signs=False):
    def number():
        if signs:
            return draw.randrange(2)
        return draw.choice((draw.randint(-9, 9), draw.randint(-TOP - 1, TOP), TOP, -TOP - 1))

    def column(rows):
        return [[[number(), number()] for _ in range(arch.chunks)] for _ in range(rows)]
    windows = []
    for n in range(12):
        rows = 2 if kept else draw.randint(1, 3)
        carried = ["carried"] if kept and n % 4 else []
        windows.append([*carried, *(column(rows) for _ in range(draw.randint(1, 3)))])
    return windows


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("arch", ARCHS)
def test_largest_results(arch, kept):
    draw = random.Random(kept)
    windows = random_windows(draw, arch, kept)
    seen = run(windows, arch, pause=lambda: draw.random() < 0.2)
    assert seen == expected(windows, arch, [max, max])


@pytest.mark.parametrize("old, new", [
    ("following.column | self.summed", "self.summed"), ("less(column, new)", "less(column, known)"),
    ("less(column, known)", "less(known, column)"), ("mark.valid & better", "mark.last & better"),
    ("kept_comes.eq(following.valid & ", "kept_comes.eq("),
    ("mark.first & ~mark.carried", "mark.first")])
def test_a_wrong_comparison_is_found(old, new):
    draw = random.Random(3)
    windows = random_windows(draw, ARCHS[0], True) + random_windows(draw, ARCHS[0], False)
    seen = run(windows, ARCHS[0], pause=lambda: draw.random() < 0.2,
               module=planted(pooling, old, new))
    assert seen != expected(windows, ARCHS[0], [max, max])


def test_the_factor_of_operands_comes_before_results():
    arch = Arch(rows=2, columns=2, post_lanes=2, operand_depth=8, post_multiplier="luts")
    draw = random.Random(7)
    windows = random_windows(draw, arch, True)
    for gain in (1 - (1 << arch.gain_bits - 1), (1 << arch.gain_bits - 1) - 1):
        assert run(windows, arch, gain=gain) == expected(windows, arch, [max, max])


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("least", [0b00, 0b10, 0b11])
def test_largest_and_smallest_signs(kept, least):
    draw = random.Random(least + 4 * kept)
    windows = random_windows(draw, SIGNS, kept, signs=True)
    seen = run(windows, SIGNS, least, pause=lambda: draw.random() < 0.2)
    assert seen == expected(windows, SIGNS,
                            [min if least >> lane & 1 else max for lane in range(2)])


def test_sums_are_the_last_result():
    windows = random_windows(random.Random(1), ARCH, False)
    assert run(windows, ARCH, summed=1) == expected(windows, ARCH, [lambda words: words[-1]] * 2)


@pytest.mark.parametrize("resets", [True, False])
def test_nothing_is_pooled_after_a_reset(resets):
    """What is under way when the core is reset must not become a result of the next run."""
    reset, seen = Signal(), []
    dut = Pooling(arch=ARCH)

    async def bench(ctx):
        ctx.set(dut.mark, {"valid": 1, "last": 1})
        for cycle in range(2 * POOLING + 2):
            await ctx.tick()
            ctx.set(reset, resets and cycle == 0)
            ctx.set(dut.mark, {"valid": 0})
            seen.append(ctx.get(dut.pooled.valid))

    simulator = Simulator(ResetInserter(reset)(dut))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert any(seen[1:]) != resets
