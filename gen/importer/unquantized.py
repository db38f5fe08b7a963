"""A quantized network without rounding: what it would compute in float32 with its weights.
Quantizers become Clips, since their limits may stand for a Relu that a tool merged into the
quantizer."""

import numpy as np
import onnx
from onnx import helper, numpy_helper
from systolith.hw.formats import Float, parse

from .checks import expanded
from .folding import computed_from_constants
from .run import FOREIGN, Evaluator
from .types import format_of

__all__ = ["unquantized"]

#: What computes with codes, whatever they stand for.
_ON_CODES = {"ConvInteger", "MatMulInteger"}
#: Quantizers that may be more than that: signs, counts of thresholds.
_KEPT = {"BipolarQuant", "MultiThreshold", "Trunc"}


def unquantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without rounding of activations. Tensors keep their names; those of codes hold real
    numbers. Signs, thresholds and truncations stay, since networks with them compute nothing useful
    without, and so do codes for operators that compute with codes (ConvInteger, MatMulInteger)."""
    return _Unquantized(model).model()


class _Unquantized:
    def __init__(self, source):
        self.source, graph = source, source.graph
        self.constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        self.inputs = {item.name for item in graph.input} - set(self.constants)
        nodes = expanded(graph)
        known = set(self.constants) | computed_from_constants(graph, nodes)
        self.kept = {name for node in graph.node if node.op_type in _ON_CODES
                     for name in node.input}
        self.evaluator, self.scales, self.nodes = Evaluator(list(source.opset_import)), {}, []
        for node in nodes:
            if node.operator != "BiasOfProduct" and node.outputs[0] in known:
                self._compute(node)
            else:
                self._add(node)

    def _compute(self, node):
        inputs = [self.constants[name] if name else None for name in node.inputs]
        self.constants.update(zip(filter(None, node.outputs), map(
            np.asarray, self.evaluator.run(_copy(node), inputs)), strict=True))

    def _add(self, node):
        first = node.inputs[0] if node.inputs else ""
        moved = not self.kept & {first, node.outputs[0]}
        if node.operator == "BiasOfProduct":
            steps, *scales = (self.constants[name].astype(np.float64) for name in node.inputs)
            bias = steps * scales[0].reshape(-1) * scales[1].reshape(-1)
            self.constants[node.outputs[0]] = bias.astype(np.float32)
        elif moved and node.operator == "QuantizeLinear":
            self._clip(node, *self._code_limits(node))
        elif moved and node.operator in FOREIGN - _KEPT:
            self._clip(node, *self._number_limits(node))
        elif moved and node.operator == "Clip" and first in self.scales:
            # Of codes, as Brevitas narrows them.
            scale, zero = self.scales[first]
            self.scales[node.outputs[0]] = scale, zero
            self._clip(node, *((self.constants[name].astype(np.float64) - zero) * scale
                               for name in node.inputs[1:3]))
        elif moved and node.operator == "DequantizeLinear" and first not in self.inputs:
            self.nodes.append(helper.make_node("Identity", [first], node.outputs[:1],
                                               node.outputs[0]))
        else:
            self.nodes.append(_copy(node))

    def _clip(self, node, low, high):
        names = [f"{node.outputs[0]}/{end}" for end in ("low", "high")]
        for name, limit in zip(names, (low, high), strict=True):
            self.constants[name] = np.array(np.reshape(limit, -1)[0], np.float32)
        self.nodes.append(helper.make_node("Clip", [node.inputs[0], *names], node.outputs[:1],
                                           node.outputs[0]))

    def _code_limits(self, node):
        """The range of a QuantizeLinear."""
        scale = self.constants[node.inputs[1]].astype(np.float64)
        zero = self.constants[node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] else (
            np.zeros((), np.uint8))
        low, high = _ends(zero.dtype)
        zero = zero.astype(np.float64)
        self.scales[node.outputs[0]] = scale, zero
        return (low - zero) * scale, (high - zero) * scale

    def _number_limits(self, node):
        """The range of one of QONNX's quantizers."""
        numbers = [self.constants[name] for name in node.inputs[1:] if name]
        scale = np.asarray(numbers[0], np.float64)
        if node.operator == "FormatQuant":
            form = parse(node.attributes["format"])
            low, high = form.value_range
            return low * scale, high * scale
        if node.operator == "FloatQuant":
            exponent, mantissa, bias = (int(np.reshape(item, -1)[0]) for item in numbers[1:4])
            form = Float(exponent, mantissa, bias)
            top = float(form.decode(form.max_code))
            top = min([top, *(float(np.reshape(item, -1)[0]) for item in numbers[4:5])])
            return -top * scale, top * scale
        zero, bits = (float(np.reshape(item, -1)[0]) for item in numbers[1:3])
        narrow = node.attributes.get("narrow", 0)
        if not node.attributes.get("signed", 1):
            return -zero * scale, (2.0 ** bits - 1 - narrow - zero) * scale
        return (narrow - 2.0 ** (bits - 1) - zero) * scale, (2.0 ** (bits - 1) - 1 - zero) * scale

    def model(self):
        graph = self.source.graph
        used = {name for node in self.nodes for name in node.input}
        made = helper.make_graph(
            self.nodes, graph.name, [item for item in graph.input if item.name in self.inputs],
            [helper.make_empty_tensor_value_info(item.name) for item in graph.output],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()
             if name in used])
        return helper.make_model(made, opset_imports=list(self.source.opset_import),
                                 ir_version=self.source.ir_version)


def _ends(kind):
    """The smallest and the largest number of a type of codes."""
    form = format_of(kind)
    return (np.iinfo(kind).min, np.iinfo(kind).max) if form is None else form.value_range


def _copy(node):
    """The node as it stood in the model, or as `expand` made it."""
    if node.proto.op_type == node.operator:
        copy = onnx.NodeProto.FromString(node.proto.SerializeToString())
    else:
        copy = helper.make_node(node.operator, node.inputs, node.outputs, domain=node.domain,
                                **node.attributes)
    copy.name = node.outputs[0]
    return copy
