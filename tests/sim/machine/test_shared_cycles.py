"""The cycle model of several cores that share a bus, against them in Verilator, to the cycle."""

from dataclasses import replace

import pytest
from systolith.gen.chip.verilog import core_verilog
from systolith.sim.machine.cycles import Stuck, cycles
from systolith.sim.machine.shared_cycles import (
    START_PERIOD,
    cycles_together,
    shared_cycles,
    together,
)
from systolith.sim.rtl import core as rtl

from .test_cycles import ARCHS, program, wild_program

#: Here no image is put into memory, which takes a cycle.
APART = START_PERIOD - 1
SHARED = [replace(ARCHS[0], cores=2), replace(ARCHS[3], cores=3)]
#: Cores do not hear of each other when their runs are so far apart.
FAR = 10 ** 6


@pytest.mark.parametrize("arch", SHARED, ids=lambda arch: f"{arch.cores}")
def test_the_model_is_the_cores_to_the_cycle(arch):
    jobs = [rtl.Job(wild_program(arch, seed), [rtl.Run() for _ in range(arch.cores)],
                    latency=latency) for seed in range(6) for latency in (1, 9, 32)]
    starts = [core * APART for core in range(arch.cores)]
    found = [[run.cycles for run in runs] for runs in rtl.simulate(core_verilog(arch), jobs).runs]
    assert found == [shared_cycles(job.program, starts, job.latency) for job in jobs]
    alone = [cycles(job.program, job.latency).cycles for job in jobs]
    assert all(one < max(taken) < arch.cores * one + FAR // 100 for one, taken in zip(
        alone, found, strict=True))
    # one that is wrong by a cycle anywhere would be seen: the cores are in each other's way
    assert len({tuple(taken) for taken in found}) == len(found)


@pytest.mark.parametrize("latency", [1, 32])
def test_cores_whose_runs_are_apart_take_what_one_alone_does(latency):
    for seed, arch in enumerate(SHARED):
        made = wild_program(arch, seed)
        one = cycles(made, latency).cycles
        first, *others = shared_cycles(made, [core * FAR for core in range(arch.cores)], latency)
        # whoever is not at turn waits for it a cycle, once
        assert first == one and others == [one + 1] * (arch.cores - 1)
        start = 12345
        assert shared_cycles(made, [start + core * APART for core in range(arch.cores)],
                             latency) == shared_cycles(
            made, [core * APART for core in range(arch.cores)], latency)


def test_from_the_first_start_to_the_last_end():
    assert together([100, 100, 90]) == 2 * START_PERIOD + 90
    assert together([100, 20]) == 100
    for arch in (ARCHS[0], SHARED[0]):
        made = wild_program(arch, 3)
        starts = [core * START_PERIOD for core in range(arch.cores)]
        assert cycles_together(made, 9) == (
            cycles(made, 9).cycles if arch.cores == 1 else
            together(shared_cycles(made, starts, 9)))


def test_one_that_never_ends_is_told():
    made = wild_program(SHARED[0], 1)
    code = [replace(item) for item in made.instructions[1:-1]]
    waiting = next(item for item in code if item.unit is not None)
    code.insert(0, replace(waiting, wait=15))
    with pytest.raises(Stuck, match="never ends"):
        cycles_together(program(SHARED[0], code))
