"""What each layer costs and what bounds it, from the cycle model's times of its instructions."""

from dataclasses import dataclass

import numpy as np
from systolith.hw.element.element import arithmetic_of
from systolith.hw.spec import timing as latencies
from systolith.hw.spec.isa import Opcode, Unit
from systolith.hw.spec.loops import filled, fillings, moved_bytes, steps
from systolith.hw.spec.memories import MEMORIES, Space, loadable
from systolith.hw.spec.near import near_rows_of, skipped_rows
from systolith.hw.spec.program import Program
from systolith.hw.spec.records import Record
from systolith.sim.machine.access import merge
from systolith.sim.machine.cycles import Timing

__all__ = ["BOUNDS", "Cost", "layer_windows", "measure", "moved", "profile", "work"]

#: What may bound a layer, as texts of the report.
BOUNDS = {"array": "array passes", "post": "POST", "load": "bus, loads", "store": "bus, stores",
          "latency": "latency"}


@dataclass(frozen=True)
class Cost(Record):
    """What a layer costs.

    Attributes
    ----------
    first_cycle, last_cycle : int
        Of the layer's own instructions; those of other layers overlap.
    cycles : int
        That are counted for the layer: those in which its pixels are sent to the array, or are next
        to be.
    utilization : float
        Of the array, in `cycles`.
    at_work : dict of str to int
        Of `cycles`, those in which array, post, load and store moved data, for whatever layer.
    charged : dict of str to int
        `cycles` shared out: each to the one of these at work that has the most cycles in the layer,
        or to latency where none is (pipelines, memory, tokens on their way).
    bound : str
        What is charged the most.
    loaded_bytes : dict of str to int
        By what they are.
    stored_bytes : int
    """
    first_cycle: int
    last_cycle: int
    cycles: int
    utilization: float
    at_work: dict[str, int]
    charged: dict[str, int]
    bound: str
    loaded_bytes: dict[str, int]
    stored_bytes: int


def _minus(one, other):
    """The intervals of `one` without those of `other`; both as `merge` gives them."""
    edges = np.concatenate([one[:, 0], one[:, 1], other[:, 0], other[:, 1]])
    steps = np.repeat([1, -1, 2, -2], [len(one), len(one), len(other), len(other)])
    order = np.argsort(edges, kind="stable")
    alone = np.flatnonzero(np.cumsum(steps[order])[:-1] == 1)
    edges = edges[order]
    return merge(edges[alone], edges[alone + 1])


def _intervals(pairs):
    """Half-open intervals of (first, last) cycles."""
    pairs = np.array(pairs, np.int64).reshape(-1, 2)
    return merge(pairs[:, 0], pairs[:, 1] + 1)


def work(program: Program, timing: Timing) -> dict[Unit, np.ndarray]:
    """{Unit: intervals, half-open} in which a unit moves data.

    LOAD: beats come; ARRAY: pixels are sent, or wait for a filling that takes longer than a pass;
    POST: words are read; STORE: beats are made. What is on its way through a pipeline, or through
    memory, does not count; one or two cycles in which an instruction is started do.
    """
    arch = program.arch
    through_array = latencies.array_latency(arch, arithmetic_of(arch).stages)
    spans: dict[Unit, list] = {unit: [] for unit in Unit}
    for code, (first, last) in zip(program.instructions, timing.instructions, strict=True):
        if code.unit == Unit.ARRAY:
            length = steps(code, arch)
            words = filled(code, arch)
            last += latencies.pass_cycles(
                arch, length, words, near_rows_of(code, arch) if fillings(code) == 1 else words,
            ) - length - through_array + skipped_rows(code, arch)
        elif code.unit == Unit.POST:
            last -= latencies.item_latency(arch, raw=code.raw, operand=code.operand,
                                           table=code.table)
        elif code.unit == Unit.STORE:
            last -= 1
        if code.unit is not None:
            spans[code.unit].append((first, last))
    return {unit: _minus(_intervals(spans[unit]),
                         _intervals([wait[1:3] for wait in timing.waits[unit]])) for unit in Unit}


def measure(intervals: np.ndarray, points: np.ndarray) -> np.ndarray:
    """For each point, the cycles of the intervals that lie before it."""
    lengths = np.concatenate([[0], np.cumsum(intervals[:, 1] - intervals[:, 0])])
    place = np.searchsorted(intervals[:, 0], points)
    over = np.concatenate([[0], intervals[:, 1]])[place] - points
    return lengths[place] - np.maximum(over, 0)


