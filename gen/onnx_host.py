"""The network's end on the host: Softmax, ArgMax, TopK, functions of sums that nothing quantizes,
and whatever follows them."""

from dataclasses import dataclass

import numpy as np
from onnx import helper

from ..hw.formats import Bipolar
from ..sim.tail import Tail
from .binary import never_zero
from .onnx_functions import FUNCTIONS, quantized_function
from .onnx_smooth import applied
from .onnx_values import Constant, HostInput, Linear, QuantizedConstant, Value

__all__ = ["STARTS", "HostResult", "HostTail", "behind"]

#: Operators that only the host computes, and their attributes.
STARTS = {
    "ArgMax": {"axis", "keepdims", "select_last_index"},
    "ArgMin": {"axis", "keepdims", "select_last_index"},
    "Hardmax": {"axis"}, "LogSoftmax": {"axis"}, "Softmax": {"axis"},
    "TopK": {"axis", "largest", "sorted"},
}
#: What the chip does with a function of sums.
_ON_CHIP = {"IntQuant", "MaxPool", "Quant", "QuantizeLinear"}
#: What the host computes at the network's end, too, where a Transpose of pixels stands in front:
#: moves, what detectors make boxes with, and quantizers that stand behind any of them.
_MOVES = {"Add", "Concat", "DequantizeLinear", "Div", "Exp", "Flatten", "Gather", "Identity", "Mul",
          "QuantizeLinear", "Reshape", "Sigmoid", "Slice", "Split", "Squeeze", "Sub", "Transpose",
          "Unsqueeze"}
#: Layers: the host computes none.
_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


@dataclass
class HostResult:
    """A tensor that the host computes; `reason` says why, in words about its reader. Should a
    quantizer follow, it is the chip's as `value`, if there is one."""
    name: str
    reason: str
    value: Value | None = None


def _moves_pixels(shape, node):
    """Whether a Concat joins other axes than channels, or a Transpose of a map [C, H, W] or [C, W],
    or of anchors [A, B, H, W], changes more than the order of channels."""
    if node.operator == "Concat":
        return node.attributes.get("axis", 1) % (len(shape) + 1) > 1
    order = list(node.attributes.get("perm", range(len(shape), -1, -1)))
    if len(shape) == 4:
        return order[3:] != [3, 4]
    sizes = [n for n, size in enumerate([2, *shape]) if size != 1]
    return [n for n in order if n in sizes] != sizes and len(shape) < 4


def behind(nodes, constant):
    """Names of tensors that operators of `STARTS` give or that depend on them."""
    found = set()
    for node in nodes:
        if node.outputs and node.outputs[0] not in constant and (
                node.operator in STARTS or found & set(node.inputs)):
            found.update(node.outputs)
    return found


