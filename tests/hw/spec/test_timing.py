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
    # coordinates, address, word and its register, edge, rows, stages, two further pairs of columns,
    # sum, and its tokens before it is written
    assert timing.array_latency(arch, 3) == 1 + 1 + 2 + 1 + 4 + 3 + 2 + 1 - 1
    assert timing.operand_latency(arch) == (
        timing.post_latency(arch) + timing.operand_lane_latency(arch) + 1)
    floats = Arch(rows=4, columns=4, activation="e4m3", weight="e4m3")
    assert timing.post_latency(floats) == timing.post_latency(Arch(rows=4, columns=4)) + 2
    leaky = Arch(rows=4, columns=4, leaky=True)
    assert timing.post_latency(leaky) == timing.post_latency(Arch(rows=4, columns=4)) + 1
