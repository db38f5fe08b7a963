"""QuantizeLinear and DequantizeLinear, and operators on integers, as ONNX Runtime writes them.

A tensor of integer codes is a value like any other: its real numbers are the ONNX codes. Unsigned
codes of n bits are stored as signed ones, moved by 2**(n - 1).
"""

from dataclasses import replace

import numpy as np
from onnx import TensorProto

from ..hw.formats import Int
from .onnx_lower import Target
from .onnx_ops import affine
from .onnx_values import (
    Constant,
    HostInput,
    Node,
    QuantizedConstant,
    Value,
    activation,
    constant,
    exact,
    per_channel,
)

__all__ = ["EXPANDED", "INTEGER_TYPES", "OPERATORS", "expand"]

#: ONNX element type: (bits, signed)
INTEGER_TYPES = {
    TensorProto.INT8: (8, True), TensorProto.UINT8: (8, False),
    TensorProto.INT16: (16, True), TensorProto.UINT16: (16, False),
    TensorProto.INT4: (4, True), TensorProto.UINT4: (4, False),
}


def _along_axis(array, shape, node, what):
    """A scale or zero point, one number or one for each slice along attribute axis, such that it
    broadcasts against `shape`."""
    if array.size == 1:
        return array.reshape([1] * len(shape))
    axis = node.attributes.get("axis", 1)
    if array.ndim != 1 or not -len(shape) <= axis < len(shape) or (
            len(array) != shape[axis]):
        node.fail(f"{what} of shape {list(array.shape)} does not fit axis {axis} of the shape "
                  f"{list(shape)}; one number, or one for each slice along the axis, is supported")
    return array.reshape([-1 if n == axis % len(shape) else 1 for n in range(len(shape))])


def _scale(value, node):
    """The numbers of a scale, finite and positive."""
    item = constant(value, node, "its scale")
    array = np.asarray(item.array, dtype=np.float64)
    if not (np.isfinite(array) & (array > 0)).all():
        index = tuple(int(n) for n in np.argwhere(~(np.isfinite(array) & (array > 0)))[0])
        node.fail(f"its scale {item.name!r} must be finite and positive, not "
                  f"{array[index]} (at index {list(index)})")
    return array


def _zero_point(inputs, node):
    """(array of integers, element type as (bits, signed) or None where it is left out)"""
    if len(inputs) < 3 or inputs[2] is None:
        return np.zeros((), np.int64), None
    array = constant(inputs[2], node, "its zero point").array
    return array.astype(np.int64), _kind(array.dtype, node)


def _kind(dtype, node):
    """(bits, signed) of a numpy type."""
    name = np.dtype(dtype).name
    kinds = {"int8": (8, True), "uint8": (8, False), "int16": (16, True), "uint16": (16, False),
             "int4": (4, True), "uint4": (4, False), "int32": (32, True)}
    if name not in kinds:
        node.fail(f"codes of type {name} are not supported; there are {', '.join(kinds)}")
    return kinds[name]


def _moved(bits, signed):
    """How far codes are moved to be signed."""
    return 0 if signed else 1 << (bits - 1)


def _quantize(builder, node, inputs):
    node.expect("block_size", 0, (0,))
    node.expect("saturate", 1, (0, 1))
    scale, (zero, kind) = _scale(inputs[1], node), _zero_point(inputs, node)
    wanted = node.attributes.get("output_dtype", 0)
    if wanted:
        if wanted not in INTEGER_TYPES:
            node.fail("attribute output_dtype must name a type of integers of 4, 8 or 16 bits")
        kind = INTEGER_TYPES[wanted]
    bits, signed = kind or (8, False)
    low = 0 if not signed else -(1 << (bits - 1))
    high = low + (1 << bits) - 1
    value = inputs[0]
    if isinstance(value, (Constant, QuantizedConstant)):
        real = value.floats
        scale, zero = (_along_axis(item, real.shape, node, what) for item, what in
                       ((scale.astype(np.float32), "its scale"), (zero, "its zero point")))
        codes = np.clip(np.rint(real / scale).astype(np.float64) + zero, low, high)
        return Constant(value.name, codes.astype(np.int64 if bits > 16 else
                                                 f"{'' if signed else 'u'}int{max(bits, 8)}"))
    if scale.size != 1 or zero.size != 1:
        node.fail("activations must have one scale and one zero point")
    if bits > 16:
        node.fail("activations must have at most 16 bits")
    move = _moved(bits, signed)
    target = Target(Int(bits), scale.item(), zero.item() - move, low - move, high - move)
    source = builder.quantize(value, target, node.outputs[0], node)
    return _codes(builder, source, value.shape, move)


def _codes(builder, source, shape, move):
    """The value whose real numbers are the ONNX codes in tensor `source`."""
    tensor = builder.tensors[source]
    ones = np.full(tensor.shape[0], exact(1).item(), dtype=object)
    return Value(source, tuple(shape), tensor.shape, ones, move * ones)


