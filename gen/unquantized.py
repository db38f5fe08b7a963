"""A quantized network without its quantizers: what it would compute in float32 with the weights
that it has."""

import onnx
from onnx import helper

from . import onnx_in, onnx_qdq
from .onnx_run import FOREIGN

__all__ = ["unquantized"]

#: What stands between codes and leaves them codes.
_BETWEEN = {"Clip"}
#: What computes with codes, whatever they stand for.
_ON_CODES = {"ConvInteger", "MatMulInteger"}
#: Quantizers that may be more than that: signs, counts of thresholds.
_KEPT = {"BipolarQuant", "MultiThreshold", "Trunc"}


def unquantized(model):
    """An `onnx.ModelProto` like `model` whose activations nothing rounds; tensors keep their names,
    those of codes hold real numbers. Signs, thresholds and truncations stay, since networks with
    them are none without, and codes for operators that compute with codes.
    """
    graph = model.graph
    constant = {item.name for item in graph.initializer}
    inputs = {item.name for item in graph.input} - constant
    nodes = [part for node in onnx_in.nodes_of(graph) for part in onnx_qdq.expand(node)]
    constant |= onnx_in.computed_from_constants(graph, nodes)
    kept = {name for node in graph.node if node.op_type in _ON_CODES for name in node.input}
    result, codes = [], set()
    for node in nodes:
        first = node.inputs[0] if node.inputs else ""
        moved = (node.outputs and first and node.outputs[0] not in constant
                 and not kept & {first, node.outputs[0]})
        if moved and (node.operator == "QuantizeLinear" or node.operator in FOREIGN - _KEPT):
            result.append(_as_it_is(node))
            codes.update(node.outputs if node.operator == "QuantizeLinear" else ())
        elif moved and first not in inputs and (
                node.operator == "DequantizeLinear" or (
                    node.operator in _BETWEEN and first in codes)):
            result.append(_as_it_is(node))
            codes.update(node.outputs if node.operator in _BETWEEN else ())
        elif node.operator == "BiasOfProduct":
            result += _bias(node)
        else:
            result.append(_copy(node))
    used = {name for node in result for name in node.input}
    made = helper.make_graph(
        result, graph.name, [item for item in graph.input if item.name in inputs],
        [helper.make_empty_tensor_value_info(item.name) for item in graph.output],
        [item for item in graph.initializer if item.name in used])
    return helper.make_model(made, opset_imports=list(model.opset_import),
                             ir_version=model.ir_version)


def _copy(node):
    """The node as it stood in the model, or as `expand` made it."""
    if node.proto.op_type == node.operator:
        copy = onnx.NodeProto.FromString(node.proto.SerializeToString())
        copy.name = node.name
        return copy
    return helper.make_node(node.operator, node.inputs, node.outputs, node.name,
                            domain=node.domain, **node.attributes)


def _as_it_is(node):
    return helper.make_node("Identity", node.inputs[:1], node.outputs[:1], node.name)


def _bias(node):
    """Nodes for an int32 bias in steps of the product of two scales."""
    name = node.outputs[0]
    return [helper.make_node("Cast", node.inputs[:1], [f"{name}/steps"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", node.inputs[1:3], [f"{name}/unit"]),
            helper.make_node("Mul", [f"{name}/steps", f"{name}/unit"], [name])]
