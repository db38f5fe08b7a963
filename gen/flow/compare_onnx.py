"""Layer-by-layer comparison of the golden model with the quantized model in ONNX Runtime and with
the float network, which shows where accuracy is lost."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from systolith.gen.importer.file import read
from systolith.gen.importer.rows import Role, has
from systolith.gen.importer.run import Runner
from systolith.gen.importer.unquantized import unquantized
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.hw.spec.arch import Arch
from systolith.sim.model.effort import LayerEffort
from systolith.sim.model.graph import Graph

__all__ = ["LayerComparison", "compare_with_onnx"]

#: An ONNX file, or what it holds.
Model = Path | str | onnx.ModelProto
#: Images that run at a time.
_BATCH = 16
#: Quantizers whose results are not what they read, rounded.
_OTHERS = ("MultiThreshold", "Trunc")


@dataclass
class _Sums:
    """Squares of a signal and of what differs from it."""
    signal: float = 0.0
    noise: float = 0.0

    def add(self, exact, found):
        exact, found = (np.asarray(item, np.float64).reshape(-1) for item in (exact, found))
        self.signal += float(np.square(exact).sum())
        self.noise += float(np.square(exact - found).sum())

    @property
    def decibels(self):
        """Signal to noise in dB; None where there is no difference."""
        if not self.noise:
            return None
        return float(10 * np.log10(max(self.signal, 1e-300) / self.noise))


@dataclass
class _Row:
    """Figures of one tensor of the golden model."""
    tensor: str
    layers: list
    nodes: list
    format: str
    quantized_name: str | None
    float_name: str | None = None
    elements: int = 0
    codes: int = 0
    steps: float = 0.0
    to_quantized: _Sums = field(default_factory=_Sums)
    to_float: _Sums = field(default_factory=_Sums)
    between: _Sums = field(default_factory=_Sums)

    def data(self):
        known, real = self.quantized_name is not None, self.float_name is not None
        return {
            "layer": ", ".join(self.layers) or "(input)", "nodes": " ".join(self.nodes),
            "tensor": self.tensor, "format": self.format,
            "quantized_tensor": self.quantized_name, "float_tensor": self.float_name,
            "elements": self.elements, "codes_differing": self.codes if known else None,
            "largest_steps": self.steps if known else None,
            "golden_to_quantized_db": self.to_quantized.decibels if known else None,
            "golden_to_float_db": self.to_float.decibels if real else None,
            "quantized_to_float_db": self.between.decibels if known and real else None}


@dataclass
class LayerComparison:
    """What `compare_with_onnx` found.

    Attributes
    ----------
    rows : list of dict
        One for each tensor of the golden model, inputs first: `layer` (those that write it),
        `nodes`, `tensor`, `format`, `quantized_tensor` and `float_tensor` (its names in the two
        models, None where it has none), `elements`, `codes_differing`, `largest_steps` (golden
        model against quantized model), and the signal to noise ratios `golden_to_quantized_db`,
        `golden_to_float_db`, `quantized_to_float_db`: None where there is no difference, or no
        such tensor.
    images : int
    quantized_by, float_by : str
        Who computed.
    float_source : str
        Where the float network came from.
    answers : list of (output, str)
        For outputs [N, K]: how often the largest number stands at the same place.
    arithmetic : tuple of LayerEffort
        What the network is; none: not said.
    """
    rows: list
    images: int
    quantized_by: str
    float_by: str
    float_source: str
    answers: list
    arithmetic: tuple[LayerEffort, ...] = ()


def compare_with_onnx(graph: Graph, arch: Arch, model: Model, inputs: Any,
                      float_model: Model | None = None, float_source: str = "", *,
                      progress: Reporter = SILENT) -> LayerComparison:
    """Compare every tensor of a `Graph` with two ONNX models.

    Parameters
    ----------
    graph : Graph
        As `onnx_in.load` makes it of `model`.
    arch : Arch or None
        The chip, for saturating accumulators.
    model : path or onnx.ModelProto
        The quantized model.
    inputs : array or dict of arrays
        [N, ...], in the model's own layout and units.
    float_model : path or onnx.ModelProto or None
        None: the quantized model without its quantizers.
    float_source : str
        What the float model is called.

    Raises UserError for inputs that do not fit, and where a model does not run.
    """
    own = read(model)
    if float_model is None:
        real, float_source = unquantized(own), "the quantized model without its quantizers"
    else:
        real = read(float_model)
    feeds = _feeds(own, inputs)
    _check_same_inputs(own, real, float_source)
    rows = _rows(graph)
    known = _tensors(real)
    makers = {name: node for node in own.graph.node for name in node.output}
    for row in rows:
        if row.quantized_name is not None:
            row.float_name = _after_relu(
                _float_name(row.quantized_name, makers, known), real, makers)
    ends = [item.name for item in graph.decoders]
    quantized = Runner(own, _once([*(row.quantized_name for row in rows), *ends]))
    exact = Runner(real, _once([*(row.float_name for row in rows),
                                *(name for name in ends if name in known)]))
    images = len(next(iter(feeds.values())))
    fixed = _fixed_batch(own) or _fixed_batch(real)
    answers: dict[str, list] = {}
    with progress.step(f"Comparing with {quantized.by} and float, {images:,} images",
                       images) as done:
        for start in range(0, images, fixed or _BATCH):
            batch = {name: array[start:start + (fixed or _BATCH)] for name, array in feeds.items()}
            count = len(next(iter(batch.values())))
            codes = graph.run(_codes(graph, batch), arch)
            theirs, reals = (_run(runner, batch, fixed, count) for runner in (quantized, exact))
            for row in rows:
                _add(row, graph, codes, theirs, reals, count)
            found = graph.decode_outputs({name: codes[name] for name in graph.outputs})
            _answers(answers, found if isinstance(found, dict) else {ends[0]: found}, theirs, reals)
            done(start + count)
    return LayerComparison([row.data() for row in rows], images, quantized.by, exact.by,
                           float_source, _shown(answers, images))


def _once(names):
    return list(dict.fromkeys(name for name in names if name is not None))


def _feeds(model, inputs):
    """{input: array of the model's own type}."""
    constants = {item.name for item in model.graph.initializer}
    own = [item for item in model.graph.input if item.name not in constants]
    if not isinstance(inputs, dict):
        inputs = {item.name: inputs for item in own[:1]}
    missing = [item.name for item in own if item.name not in inputs]
    if missing:
        raise UserError(f"inputs do not fit the network: {', '.join(missing)} is missing")
    return {item.name: np.asarray(inputs[item.name]).astype(
        helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type)) for item in own}


