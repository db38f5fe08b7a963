"""What a network's nodes cost, and which nodes depend on which: what decides whether a part of a
network is so small that the host can compute it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod

import onnx
from onnx import ModelProto, TensorProto, helper
from systolith.gen.importer.file import QONNX
from systolith.gen.importer.folding import computed_from_constants
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.rows import Role, has

__all__ = ["Cost", "Work", "is_layer"]

#: Operators with multiply-accumulates that the chip does not have.
_OTHERS = {"Attention", "DeformConv", "Einsum", "FusedConv", "FusedGemm", "FusedMatMul", "GRU",
           "LSTM", "MultiHeadAttention", "QAttention", "RNN"}
_RECURRENT = {"GRU", "LSTM", "RNN"}
#: Operators that weights may pass between their quantizer and their layer.
_MOVES = Role.CAST | Role.SAME | Role.VIEW | Role.TURN
#: Constants with more elements than this hold no sizes that shape inference could use.
_MANY = 1024


def is_layer(node: Node) -> bool:
    """Whether a node has multiply-accumulates that `Cost` counts."""
    return node.operator in _OTHERS or has(node.operator, Role.LINEAR)


@dataclass
class Cost:
    """What some nodes compute for one image: multiply-accumulates (`macs`), those of layers with
    quantized weights among them (`quantized`), and the number of these layers' weights."""
    macs: int = 0
    quantized: int = 0
    weights: int = 0

    def __add__(self, other):
        return Cost(self.macs + other.macs, self.quantized + other.quantized,
                    self.weights + other.weights)


