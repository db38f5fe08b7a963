"""Operators on exact numbers, with a bound of how far ONNX Runtime's float32 may be from them.

A `Real` is an array of exact numbers and, for each, how far the float32 number that ONNX Runtime
has in its place can be. The bounds are the usual ones of rounding errors (Higham, Accuracy and
Stability of Numerical Algorithms, ch. 3): each operation rounds by at most u = 2**-24 of its
result, and a sum of n products, in whatever order and with or without fused multiplications, by
gamma(n) = n u / (1 - n u) of the sum of their magnitudes. They are computed in float64 and then
enlarged by 2**-30 of themselves, more than float64 can be off here.

What only moves or chooses elements (Transpose, Slice, MaxPool ...) rounds nothing: ONNX Runtime
computes it on the ranks of the exact numbers, which float32 holds exactly.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from .rationals import Exact, common, convolved

__all__ = ["FUNCTIONS", "NEAR", "Real", "compute", "gamma", "rounded", "run"]

#: Half of float32's step at 1.
U = 2.0 ** -24
_SAFE = 1 + 2.0 ** -30


class Real(NamedTuple):
    """Exact numbers, and float64 bounds [same shape] of how far ONNX Runtime's are from them."""
    exact: Exact
    error: np.ndarray

    @classmethod
    def of(cls, array: Any) -> "Real":
        """Numbers that float32 holds."""
        array = np.asarray(array)
        return cls(Exact.of(array), np.zeros(array.shape))

    @property
    def size(self) -> np.ndarray:
        """Bounds of the magnitudes of ONNX Runtime's numbers."""
        return (np.abs(self.exact.floats()) + self.error) * _SAFE


def gamma(count: int) -> float:
    """The relative error of `count` roundings after each other."""
    return count * U / (1 - count * U)


def rounded(exact: Exact, error: Any, count: int = 1) -> Real:
    """A number that is rounded `count` times more, its operands being `error` off."""
    magnitude = np.abs(exact.floats()) + error
    return Real(exact, np.asarray((error + gamma(count) * magnitude) * _SAFE, np.float64))


