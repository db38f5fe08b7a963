"""Operators that exporters and function bodies write in several ways, in the one way that is
read."""

import numpy as np
import onnx
from onnx import helper

__all__ = ["in_one_spelling"]

#: The first opset in which Resize may be without roi and scales.
_OPTIONAL_INPUTS = 13


def in_one_spelling(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with Cast in place of CastLike, where its type is known, and Resizes without the
    empty constants with which opset 11 says that roi or scales are left out (in opset 11 itself
    they stay, since both inputs are required there)."""
    operators = {node.op_type for node in model.graph.node}
    if not operators & {"CastLike", "Resize"}:
        return model
    opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")),
                default=0)
    empty = _empty_constants(model.graph) if opset >= _OPTIONAL_INPUTS else set()
    types = _element_types(model) if "CastLike" in operators else {}
    changed = {}
    for number, node in enumerate(model.graph.node):
        if node.op_type == "Resize" and empty & set(node.input[1:]):
            names = [name if n == 0 or name not in empty else ""
                     for n, name in enumerate(node.input)]
            changed[number] = node.op_type, names, list(node.attribute)
        elif node.op_type == "CastLike" and len(node.input) == 2 and types.get(node.input[1]):
            changed[number] = "Cast", node.input[:1], [
                helper.make_attribute("to", types[node.input[1]])]
    if not changed:
        return model
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for number, (operator, names, attributes) in changed.items():
        node = model.graph.node[number]
        node.op_type, node.input[:] = operator, names
        del node.attribute[:]
        node.attribute.extend(attributes)
    return model


def _empty_constants(graph):
    """Names of constants without elements."""
    tensors = {item.name: item for item in graph.initializer}
    tensors |= {node.output[0]: item.t for node in graph.node if node.op_type == "Constant"
                for item in node.attribute if item.name == "value" and node.output}
    return {name for name, item in tensors.items() if item.dims and not np.prod(item.dims)}


def _element_types(model):
    """{tensor: its ONNX element type}, as far as ONNX infers them."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception:
        # It raises whatever its C++ code meets; who reads the model says it better.
        graph = model.graph
    types = {item.name: item.data_type for item in graph.initializer}
    return types | {item.name: item.type.tensor_type.elem_type
                    for item in [*graph.input, *graph.value_info, *graph.output]}
