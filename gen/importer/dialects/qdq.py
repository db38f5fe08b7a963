"""QuantizeLinear and DequantizeLinear, and ONNX Runtime's operators on integers.

A tensor of integer codes is a value like any other: its real numbers are the ONNX codes. Unsigned
codes of n bits are stored as signed ones, less 2**(n - 1).
"""

from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper
from systolith.gen.importer.file import STANDARD
from systolith.gen.importer.groups import each, in_scale_of_each
from systolith.gen.importer.nodes import Node
from systolith.gen.importer.operators.elements import affine
from systolith.gen.importer.rationals import exact
from systolith.gen.importer.rows import Role, operator
from systolith.gen.importer.target import Target
from systolith.gen.importer.types import FORMATS
from systolith.gen.importer.values import (
    Constant,
    HostInput,
    QuantizedConstant,
    Value,
    activation,
    constant,
    like,
    per_channel,
)
from systolith.hw.formats import Int

__all__ = ["DYNAMIC", "EXPANDED", "expand"]

#: Where QuantizeLinear and DequantizeLinear live.
_DOMAINS = (*STANDARD, "com.microsoft")
#: Operators that compute the range of their first input at run time.
DYNAMIC = ("DynamicQuantizeLinear", "DynamicQuantizeMatMul")
#: The element type of sums and biases, which no format holds.
_INT32 = "int32"


def _along_axis(array, shape, axis, node, what):
    """A scale or zero point, one number or one for each slice along `axis`, such that it
    broadcasts against `shape`."""
    if array.size == 1:
        return array.reshape([1] * len(shape))
    if array.ndim != 1 or not -len(shape) <= axis < len(shape) or (
            len(array) != shape[axis]):
        node.fail(f"{what} of shape {list(array.shape)} does not fit axis {axis} of the shape "
                  f"{list(shape)}; one number, or one for each slice along the axis, is supported")
    return array.reshape([-1 if n == axis % len(shape) else 1 for n in range(len(shape))])


def _scale(inputs, node):
    """The numbers of a scale, finite and positive; `inputs`: the scale, or nothing."""
    if not inputs:
        node.fail("must have an input and a scale")
    item = constant(inputs[0], node, "its scale")
    array = np.asarray(item.array, dtype=np.float64)
    if not array.size:
        node.fail(f"its scale {item.name!r} is empty, and must hold one number or one for each "
                  "channel")
    if not (np.isfinite(array) & (array > 0)).all():
        index = tuple(int(n) for n in np.argwhere(~(np.isfinite(array) & (array > 0)))[0])
        node.fail(f"its scale {item.name!r} must be finite and positive, not "
                  f"{array[index]} (at index {list(index)})")
    return array


def _zero_point(inputs, node):
    """(array of integers, element type as of `_kind`, or None where it is left out)"""
    if len(inputs) < 3 or inputs[2] is None:
        return np.zeros((), np.int64), None
    array = constant(inputs[2], node, "its zero point").array
    kind = _kind(array.dtype, node)
    array = array.astype(np.int64)
    if _is_float(kind) and array.any():
        node.fail(f"its zero point must be 0 for codes of type {kind}")
    return array, kind


def _kind(dtype, node):
    """The format whose codes a numpy type holds, or _INT32."""
    name = np.dtype(dtype).name
    if name != _INT32 and name not in FORMATS:
        node.fail(f"codes of type {name} are not supported; there are "
                  f"{', '.join([*FORMATS, _INT32])}")
    return FORMATS.get(name, _INT32)


def _is_float(kind):
    return kind != _INT32 and kind.floating


def _named_kind(number, node):
    """The format whose codes an ONNX element type holds, or _INT32."""
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(number)
    except (KeyError, TypeError, ValueError):
        node.fail(f"attribute output_dtype must name an element type, not {number!r}")
    return _kind(dtype, node)


def _moved(bits, signed):
    """The number that is subtracted from unsigned codes to make them signed; 0 for signed ones."""
    return 0 if signed else 1 << (bits - 1)