class Work:
    """Costs and dependencies of the nodes of a network.

    Parameters
    ----------
    model : onnx.ModelProto
    nodes : list of Node
        All of its nodes, each after those that it reads, QLinear operators taken apart.
    quantized : bool
        False: a float network, whose layers with constant weights will be quantized.

    Attributes
    ----------
    inputs : set of str
        The model's inputs without those that have an initializer.
    makers : {tensor: the Node that gives it}
    readers : {tensor: list of the Nodes that read it}
    """

    #: The most that the host may compute: a share of the quantized layers, measured by
    #: multiply-accumulates or by weights, and a share of all multiply-accumulates.
    MOST_QUANTIZED, MOST = 0.1, 0.5

    def __init__(self, model: ModelProto, nodes: list[Node], quantized: bool = True):
        self.model, self.nodes, self.quantized = model, nodes, quantized
        self.inputs = {item.name for item in model.graph.input} - {
            item.name for item in model.graph.initializer}
        self.makers = {name: node for node in nodes for name in node.outputs if name}
        self.readers: dict[str, list] = {}
        for node in nodes:
            for name in node.inputs:
                if name:
                    self.readers.setdefault(name, []).append(node)

    @cached_property
    def kinds(self) -> dict[str, tuple]:
        """{tensor: (ONNX element type, sizes for one image, None where unknown)}"""
        graph = self.model.graph
        inputs, constants = [], []
        names = {item.name for item in graph.initializer}
        for item in graph.input:
            if item.name not in names:
                item = type(item).FromString(item.SerializeToString())
                sizes = item.type.tensor_type.shape.dim
                if sizes and sizes[0].dim_value < 1:
                    sizes[0].dim_value = 1
                inputs.append(item)
        for item in graph.initializer:
            if prod(item.dims) <= _MANY:
                constants.append(item)
            else:
                inputs.append(helper.make_tensor_value_info(item.name, item.data_type, item.dims))
        nodes = [proto for node in self.nodes if (proto := _for_shapes(node)) is not None]
        model = helper.make_model(
            helper.make_graph(nodes, "shapes", inputs, [], constants), ir_version=10,
            opset_imports=[item for item in self.model.opset_import
                           if item.domain in ("", "ai.onnx")])
        try:
            model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        except Exception:
            # It raises whatever its C++ code meets; what is not known is not counted.
            return {}
        found: dict[str, tuple] = {item.name: (item.data_type, list(item.dims))
                                   for item in graph.initializer}
        for item in [*model.graph.input, *model.graph.value_info]:
            kind = item.type.tensor_type
            sizes = [size.dim_value if size.HasField("dim_value") else None
                     for size in kind.shape.dim] if kind.HasField("shape") else None
            found[item.name] = kind.elem_type, sizes
        return found

    def element_type(self, tensor: str) -> int:
        """The ONNX element type of a tensor; float32 where it is not known."""
        return self.kinds.get(tensor, (0, None))[0] or TensorProto.FLOAT

    def sizes(self, tensor: str) -> list[int] | None:
        """The sizes of a tensor for one image; None where one of them is not known."""
        sizes = self.kinds.get(tensor, (0, None))[1]
        return None if sizes is None or None in sizes else sizes

    def cost(self, nodes: Iterable[Node]) -> Cost:
        """The `Cost` of some nodes."""
        return sum((self._cost(node) for node in nodes if is_layer(node)), Cost())

    def _cost(self, node):
        data, weight, result = (self.sizes(name) for name in (
            *node.inputs[:2], *[""] * (2 - len(node.inputs[:2])), node.outputs[0]))
        macs = 0
        if node.operator in _RECURRENT and data:
            weights = [self.sizes(name) for name in node.inputs[1:3]]
            macs = prod(data[:2]) * sum(prod(item) for item in weights if item)
        elif node.operator == "ConvTranspose" and data and weight:
            macs = prod(data) * prod(weight) // max(weight[0], 1)
        elif "Conv" in node.operator and result and weight:
            macs = prod(result) * prod(weight) // max(weight[0], 1)
        elif result and data:
            inner = data[0] if node.attributes.get("transA") else data[-1] if data else 1
            macs = prod(result) * inner
        if not self._is_quantized(node):
            return Cost(macs)
        return Cost(macs, macs, prod(weight) if weight else 0)

    def _is_quantized(self, node):
        """Whether a layer's second operand, its weights, has passed a quantizer."""
        name = node.inputs[1] if len(node.inputs) > 1 else ""
        while name in self.makers and has(self.makers[name].operator, _MOVES):
            name = self.makers[name].inputs[0]
        if not self.quantized:
            return name not in self.makers
        return name in self.makers and has(self.makers[name].operator, Role.QUANTIZER)

    @cached_property
    def total(self) -> Cost:
        """The `Cost` of the whole network."""
        return self.cost(self.nodes)

    def dependents(self, nodes: Iterable[Node]) -> list[Node]:
        """Some nodes and all nodes that depend on them, in the network's order."""
        found, waiting = set(), list(nodes)
        while waiting:
            node = waiting.pop()
            if id(node) not in found:
                found.add(id(node))
                waiting += [item for name in node.outputs for item in self.readers.get(name, ())]
        return [node for node in self.nodes if id(node) in found]

    def needed(self, tensors: Iterable[str]) -> list[Node]:
        """The nodes that some tensors depend on, in the network's order."""
        wanted, found = set(tensors), list[Node]()
        for node in reversed(self.nodes):
            if wanted & set(node.outputs):
                found.insert(0, node)
                wanted.update(node.inputs)
        return found

    def crossing(self, nodes: list[Node]) -> list[str]:
        """The tensors that enter a set of nodes: read by one of them and given by none, constants
        left out."""
        inside = {name for node in nodes for name in node.outputs}
        return list(dict.fromkeys(
            name for node in nodes for name in node.inputs
            if name and name not in inside and name not in self.constants))

    @cached_property
    def constants(self) -> set[str]:
        """Names of the tensors that depend on initializers alone."""
        return computed_from_constants(self.model.graph, self.nodes)

    def is_small(self, nodes: list[Node]) -> bool:
        """Whether some nodes are so little of the network's work that the host can compute them
        (`MOST_QUANTIZED`, `MOST`); False where the sizes of a layer among them are not known."""
        if any(self.sizes(node.outputs[0]) is None for node in nodes if is_layer(node)):
            return False
        part, whole = self.cost(nodes), self.total
        return part.macs <= self.MOST * whole.macs and (
            part.quantized <= self.MOST_QUANTIZED * whole.quantized
            or part.weights <= self.MOST_QUANTIZED * whole.weights)


def _for_shapes(node):
    """A NodeProto whose shapes ONNX infers as the node's; None where ONNX has no such operator."""
    if node.operator == "BiasOfProduct":
        return helper.make_node("Cast", node.inputs[:1], node.outputs, to=TensorProto.FLOAT)
    if node.domain in QONNX:
        return helper.make_node("Identity", node.inputs[:1], node.outputs[:1])
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.proto is not None and node.operator == node.proto.op_type:
        return node.proto
    return helper.make_node(node.operator, node.inputs, node.outputs, **node.attributes)
