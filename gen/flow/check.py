"""How a network maps on a chip, before anything is built: every node, every layer, what does not
map and what would make it map.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
from systolith.gen.compile.arrange import arrange
from systolith.gen.compile.chip_formats import formats_needed, weight_formats
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.legal import accumulator_need
from systolith.gen.compile.maps import layers_of
from systolith.gen.compile.needs import SAVINGS, WORTH, needed, wide_enough
from systolith.gen.compile.operands import operand_lives
from systolith.gen.compile.planes import computed_formats
from systolith.gen.compile.widen import widened
from systolith.gen.importer import reader
from systolith.gen.importer.checks import is_quantized
from systolith.gen.importer.file import read
from systolith.gen.importer.nodes import nodes_of
from systolith.gen.kit.errors import UserError, WrongFormat
from systolith.gen.quantize.dynamic import is_dynamic, with_fixed_ranges
from systolith.gen.quantize.quantize import with_sizes
from systolith.gen.quantize.recipe import Recipe
from systolith.hw.spec import records
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.cycles import cycles
from systolith.sim.model.graph import Graph

from .check_float import RANDOM, fates_of_float, quantized_for_check
from .compile import compile_network
from .fates import fates

__all__ = ["REFUSED", "Check", "check"]

#: What becomes of nodes: those that are refused, with the reason, and those after them.
REFUSED = "refused: "
_AFTER = "not looked at: it depends on a node that is refused"


@dataclass
class Check:
    """Result of `check`.

    Attributes
    ----------
    nodes : list of (node, operator, what it becomes)
    problems : list of str
        What stands in the way; empty where the network maps.
    changes : dict
        Keys of the chip's description and values with which it maps; with problems that remain
        then, `open` has them.
    layers : list of (layer, bits that its sums need, bits that the chip has or None)
    memories : dict
        {memory: (words used, words there)} of a network that maps.
    graph : Graph or None
    savings : list of dict
        Of a network that maps: `key` and `value` of an option that the chip lacks and that saves
        cycles or bytes, with `cycles` and `bytes` of memory outside now, and `cycles_with` and
        `bytes_with` it.
    notes : list of Note
        How results may differ from the model's by more than at ties.
    quantized : str
        Of a float network, how it was quantized to be looked at; else empty.
    """
    nodes: list
    problems: list = field(default_factory=list)
    changes: dict = field(default_factory=dict)
    open: list = field(default_factory=list)
    layers: list = field(default_factory=list)
    memories: dict = field(default_factory=dict)
    savings: list = field(default_factory=list)
    graph: Graph | None = None
    notes: list = field(default_factory=list)
    quantized: str = ""

    @property
    def maps(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        keys = ("node", "operator", "became"), ("name", "bits_needed", "bits")
        nodes, layers = ([dict(zip(names, row, strict=True)) for row in rows]
                         for names, rows in zip(keys, (self.nodes, self.layers), strict=True))
        return {"maps": self.maps, "problems": self.problems, "changes": self.changes,
                "open": self.open, "quantized": self.quantized, "nodes": nodes,
                "host": records.to_json(self.graph.host_work()) if self.graph else {},
                "layers": layers, "memories": self.memories, "savings": self.savings,
                "notes": [note.to_json() for note in self.notes]}


def check(path: Path | str | onnx.ModelProto, arch: Arch | None = None, *, batch: int = 1,
          calibration: Any = None, recipe: Recipe | None = None,
          source: str = "the calibration data") -> Check:
    """The `Check` of a network (a path or an `onnx.ModelProto`) on a chip, for programs of `batch`
    images; None: on any.

    A float network is quantized in memory by `recipe` (default: to the chip's formats, or int8)
    with calibration data as of `quantize.quantize`, or with random ones. Raises UserError where the
    file as a whole cannot be read as a network.
    """
    refused: dict[str, str] = {}
    after: set[str] = set()
    problems: list[tuple] = []                      # (node's name, message)

    def refuse(node, error):
        if error is None:
            after.add(node.name)
            return
        if node is None or node.name not in refused:
            problems.append((node and node.name, str(error)))
        if node is not None:
            refused.setdefault(node.name, str(error))
    model, quantized = read(path), ""
    if calibration is not None and is_dynamic(model):
        model = with_fixed_ranges(with_sizes(model, calibration), calibration, recipe or Recipe(),
                                  source)
        calibration = None
    nodes = nodes_of(model.graph)
    mapped: onnx.ModelProto | None = model
    if is_quantized(model):
        if calibration is not None:
            raise UserError("the network is quantized already; check it without calibration data")
    else:
        recipe = recipe or (Recipe() if arch is None else
                            Recipe(str(arch.activation), str(arch.weight)))
        quantized = (f"{recipe.activation} activations and {recipe.weight} weights, ranges from "
                     f"{RANDOM if calibration is None else source}")
        mapped = quantized_for_check(model, recipe, calibration, source, refuse)
    graph = None if mapped is None else reader.load(
        mapped, refuse, offsets=arch is not None and arch.slope_offsets)
    graph = None if problems else graph
    if graph is None or mapped is None:
        return Check([(node.name, node.operator,
                       f"{REFUSED}{refused[node.name].removeprefix(f'{node}: ')}"
                       if node.name in refused else
                       _AFTER if node.name in after else "understood")
                      for node in nodes], _in_order(problems, nodes), quantized=quantized)
    found = Check(fates(mapped, graph), graph=graph, quantized=quantized, notes=graph.notes)
    if quantized:
        found.nodes = fates_of_float(model, found.nodes)
    if arch is None:
        chip = _any_chip(graph)
        wide = widened(graph, chip)
        found.layers = [(layer.name, _need(Layer(0, layer.reading_all(), chip), wide), None)
                        for layer in wide.layers]
    else:
        _check_chip(found, graph, arch, batch)
    return found


def _in_order(problems, nodes):
    """Messages, each once, in the order of the nodes that they are about; `problems` as (name of
    the node or None, message)."""
    place = {node.name: n for n, node in enumerate(nodes)}
    problems = sorted(problems, key=lambda item: place.get(item[0], len(place)))
    return list(dict.fromkeys(message for _, message in problems))


def _any_chip(graph):
    """A chip in the network's formats, for the bits of sums, which do not depend on the chip."""
    from systolith.gen.chip.toml import load_chip
    activation = sorted(map(str, computed_formats(graph)))[-1]
    weight = sorted(map(str, weight_formats(graph).values()))[-1]
    return load_chip("ulx3s-8x8", [f"array.activation={activation}", f"array.weight={weight}"])


def _need(layer, graph):
    return accumulator_need(layer, graph.tensors[layer.conv.input].format)


# The chip.

def _check_chip(found, graph, arch, batch):
    """Fill in `found` for a chip: the layers and memories of a network that maps, or else all
    problems that can be found at once."""
    try:
        mapped, program = compile_network(graph, arch, batch)
    except UserError as error:
        _explain(found, graph, arch, batch, error)
        return
    _note_layers(found, mapped, arch)
    found.notes = mapped.notes
    host = program.host
    found.memories = {name.removesuffix("_words"): (used, host.depth[name])
                      for name, used in host.peak.items()}
    found.savings = list(_savings(graph, arch, batch, program))


def _savings(graph, arch, batch, program):
    """What `Check.savings` holds."""
    now = None
    for saving in SAVINGS:
        value = saving.wanted(graph, arch)
        if getattr(arch, saving.field) or not value:
            continue
        try:
            _, other = compile_network(graph, replace(arch, **{saving.field: value}), batch)
        except (UserError, ValueError):
            continue                                # this chip cannot have it
        now = now or cycles(program).cycles
        row = {"key": saving.key, "value": list(value) if saving.all_of else value,
               "cycles": now, "cycles_with": cycles(other).cycles,
               "bytes": program.window_bytes, "bytes_with": other.window_bytes}
        if any(row[f"{what}_with"] < (1 - WORTH) * row[what] for what in ("cycles", "bytes")):
            yield row


def _note_layers(found, graph, chip):
    found.layers = [(conv.name, _need(Layer(index, conv.reading_all(), chip), graph),
                     chip.accumulator_bits) for index, conv in enumerate(graph.layers)]


def _explain(found, graph, arch, batch, error):
    """Fill in why a network is refused, from the `error` of `compile_network`, and what to
    change."""
    chip, errors = arch, _layer_errors(graph, arch)
    if any(isinstance(item, WrongFormat) for item in [error, *errors]):
        forms = formats_needed(graph, arch)
        chip, found.problems, found.changes = forms.chip, forms.problems, forms.changes
        if chip is None:
            return
        errors = _layer_errors(graph, chip)
    with suppress(UserError):
        _note_layers(found, widened(graph, chip), chip)
    found.problems += [str(item) for item in errors if str(item) not in found.problems]
    if not found.problems:
        found.problems.append(str(error))
    chip = _with_units(graph, chip, [row[1] for row in found.layers], found.changes)
    try:
        compile_network(graph, chip, batch)
    except UserError as other:
        found.open.append(str(other))
        if str(other) not in found.problems:
            found.problems.append(str(other))


def _layer_errors(graph, chip):
    """The errors of the layers that a chip cannot compute, one for each."""
    errors: list[UserError] = []
    try:
        graph = widened(graph, chip)
        arranged, lanes = arrange(graph, chip)
        layers_of(arranged, chip, operand_lives(arranged), lanes, errors.append)
    except UserError as error:
        errors.append(error)
    return errors


def _with_units(graph, chip, needs, changes):
    """The chip with the units and accumulators that the layers need, of which `needs` are the bits;
    their keys are added to `changes`. Where there is no such chip, the chip as it is, and no
    changes."""
    fields: dict[str, Any] = {}
    for need, value, _ in needed(graph, chip):
        changes[need.key] = fields[need.field] = value
    bits = max(needs, default=0)
    if bits > chip.accumulator_bits:
        key, field, value = wide_enough(chip, bits)
        changes[key] = fields[field] = value
    try:
        return replace(chip, **fields)
    except ValueError:
        changes.clear()
        return chip