@operator("QuantizeLinear", roles=Role.QUANTIZER | Role.ROWS, domains=_DOMAINS)
def _quantize(builder, node, inputs, axis=1, block_size=0, output_dtype=0, precision=0,
              saturate=1):
    node.expect("block_size", block_size, (0,))
    scale, (zero, kind) = _scale(inputs[1:2], node), _zero_point(inputs, node)
    if output_dtype:
        kind = _named_kind(output_dtype, node)
    kind = kind or Int(8, signed=False)
    short = _is_float(kind)
    node.expect("saturate", saturate, (1,) if short else (0, 1))
    value = inputs[0]
    if isinstance(value, (Constant, QuantizedConstant)):
        return _quantized_constant(node, value.name, value.floats, scale, zero, kind, axis)
    number = scale.flat[0].item()
    if kind == _INT32:
        node.fail("activations must have at most 16 bits")
    move = 0 if short else _moved(kind.width, kind.signed)
    form = kind.chip_format
    target = Target(form, number, 0 if short else zero.flat[0].item() - move, *form.ordered_range)
    if scale.size == 1 and zero.size == 1:
        source = builder.quantize(value, target, node.outputs[0], node)
        return _codes(builder, source, value, move)
    full = (1, *value.shape)
    scales, zeros = (each(_along_axis(item, full, axis, node, what), value, node, what)
                     for item, what in ((exact(scale), "its scale"),
                                        (exact(zero), "its zero point")))
    count = len(scales)
    source, channels = in_scale_of_each(
        builder, value, replace(target, scale=1.0), scales.astype(np.float64),
        [int(item) - move for item in zeros], ([target.low] * count, [target.high] * count),
        node.outputs[0], node)
    return replace(_codes(builder, source, value, move), channels=channels)


def _quantized_constant(node, name, real, scale, zero, kind, axis):
    """What QuantizeLinear makes of a constant."""
    scale, zero = (_along_axis(item, real.shape, axis, node, what) for item, what in
                   ((scale.astype(np.float32), "its scale"), (zero, "its zero point")))
    if _is_float(kind):
        codes = kind.encode(real / scale)
        return QuantizedConstant(name, kind.image(codes), np.ones(codes.shape), kind)
    low, high = (-1 << 31, (1 << 31) - 1) if kind == _INT32 else kind.image_range
    codes = np.clip(np.rint(real / scale).astype(np.float64) + zero, low, high)
    return Constant(name, codes.astype(np.int64 if kind == _INT32 else
                                       f"{'' if kind.signed else 'u'}int{max(kind.width, 8)}"))


def _codes(builder, source, value, move):
    """The value whose real numbers are the ONNX codes in tensor `source`, in the order of elements
    of `value`."""
    tensor = builder.tensors[source]
    ones = np.full(tensor.shape[0], exact(1).item(), dtype=object)
    unit = exact(2).item() ** tensor.format.exponent
    return like(value, Value(source, tuple(value.shape), tensor.shape, unit * ones, move * ones))


@operator("DequantizeLinear", roles=Role.QUANTIZER | Role.ROWS, domains=_DOMAINS)
def _dequantize(builder, node, inputs, axis=1, block_size=0, output_dtype=0):
    node.expect("block_size", block_size, (0,))
    scale, (zero, kind) = _scale(inputs[1:2], node), _zero_point(inputs, node)
    value = inputs[0]
    if isinstance(value, (Constant, QuantizedConstant)):
        return _dequantized_constant(node, value, scale, zero, kind, axis)
    if isinstance(value, HostInput):
        if not value.bits or value.steps:
            node.fail("dequantizes an input that is not an integer tensor; give the input an "
                      "integer type, or put a QuantizeLinear before it")
        move = _moved(value.bits, value.signed)
        low = -(1 << (value.bits - 1))
        target = Target(Int(value.bits), 1.0, -move, low, -low - 1)
        source = builder.quantize(value, target, value.name, node)
        value = _codes(builder, source, value, move)
    activation([value], node)
    full = (1, *value.shape)
    scale, zero = (per_channel(exact(_along_axis(item, full, axis, node, what)), value, node, what)
                   for item, what in ((scale, "its scale"), (zero, "its zero point")))
    return replace(affine(value, scale, -zero * scale, node), nodes=value.nodes)


