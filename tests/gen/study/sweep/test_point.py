"""Measurements of points that share what is done once: the same figures as each alone."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from systolith.gen.flow.compile import compile_network
from systolith.gen.study.sweep import point as module
from systolith.gen.study.sweep.counts import counts_of
from systolith.gen.study.sweep.net import net_of
from systolith.gen.study.sweep.point import CyclesOf
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.shared_cycles import cycles_together

DIGITS = Path(__file__).parents[4] / "examples" / "digits" / "digits-cnn-int8.onnx"
#: With a memory of 4,096 words and more, words come a cycle later.
CHIP = Arch(rows=4, columns=4, weight_depth=256, parameter_depth=256)


@pytest.fixture
def counted(monkeypatch):
    """The chips whose cycles have been counted by the model."""
    chips = []

    def count(program):
        chips.append(program.arch)
        return cycles(program)
    monkeypatch.setattr(module, "cycles", count)
    module._families.clear()
    return chips


def test_points_that_share_have_figures_of_their_own(counted):
    net = net_of("digits", DIGITS, None, None, None, "a test")
    tasks = [CyclesOf(replace(CHIP, activation_depth=depth, prefetch=prefetch,
                              burst_beats=burst), net)
             for depth, (prefetch, burst) in product(
                 (1024, 2048, 4096, 8192), ((True, 16), (False, 16), (True, 4)))]
    assert len({task.family for task in tasks}) == 1
    found = {}
    for task in sorted(tasks, key=lambda task: task.order):
        graph = net.graph(task.arch)
        _, program = compile_network(graph, task.arch)
        timing = cycles(program)
        found[task.arch] = task.measure()
        assert found[task.arch] == {
            "cycles": timing.cycles, "compute_cycles": timing.compute_cycles,
            "cycles_together": timing.cycles, **counts_of(graph, program)}
    # prefetch and bursts count, and large memories have a latency of their own
    assert len(counted) == len({figures["cycles"] for figures in found.values()}) == 9


def test_cores_that_share_a_bus_have_their_latency(counted):
    """Two cores and three have the same cycles where they are alone; one without others does not.
    """
    net = net_of("digits", DIGITS, None, None, None, "a test")
    tasks = [CyclesOf(replace(CHIP, cores=cores), net) for cores in (1, 2, 3)]
    assert len({task.family for task in tasks}) == 1 and len({task.key for task in tasks}) == 3
    found = [task.measure() for task in tasks]
    one, two, three = (item["cycles"] for item in found)
    assert one < two == three
    for task, item in zip(tasks, found, strict=True):
        _, program = compile_network(net.graph(task.arch), task.arch)
        assert item["cycles"] == cycles(program).cycles
        assert item["cycles_together"] == cycles_together(program)
    assert found[0]["cycles_together"] == one < two < found[1]["cycles_together"] < (
        found[2]["cycles_together"])


def test_seconds_have_two_digits(monkeypatch):
    times = iter((1.0, 4.23456))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(times))
    task = SimpleNamespace(key="a", kind="b", measure=lambda: {"cycles": 7})
    assert module.evaluate(task) == {"key": "a", "kind": "b", "error": None, "cycles": 7,
                                     "seconds": 3.23}
