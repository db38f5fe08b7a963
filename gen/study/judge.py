"""What a run of the core must have in common with the instruction-level simulator and with the
cycle model, and what a program must be before it runs: the first thing that is wrong, in words."""

import numpy as np
from systolith.hw.spec import words as layout
from systolith.hw.spec.program import Program
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.iss import Simulator
from systolith.sim.machine.memory_plan import check_memory_plan
from systolith.sim.machine.races import find_races, find_stall
from systolith.sim.rtl import core as rtl
from systolith.sim.rtl.core import RtlRun

__all__ = ["check_order", "difference", "wrong_cycles"]


def check_order(program: Program) -> None:
    """Check for errors that simulation may miss: memories that are used twice at a time, races, and
    deadlocks at full queues. Raises AssertionError or MemoryPlanError."""
    check_memory_plan(program)
    races = find_races(program.instructions, program.arch)
    if races:
        raise AssertionError("tokens leave the order of these instructions to chance: "
                             + ", ".join(f"{one} and {other} ({space.name.lower()})"
                                         for one, other, space in races[:5]))
    stall = find_stall(program.instructions, program.arch)
    if stall:
        raise AssertionError(f"instructions {stall[:8]} wait for each other at full queues")


def difference(run: RtlRun, simulator: Simulator, program: Program) -> str:
    """The first thing in which a run of the core differs from the simulator, in words."""
    problems = []
    trace, numbers = [], []
    for result in simulator.results:
        pack = layout.pack_raw_items if result.raw else layout.pack_group_items
        data = pack(result.items, program.arch)
        size = len(data) // len(result.items)
        trace += [(result.layer, int(result.raw), int.from_bytes(data[n:n + size], "little"))
                  for n in range(0, len(data), size)]
        numbers += [(result.number, n) for n in range(len(result.items))]
    for n, (found, expected) in enumerate(zip(run.trace, trace, strict=False)):
        if found != expected:
            number, item = numbers[n]
            problems.append(f"result {item} of instruction {number} is {_shown(found)}, not "
                            f"{_shown(expected)}: {program.instructions[number]}")
            break
    else:
        if len(run.trace) != len(trace):
            problems.append(f"{len(run.trace)} results, not {len(trace)}")
    if run.status.error is not None or not run.status.done:
        problems.append(f"after {run.cycles} cycles {run.status}")
    problems += [f"broken rule of the bus: {text}" for text in run.broken[:3]]
    problems += _wrong_writes(run, simulator, program)
    if run.status.done and not problems and bytes(simulator.memory) != bytes(run.outputs[0]):
        there, wanted = np.frombuffer(run.outputs[0], np.uint8), simulator.memory
        place = int(np.flatnonzero(there != wanted)[0])
        problems.append(f"byte {place} of the window is {there[place]}, not {wanted[place]}")
    return "; ".join(problems)


def _wrong_writes(run, simulator, program):
    """Where the bytes written, STORE after STORE, are not the simulator's."""
    addresses, values = run.written
    first = 0
    for stored in simulator.stores:
        size = stored.data.shape[1]
        expected = (stored.addresses[:, None] + np.arange(size)).ravel()
        part = slice(first, first + expected.size)
        first += expected.size
        if not (np.array_equal(addresses[part], expected)
                and np.array_equal(values[part], stored.data.ravel())):
            return [f"the memory differs after instruction {stored.number}: "
                    f"{program.instructions[stored.number]}"]
    return [] if len(addresses) == first else [f"{len(addresses)} bytes written, not {first}"]


def wrong_cycles(run: RtlRun, job: rtl.Job) -> str:
    """Where the memory never stalled, in what the cycle model and the core's registers differ."""
    if job.stalls:
        return ""
    timing = cycles(job.program, job.latency)
    return "; ".join(f"{name} is {getattr(run, name)}, not {getattr(timing, name)} as in the cycle "
                     "model"
                     for name in ("cycles", "compute_first", "compute_last", "activity")
                     if getattr(run, name) not in (getattr(timing, name), None))


def _shown(result):
    layer, raw, item = result
    return f"{'raw ' if raw else ''}{item:#x} of layer {layer}"