def _dequantized_constant(node, value, scale, zero, kind, axis):
    scale, zero = (_along_axis(item, value.shape, axis, node, what) for item, what in
                   ((scale, "its scale"), (zero, "its zero point")))
    scale = np.broadcast_to(scale, value.shape)
    if isinstance(value, QuantizedConstant):
        return QuantizedConstant(value.name, value.images, scale * value.scale, value.format)
    kind = kind or _kind(value.array.dtype, node)
    if _is_float(kind):
        codes = kind.encode(value.array.astype(np.float64))
        return QuantizedConstant(value.name, kind.image(codes), scale, kind)
    images = value.array.astype(np.int64) - zero
    if kind == _INT32:
        return Constant(value.name, np.asarray(exact(images) * exact(scale), dtype=object))
    # A zero point may need one bit more than the codes have.
    ends = int(images.min(initial=0)), int(images.max(initial=0))
    bits = max(kind.width, max((-1 - ends[0]).bit_length(), ends[1].bit_length()) + 1)
    return QuantizedConstant(value.name, images, scale, Int(min(bits, 16)),
                             kind.chip_format)


def expand(node: Node) -> list[Node]:
    """The nodes that a node stands for: QLinearConv, QLinearAdd, QGemm and the like as nodes that
    dequantize, compute and quantize; Sum as Adds; any other node as itself. Raises UserError for
    attributes of the wrong type and missing inputs."""
    if node.operator == "Sum" and node.inputs:
        return _expand_sum(node)
    if node.operator not in _EXPANSIONS:
        return [node]
    for key, value in node.attributes.items():
        kind = _KINDS.get(key, (int, "a whole number"))
        if not isinstance(value, kind[0]):
            node.fail(f"attribute {key} must be {kind[1]}")
    expansion, count = _EXPANSIONS[node.operator]
    if len(node.inputs) < count:
        node.fail(f"must have at least {count} inputs, not {len(node.inputs)}")
    return expansion(node)


def _part(node, operator, inputs, output, **attributes):
    return Node(node.name, operator, "", inputs, [output], attributes, node.proto)


def _expand(node, operator, operands, bias, result, axis, **attributes):
    """The nodes of an operator on quantized operands.

    `operands` and `result` are names (tensor, scale, zero point); `bias` is the name of the bias,
    or ""; `axis` is that of the scales of all operands but the first.
    """
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
    node.expect("channels_last", node.attributes.get("channels_last", 0), (0,))
    return _expand_one(node)


def _expand_one(node):
    """QLinearLeakyRelu and the like: one operand, the operator's own attributes."""
    name = node.outputs[0]
    # Not the operator's own: the axis of channels, and the opset whose Softmax QLinearSoftmax is.
    attributes = {key: item for key, item in node.attributes.items()
                  if key not in ("channels_last", "opset")}
    return [_part(node, "DequantizeLinear", node.inputs[:3], f"{name}/operand"),
            _part(node, node.operator.removeprefix("QLinear"), [f"{name}/operand"],
                  f"{name}/real", **attributes),
            _part(node, "QuantizeLinear", [f"{name}/real", *node.inputs[3:5]], name)]


