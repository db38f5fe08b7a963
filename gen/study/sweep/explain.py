"""Why a point takes the cycles that it does: what bounds each layer, and what one more unit of each
resource would bring."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from systolith.gen.chip.keys import KEYS
from systolith.gen.compile.needs import SAVINGS
from systolith.gen.flow.compile import compile_network
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.tables import text_table
from systolith.gen.measure.estimate import estimate, measured_targets, warning
from systolith.gen.report.profile import BOUNDS, Cost, profile
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.memories import MEMORIES, Space
from systolith.hw.spec.program import Program
from systolith.sim.machine.cycles import Timing, cycles
from systolith.sim.machine.shared_cycles import cycles_together
from systolith.sim.model.graph import Graph

from .point import hardware_hash

__all__ = ["Change", "Explanation", "MapOutside", "Resource", "explain"]

#: Words of a block of RAM in its widest shape: what a memory grows by.
_BLOCK = 512


@dataclass(frozen=True)
class Change:
    """What a chip with more of something takes: the keys that change, cycles from one image to the
    next (None where there is no such chip, or the network does not map on it) and the reason for
    that; `lut`: LUTs more than without, by the estimate, None where there is none."""
    keys: dict[str, Any]
    cycles: int | None
    reason: str = ""
    lut: int | None = None

    @property
    def text(self) -> str:
        return ", ".join(f"{KEYS[name].path} = {KEYS[name].kind.show(value)}"
                         for name, value in self.keys.items())


@dataclass(frozen=True)
class Resource:
    """One more of a resource, and twice as much: the same where it comes in powers of two."""
    one: Change
    twice: Change

    @property
    def best(self) -> tuple[bool, float, float]:
        """By what resources are sorted: cycles with one more, then with twice, none the last."""
        one, twice = self.one.cycles, self.twice.cycles
        return one is None, one or 0, float("inf") if twice is None else twice


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
    """What bounds a network on a chip: the program, its timing, the `Cost` of each layer; what more
    of each resource would bring, and options that the chip lacks, the best one first. `interval`:
    cycles from one image to the next, of one core those of an image; `note`: what is to be said of
    LUTs."""
    program: Program
    timing: Timing
    costs: list[Cost]
    resources: Sequence[Resource] = ()
    options: Sequence[Change] = ()
    interval: int = 0
    note: str = ""

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
            text_table(rows, "lrrrlrr"), "", *outside, *self._more()])

    def _more(self):
        """Lines of what more of each resource would bring."""
        arch, lines = self.program.arch, []
        if self.resources:
            table = [["resource", "now", "one more", "cycles", "change", "LUT", "twice", "cycles",
                      "change"]]
            for item in self.resources:
                names = item.one.keys
                table.append([
                    ", ".join(KEYS[name].path for name in names),
                    ", ".join(_shown(name, getattr(arch, name)) for name in names),
                    *self._columns(item.one), "" if item.one.lut is None else f"{item.one.lut:+,}",
                    *self._columns(item.twice)])
            lines += [
                "One more unit of each resource, alone: the next number that the chip can have "
                "with all else as it is, of memories as many words as a block of RAM has in its "
                f"widest shape ({_BLOCK}). Cycles are those from one image to the next, "
                f"{self.interval:,} now; of several cores those of an image on each at the same "
                "time, divided by the cores.", "",
                text_table(table, "lrrrrrrrr"), *(["", f"LUT: {self.note}."] if any(
                    item.one.lut is not None for item in self.resources) else []), ""]
            reasons = [f"{change.text}: {change.reason}" for item in self.resources
                       for change in (item.one, item.twice)[:1 + (item.one != item.twice)]
                       if change.reason]
            lines += [*reasons, ""] if reasons else []
        if self.options:
            lines += ["Options that the chip does not have, and of which the network has use:",
                      "", text_table([["with", "cycles", "change", "LUT"], *(
                          [change.text, *self._columns(change)[1:],
                           "" if change.lut is None else f"{change.lut:+,}"]
                          for change in self.options)], "lrrr"), "",
                      *(f"{change.text}: {change.reason}" for change in self.options
                        if change.reason)]
        return lines

    def _columns(self, change):
        """The new values of a change's keys, its cycles, and by how much they differ."""
        new = ", ".join(_shown(name, value) for name, value in change.keys.items())
        if change.cycles is None:
            return [new, "-", "none"]
        return [new, f"{change.cycles:,}", f"{100 * (change.cycles / self.interval - 1):+.1f} %"]