def run(model: ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a model, by ONNX Runtime without its optimizer."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)


def _alone(node, arrays, opset):
    """The first output of a node, of float32 arrays and, for its other inputs, constants."""
    inputs, constants = [], []
    for name, array in zip(node.input, arrays, strict=True):
        if name and array.dtype == np.float32 and array.ndim:
            inputs.append(helper.make_tensor_value_info(name, 1, array.shape))
        elif name:
            constants.append(numpy_helper.from_array(array, name))
    graph = helper.make_graph([node], "one", inputs, [
        helper.make_empty_tensor_value_info(node.output[0])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return run(model, {item.name: array for item, array in zip(
        inputs, [a for name, a in zip(node.input, arrays, strict=True) if name
                 and a.dtype == np.float32 and a.ndim], strict=True)})[0]


# Operators. Functions of (node, its attributes, Reals of its inputs, arrays of those that are
# constants, opset).

def _chosen(node, given, reals, arrays, opset):
    """What moves elements, or takes the largest or smallest."""
    several = node.op_type in ("Max", "Min", "Concat")
    mine = [item is not None and (several or n == 0) for n, item in enumerate(reals)]
    values = [item for item, own in zip(reals, mine, strict=True) if own]
    unit = common([item.exact for item in values])
    numbers = [item.exact.in_unit(unit) for item in values]
    sorted_ = np.array(sorted({0, *(n for item in numbers for n in item.flat)}), object)
    zero = int(np.searchsorted(sorted_, 0))
    ranks = iter([np.float32(np.searchsorted(sorted_, item) - zero) for item in numbers])
    feeds = [next(ranks) if own else array if array is not None else np.float32(0)
             for own, array in zip(mine, arrays, strict=True)]
    places = np.int64(_alone(node, feeds, opset)) + zero
    error = max(float(item.error.max(initial=0)) for item in values)
    return Real(Exact(sorted_[places], unit), np.full(places.shape, error))


def _weighed(node, given, reals, arrays, opset):
    """What adds elements with factors that float32 holds (Resize): the factors are what ONNX
    Runtime makes of one pixel of 1."""
    x = reals[0]
    count, channels, *sizes = x.exact.numbers.shape
    pixels = prod(sizes)
    ones = np.eye(pixels, dtype=np.float32).reshape(pixels, 1, *sizes)
    factors = _alone(node, [ones, *arrays[1:]], opset)
    weights = Exact.of(factors.reshape(pixels, -1))
    shape = (count, channels, *factors.shape[2:])
    sums = x.exact.numbers.reshape(count * channels, pixels) @ weights.numbers
    size = x.size.reshape(count * channels, pixels) @ np.abs(weights.floats())
    error = x.error.reshape(count * channels, pixels) @ np.abs(weights.floats())
    return Real(Exact(sums.reshape(shape), x.exact.unit * weights.unit),
                (error + gamma(10) * size).reshape(shape) * _SAFE)


def _resized(node, given, *rest):
    linear = given.get("mode", b"nearest") == b"linear"
    return (_weighed if linear else _chosen)(node, given, *rest)


def _sums(sums, size, error, terms):
    return Real(sums, np.asarray((error + gamma(terms) * size) * _SAFE, np.float64))


def _products(x, w, numbers, of):
    """Sums of products: `of` computes them of two arrays; `numbers` is how many each has."""
    exact = Exact(of(x.exact.numbers, w.exact.numbers), x.exact.unit * w.exact.unit)
    size, error = (np.asarray(of(*item), np.float64) for item in (
        (x.size, w.size), (x.error, w.size)))
    error = error + np.asarray(of(np.abs(x.exact.floats()), w.error), np.float64)
    return _sums(exact, size, error, numbers)


def _with_bias(sums, bias, count):
    if bias is None:
        return sums
    shape = (1, -1) + (1,) * (sums.error.ndim - 2)
    b = Real(bias.exact.each(lambda item: item.reshape(shape)), bias.error.reshape(shape))
    return _sums(sums.exact + b.exact, sums.size + b.size, sums.error + b.error, count)


def _conv(node, given, reals, arrays, opset):
    x, w = reals[:2]
    pads, steps = given.get("pads", (0, 0, 0, 0)), given.get("strides", (1, 1))
    dilated = given.get("dilations", (1, 1))
    group = given.get("group", 1)

    def of(a, b):
        wide = np.zeros((*b.shape[:2], *((n - 1) * d + 1 for n, d in zip(
            b.shape[2:], dilated, strict=True))), b.dtype)
        wide[:, :, ::dilated[0], ::dilated[1]] = b
        return convolved(a.astype(object), wide, pads, steps, group)
    terms = prod(w.error.shape[1:]) + 1
    return _with_bias(_products(x, w, terms, of), reals[2] if reals[2:] else None, 1)


def _conv_transpose(node, given, reals, arrays, opset):
    x, w = reals[:2]
    steps, pads = given.get("strides", (1, 1)), given.get("pads", (0, 0, 0, 0))
    group = given.get("group", 1)

    def of(a, b):
        (count, inputs, height, width), (_, each, *kernel) = a.shape, b.shape
        sizes = [(n - 1) * s + k for n, s, k in zip((height, width), steps, kernel, strict=True)]
        made = np.full((count, each * group, *sizes), 0, object)
        for c, o, i, j in np.ndindex(inputs, each, *kernel):
            made[:, c // (inputs // group) * each + o, i:i + (height - 1) * steps[0] + 1:steps[0],
                 j:j + (width - 1) * steps[1] + 1:steps[1]] += a[:, c] * b[c, o, i, j]
        return made[:, :, pads[0]:sizes[0] - pads[2], pads[1]:sizes[1] - pads[3]]
    terms = w.error.shape[0] * prod(w.error.shape[2:]) + 1
    return _with_bias(_products(x, w, terms, of), reals[2] if reals[2:] else None, 1)


def _dense(node, given, reals, arrays, opset):
    x, w = reals[:2]
    if given.get("transB", 0):
        w = Real(w.exact.each(np.transpose), w.error.T)
    made = _products(x, w, w.error.shape[0] + 1, lambda a, b: a.astype(object) @ b)
    return _with_bias(made, reals[2] if reals[2:] else None, 1)


def _add(sign):
    def of(node, given, reals, arrays, opset):
        made = reals[0]
        for item in reals[1:]:
            other = item.exact.each(lambda numbers: numbers * sign)
            made = rounded(made.exact + other, made.error + item.error)
        return made
    return of


def _multiply(node, given, reals, arrays, opset):
    x, y = reals
    return rounded(x.exact * y.exact, np.abs(x.exact.floats()) * y.error + x.error * y.size)


def _divide(node, given, reals, arrays, opset):
    x, numbers = reals[0], arrays[1]
    inverse = _inverse(numbers)
    return rounded(x.exact * inverse, x.error * np.abs(inverse.floats()))


def _inverse(numbers):
    """1 / numbers of float32."""
    exact = Exact.of(numbers)
    whole = prod({int(abs(item)) for item in exact.numbers.flat})
    return Exact(np.array([whole // int(item) for item in exact.numbers.flat], object).reshape(
        exact.numbers.shape), 1 / (whole * exact.unit))


def _clip(node, given, reals, arrays, opset):
    x = reals[0]
    ends = ([None, 0, None] if node.op_type == "Relu" else
            [None, *(None if item is None else item for item in (*arrays[1:], None, None)[:2])])
    made = x.exact
    for end, of in ((ends[1], np.maximum), (ends[2], np.minimum)):
        if end is not None:
            bound = Exact.of(np.float32(end))
            unit = common([made, bound])
            made = Exact(of(made.in_unit(unit), bound.in_unit(unit)), unit)
    return Real(made, x.error)


def _slope(node, given, reals, arrays, opset):
    x = reals[0]
    slope = Exact.of(np.float32(given.get("alpha", 0.01)) if node.op_type == "LeakyRelu" else
                     arrays[1])
    other = x.exact * slope
    unit = common([x.exact, other])
    made = Exact(np.where(x.exact.numbers < 0, other.in_unit(unit), x.exact.in_unit(unit)), unit)
    return rounded(made, x.error * np.maximum(1, np.abs(slope.floats())))


def _hard_sigmoid(node, given, reals, arrays, opset):
    factor, term = (Exact.of(np.float32(given.get(name, value)))
                    for name, value in (("alpha", 0.2), ("beta", 0.5)))
    x = reals[0]
    line = rounded(x.exact * factor, x.error * float(factor.floats()))
    line = rounded(line.exact + term, line.error)
    one = int(1 / line.exact.unit) if (1 / line.exact.unit).denominator == 1 else None
    if one is None:
        unit = common([line.exact, Exact.of(np.float32(1))])
        line, one = Real(Exact(line.exact.in_unit(unit), unit), line.error), int(1 / unit)
    return Real(line.exact.each(lambda item: np.minimum(np.maximum(item, 0), one)), line.error)


def _absolute(node, given, reals, arrays, opset):
    x = reals[0]
    return Real(x.exact.each(np.abs if node.op_type == "Abs" else np.negative), x.error)


def _batch_norm(node, given, reals, arrays, opset):
    """With epsilon 0 and variances whose roots float32 holds. ONNX Runtime computes a factor and a
    term for each channel, of four roundings at most each, and then their sum."""
    x, gamma_, beta, mean = reals[:4]
    shape = (1, -1) + (1,) * (x.error.ndim - 2)
    roots = np.sqrt(arrays[4].astype(np.float64))
    assert (np.float32(roots) == roots).all() and (roots * roots == arrays[4]).all()
    factor = (gamma_.exact * _inverse(np.float32(roots))).each(lambda item: item.reshape(shape))
    moved = mean.exact.each(lambda item: -item.reshape(shape)) * factor
    term = beta.exact.each(lambda item: item.reshape(shape))
    made = x.exact * factor + moved + term
    size = x.size * np.abs(factor.floats()) + np.abs(moved.floats()) + np.abs(term.floats())
    return _sums(made, size, x.error * np.abs(factor.floats()), 8)


def _mean(node, given, reals, arrays, opset):
    """Means and sums over axes, and AveragePool."""
    x = reals[0]
    if node.op_type == "AveragePool":
        return _average(x, given)
    if node.op_type == "GlobalAveragePool":
        axes = tuple(range(2, x.error.ndim))
    else:
        axes = tuple(arrays[1].tolist()) if len(arrays) > 1 else tuple(given["axes"])
    keep = bool(given.get("keepdims", 1))
    count = prod(x.error.shape[n] for n in axes)
    sums = Exact(x.exact.numbers.sum(axes, keepdims=keep), x.exact.unit)
    size, error = (item.sum(axes, keepdims=keep) for item in (x.size, x.error))
    if node.op_type == "ReduceSum":
        return _sums(sums, size, error, count)
    return _sums(Exact(sums.numbers, sums.unit / count), size / count, error / count, count + 2)


def _average(x, given):
    kernel, pads = given["kernel_shape"], given.get("pads", (0, 0, 0, 0))
    steps, channels = given.get("strides", (1, 1)), x.error.shape[1]
    ones = np.full((channels, 1, *kernel), 1, object)
    inside = np.full(x.error.shape, 1, object)
    wide = given.get("count_include_pad", 0)
    counts = (np.full(1, prod(kernel), object) if wide else
              convolved(inside, ones, pads, steps, channels))
    whole = prod(set(counts.flat))
    sums = convolved(x.exact.numbers, ones, pads, steps, channels) * (whole // counts)
    floats = counts.astype(np.float64)
    size, error = (np.asarray(convolved(item.astype(object), ones, pads, steps, channels),
                              np.float64) / floats for item in (x.size, x.error))
    return _sums(Exact(sums, x.exact.unit / whole), size, error, prod(kernel) + 2)


def _power(node, given, reals, arrays, opset):
    """Squares."""
    assert float(arrays[1]) == 2
    x = reals[0]
    return rounded(x.exact * x.exact, 2 * np.abs(x.exact.floats()) * x.error + x.error ** 2, 4)


def _compared(node, given, reals, arrays, opset):
    """1 where a comparison holds and 0 elsewhere; what is nearer than float32 is exact may be
    either."""
    x, y = reals
    less = x.exact + y.exact.each(np.negative)
    numbers = less.numbers * (1 if node.op_type.startswith("Greater") else -1)
    holds = numbers >= 0 if node.op_type.endswith("Equal") else numbers > 0
    near = np.abs(less.floats()) <= (x.error + y.error) * _SAFE
    near &= (x.error + y.error) > 0
    return Real(Exact(holds.astype(int)), near * 1.0)


def _not(node, given, reals, arrays, opset):
    return Real(reals[0].exact.each(lambda item: 1 - item), reals[0].error)


def _where(node, given, reals, arrays, opset):
    holds, yes, no = reals
    unit = common([yes.exact, no.exact])
    a, b = yes.exact.in_unit(unit), no.exact.in_unit(unit)
    made = Exact(np.where(holds.exact.numbers == 1, a, b), unit)
    gap = np.abs((yes.exact + no.exact.each(np.negative)).floats())
    return Real(made, holds.error * gap + np.zeros(made.numbers.shape))


def _same(node, given, reals, arrays, opset):
    return reals[0]


_MOVES = ("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GlobalMaxPool", "Max",
          "MaxPool", "Min", "Pad", "ReduceMax", "ReduceMin", "Reshape", "Slice", "SpaceToDepth",
          "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze")
_EXACT: dict[str, Callable] = {
    **dict.fromkeys(_MOVES, _chosen), "Conv": _conv, "ConvTranspose": _conv_transpose,
    "Gemm": _dense, "MatMul": _dense, "Add": _add(1), "Sum": _add(1), "Sub": _add(-1),
    "Mul": _multiply, "Div": _divide, "Relu": _clip, "Clip": _clip, "LeakyRelu": _slope,
    "PRelu": _slope, "HardSigmoid": _hard_sigmoid, "Abs": _absolute, "Neg": _absolute,
    "BatchNormalization": _batch_norm, "AveragePool": _mean, "GlobalAveragePool": _mean,
    "ReduceMean": _mean, "ReduceSum": _mean, "Resize": _resized, "Upsample": _resized,
    "Pow": _power, "Where": _where, "Not": _not,
    "Greater": _compared, "GreaterOrEqual": _compared, "Less": _compared, "LessOrEqual": _compared,
    "Identity": _same, "Dropout": _same, "Cast": _same}
#: Functions of one number without exact fractions: float64 is taken for exact, and ONNX Runtime's
#: and numpy's float32 to be right to 2**-20 of the number or of 1, a bound that is not derived.
FUNCTIONS = ("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh",
             "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSwish", "Log", "Mish", "Reciprocal",
             "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign",
             "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu")
NEAR = 2.0 ** -20


def compute(node: NodeProto, reals: Sequence[Real | None],
            arrays: Sequence[np.ndarray | None], opset: int) -> Real:
    """The first result of a node; `arrays` are the inputs that are constants."""
    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if node.op_type in FUNCTIONS:
        return _function(node, reals[0], opset)
    return _EXACT[node.op_type](node, given, reals, arrays, opset)


def _function(node, x, opset):
    graph = helper.make_graph([node], "one", [helper.make_tensor_value_info(
        node.input[0], 11, x.error.shape)], [helper.make_empty_tensor_value_info(node.output[0])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    evaluator, x_ = ReferenceEvaluator(model), x.exact.floats()
    with np.errstate(all="ignore"):
        made: list[Any] = [evaluator.run(None, {node.input[0]: numbers}) for numbers in (
            x_, x_ - x.error, x_ + x.error)]
    found, *ends = (np.asarray(item[0], np.float64) for item in made)
    # Where the number read is a little off, a step of the function may be passed.
    moved = np.fmax(*(np.abs(end - found) for end in ends))
    return Real(Exact.of(found), NEAR * np.maximum(1, np.abs(found)) + moved * _SAFE)