class HostTail:
    """Collects the nodes that the host computes.

    Parameters
    ----------
    model : onnx.ModelProto
        The network.
    """

    def __init__(self, model):
        self.opsets = model.opset_import
        self.names, self.nodes = [item.name for item in model.graph.output], []
        self.last = _last_moves(model.graph)
        self.constants, self.cuts = {}, {}

    def take(self, builder, node, inputs):
        """HostResults for the node's outputs; None where it is the chip's. `inputs` are changed to
        what the chip's operator reads; `builder` has the tensors that there are."""
        there = [item.value if isinstance(item, HostResult) else item for item in inputs]
        if node.operator in _ON_CHIP and isinstance(there[0], Value):
            inputs[:] = there
            return None
        reason = next((item.reason for item in inputs if isinstance(item, HostResult)), None)
        if reason is None:
            reason = _reason(builder, node, inputs, set(node.outputs) <= self.last)
        if reason is None:
            return None
        if node.operator in _LAYERS or node.domain not in ("", "ai.onnx"):
            node.fail(reason)
        for name, item in zip(node.inputs, inputs, strict=True):
            if isinstance(item, Constant):
                array = item.array
                self.constants[name] = array.astype(np.float32) if array.dtype == object else array
            elif isinstance(item, QuantizedConstant):
                self.constants[name] = item.floats
            elif isinstance(item, HostInput):
                node.fail(f"reads the input {name!r} and what the host computes at the end; only "
                          "what the chip gives can be read there")
            elif isinstance(item, Value):
                self.cuts[name] = item
        self.nodes.append(node)
        value = None if any(isinstance(item, HostResult) and item.value is None
                            for item in inputs) else applied(node, there)
        return [HostResult(name, reason, value) for name in node.outputs]

    def finish(self, builder, wanted, producers):
        """The `Tail` that gives the outputs `wanted`; decoders are added for what it reads."""
        if not wanted:
            return None
        needed, kept = set(wanted), []
        for node in reversed(self.nodes):
            if needed & set(node.outputs):
                kept.insert(0, node)
                needed.update(item for item in node.inputs if item)
        there = {item.name for item in builder.decoders}
        cuts = [name for name in self.cuts if name in needed]
        for name in cuts:
            if name not in there:
                builder.output(self.cuts[name], name, producers[name])
        graph = helper.make_graph(
            [helper.make_node(node.operator, node.inputs, node.outputs, node.name,
                              **node.attributes) for node in kept], "tail",
            [helper.make_tensor_value_info(name, 1, None) for name in cuts],
            [helper.make_empty_tensor_value_info(name) for name in wanted],
            [helper.make_tensor(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape,
                                array.tobytes(), raw=True)
             for name, array in self.constants.items() if name in needed])
        model = helper.make_model(graph, opset_imports=self.opsets)
        return Tail(model, self.names, [node.name for node in kept])


def _last_moves(graph):
    """Names of tensors that a Transpose or Concat gives and that only the host's nodes read."""
    tail = _MOVES | set(STARTS)
    chip = {name for node in graph.node if node.op_type.removeprefix("QLinear") not in tail
            for name in node.input}
    for node in reversed(graph.node):
        if chip & set(node.output):
            chip.update(node.input)
    return {name for node in graph.node if node.op_type in ("Concat", "Transpose")
            for name in node.output if name not in chip}


def _reason(builder, node, inputs, last):
    """Why the host must compute a node, or None; `last`: only the host reads its result."""
    values = [item for item in inputs if isinstance(item, (Value, HostInput))]
    if node.operator in STARTS and values:
        if isinstance(values[0], HostInput):
            node.fail("reads the network's input; only what the chip gives can be read there")
        return (f"reads the result of {node.name!r} ({node.operator}), which the host computes "
                "behind the chip; layers can only stand in front of it")
    if last and isinstance(values[0], Value) and _moves_pixels(values[0].shape, node):
        return (f"reads the result of {node.name!r} ({node.operator}), which the host computes "
                "behind the chip")
    linear = [item.linear for item in values if isinstance(item, Value)]
    square = (node.operator == "Mul" and len(linear) == 2 and isinstance(linear[0], Linear)
              and linear[0] is linear[1])
    if (node.operator == "Sign" and isinstance(linear[0], Linear) and isinstance(
            linear[0].format, Bipolar) and values[0].slope is None and values[0].low is None
            and values[0].high is None):
        if never_zero(values[0], builder.tensors[values[0].source].format):
            return None
        return (f"reads the result of {node.name!r} (Sign), which makes 0 of 0, and "
                f"{values[0].nodes[-1]!r} can give that: a binary format has no 0; say which sign "
                "it has by Where(x >= 0, 1, -1) or BipolarQuant, or let an odd number of products "
                "or a bias keep sums from 0")
    if square or (node.operator in FUNCTIONS and isinstance(values[0], Value)
                  and not quantized_function(values[0])):
        return (f"reads the result of {node.name!r} ({node.operator}), a function of what "
                f"{values[0].nodes[-1]!r} gives; put a quantizer in front of {node.name!r}, so "
                "that it is a function of codes, or leave it to the network's end")
    return None