def _filled(channels, width):
    return f"{100 * channels / (-(-channels // width) * width):.0f} %"


def _shown(name, value):
    return KEYS[name].kind.show(value)


def explain(graph: Graph, arch: Arch, target: str | None = None, *,
            dsp: bool | str = True) -> Explanation:
    """The `Explanation` of a network on a chip, as it is built for `target`, with `dsp` as of
    `chip_area`; None: nothing is said of LUTs. Raises UserError where it does not map."""
    _, program = compile_network(graph, arch)
    timing = cycles(program)
    known: dict[Any, Change] = {}
    luts, note = _luts(arch, target, dsp), ""
    if luts is not None:
        found = estimate(arch, str(target), dsp=dsp)
        note = warning(found.error, found.hardware != hardware_hash())

    def measured(keys):
        name = tuple(keys.items())
        if name not in known:
            try:
                changed = replace(arch, **keys)
                taken = _interval(compile_network(graph, changed)[1])
                more = _luts(changed, target, dsp) if luts is not None else None
                known[name] = Change(keys, taken, lut=None if more is None else more - luts)
            except (UserError, ValueError) as error:
                known[name] = Change(keys, None, str(error))
        return known[name]
    resources = [Resource(measured(one), measured(twice)) for one, twice in resources_of(arch)]
    options = [measured(keys) for keys in _options(graph, arch)]
    return Explanation(
        program, timing, profile(program, timing),
        sorted(resources, key=lambda item: item.best),
        sorted(options, key=lambda item: (item.cycles is None, item.cycles or 0)),
        _interval(program, timing), note)


def _interval(program, timing=None):
    """Cycles from one image to the next."""
    cores = program.arch.cores
    return (timing or cycles(program)).cycles if cores == 1 else round(
        cycles_together(program) / cores)


def _luts(arch, target, dsp):
    """LUTs by the estimate; None where there is none for such a chip."""
    if target not in measured_targets():
        return None
    try:
        return int(estimate(arch, target, dsp=dsp).total.lut)
    except UserError:
        return None


def resources_of(arch: Arch) -> Iterable[tuple[dict[str, Any], dict[str, Any]]]:
    """(one more, twice) of each resource of a chip, as fields with their new values."""
    for names in (("rows",), ("columns",), ("rows", "columns"), ("lanes",), ("post_lanes",),
                  ("cores",), ("queue_depth",)):
        yield _next(arch, names), {name: 2 * getattr(arch, name) for name in names}
    for name, largest in (("bus_bits", 128 if arch.board != "none" else 512),
                          ("burst_beats", 256)):
        if getattr(arch, name) < largest:
            yield (twice := {name: 2 * getattr(arch, name)}), twice
    for row in MEMORIES.values():
        if not row.exists(arch) or row.space == Space.POOL:     # its depth follows from the pools
            continue
        words = getattr(arch, row.depth_field)
        twice = {row.depth_field: 2 * words}
        yield (twice if row.space == Space.TABLE else {
            row.depth_field: (words // _BLOCK + 1) * _BLOCK}), twice


def _next(arch, names):
    """The fields with the next numbers with which there is such a chip, all else being the same;
    with the very next ones where there is none up to twice."""
    def more(step):
        return {name: getattr(arch, name) + step for name in names}
    for step in range(1, max(getattr(arch, name) for name in names) + 1):
        try:
            replace(arch, **more(step))
        except ValueError:
            continue
        return more(step)
    return more(1)


def _options(graph: Graph, arch: Arch) -> Iterable[dict[str, Any]]:
    """Options that some layers have use of, and the chip lacks."""
    for saving in SAVINGS:
        wanted = saving.wanted(graph, arch)
        if wanted and not getattr(arch, saving.field):
            yield {saving.field: wanted if saving.all_of else True}
