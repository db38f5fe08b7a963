from dataclasses import replace
from itertools import pairwise

import pytest
from systolith.hw.spec import timing
from systolith.hw.spec.arch import Arch


@pytest.mark.parametrize("bus_bits, burst_beats, limit", [
    (32, 256, 256), (64, 256, 256), (128, 256, 256), (32, 1, 1), (128, 64, 64)])
def test_bursts_divide_a_page(bus_bits, burst_beats, limit):
    arch = Arch(rows=2, columns=2, bus_bits=bus_bits, burst_beats=burst_beats)
    assert timing.burst_limit(arch) == limit
    assert 4096 % (limit * arch.beat_bytes) == 0


def test_a_pass_is_never_shorter_than_the_accumulators_or_the_filling_take():
    assert [timing.shortest_pass(Arch(rows=rows, columns=2)) for rows in (1, 3, 4, 9)] == [
        4, 4, 4, 9]


def test_latencies_add_up():
    arch = Arch(rows=4, columns=6, shared_columns=2, operand_depth=8)
    # coordinates, address and its register, word and its register, edge, rows, stages, two further
    # pairs of columns, sum, and its tokens before it is written
    assert timing.array_latency(arch, 3) == 1 + 2 + 2 + 1 + 4 + 3 + 2 + 1 - 1
    small = replace(arch, activation_depth=256)
    assert timing.array_latency(small, 3) == timing.array_latency(arch, 3) - 1
    # odd, so that a second turn never meets another result's first one
    assert timing.second_turn(arch) % 2 and timing.second_turn(Arch(
        rows=4, columns=6, operand_depth=8, table_depth=256)) % 2
    assert timing.item_latency(arch, operand=1) - timing.item_latency(arch) == (
        timing.second_turn(arch) - timing.POOLING)
    floats = Arch(rows=4, columns=4, activation="e4m3", weight="e4m3")
    plain = Arch(rows=4, columns=4)
    assert timing.rounding_latency(floats, 80) == 7 + 5
    assert timing.rounding_latency(plain, 80) == 6
    assert timing.rounding_latency(replace(plain, post_stages="few"), 80) == 2
    # the choice of a slope takes the cycle of the way to DSP blocks
    leaky = Arch(rows=4, columns=4, leaky=True)
    assert timing.item_latency(leaky) == timing.item_latency(plain)
    luts = replace(plain, post_multiplier="luts")
    assert timing.item_latency(replace(luts, leaky=True)) == timing.item_latency(luts) + 1
    assert timing.item_latency(leaky, raw=1) == timing.item_latency(plain, raw=1)


@pytest.mark.parametrize("one, other", [(18, 27), (29, 27), (52, 27), (9, 27), (80, 35), (3, 3)])
def test_rows_of_products_are_the_whole_product(one, other):
    parts = [timing.product_parts(width) for width in (one, other)]
    assert [sum(part) for part in parts] == [one, other]
    assert max(max(part) for part in parts) <= 18 and all(
        width == timing.PART_BITS for part in parts for width in part[:-1])
    rows = timing.product_rows(one, other)
    pairs = sorted(pair for row in rows for pair in row)
    assert pairs == [(i, j) for i in range(len(parts[0])) for j in range(len(parts[1]))]
    for row in rows:
        for (i, j), following in pairwise(row):
            assert i < len(parts[0]) - 1 and j < len(parts[1]) - 1      # no sign
            assert sum(following) >= i + j + 2      # do not overlap


def test_results_with_operands_are_read_in_every_second_cycle():
    assert [timing.read_period(operand) for operand in (0, 1, 2, 3)] == [1, 2, 2, 2]


def test_a_product_of_blocks_takes_a_cycle_and_those_of_its_sum():
    arch = Arch(rows=4, columns=4)
    for one, other in ((18, 17), (27, 26), (40, 27)):
        rows = len(timing.product_rows(one, other))
        for addend in (False, True):
            assert timing.product_latency(arch, one, other, addend) == 1 + timing.sum_latency(
                rows + addend)