def _windows(program, timing):
    """(layer, begin, end) that cut all cycles: each goes to the layer of the ARRAY instruction
    whose last pixel is sent next; cycles after the last ARRAY instruction go to its layer. In a
    program without ARRAY all go to the layer of the last instruction of a unit."""
    arch, layers, ends = program.arch, [], []
    through_array = latencies.array_latency(arch, arithmetic_of(arch).stages)
    for code, (_, end) in zip(program.instructions, timing.instructions, strict=True):
        if code.unit == Unit.ARRAY:
            layers.append(code.layer)
            ends.append(end - through_array + skipped_rows(code, arch))
    if not ends:
        layers = [code.layer for code in program.instructions if code.unit is not None][-1:]
        ends = [0] * len(layers)
    ends[-1:] = [timing.cycles] * len(layers[-1:])
    return np.array(layers, np.int64), np.array([0, *ends][:-1]), np.array(ends, np.int64)


def layer_windows(program: Program, timing: Timing) -> list[tuple[int, int, int]]:
    """[(begin, end, layer)] that cut all cycles as `profile` counts them."""
    found: list[tuple[int, int, int]] = []
    for layer, begin, end in zip(*(part.tolist() for part in _windows(program, timing)),
                                 strict=True):
        if found and found[-1][2] == layer:
            found[-1] = (found[-1][0], end, layer)
        else:
            found.append((begin, end, layer))
    return found


def moved(program: Program) -> tuple[list[dict[str, int]], list[int]]:
    """For each layer the bytes that its LOADs bring, by their kind, and that its STOREs write."""
    arch, layers = program.arch, len(program.host.layers)
    kinds = [row.content for row in loadable(arch)]
    loaded, stored = [dict.fromkeys(kinds, 0) for _ in range(layers)], [0] * layers
    for code in program.instructions:
        if code.opcode == Opcode.LOAD:
            loaded[code.layer][MEMORIES[Space(code.memory)].content] += moved_bytes(code, arch)
        elif code.opcode == Opcode.STORE:
            stored[code.layer] += moved_bytes(code, arch)
    return loaded, stored


def profile(program: Program, timing: Timing) -> list[Cost]:
    """The `Cost` of each layer of a program.

    Every cycle of a run is counted for one layer, so that the layers' `cycles` sum up to those of
    the run, although layers overlap: the first layer's begin with the run, the last one's end with
    it.
    """
    described = program.host.layers
    layers, begins, ends = _windows(program, timing)
    units = {unit.name.lower(): intervals for unit, intervals in work(program, timing).items()}
    unions = {}

    def cycles_of(names):
        """For each layer, the cycles in which any of the named units works."""
        key = frozenset(names)
        if key not in unions:
            both = np.concatenate([units[name] for name in key])
            both = merge(both[:, 0], both[:, 1])
            # a cycle that is counted as c is the interval [c, c + 1)
            inside = measure(both, ends + 1) - measure(both, begins + 1)
            unions[key] = np.bincount(layers, inside, len(described)).astype(int).tolist()
        return unions[key]

    total = np.bincount(layers, ends - begins, len(described)).astype(int).tolist()
    loaded, stored = moved(program)
    spans: list[list] = [[] for _ in described]
    for code, span in zip(program.instructions, timing.instructions, strict=True):
        if code.unit is not None:
            spans[code.layer].append(span)
    found = []
    for index, layer in enumerate(described):
        at_work = {name: cycles_of([name])[index] for name in units}
        order = sorted(units, key=at_work.__getitem__, reverse=True)
        reached = [0, *(cycles_of(order[:n + 1])[index] for n in range(len(order)))]
        charged = {name: after - before for name, before, after in
                   zip(order, reached, reached[1:], strict=False)}
        charged["latency"] = total[index] - reached[-1]
        found.append(Cost(
            first_cycle=min(start for start, _ in spans[index]),
            last_cycle=max(end for _, end in spans[index]),
            cycles=total[index], utilization=program.arch.utilization(layer.macs, total[index]),
            at_work=at_work, charged={name: charged[name] for name in BOUNDS},
            bound=max(BOUNDS, key=charged.__getitem__),
            loaded_bytes=loaded[index], stored_bytes=stored[index]))
    return found
