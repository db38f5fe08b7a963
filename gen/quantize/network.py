"""A float ONNX network prepared for quantization: constants computed, batch normalization and other
factors folded into the layers before them, dense layers as Gemm.

Tensors keep their names: a tensor of the result has the name that it has in the user's model.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter
from systolith.gen.importer.checks import Refuse, checked_nodes, first_quantizer, raise_error
from systolith.gen.importer.file import read
from systolith.gen.importer.half import as_float32
from systolith.gen.importer.nodes import nodes_of
from systolith.gen.importer.rows import Role, has
from systolith.gen.importer.run import Evaluator
from systolith.gen.importer.sizes import with_known_sizes
from systolith.gen.importer.spelling import in_one_spelling
from systolith.gen.kit.errors import UserError

__all__ = ["FloatNetwork", "attribute", "output_axis", "read_float", "set_parameters"]

#: The first opset that has scales per channel.
_OPSET = 13


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of a node's attribute; `default` where the node does not have it."""
    for item in node.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return default


def output_axis(node: onnx.NodeProto) -> int:
    """The axis of a linear node's weights along which its output channels lie."""
    if node.op_type == "ConvTranspose":
        return 1
    return 1 if node.op_type == "MatMul" else 0


@dataclass
class FloatNetwork:
    """A float network.

    Attributes
    ----------
    name : str
    nodes : list of NodeProto
        Each after those that it reads.
    constants : {tensor: array}
    inputs, outputs : list of ValueInfoProto
        Of the whole network.
    opsets : list of OperatorSetIdProto
    before, after : set of str
        Tensors that only the host can compute, before and after the chip.
    """
    name: str
    nodes: list
    constants: dict
    inputs: list
    outputs: list
    opsets: list
    before: set = field(default_factory=set)
    after: set = field(default_factory=set)

    def producer(self, tensor: str) -> onnx.NodeProto | None:
        """The node that gives a tensor; None for inputs and constants."""
        return next((node for node in self.nodes if tensor in node.output), None)

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor."""
        return [node for node in self.nodes if tensor in node.input]

    def alone(self, tensor: str) -> onnx.NodeProto | None:
        """The node that reads a tensor, if it is the only one and the tensor is no output of the
        network; else None."""
        uses = [node for node in self.nodes for name in node.input if name == tensor]
        outputs = [item for item in self.outputs if item.name == tensor]
        return uses[0] if len(uses) == 1 and not outputs else None

    def new_name(self, name: str) -> str:
        """`name`, or, where a tensor has it, a name like it that none has."""
        taken = {*self.constants, *(item.name for item in self.inputs),
                 *(name for node in self.nodes for name in node.output)}
        while name in taken:
            name += "_"
        return name

    def model(self) -> onnx.ModelProto:
        """The network as a model."""
        used = {name for node in self.nodes for name in node.input}
        graph = helper.make_graph(
            self.nodes, self.name, self.inputs, self.outputs,
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()
             if name in used])
        version = max(item.version for item in self.opsets if item.domain in ("", "ai.onnx"))
        return helper.make_model(graph, opset_imports=self.opsets, producer_name="systolith",
                                 ir_version=10 if version > 20 else 8)


def read_float(path: str | Path | onnx.ModelProto, opset: int = _OPSET,
               refuse: Refuse = raise_error) -> FloatNetwork:
    """The `FloatNetwork` of an ONNX file or model, converted to at least the opset `opset`.

    Raises UserError where the file is damaged, the network is quantized already, or an operator in
    its middle is known to neither chip nor host. With a `refuse` that does not raise (as of
    `checks.checked_nodes`), such operators stay in the network.
    """
    model = with_known_sizes(read(path))
    quantizer = first_quantizer(model)
    if quantizer is not None:
        raise UserError(f"node {quantizer.name!r} ({quantizer.op_type}): the network is quantized "
                        "already; give the float network, or build this one without calibration "
                        "data")
    # The converter writes Shape, too.
    model = with_known_sizes(_converted(model, opset))
    model = as_float32(model, nodes_of(model.graph))
    checked, before, after = checked_nodes(model, refuse)
    graph = model.graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    inputs = [item for item in graph.input if item.name not in constants]
    for item in inputs:
        if item.type.tensor_type.elem_type != TensorProto.FLOAT:
            kind = TensorProto.DataType.Name(item.type.tensor_type.elem_type)
            raise UserError(f"input {item.name!r} must be float32, not {kind}")
    nodes = []
    for node in checked:
        copy = onnx.NodeProto.FromString(node.proto.SerializeToString())
        copy.name = node.name
        nodes.append(copy)
    network = FloatNetwork(graph.name or "network", nodes, constants, inputs, list(graph.output),
                           list(model.opset_import), before, after)
    _compute_constants(network)
    _free_batch(network)
    _drop_empty(network)
    _dense(network)
    while _fold_one(network):
        pass
    return network


def _converted(model, opset):
    standard = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    if not standard or max(standard) >= opset:
        return model
    try:
        return in_one_spelling(version_converter.convert_version(model, opset))
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"the model uses opset {max(standard)}, and cannot be converted to "
                        f"{opset}, which is needed: {reason}; export it with that opset") from None


def _free_batch(network):
    """Let Reshapes accept any number of images where the network's inputs have a fixed one."""
    sizes = {item.type.tensor_type.shape.dim[0].dim_value for item in network.inputs
             if item.type.tensor_type.shape.dim}
    for node in network.nodes:
        if node.op_type != "Reshape" or node.input[1] not in network.constants:
            continue
        shape = network.constants[node.input[1]].copy().reshape(-1)
        if len(shape) > 1 and shape[0] in sizes - {0} and not (
                attribute(node, "allowzero", 0) and 0 in shape):
            shape[0] = 0
            # PyTorch's exporter sets it even where no size is 0.
            _drop_attribute(node, "allowzero")
            name = network.new_name(f"{node.input[1]}_any_batch")
            network.constants[name] = shape
            node.input[1] = name