def _expand_concat(node):
    name, operands = node.outputs[0], node.inputs[2:]
    if len(operands) % 3:
        node.fail(f"must have a tensor, a scale and a zero point for each operand, not "
                  f"{len(operands)} inputs after its own scale and zero point")
    reals = [f"{name}/operand{n}" for n in range(len(operands) // 3)]
    return [*(_part(node, "DequantizeLinear", operands[3 * n:3 * n + 3], real)
              for n, real in enumerate(reals)),
            _part(node, "Concat", reals, f"{name}/real", **node.attributes),
            _part(node, "QuantizeLinear", [f"{name}/real", *node.inputs[:2]], name)]


def _expand_sum(node):
    """Sum of any number of tensors."""
    last = node.outputs[0]
    if len(node.inputs) == 1:
        return [_part(node, "Identity", node.inputs, last)]
    names = [f"{last}/sum{n}" for n in range(len(node.inputs) - 2)]
    firsts = [node.inputs[0], *names]
    return [_part(node, "Add", [first, second], result) for first, second, result in
            zip(firsts, node.inputs[1:], [*names, last], strict=True)]


def _expand_integer(node):
    """ConvInteger, MatMulInteger: codes less their zero points, the sums as they are."""
    name, conv = node.outputs[0], node.operator == "ConvInteger"
    one = onnx.helper.make_node("Constant", [], [f"{name}/one"], value=numpy_helper.from_array(
        np.array(1, np.float32)))
    parts = [Node(node.name, "Constant", "", [], [f"{name}/one"], {}, one)]
    for n, (tensor, axis) in enumerate(zip(node.inputs[:2], (1, 0 if conv else -1), strict=True)):
        zero = node.inputs[2 + n:3 + n]
        parts.append(_part(node, "DequantizeLinear",
                           [tensor, f"{name}/one", *(zero if any(zero) else [])],
                           f"{name}/operand{n}", axis=axis))
    return [*parts, _part(node, node.operator.removesuffix("Integer"),
                          [f"{name}/operand0", f"{name}/operand1"], name, **node.attributes)]


def _expand_to_float(node):
    """MatMulIntegerToFloat: codes less their zero points, by their scales, and a bias."""
    name = node.outputs[0]
    a, b, a_scale, b_scale, a_zero, b_zero, bias = (*node.inputs, *[""] * 7)[:7]
    parts = [_part(node, "DequantizeLinear", [tensor, scale, *([zero] if zero else [])],
                   f"{name}/operand{n}", axis=axis)
             for n, (tensor, scale, zero, axis) in enumerate((
                 (a, a_scale, a_zero, 1), (b, b_scale, b_zero, -1)))]
    product = f"{name}/product" if bias else name
    parts.append(_part(node, "MatMul", [f"{name}/operand0", f"{name}/operand1"], product))
    if bias:
        parts.append(_part(node, "Add", [product, bias], name))
    return parts


@operator("BiasOfProduct", roles=Role.QUANTIZER | Role.MAPS, domains=_DOMAINS)
def _bias_of_product(builder, node, inputs):
    """An int32 bias whose scale is the product of input and weight scale."""
    bias = constant(inputs[0], node, "its bias").numbers
    scales = [exact(_scale([item], node)).reshape(-1) for item in inputs[1:3]]
    if scales[0].size != 1 or scales[1].size not in (1, bias.size) or bias.ndim > 1:
        node.fail(f"its bias of shape {list(bias.shape)} needs one scale for the input and one or "
                  f"{bias.size} for the weights, not {scales[0].size} and {scales[1].size}")
    return Constant(node.inputs[0], np.asarray(bias * (scales[0] * scales[1]), dtype=object))


#: operator: (function(node) -> nodes, inputs that it must have)
_EXPANSIONS = {"ConvInteger": (_expand_integer, 2), "MatMulInteger": (_expand_integer, 2),
               "MatMulIntegerToFloat": (_expand_to_float, 4),
               "QGemm": (_expand_gemm, 9), "QLinearAdd": (_expand_matmul, 8),
               "QLinearConv": (_expand_conv, 8), "QLinearMatMul": (_expand_matmul, 8),
               "QLinearMul": (_expand_matmul, 8), "QLinearAveragePool": (_expand_average, 5),
               "QLinearConcat": (_expand_concat, 5),
               "QLinearGlobalAveragePool": (_expand_average, 5),
               **{f"QLinear{name}": (_expand_one, 5) for name in
                  ("LeakyRelu", "ReduceMean", "Sigmoid", "Softmax")}}
#: Attributes that are no whole numbers; ONNX checks those of its own operators only.
_KINDS: dict[str, tuple] = {"alpha": ((int, float), "a number"), "beta": ((int, float), "a number"),
          "auto_pad": (str, "a text"),
          **{key: (list, "a list of whole numbers") for key in
             ("axes", "dilations", "kernel_shape", "pads", "strides")}}
#: Names of the operators that `expand` takes apart.
EXPANDED = frozenset(_EXPANSIONS)
