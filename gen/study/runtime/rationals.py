"""Quantized ONNX networks in exact arithmetic: no rounding but that of their own quantizers.

`Exact` is an array of integers times a fraction; `compute` is a node of a network on such arrays.
Functions such as Sigmoid are computed in float64.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import gcd, prod
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

__all__ = ["Exact", "common", "compute", "convolved", "rounded", "walk"]

_QUANTIZERS = ("QuantizeLinear", "Quant", "BipolarQuant")


class Exact:
    """An array of numbers without rounding: `numbers` (Python integers) times `unit`, a
    Fraction."""

    def __init__(self, numbers: Any, unit: Any = 1):
        self.numbers, self.unit = np.asarray(numbers).astype(object), Fraction(unit)

    @classmethod
    def of(cls, array: Any) -> "Exact":
        """Floats, each of which is an integer times a power of two; integers as they are."""
        array = np.asarray(array)
        if array.dtype.kind in "iub":
            return cls(array)
        mantissa, exponent = np.frexp(array.astype(np.float64))
        numbers, exponent = np.int64(mantissa * 2.0 ** 53), np.int64(exponent) - 53
        least = int(exponent.min(initial=0))
        shifts = np.asarray(exponent - least).astype(object)
        return cls(np.asarray(numbers).astype(object) << shifts, Fraction(2) ** least)

    def in_unit(self, unit: Fraction) -> np.ndarray:
        """The integers that these numbers are in a unit of which `unit` is a divisor."""
        return self.numbers * int(self.unit / unit)

    def __add__(self, other: "Exact") -> "Exact":
        unit = common([self, other])
        return Exact(self.in_unit(unit) + other.in_unit(unit), unit)

    def __mul__(self, other: "Exact") -> "Exact":
        return Exact(self.numbers * other.numbers, self.unit * other.unit)

    def each(self, function: Callable[[np.ndarray], np.ndarray]) -> "Exact":
        """A function of the array of integers, with the same unit."""
        return Exact(function(self.numbers), self.unit)

    def floats(self) -> np.ndarray:
        """The numbers as float64."""
        return self.numbers.astype(np.float64) * float(self.unit)


def common(arrays: Sequence[Exact]) -> Fraction:
    """The largest unit of which those of all arrays are multiples."""
    lowest = prod({item.unit.denominator for item in arrays})
    return Fraction(gcd(*(int(item.unit * lowest) for item in arrays)), lowest)


def _padded(x, pads, fill=0):
    """np.pad's zeros are no Python integers."""
    (top, left, bottom, right), (height, width) = pads, x.shape[2:]
    wide = np.full((*x.shape[:2], top + height + bottom, left + width + right), fill, object)
    wide[:, :, top:top + height, left:left + width] = x
    return wide


def convolved(x: np.ndarray, weight: np.ndarray, pads: Sequence[int], strides: Sequence[int],
              group: int) -> np.ndarray:
    """Sums of a convolution: integers [N, O, H, W]."""
    x = _padded(x, pads)
    outputs, inputs, *kernel = weight.shape
    rows, columns = ((size - extent) // step + 1 for size, extent, step in
                     zip(x.shape[2:], kernel, strides, strict=True))
    found = np.full((len(x), outputs, rows, columns), 0, object)
    for n in range(outputs):
        first = n // (outputs // group) * inputs
        for c in range(inputs):
            for i, j in np.ndindex(*kernel):
                found[:, n] += weight[n, c, i, j] * x[
                    :, first + c, i:i + rows * strides[0]:strides[0],
                    j:j + columns * strides[1]:strides[1]]
    return found