def _drop_attribute(node, name):
    for item in [item for item in node.attribute if item.name == name]:
        node.attribute.remove(item)


def _compute_constants(network):
    """Replace nodes that depend on constants alone by their results."""
    run, rest = Evaluator(network.opsets), []
    for node in network.nodes:
        if all(not name or name in network.constants for name in node.input) and (
                node.input or node.op_type == "Constant"):
            inputs = [network.constants[name] if name else None for name in node.input]
            network.constants.update(zip((name for name in node.output if name),
                                         map(np.asarray, run.run(node, inputs)), strict=True))
        else:
            rest.append(node)
    network.nodes = rest


def _remove(network, node, tensor):
    """Remove a node whose output is its input `tensor`."""
    network.nodes.remove(node)
    result = node.output[0]
    if result not in {item.name for item in network.outputs}:
        for reader in network.nodes:
            reader.input[:] = [tensor if name == result else name for name in reader.input]
        return
    maker = network.producer(tensor)
    if maker is None:
        network.nodes.append(helper.make_node("Identity", [tensor], [result], node.name))
        return
    maker.output[:] = [result if name == tensor else name for name in maker.output]
    for reader in network.nodes:
        reader.input[:] = [result if name == tensor else name for name in reader.input]


def _drop_empty(network):
    """Remove nodes that give what they read, except those that read an output of the network."""
    for node in list(network.nodes):
        if has(node.op_type, Role.SAME) and node.input[0] not in {
                item.name for item in network.outputs}:
            _remove(network, node, node.input[0])


# Dense layers.

def _dense(network):
    """Write every Gemm without alpha, beta and transA, its weights [O, K]; write a MatMul of a row
    with constant weights as a Gemm, with the Add after it as its bias."""
    for node in list(network.nodes):
        weight = network.constants.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type == "Gemm" and weight is not None and not attribute(node, "transA", 0):
            if not attribute(node, "transB", 0):
                weight = weight.T
            bias = network.constants.get(node.input[2]) if len(node.input) > 2 else None
            if len(node.input) > 2 and bias is None:
                continue
            _set_dense(network, node, weight * np.float32(attribute(node, "alpha", 1.0)),
                       None if bias is None else bias * np.float32(attribute(node, "beta", 1.0)))
        elif node.op_type == "MatMul" and weight is not None and weight.ndim == 2 and (
                _rank(network, node.input[0]) == 2):
            _set_dense(network, node, weight.T, None)


