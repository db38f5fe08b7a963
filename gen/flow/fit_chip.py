"""A chip for a network: the formats, units and buffers that it needs, and what each of them costs.

`fit` starts from generous buffers, adds the units that the network's layers ask for, and then
halves one buffer after the other as long as the network takes hardly more cycles. Cycles are the
cycle model's, all traffic included; areas are those of Yosys with and without a unit.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import onnx
from systolith.gen.chip.keys import KEYS
from systolith.gen.chip.toml import commented_toml
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.legal import accumulator_need
from systolith.gen.compile.needs import SAVINGS, WITHOUT, WORTH, needed, wide_enough
from systolith.gen.compile.planes import computed_formats
from systolith.gen.compile.widen import widened
from systolith.gen.importer.checks import is_quantized
from systolith.gen.importer.file import read
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.gen.kit.tables import text_table
from systolith.gen.measure.area import FIGURES, measure
from systolith.gen.measure.chip_area import chip_area
from systolith.gen.quantize.recipe import Recipe
from systolith.hw.board.boards import BOARDS
from systolith.hw.formats import Bipolar, Int
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.memories import MEMORIES, Space
from systolith.hw.spec.program import Program
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.memory_plan import check_memory_plan
from systolith.sim.model.graph import Graph

from .build import board_verilog
from .check_float import quantized_for_check

__all__ = ["Choice", "Fit", "fit", "fitted_toml", "graph_of"]

#: Buffers in words, before they are halved, and the least that is tried. Weights come first: they
#: are read once an image, so that less of them costs least.
_BUFFERS = {MEMORIES[space].depth_field: sizes for space, sizes in (
    (Space.WEIGHT, (16384, 64)), (Space.ACTIVATION, (16384, 64)), (Space.OPERAND, (8192, 64)),
    (Space.ACCUMULATOR, (2048, 32)), (Space.PARAMETER, (512, 16)))}
_ROWS = {row.depth_field: row for row in MEMORIES.values()}
#: Cycles that all halved buffers together may cost, as a share; on boards, the next share is tried
#: where the chip does not fit the part.
_SHARES = (0.03, 0.15, 1.0)
#: {field: the value with which a chip does not have that unit}
_LEFT_OUT = WITHOUT | {"post_lanes": None}
_PATHS = {name: key.path for name, key in KEYS.items()}


@dataclass
class Choice:
    """One key that was chosen: its value as in TOML, the reason, and what it costs."""
    key: str
    value: str
    reason: str
    cost: str = ""


@dataclass
class Fit:
    """A chip for a network.

    Attributes
    ----------
    arch : Arch
    program : Program
        The network compiled for it, one image a run.
    cycles : int
        Of one image, by the cycle model, all traffic included.
    choices : list of Choice
    notes : list of str
        What else is worth knowing, such as how much of the board's part is used.
    """
    arch: Arch
    program: Program
    cycles: int
    choices: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    def table(self) -> str:
        """The choices as a text table."""
        rows = [[item.key, item.value, item.reason, item.cost] for item in self.choices]
        return text_table([["key", "value", "why", "cost"], *rows], "llll")


def fitted_toml(found: Fit, network: Path | str) -> str:
    """The chip of a `Fit` as TOML, preceded by comments: what was chosen and why."""
    lines = [f"# Chosen for {Path(network).name}: {found.cycles:,} cycles an image."]
    for item in found.choices:
        cost = f" ({item.cost})" if item.cost else ""
        lines.append(f"# {item.key} = {item.value}: {item.reason}{cost}")
    return "\n".join([*lines, *(f"# {note}" for note in found.notes), "",
                      commented_toml(found.arch)])


def graph_of(model: Path | str | onnx.ModelProto, fixed: dict | None = None) -> Graph:
    """The `Graph` of an `onnx.ModelProto` or a path, as `fit` takes it.

    A float network is quantized in memory, with ranges from random numbers, to the formats in
    `fixed` (fields of `Arch`) or int8. Raises UserError where the network is refused.
    """
    network: Any = read(model)
    fixed = fixed or {}
    if not is_quantized(network):
        activation, weight = (str(fixed.get(key, "int8")) for key in ("activation", "weight"))
        recipe = Recipe(activation, weight)
        network = quantized_for_check(network, recipe, None, "", _raise)
    return load(network, offsets=fixed.get("slope_offsets", True))


def _raise(node, error):
    if error is not None:
        raise error


def fit(graph: Graph, *, board: str = "none", fixed: dict | None = None, name: str = "chip",
        area: bool = True, progress: Reporter = SILENT) -> Fit:
    """The `Fit` of a quantized network (a `Graph`).

    Parameters
    ----------
    board : str
        A board that the chip must fit, or "none".
    fixed : dict
        Fields of `Arch` that stay as they are.
    name : str
        Of the chip.
    area : bool
        Measure with Yosys what each unit costs, half a minute each, and whether a board's part
        holds the chip.

    Raises UserError where no chip computes the network, or none that fits the board.
    """
    fixed = dict(fixed or {}) | {"name": name, "board": board}
    place = BOARDS.get(board)
    search = None
    for shape in _shapes(graph, fixed, place):
        for share in _SHARES:
            search = _Search(graph, shape | fixed, set(fixed), progress)
            search.choose(share)
            arch, program = search.arch, search.program
            if place is None:
                return search.found(area)
            if program.window_bytes > place.memory_bytes:
                raise UserError(
                    f"{graph.name} and its data take {program.window_bytes:,} bytes of memory, and "
                    f"the {place.name} has {place.memory_bytes:,}; choose a smaller network or "
                    "another board")
            if not area:
                return search.found(area)
            with progress.step(f"Area on the {place.part.name} (Yosys)"):
                whole = measure(board_verilog(arch, core_verilog(arch)), place.module,
                                place.part.target, pe_dsp=arch.pe_dsp).total
            used = {key: getattr(whole, key) / getattr(place.part, key) for key in FIGURES}
            if max(used.values()) <= 1:
                found = search.found(area)
                found.notes.append(f"uses of the {place.part.name}: " + ", ".join(
                    f"{part:.0%} of its {key.upper()}" for key, part in used.items()))
                return found
            if max(used, key=used.__getitem__) != "bram":
                break                           # smaller buffers are no help
    assert place is not None
    most = max(used, key=used.__getitem__)
    takes, there = getattr(whole, most), getattr(place.part, most)
    raise UserError(f"no chip for {graph.name} fits the {place.name}: the smallest that was tried, "
                    f"{arch.rows} x {arch.columns}, takes {takes:,} {most.upper()} of {there:,}")


def _shapes(graph, fixed, board):
    """Formats and shapes of arrays, the best one first."""
    formats = _formats(graph, fixed)
    if formats["activation"].binary:
        shapes = [(4, 16, 32)] if board is None else [(4, 16, 32), (4, 8, 16), (2, 4, 8)]
    else:
        shapes = [(16, 16, 1)] if board is None else [(8, 8, 1), (4, 4, 1), (2, 4, 1)]
    if {"rows", "columns", "lanes"} & set(fixed):
        shapes = shapes[:1]
    return [formats | dict(zip(("rows", "columns", "lanes"), shape, strict=True))
            for shape in shapes]


def _formats(graph, fixed):
    """The chip's formats of activations and weights: the widest of the network."""
    if any(fixed.get(key) == Bipolar(1) for key in ("activation", "weight")):
        return {"activation": Bipolar(1), "weight": Bipolar(1)}
    forms = computed_formats(graph)
    weights = list(dict.fromkeys(layer.weights.format for layer in graph.layers))
    if all(item.binary for item in [*forms, *weights]):
        return {"activation": Bipolar(1), "weight": Bipolar(1)}
    tensors = [item.format for item in graph.tensors.values() if item.format]
    # Integer chips compute signs as +1 and -1, for which two bits are enough.
    tensors, weights = ([Int(2) if item.binary else item for item in items]
                        for items in (tensors, weights))
    if len(set(tensors)) > 1 and not all(item.uniform for item in tensors):
        names = " and ".join(sorted({str(item) for item in tensors}))
        raise UserError(f"the network's activations are in {names}, and a chip computes in one "
                        "format; quantize all of them to the same")
    weight = max(weights, key=lambda item: item.width)
    # Codes of 8 bits less a zero point need 9: int8 adds the few that exceed it in second passes.
    return {"activation": max(tensors, key=lambda item: item.width),
            "weight": Int(8) if weight == Int(9) else weight}