def _means(x, given):
    """AveragePool of a map."""
    channels, *sizes = x.numbers.shape[1:]
    kernel, strides = given.get("kernel_shape", sizes), given.get("strides", (1, 1))
    pads = list(given.get("pads", (0, 0, 0, 0)))
    inside = _padded(np.full(x.numbers.shape, 1, object), pads, given.get("count_include_pad", 0))
    numbers, pads = _padded(x.numbers, pads), [0, 0, 0, 0]
    for n in (0, 1):
        over = (numbers.shape[2 + n] - kernel[n]) % strides[n]
        pads[2 + n] = (strides[n] - over) * (given.get("ceil_mode", 0) and over > 0)
    ones = np.full((channels, 1, *kernel), 1, object)
    sums, counts = (convolved(item, ones, pads, strides, channels) for item in (numbers, inside))
    whole = prod(range(1, prod(kernel) + 1))
    return Exact(sums * (whole // counts), x.unit / whole)


def rounded(x: Exact, scale: Any, zero: Any = 0) -> tuple[np.ndarray, np.ndarray]:
    """(x / scale + zero rounded to integers, ties to even; distances of the numbers to the next
    ties, from 0 to 1/2); `scale` and `zero` are numbers."""
    ratio = x.unit / Fraction(float(scale))
    a, b = x.numbers * ratio.numerator + int(zero) * ratio.denominator, ratio.denominator
    whole, rest = a // b, a % b
    up = (2 * rest > b) | ((2 * rest == b) & (whole % 2 == 1))
    return whole + up, np.abs(((2 * rest - b) / (2 * b)).astype(np.float64))


def codes_of(node: NodeProto, x: Exact, numbers: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """(codes, distances to ties) of a quantizer; `numbers`: what it reads but x, arrays."""
    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if node.op_type == "BipolarQuant":
        return np.where(x.numbers < 0, -1, 1).astype(object), np.abs(x.floats() / numbers[0])
    scale, zero = numbers[0], numbers[1]
    if node.op_type == "Quant":
        bits = int(numbers[2])
        least = -(1 << bits - 1) if given["signed"] else 0
        codes, distance = rounded(x, scale, zero)
        return np.clip(codes, least + given["narrow"], least + (1 << bits) - 1), distance
    codes, distance = rounded(x, scale)
    info = np.iinfo(zero.dtype)
    return np.clip(codes + int(zero), info.min, info.max), distance


def dequantized(node: NodeProto, codes: np.ndarray, numbers: Sequence[Any]) -> Exact:
    """The Exact numbers of codes of a quantizer."""
    zero = 0 if node.op_type == "BipolarQuant" else int(numbers[1])
    return Exact(codes - zero) * Exact.of(numbers[0])


def compute(node: NodeProto, inputs: Sequence[Any], arrays: Sequence[Any]) -> Exact:
    """The result of a node: Exact. `inputs`: Exact; `arrays`: those of constants, or None."""
    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    x, kind = inputs[0], node.op_type
    if kind in _QUANTIZERS:
        codes, _ = codes_of(node, x, arrays[1:])
        return Exact(codes) if kind == "QuantizeLinear" else dequantized(node, codes, arrays[1:])
    if kind == "DequantizeLinear":
        shape = [-1 if n == given.get("axis", 1) else 1 for n in range(x.numbers.ndim)]
        scale, zero = (np.reshape(item, shape) if np.ndim(item) else item for item in arrays[1:])
        return (x + Exact.of(-np.int64(zero))) * Exact.of(scale)
    if kind == "Conv":
        sums = Exact(convolved(
            x.numbers, inputs[1].numbers, given.get("pads", (0, 0, 0, 0)),
            given.get("strides", (1, 1)), given.get("group", 1)), x.unit * inputs[1].unit)
        return sums + inputs[2].each(lambda item: item.reshape(-1, 1, 1)) if inputs[2:] else sums
    if kind == "MatMul":
        return Exact(x.numbers @ inputs[1].numbers, x.unit * inputs[1].unit)
    if kind in ("Add", "Mul"):
        return x + inputs[1] if kind == "Add" else x * inputs[1]
    if kind == "Relu":
        return x.each(lambda item: np.maximum(item, 0))
    if kind == "Concat":
        unit = common(inputs)
        return Exact(np.concatenate([item.in_unit(unit) for item in inputs], given["axis"]), unit)
    if kind in ("AveragePool", "GlobalAveragePool"):
        return _means(x, given)
    if kind in ("ReduceMean", "ReduceMax"):
        axes = tuple(given["axes"] if "axes" in given else arrays[1].tolist())
        count = prod(x.numbers.shape[n] for n in axes)
        if kind == "ReduceMax":
            return x.each(lambda item: item.max(axes, keepdims=True))
        return Exact(x.numbers.sum(axes, keepdims=True), x.unit / count)
    if kind == "Resize":            # by 1/2, linear, half_pixel
        return _means(x, {"kernel_shape": (2, 2), "strides": (2, 2)})
    if kind in ("Identity", "Cast"):
        return x
    return _by_reference(node, inputs, arrays)


def _by_reference(node, inputs, arrays):
    """A move of elements, exactly, by places; anything else in float64."""
    moves = node.op_type in ("DepthToSpace", "Reshape", "Transpose")
    first = (np.arange(inputs[0].numbers.size, dtype=np.float64).reshape(inputs[0].numbers.shape)
             if moves else inputs[0].floats())
    rest = [item.floats() if array is None else array
            for item, array in zip(inputs[1:], arrays[1:], strict=True)]
    rest = [item.astype(np.float64) if item.dtype == np.float32 else item for item in rest]
    names = [f"in{n}" for n in range(1 + len(rest))]
    graph = helper.make_graph([helper.make_node(
        node.op_type, names, ["out"], **{item.name: helper.get_attribute_value(item)
                                         for item in node.attribute})], "one",
        [helper.make_empty_tensor_value_info(name) for name in names],
        [helper.make_empty_tensor_value_info("out")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    found, = ReferenceEvaluator(model).run(None, dict(zip(names, [first, *rest], strict=True)))
    if not moves:
        return Exact.of(found)
    places = np.int64(np.rint(found))
    return inputs[0].each(lambda item: item.reshape(-1)[places])


def walk(model: ModelProto, feeds: Mapping[str, np.ndarray],
         replaced: Callable[[NodeProto, np.ndarray], np.ndarray] | None = None
         ) -> tuple[dict[str, Exact], dict[str, np.ndarray]]:
    """Compute a network: {tensor: Exact} and {quantizer's output: distances of its numbers to
    ties}.

    `feeds` are arrays; `replaced` is a function of (node, codes) that gives the codes to go on
    with.
    """
    arrays = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    values = {name: Exact.of(array) for name, array in {**arrays, **feeds}.items()}
    distances = {}
    for node in model.graph.node:
        inputs: list[Any] = [values.get(name) for name in node.input]
        mine = [arrays.get(name) for name in node.input]
        name = node.output[0]
        if node.op_type not in _QUANTIZERS:
            values[name] = compute(node, inputs, mine)
            continue
        codes, distances[name] = codes_of(node, inputs[0], mine[1:])
        codes = codes if replaced is None else replaced(node, codes)
        values[name] = (Exact(codes) if node.op_type == "QuantizeLinear" else
                        dequantized(node, codes, mine[1:]))
    return values, distances