def _set_dense(network, node, weight, bias):
    node.op_type = "Gemm"
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("transB", 1))
    set_parameters(network, node, np.ascontiguousarray(weight), None if bias is None else
                   np.broadcast_to(bias.reshape(-1), len(weight)).copy())


def set_parameters(network: FloatNetwork, node: onnx.NodeProto, weight: np.ndarray,
                   bias: np.ndarray | None) -> None:
    """Give a linear node weights and a bias (None: no bias) of its own, as new constants."""
    names = [network.new_name(f"{node.name}_weight")]
    network.constants[names[0]] = weight.astype(np.float32)
    if bias is not None:
        names.append(network.new_name(f"{node.name}_bias"))
        network.constants[names[1]] = bias.astype(np.float32)
    node.input[1:] = names


def _rank(network, tensor):
    """The number of a tensor's dimensions; None where ONNX cannot infer it."""
    model = onnx.shape_inference.infer_shapes(network.model())
    for item in [*model.graph.value_info, *model.graph.output, *model.graph.input]:
        if item.name == tensor and item.type.tensor_type.HasField("shape"):
            return len(item.type.tensor_type.shape.dim)
    return None


# Folding.

def _factors(network, node, channels, rank):
    """(factor, term), arrays [channels], of a node that multiplies and moves each channel; None for
    other nodes."""
    constants = network.constants
    if has(node.op_type, Role.NORM):
        if any(name not in constants for name in node.input[1:]) or (
                attribute(node, "training_mode", 0)):
            return None
        gamma, beta, mean, variance = (constants[name].astype(np.float64)
                                       for name in node.input[1:])
        factor = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        return factor, beta - mean * factor
    if not has(node.op_type, Role.ARITHMETIC):
        return None
    places = [n for n, name in enumerate(node.input) if name in constants]
    if len(places) != 1 or (places[0] == 0 and node.op_type in ("Sub", "Div")):
        return None
    array = constants[node.input[places[0]]].astype(np.float64)
    if array.ndim > rank or (array.size > 1 and (
            array.ndim < rank - 1 or array.size != channels
            or array.shape[array.ndim - rank + 1] != channels)):
        return None
    array = np.broadcast_to(array.reshape(-1), channels)
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op_type == "Div" and (array == 0).any():
        return None
    return {"Add": (one, array), "Sub": (one, -array), "Mul": (array, zero),
            "Div": (1 / np.where(array == 0, 1, array), zero)}[node.op_type]


def _fold_one(network):
    """Fold one node into the linear node before it; returns whether there was such a node."""
    for node in network.nodes:
        weight = network.constants.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type == "MatMul" or not has(node.op_type, Role.LINEAR) or weight is None:
            continue
        reader = network.alone(node.output[0])
        groups = attribute(node, "group", 1)
        channels = weight.shape[output_axis(node)] * (
            groups if node.op_type == "ConvTranspose" else 1)
        bias = np.zeros(channels)
        if len(node.input) > 2 and node.input[2]:
            bias = network.constants.get(node.input[2])
        if reader is None or bias is None or len(bias) != channels:
            continue
        if reader.op_type == "BatchNormalization" and reader.input[0] != node.output[0]:
            continue
        found = _factors(network, reader, channels, weight.ndim)
        if found is None:
            continue
        factor, term = found
        if node.op_type == "ConvTranspose":
            weight = (weight.reshape(groups, -1, *weight.shape[1:])
                      * factor.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
                      ).reshape(weight.shape)
        else:
            weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        set_parameters(network, node, weight, bias * factor + term)
        node.output[0] = reader.output[0]
        network.nodes.remove(reader)
        return True
    return False