def _dequantize(builder, node, inputs):
    node.expect("block_size", 0, (0,))
    scale, (zero, kind) = _scale(inputs[1], node), _zero_point(inputs, node)
    value = inputs[0]
    if isinstance(value, Constant):
        bits, _ = kind or _kind(value.array.dtype, node)
        scale, zero = (_along_axis(item, value.shape, node, what) for item, what in
                       ((scale, "its scale"), (zero, "its zero point")))
        images = value.array.astype(np.int64) - zero
        scale = np.broadcast_to(scale, images.shape)
        if bits > 16 or abs(images).max(initial=0) >> 15:
            return Constant(value.name, exact(images) * exact(scale))
        return QuantizedConstant(value.name, images, scale, Int(bits))
    if isinstance(value, HostInput):
        if not value.bits or value.steps:
            node.fail("reads an input that is not of an integer type")
        move = _moved(value.bits, value.signed)
        low = -(1 << (value.bits - 1))
        target = Target(Int(value.bits), 1.0, -move, low, -low - 1)
        source = builder.quantize(value, target, value.name, node)
        value = _codes(builder, source, value.shape, move)
    activation([value], node)
    full = (1, *value.shape)
    scale, zero = (per_channel(exact(_along_axis(item, full, node, what)), value, node, what)
                   for item, what in ((scale, "its scale"), (zero, "its zero point")))
    return replace(affine(value, scale, -zero * scale, node), nodes=value.nodes)


#: operator: (function(builder, node, inputs) -> value, attributes that it understands)
OPERATORS = {
    "QuantizeLinear": (_quantize, {"axis", "block_size", "output_dtype", "precision", "saturate"}),
    "DequantizeLinear": (_dequantize, {"axis", "block_size", "output_dtype"}),
}


def expand(node):
    """QLinearConv, QLinearAdd, QGemm and the like as nodes that dequantize, compute and quantize;
    any other node as itself."""
    if node.operator not in _EXPANSIONS:
        return [node]
    expansion, count = _EXPANSIONS[node.operator]
    if len(node.inputs) < count:
        node.fail(f"must have at least {count} inputs, not {len(node.inputs)}")
    return expansion(node)


def _part(node, operator, inputs, output, **attributes):
    return Node(node.name, operator, "", inputs, [output], attributes, node.proto)


def _expand(node, operator, operands, bias, result, axis, **attributes):
    """`operands`, `result`: (tensor, scale, zero point); `bias`: (tensor, name of its scale)."""
    name = node.outputs[0]
    parts, reals = [], []
    for n, operand in enumerate(operands):
        reals.append(f"{name}/operand{n}")
        parts.append(_part(node, "DequantizeLinear", list(operand), reals[-1],
                           **({"axis": axis} if n else {})))
    if bias:
        reals.append(f"{name}/bias")
        parts.append(_part(node, "BiasOfProduct", [bias, operands[0][1], operands[1][1]],
                           reals[-1]))
    parts.append(_part(node, operator, reals, f"{name}/real", **attributes))
    parts.append(_part(node, "QuantizeLinear", [f"{name}/real", *result], name))
    return parts


def _expand_conv(node):
    x, w = node.inputs[:3], node.inputs[3:6]
    bias = node.inputs[8] if len(node.inputs) > 8 else ""
    return _expand(node, "Conv", (x, w), bias, node.inputs[6:8], 0, **node.attributes)


def _expand_matmul(node):
    operator = node.operator.removeprefix("QLinear")
    return _expand(node, operator, (node.inputs[:3], node.inputs[3:6]), "", node.inputs[6:8], 1,
                   **node.attributes)


def _expand_gemm(node):
    bias = node.inputs[6]
    axis = 0 if node.attributes.get("transB", 0) else 1
    return _expand(node, "Gemm", (node.inputs[:3], node.inputs[3:6]), bias, node.inputs[7:9],
                   axis, **node.attributes)


def _expand_average(node):
    node.expect("channels_last", 0, (0,))
    name = node.outputs[0]
    attributes = {key: item for key, item in node.attributes.items() if key != "channels_last"}
    return [_part(node, "DequantizeLinear", node.inputs[:3], f"{name}/operand"),
            _part(node, node.operator.removeprefix("QLinear"), [f"{name}/operand"],
                  f"{name}/real", **attributes),
            _part(node, "QuantizeLinear", [f"{name}/real", *node.inputs[3:5]], name)]


def _bias_of_product(builder, node, inputs):
    """An int32 bias whose scale is the product of input and weight scale."""
    scale = exact(_scale(inputs[1], node)).reshape(-1) * exact(_scale(inputs[2], node)).reshape(-1)
    return Constant(node.inputs[0], constant(inputs[0], node, "its bias").numbers * scale)


#: operator: (function(node) -> nodes, inputs that it must have)
_EXPANSIONS = {"QGemm": (_expand_gemm, 9), "QLinearAdd": (_expand_matmul, 8),
               "QLinearConv": (_expand_conv, 8), "QLinearMatMul": (_expand_matmul, 8),
               "QLinearMul": (_expand_matmul, 8), "QLinearAveragePool": (_expand_average, 5),
               "QLinearGlobalAveragePool": (_expand_average, 5)}
#: Names of the operators that `expand` takes apart.
EXPANDED = frozenset(_EXPANSIONS)
OPERATORS["BiasOfProduct"] = (_bias_of_product, set())
