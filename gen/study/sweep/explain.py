"""Why a point takes the cycles that it does: what bounds each layer, and what more would bring."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from systolith.gen.chip.keys import KEYS
from systolith.gen.compile.needs import SAVINGS
from systolith.gen.flow.compile import compile_network
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.tables import text_table
from systolith.gen.report.profile import BOUNDS, Cost, profile
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.memories import MEMORIES, Space
from systolith.hw.spec.program import Program
from systolith.sim.machine.cycles import Timing, cycles
from systolith.sim.model.graph import Graph

__all__ = ["Change", "Explanation", "MapOutside", "explain"]


@dataclass(frozen=True)
class Change:
    """What a chip with more of something takes: the keys that change, cycles (None where there is
    no such chip, or the network does not map on it) and the reason for that."""
    keys: dict[str, Any]
    cycles: int | None
    reason: str = ""

    @property
    def text(self) -> str:
        return ", ".join(f"{KEYS[name].path} = {KEYS[name].kind.show(value)}"
                         for name, value in self.keys.items())


@dataclass(frozen=True)
class MapOutside:
    """A map between layers that is written to external memory and read from there: its tensor and
    shape, the words that it would take on the chip, and the share of their lanes that are channels.
    """
    name: str
    shape: tuple[int, ...]
    words: int
    filled: float


@dataclass(frozen=True)
class Explanation:
    """What bounds a network on a chip: the program, its timing, the `Cost` of each layer, and
    changes, the best one first."""
    program: Program
    timing: Timing
    costs: list[Cost]
    changes: list[Change]

    @property
    def outside(self) -> list[MapOutside]:
        """Maps between layers for which the chip's memories have no room."""
        vector, found = self.program.arch.vector, []
        for name, place in self.program.host.tensors.items():
            if place.section == "spill":
                channels, height, width = place.shape
                blocks = -(-channels // vector)
                found.append(MapOutside(name, tuple(place.shape), blocks * height * width,
                                        channels / (blocks * vector)))
        return found

    def text(self) -> str:
        """All of it as text."""
        arch, layers = self.program.arch, self.program.host.layers
        rows = [["layer", "cycles", "share", "utilization", "bound by", "rows filled",
                 "columns filled"]]
        for layer, cost in zip(layers, self.costs, strict=True):
            charged = 100 * cost.charged[cost.bound] / max(1, cost.cycles)
            rows.append([layer.name, f"{cost.cycles:,}",
                         f"{100 * cost.cycles / self.timing.cycles:.1f} %",
                         f"{100 * cost.utilization:.1f} %",
                         f"{BOUNDS[cost.bound]} ({charged:.0f} %)",
                         _filled(layer.input_shape[0], arch.vector),
                         _filled(layer.output_shape[0], arch.columns)])
        more = [["with", "cycles", "change"]]
        for change in self.changes:
            more.append([change.text, "-", change.reason] if change.cycles is None else
                        [change.text, f"{change.cycles:,}",
                         f"{100 * (change.cycles / self.timing.cycles - 1):+.1f} %"])
        macs = sum(layer.macs for layer in layers)
        outside: list[str] = []
        if self.outside:
            maps = [["map", "shape", "words", "lanes filled"], *(
                [item.name, " x ".join(map(str, item.shape)), f"{item.words:,}",
                 f"{100 * item.filled:.0f} %"] for item in self.outside)]
            outside = [f"Maps between layers that go over the bus, written and read: the "
                       f"{arch.activation_depth:,} words of {arch.vector} lanes of "
                       "buffers.activations have no room for them beside what else is needed.", "",
                       text_table(maps, "lrrr"), ""]
        return "\n".join([
            f"{self.program.host.network} on {arch.rows} x {arch.columns} x {arch.lanes} elements: "
            f"{self.timing.cycles:,} cycles, "
            f"{100 * arch.utilization(macs, self.timing.cycles):.1f} % of the array. Layers are "
            "bound by the unit that works in most of their cycles; the last columns are how full "
            "the last filling of rows and columns with the layer's channels is on average.", "",
            text_table(rows, "lrrrlrr"), "", *outside, text_table(more, "lrr")])


def _filled(channels, width):
    return f"{100 * channels / (-(-channels // width) * width):.0f} %"


def explain(graph: Graph, arch: Arch) -> Explanation:
    """The `Explanation` of a network on a chip. Raises UserError where it does not map."""
    _, program = compile_network(graph, arch)
    timing = cycles(program)

    def measured(keys):
        try:
            changed = replace(arch, **keys)
            return Change(keys, cycles(compile_network(graph, changed)[1]).cycles)
        except (UserError, ValueError) as error:
            return Change(keys, None, str(error))
    changes = [measured(keys) for keys in _more(graph, arch)]
    return Explanation(program, timing, profile(program, timing), sorted(
        changes, key=lambda item: (item.cycles is None, item.cycles or 0)))


def _more(graph: Graph, arch: Arch) -> Iterable[dict[str, Any]]:
    """One more of each resource: the next size that is of use."""
    def double(name):
        return {name: 2 * getattr(arch, name)}
    yield double("rows")
    yield double("columns")
    yield double("rows") | double("columns")
    yield double("lanes")
    yield {"post_lanes": 2 * arch.post_lanes}
    if arch.bus_bits < 128:
        yield double("bus_bits")
    if arch.burst_beats < 256:
        yield double("burst_beats")
    yield double("queue_depth")
    for row in MEMORIES.values():
        if row.exists(arch) and row.space != Space.POOL:    # whose depth follows from the pools
            yield double(row.depth_field)
    for saving in SAVINGS:
        wanted = saving.wanted(graph, arch) if saving.all_of else True
        if wanted and not getattr(arch, saving.field):
            yield {saving.field: wanted}
