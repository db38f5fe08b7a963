"""How a network maps on a chip, before anything is built: every node, every layer, what does not
map and what would make it map.
"""

import re
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
from systolith.gen.compile.needs import needed, wide_enough
from systolith.gen.compile.operands import operand_lives
from systolith.gen.compile.planes import computed_formats
from systolith.gen.compile.widen import widened
from systolith.gen.importer import reader
from systolith.gen.importer.checks import is_quantized
from systolith.gen.importer.file import read
from systolith.gen.importer.folding import computed_from_constants
from systolith.gen.importer.nodes import nodes_of
from systolith.gen.kit.errors import UserError, WrongFormat
from systolith.gen.kit.notes import lines as note_lines
from systolith.gen.kit.tables import text_table
from systolith.gen.quantize.dynamic import is_dynamic, with_fixed_ranges
from systolith.gen.quantize.quantize import Recipe, with_sizes
from systolith.gen.report.report import host_lines
from systolith.hw.spec import records
from systolith.hw.spec.arch import Arch
from systolith.sim.model.graph import Graph

from .check_float import RANDOM, fates_of_float, quantized_for_check
from .compile import compile_network

__all__ = ["Check", "check", "fates", "text_of"]

_FORMATS = {"QuantizeLinear", "DequantizeLinear", "Quant", "FloatQuant", "BipolarQuant"}
_REFUSED = "refused: "
#: A message about a node, and how many nodes with the same one are named.
_NODE = re.compile(r"node (?P<name>'.*?'|\".*?\") \((?P<operator>\w+)\): (?P<text>.*)", re.S)
_NAMED = 4
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
                "layers": layers, "memories": self.memories,
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
    graph = None if mapped is None else reader.load(mapped, refuse)
    graph = None if problems else graph
    if graph is None or mapped is None:
        return Check([(node.name, node.operator,
                       f"{_REFUSED}{refused[node.name].removeprefix(f'{node}: ')}"
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
    """A chip of the network's formats, for what does not depend on the chip."""
    from systolith.gen.chip.toml import load_chip
    activation = sorted(map(str, computed_formats(graph)))[-1]
    weight = sorted(map(str, weight_formats(graph).values()))[-1]
    return load_chip("ulx3s-8x8", [f"array.activation={activation}", f"array.weight={weight}"])


def _need(layer, graph):
    return accumulator_need(layer, graph.tensors[layer.conv.input].format)


# The chip.

def _check_chip(found, graph, arch, batch):
    """Whether `build` goes through, and if not, all that is in the way, as far as it can be seen
    at once."""
    try:
        graph, program = compile_network(graph, arch, batch)
    except UserError as error:
        _explain(found, graph, arch, batch, error)
        return
    _note_layers(found, graph, arch)
    found.notes = graph.notes
    host = program.host
    found.memories = {name.removesuffix("_words"): (used, host.depth[name])
                      for name, used in host.peak.items()}


def _note_layers(found, graph, chip):
    found.layers = [(conv.name, _need(Layer(index, conv.reading_all(), chip), graph),
                     chip.accumulator_bits) for index, conv in enumerate(graph.layers)]


def _explain(found, graph, arch, batch, error):
    """Fill in why a network is refused, from its `error`."""
    chip, errors = arch, _layer_errors(graph, arch)
    if any(isinstance(item, WrongFormat) for item in [error, *errors]):
        needed = formats_needed(graph, arch)
        chip, found.problems, found.changes = needed.chip, needed.problems, needed.changes
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
    """Why a chip cannot compute each of a network's layers."""
    errors: list[UserError] = []
    try:
        graph = widened(graph, chip)
        arranged, lanes = arrange(graph, chip)
        layers_of(arranged, chip, operand_lives(arranged), lanes, errors.append)
    except UserError as error:
        errors.append(error)
    return errors


def _with_units(graph, chip, needs, changes):
    """The chip with the units and widths that the layers need; `changes` gets its keys."""
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


# The nodes.

def _shape(shape):
    return " x ".join(map(str, shape))


def _described(layer, graph):
    """A layer in a few words."""
    kernel, pool, place = layer.weight.shape[2:], layer.pool, layer.placement
    if layer.geometry.groups > 1:
        kind = "depthwise" if layer.depthwise else "grouped"
    else:
        kind = "dense" if layer.dense else "convolution"
    text = f"layer {layer.name}: {kind} {_shape(kernel)}, {layer.inputs} -> {len(layer.weight)}"
    if pool.size != (1, 1):
        text += f", {'sums of' if pool.sum else 'max pooling'} {_shape(pool.size)}"
        if pool.stride != pool.size:
            text += f" every {_shape(pool.stride)}"
    if layer.operand is not None:
        text += f", {'times' if layer.operand.product else 'plus'} {layer.operand.tensor}"
    if layer.leaky:
        text += ", other factors below zero"
    if layer.table is not None:
        text += ", a function by table"
    if layer.channels is not None:
        text += f", some channels of {layer.input}"
    if len(layer.weight) != graph.tensors[layer.output].shape[0]:
        text += f", channels {place.first_channel} on of {layer.output}"
    if place.step != (1, 1):
        text += f", every {_shape(place.step)}th pixel from {_shape(place.origin)}"
    return text


def fates(model: onnx.ModelProto, graph: Graph) -> list[tuple[str, str, str]]:
    """[(node, operator, what it became)] in the order of the `onnx.ModelProto` that `graph` is."""
    nodes = nodes_of(model.graph)
    layers: dict[str, list[str]] = {}
    for layer in graph.layers:
        for name in layer.nodes:
            layers.setdefault(name, []).append(_described(layer, graph))
    constant = computed_from_constants(model.graph, nodes)
    # What no quantizer has seen yet is the host's.
    raw = set(graph.input_shapes)
    before, after = (set(part.nodes) if part else set() for part in (graph.head, graph.tail))
    rows = []
    for node in nodes:
        if node.outputs and node.outputs[0] in constant:
            became = "constant"
        elif node.name in layers:
            became = "; ".join([*layers[node.name],
                                *["host, after the output"] * (node.name in after)])
        elif node.name in before:
            raw.update(node.outputs)
            became = "host, before the input"
        elif node.name in after:
            became = "host, after the output"
        elif node.operator in _FORMATS:
            tensor = next((graph.tensors[item] for item in node.outputs if item in graph.tensors),
                          None)
            became = ("number format" if tensor is None else
                      f"tensor {tensor.name}: {tensor.format}, {_shape(tensor.shape)}")
        elif set(node.inputs) & raw:
            raw.update(node.outputs)
            became = "host, before the input"
        elif set(node.outputs) & {item.name for item in graph.decoders}:
            became = "host, after the output"
        else:
            became = "nothing to compute"
        rows.append((node.name, node.operator, became))
    return rows


# The text.

def text_of(found: Check, arch: Arch | None = None) -> str:
    """The text that `systolith check` prints for a `Check`."""
    lines = []
    if found.quantized:
        lines += [f"A float network, looked at as quantized: {found.quantized}.", ""]
        if RANDOM in found.quantized:
            lines += ["That shows what maps and how; it says nothing about accuracy. --calibration "
                      "X.npy takes real data.", ""]
    problems = _alike(found.problems)
    numbers = {problem: n for n, problem in enumerate(problems, 1)}
    rows = [(name, operator, f"refused: problem {numbers[key]}" if became.startswith(_REFUSED) and (
        key := (operator, became.removeprefix(_REFUSED))) in numbers else became)
            for name, operator, became in found.nodes]
    lines += [text_table([["node", "operator", "becomes"], *rows]), ""]
    if found.layers:
        needs = [[name, need, *([] if bits is None else [bits, bits - need])]
                 for name, need, bits in found.layers]
        heading = ["layer", "bits of its sums", *([] if arch is None else ["chip", "slack"])]
        lines += [text_table([heading, *needs], "lrrr"[:len(heading)]), ""]
        if all(bits is None or bits >= need for _, need, bits in found.layers):
            lines += ["Bits come from the layers' actual weights and any activations: within them "
                      "no sum can overflow.", ""]
    for name, (used, there) in found.memories.items():
        lines.append(f"{name} memory: {used:,} of {there:,} words")
    graph = found.graph
    if graph is not None:
        activations, weights = map(", ".join, reader.required_formats(graph))
        lines += [f"{graph.name}: {len(graph.layers)} layers, {graph.macs:,} multiply-accumulates "
                  f"per image, activations in {activations}, weights in {weights}"]
        lines += host_lines(graph.host_work())
        lines += [f"Note: {note}." for note in note_lines(found.notes)]
    if found.problems:
        lines += ["", *(f"{n}. {_told(operator, text, names)}" for n, ((operator, text), names) in
                        enumerate(problems.items(), 1)), ""]
    lines.append(_verdict(found, arch))
    return "\n".join(lines)


def _alike(problems):
    """{(operator, what is wrong): names of the nodes} of messages; operator "" and no names of
    those that are about no node."""
    found: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        match = _NODE.fullmatch(problem)
        key = (match["operator"], match["text"]) if match else ("", problem)
        found.setdefault(key, []).extend([match["name"]] if match else [])
    return found


def _told(operator, text, names):
    if not names:
        return text
    more = len(names) - _NAMED
    return (f"node{'s' * (len(names) > 1)} {', '.join(names[:_NAMED])}"
            f"{f' and {more} more' if more > 0 else ''} ({operator}): {text}")


def _verdict(found, arch):
    if found.maps:
        return "It maps" + (" on a chip of these formats." if arch is None else
                            f" on {arch.name}.")
    count = len(found.problems)
    text = f"It does not map{'' if arch is None else f' on {arch.name}'}: " + (
        "1 problem." if count == 1 else f"{count} problems.")
    if found.changes:
        changes = " ".join(f"{key}={str(value).lower() if isinstance(value, bool) else value}"
                           for key, value in found.changes.items())
        text += (f" {'With' if not found.open else 'Part of it goes away with'} --set {changes}"
                 f"{' it maps.' if not found.open else '; then remains: '}")
        text += " ".join(found.open)
    return text