class _Search:
    """Chooses the other fields of a chip whose formats and shape are given."""

    def __init__(self, graph, fields, fixed, progress):
        self.graph, self.fields, self.fixed, self.progress = graph, dict(fields), fixed, progress
        self.seen, self.error, self.reasons = {}, None, {}

    @property
    def arch(self):
        return Arch(**self.fields)

    def _measured(self, **changes):
        """Cycles on a chip with other fields; infinitely many where the network does not map."""
        fields = self.fields | changes
        key = tuple(sorted((name, str(value)) for name, value in fields.items()))
        if key not in self.seen:
            try:
                arch = Arch(**fields)
                program = compile_graph(widened(self.graph, arch), arch)
                self.seen[key] = cycles(program).cycles
            except (UserError, ValueError) as error:
                self.error = self.error or error
                self.seen[key] = float("inf")
        return self.seen[key]

    def _set(self, key, value, reason):
        if key not in self.fixed:
            self.fields[key], self.reasons[key] = value, reason

    def choose(self, share):
        with self.progress.step("Choosing units and buffers"):
            self._units()
            self._largest_k()
            self._generous()
            self._options(share)
            self.best = self._measured()
            self._shrink(share)
            self.cycles, arch = self._measured(), self.arch
            self.program = compile_graph(widened(self.graph, arch), arch)
            check_memory_plan(self.program)

    def _units(self):
        """Set the units that layers need."""
        for need, value, layers in needed(widened(self.graph, self.arch), self.arch):
            twice = bool(need.several) and len(layers) > 1
            if twice:
                value = min(2 * value, KEYS[need.field].high)
            self._set(need.field, value,
                      _counted(need, layers) + (f"; {need.several}" if twice else ""))

    def _largest_k(self):
        """Accumulators as wide as the layers' own weights need."""
        if self.fields.get("accumulator") is not None:
            return
        arch = self.arch
        graph = widened(self.graph, arch)
        needs = [accumulator_need(Layer(n, layer.reading_all(), arch), form)
                 for n, layer in enumerate(graph.layers)
                 if (form := graph.tensors[layer.input].format) is not None]
        # Room for other weights, too, which training may give: the longest dot product.
        longest = max(prod(layer.weights.shape[1:]) * layer.pool.summed for layer in graph.layers)
        reason = "the longest dot product of the network"
        if arch.sum_bits(max(longest, arch.vector)) < max(needs):
            reason = f"sums and biases need {max(needs)} bits"
            _, field, longest = wide_enough(arch, max(needs))
            if field == "accumulator":          # more than exact ones can have
                self._set(field, longest, reason)
                return
        self._set("largest_k", min(longest, KEYS["largest_k"].high), reason)

    def _generous(self):
        """Buffers in which the network maps."""
        for key, (words, _) in _BUFFERS.items():
            if not _ROWS[key].optional or self.fields.get(key):
                self._set(key, words, self.reasons.get(key, ""))
        while self._measured() == float("inf"):
            grown = {key: min(2 * self.fields[key], KEYS[key].high) for key in _BUFFERS
                     if self.fields.get(key) and key not in self.fixed}
            if all(self.fields[key] == words for key, words in grown.items()):
                raise UserError(str(self.error))
            self.fields |= grown

    def _options(self, share):
        """Units that save cycles, and widths of weights that save half of their memory."""
        now = self._measured()
        for saving in SAVINGS:
            layers = saving.layers(self.graph, self.arch)
            if layers and saving.field not in self.fixed:
                value = saving.wanted(self.graph, self.arch)
                then = self._measured(**{saving.field: value})
                if then < (1 - WORTH) * now:
                    self._set(saving.field, value, f"{_counted(saving, layers)}; without it "
                              f"{now / then - 1:.0%} more cycles")
                    now = then
                elif saving.field in ("weight_widths", "weight_pools") and then <= (
                        1 + WORTH / 5) * now:
                    self._narrow_weights(saving, value, layers, share)
        lanes = self.arch.post_lanes
        while "post_lanes" not in self.fixed and self.arch.group % (2 * lanes) == 0:
            then = self._measured(post_lanes=2 * lanes)
            if then > (1 - WORTH) * now:
                break
            lanes *= 2
            self._set("post_lanes", lanes, f"with {lanes // 2} lanes {now / then - 1:.0%} more "
                      "cycles")
            now = then

    def _narrow_weights(self, saving, value, layers, share):
        """Give weights fewer bits where half the weight memory or less is enough with them."""
        if "weight_depth" in self.fixed:
            return
        least, most = _BUFFERS["weight_depth"][1], (1 + share) * self._measured()

        def depth(**changes):
            words = self.fields["weight_depth"]
            while words >= 2 * least and self._measured(
                    weight_depth=words // 2, **changes) <= most:
                words //= 2
            return words
        whole, narrow = depth(), depth(**{saving.field: value})
        if narrow < whole:
            self._set(saving.field, value, f"{_counted(saving, layers)}; {narrow:,} words of "
                      f"weights instead of {whole:,}")

    def _shrink(self, share):
        """Halve buffers as long as all of them together cost at most `share` of the cycles."""
        for key, (_, least) in _BUFFERS.items():
            while key not in self.fixed and self.fields.get(key, 0) >= 2 * least:
                if self._measured(**{key: self.fields[key] // 2}) > (1 + share) * self.best:
                    break
                self.fields[key] //= 2
            if not self.fields.get(key) or key in self.fixed:
                continue
            half = self._measured(**{key: self.fields[key] // 2}) if (
                self.fields[key] >= 2 * least) else float("inf")
            reason = ("the network does not map with half of it" if half == float("inf") else
                      f"half of it: {half / self._measured() - 1:.0%} more cycles")
            before = self.reasons.get(key)
            self.reasons[key] = f"{before}; {reason}" if before else reason

    # What it came to.

    def found(self, area):
        """The result of the search."""
        arch = self.arch
        choices = [Choice(_PATHS[key], _shown(key, self.fields[key]), reason,
                          _memory(arch, key))
                   for key, reason in {**self._given(), **self.reasons}.items()]
        result = Fit(arch, self.program, int(self.cycles), choices)
        if area:
            self._costs(result)
        return result

    def _given(self):
        forms = sorted({str(item.format) for item in self.graph.tensors.values() if item.format})
        weights = sorted({str(item.weights.format) for item in self.graph.layers})
        shape = "a common size; more are faster and larger (--set)"
        passes = "; what exceeds int8 takes second passes" if "int9" in weights else ""
        reasons = {"rows": shape, "columns": shape,
                   "activation": f"activations of the network: {', '.join(forms)}",
                   "weight": f"weights of the network: {', '.join(weights)}{passes}"}
        return {key: reason for key, reason in reasons.items() if key not in self.fixed}

    def _costs(self, found):
        """Fill in what units cost."""
        wanted = [item for item in found.choices if item.key in {_PATHS[key] for key in _LEFT_OUT}]
        keys = {path: key for key, path in _PATHS.items()}
        arch, board = found.arch, BOARDS.get(found.arch.board)
        target = board.part.target if board else "ecp5"
        chips: dict[str | None, Arch] = {None: arch}
        for item in wanted:
            name = keys[item.key]
            try:
                chips[item.key] = replace(arch, **{name: _LEFT_OUT[name]})
            except ValueError:
                continue
        with self.progress.step(f"Areas with and without each unit (Yosys, {target})",
                                len(chips)) as done, ThreadPoolExecutor(2) as pool:
            jobs = {key: pool.submit(chip_area, chip, target) for key, chip in chips.items()}
            areas: dict[str | None, dict[str, float]] = {}
            for key, job in jobs.items():
                areas[key] = job.result().total.to_json()
                done(len(areas))
        for item in found.choices:
            if item.key in areas:
                item.cost = ", ".join(
                    f"{areas[None][what] - areas[item.key][what]:,} {what.upper()}"
                    for what in areas[None] if areas[None][what] != areas[item.key][what]) or "none"
        found.notes.append(f"whole core on {target}: " + ", ".join(
            f"{number:,} {what.upper()}" for what, number in areas[None].items()))


def _counted(need, layers):
    """What a unit is for, and in how many layers."""
    return f"{need.what} ({len(layers)} layer{'s' * (len(layers) > 1)})"


def _memory(arch, key):
    """The size of the memory whose depth is a field, as text; empty for other fields."""
    row = _ROWS.get(key)
    return f"{row.depth(arch) * row.bits(arch) / 1024:,.0f} kbit of memory" if row else ""


def _shown(key, value):
    return KEYS[key].kind.show(value)