def _check_same_inputs(model, real, source):
    names = [{item.name for item in one.graph.input}
             - {item.name for item in one.graph.initializer} for one in (model, real)]
    if names[0] != names[1]:
        raise UserError(f"{source}: the float network's inputs must be those of the quantized one, "
                        f"{', '.join(sorted(names[0]))}, not {', '.join(sorted(names[1]))}")


def _codes(graph, batch):
    try:
        return graph.encode_inputs(batch if len(batch) > 1 else next(iter(batch.values())))
    except ValueError as error:
        raise UserError(f"inputs do not fit the network: {error}") from None


def _rows(graph):
    rows = []
    raw = {item.tensor: item.name for item in graph.decoders}
    for name in [*(item.name for item in graph.inputs),
                 *dict.fromkeys(layer.output for layer in graph.layers)]:
        tensor, origin = graph.tensors[name], graph.origins.get(name)
        layers = [layer for layer in graph.layers if layer.output == name]
        nodes = _once(node for layer in layers for node in layer.nodes)
        theirs = raw.get(name) if tensor.format is None else origin and origin.name
        rows.append(_Row(name, [layer.name for layer in layers], nodes,
                         str(tensor.format or "sums"), theirs))
    return rows


def _tensors(model):
    """Names of a model's float tensors that are computed, inputs among them."""
    constants = {item.name for item in model.graph.initializer}
    return {item.name for item in model.graph.input
            if item.type.tensor_type.elem_type == TensorProto.FLOAT} - constants | {
        name for node in model.graph.node for name in node.output if name}


