"""Models in float16 and bfloat16: which tensors hold such numbers, and float networks in float32.

Between quantizers the chip's numbers are exact, not rounded to a short float after every operator,
so a result near a tie may differ by one step from that of a program that computes in float16. What
the host computes, at the network's ends, is rounded as the model says.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .file import array_of
from .nodes import Node
from .rows import Role, has

__all__ = ["HALF", "as_float32", "roundings"]

#: ONNX element types of 16-bit floats, and their names in numpy.
HALF: dict[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
_REAL = {*HALF, TensorProto.FLOAT, TensorProto.DOUBLE}
#: Operators whose results are numbers that they read, or 0.
_CHOOSE = Role.CAST | Role.MAXIMUM | Role.PICK | Role.SAME | Role.SHUFFLE | Role.TURN | Role.VIEW


def _kinds(graph, nodes):
    """{tensor: its ONNX element type}, as far as the types of inputs and constants decide it; 0:
    unknown."""
    kinds = {item.name: item.type.tensor_type.elem_type for item in graph.input}
    kinds |= {item.name: item.data_type for item in graph.initializer}
    for node in nodes:
        read = [kinds.get(item, 0) for item in node.inputs]
        if node.operator == "Cast":
            kind = node.attributes.get("to", 0)
        elif node.operator == "Constant":
            value = node.attributes.get("value")
            kind = value.data_type if isinstance(value, TensorProto) else 0
        elif node.operator in ("QuantizeLinear", "Shape", "Size"):
            kind = 0
        elif node.operator == "DequantizeLinear":
            kind = node.attributes.get("output_dtype", 0) or (read[1:2] or [0])[0]
        else:
            kind = next((item for item in read if item in _REAL), 0)
        kinds |= dict.fromkeys(node.outputs, kind)
    return kinds


def roundings(graph: onnx.GraphProto, nodes: list[Node]) -> dict[str, tuple[str, bool]]:
    """The tensors that hold float16 or bfloat16, or numbers that were rounded to such a type:
    {tensor: (that type's name in numpy, whether the tensor is of that type)}.

    `nodes` are those of the graph, each after those that it reads.
    """
    kinds, found = _kinds(graph, nodes), {}
    for item in graph.input:
        if kinds[item.name] in HALF:
            found[item.name] = HALF[kinds[item.name]], True
    for node in nodes:
        for name in node.outputs:
            if kinds[name] in HALF:
                found[name] = HALF[kinds[name]], True
            elif kinds[name] == TensorProto.FLOAT and (
                    node.operator == "Relu" or has(node.operator, _CHOOSE)):
                read = {found.get(item, ("",))[0] for item in node.inputs
                        if kinds.get(item) in _REAL}
                if len(read) == 1 and read != {""}:
                    found[name] = read.pop(), False
    return found


def as_float32(model: onnx.ModelProto, nodes: list[Node]) -> onnx.ModelProto:
    """A float network with float32 in place of float16, bfloat16 and double; the same model where
    it has none of them. `nodes` are its nodes, each after those that it reads."""
    others = _REAL - {TensorProto.FLOAT}
    kinds = _kinds(model.graph, nodes)
    if not others & set(kinds.values()):
        return model
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph

    def converted(tensor):
        if tensor.data_type in others:
            array = array_of(tensor, tensor.name)
            with np.errstate(over="ignore"):
                tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))
    for tensor in graph.initializer:
        converted(tensor)
    del graph.value_info[:]
    for item in [*graph.input, *graph.output]:
        if item.type.tensor_type.elem_type in others:
            item.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for item in node.attribute:
            if item.HasField("t"):
                converted(item.t)
            elif node.op_type == "Cast" and item.name == "to" and item.i in others:
                item.i = TensorProto.FLOAT
        if node.op_type == "Cast" and kinds.get(node.input[0]) in _REAL and (
                helper.get_node_attr_value(node, "to") == TensorProto.FLOAT):
            node.op_type = "Identity"
            del node.attribute[:]
    return model