def _float_name(name, makers, known):
    """The float network's tensor for one of the quantized network: the one of its name, or the one
    that its quantizer reads, or the one whose name is what precedes "quantized"."""
    while name is not None:
        if name in known:
            return name
        for ending in ("_quantized", "_QuantizeLinear_Output", "_DequantizeLinear_Output",
                       "_QuantizeLinear_Input", "_real"):
            if name.endswith(ending) and name.removesuffix(ending) in known:
                return name.removesuffix(ending)
        node = makers.get(name)
        name = node.input[0] if node is not None and node.op_type not in _OTHERS and (
            has(node.op_type, Role.QUANTIZER | Role.SAME)) else None
    return None


def _after_relu(name, real, makers):
    """The output of the Relu that reads tensor `name`, where the quantized model has made the Relu
    a part of a quantizer; else `name`."""
    readers = [node for node in real.graph.node if name in node.input]
    if len(readers) == 1 and readers[0].op_type in ("Clip", "Relu") and (
            readers[0].output[0] not in makers):
        return readers[0].output[0]
    return name


def _fixed_batch(model):
    """The number of images that a model insists on, or 0."""
    constants = {item.name for item in model.graph.initializer}
    return max((item.type.tensor_type.shape.dim[0].dim_value for item in model.graph.input
                if item.name not in constants and item.type.tensor_type.shape.dim), default=0)


def _run(runner, batch, fixed, count):
    if fixed and count < fixed:
        batch = {name: np.concatenate([array, np.repeat(array[-1:], fixed - count, axis=0)])
                 for name, array in batch.items()}
    return {name: array[:count] for name, array in runner.run(batch).items()}


def _add(row, graph, codes, theirs, reals, count):
    """Take one batch into a row."""
    tensor, origin = graph.tensors[row.tensor], graph.origins.get(row.tensor)
    mine = np.asarray(codes[row.tensor])
    row.elements += mine.size
    if row.quantized_name is None:
        return
    other = np.asarray(theirs[row.quantized_name], np.float64)
    if tensor.format is None:
        decoder = next(item for item in graph.decoders if item.tensor == row.tensor)
        ours, found = decoder.decode(mine, tensor).reshape(-1), other.reshape(-1)
        unit = np.broadcast_to(np.reshape(tensor.scale, (-1, 1, 1)), mine.shape).reshape(-1)
        steps = np.abs(ours - found) / unit
        # Sums are exact here and float32 there.
        close = np.abs(ours - found) <= 1e-5 * np.abs(found).max(initial=0)
        steps = np.where(close, 0, steps)
    else:
        if origin.order is not None:
            other = other.reshape(len(mine), -1)[:, np.argsort(origin.order)]
        image = np.rint((other.reshape(mine.shape) - origin.offset) / origin.gain)
        value = np.ldexp(image, tensor.format.exponent)
        steps = np.abs(tensor.format.ordered(tensor.format.encode(value))
                       - tensor.format.ordered(mine))
        ours = tensor.real(mine).reshape(-1)
        found = ((value - tensor.zero_point) * tensor.scale).reshape(-1)
    row.codes += int((steps > 0.5).sum())
    row.steps = max(row.steps, float(steps.max(initial=0)))
    row.to_quantized.add(found, ours)
    if row.float_name is not None:
        exact = np.asarray(reals[row.float_name])
        if exact.size != ours.size or exact.dtype.kind != "f":
            row.float_name = None
            return
        row.to_float.add(exact, ours)
        row.between.add(exact, found)


def _answers(answers, found, theirs, reals):
    for name, array in found.items():
        if array.ndim != 2 or array.shape[1] < 2:
            continue
        for who, other in (("the quantized model", theirs), ("the float network", reals)):
            if name in other and other[name].shape == array.shape:
                same = int((array.argmax(1) == other[name].argmax(1)).sum())
                answers[name, who] = answers.get((name, who), 0) + same


def _shown(answers, images):
    return [(name, f"the largest number of output {name!r} stands where {who} has it for "
                   f"{count:,} of {images:,} images ({100 * count / images:.1f} %)")
            for (name, who), count in answers.items()]


