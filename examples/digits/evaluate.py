"""What the exported files say, computed in float64 by numpy alone: no PyTorch, no Systolith.

`python evaluate.py MODEL.onnx` prints the accuracy on the held-out digits. Knows the operators
that `export.py` writes, QONNX's two quantizers among them, and those of onnxruntime's QDQ form.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["TEST_FILE", "accuracy", "evaluate", "load_test"]


TEST_FILE = Path(__file__).with_name("digits-test.npz")


def load_test(path=TEST_FILE):
    """(images float64 [1000, 1, 28, 28] in 0..1, labels [1000])."""
    with np.load(path) as file:
        # Divided in float32, as whoever feeds the models does.
        images = file["images"][:, None].astype(np.float32) / np.float32(255)
        return images.astype(np.float64), file["labels"].astype(np.int64)


def _float_quant(x, scale, exponent_bits, mantissa_bits, exponent_bias, largest, **attributes):
    expected = {"has_inf": 0, "has_nan": 0, "has_subnormal": 1, "rounding_mode": b"ROUND",
                "saturation": 1}
    if attributes != expected:
        raise ValueError(f"FloatQuant must have the attributes {expected}, not {attributes}")
    scaled = x / scale
    _, lead = np.frexp(scaled)
    step = np.exp2(np.maximum(lead - 1, 1 - exponent_bias) - mantissa_bits)
    top = (2 - 2.0 ** -mantissa_bits) * 2.0 ** (2 ** exponent_bits - 1 - exponent_bias)
    return np.clip(np.rint(scaled / step) * step, -min(top, largest), min(top, largest)) * scale


def _quant(x, scale, zero, bits, signed, narrow, rounding_mode):
    if rounding_mode != b"ROUND":
        raise ValueError("Quant must round to even")
    top = 2 ** (bits - signed) - 1
    low = narrow - 1 - top if signed else 0
    return (np.clip(np.rint(x / scale + zero), low, top) - zero) * scale


def _conv(x, weight, bias=0, kernel_shape=(), pads=(), strides=(), dilations=(1, 1), group=1):
    if group != 1 or tuple(dilations) != (1, 1):
        raise ValueError("Conv must have group 1 and dilations 1")
    x = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    windows = np.lib.stride_tricks.sliding_window_view(x, tuple(kernel_shape), axis=(2, 3))
    windows = windows[:, :, ::strides[0], ::strides[1]]
    sums = np.einsum("nchwyx,ocyx->nohw", windows, weight, optimize=True)
    return sums + np.reshape(bias, (-1, 1, 1))


def _max_pool(x, kernel_shape, strides):
    if list(kernel_shape) != [2, 2] or list(strides) != [2, 2]:
        raise ValueError("MaxPool must be 2x2 with stride 2")
    count, channels, height, width = x.shape
    x = x[:, :, :height // 2 * 2, :width // 2 * 2]
    return x.reshape(count, channels, height // 2, 2, width // 2, 2).max((3, 5))


def _average_pool(x, kernel_shape, strides):
    if list(kernel_shape) != [2, 2] or list(strides) != [2, 2] or x.shape[2] % 2 or x.shape[3] % 2:
        raise ValueError("AveragePool must be 2x2 with stride 2, of maps with even sides")
    count, channels, height, width = x.shape
    return x.reshape(count, channels, height // 2, 2, width // 2, 2).mean((3, 5))


def _gemm(x, weight, bias, transB=0, alpha=1.0, beta=1.0):
    return alpha * (x @ (weight.T if transB else weight)) + beta * bias


def _batch_norm(x, scale, bias, mean, variance, epsilon=1e-5):
    shape = (1, -1) + (1,) * (x.ndim - 2)
    factor = scale / np.sqrt(variance + epsilon)
    return (x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)


def _per_axis(value, x, axis):
    value = np.asarray(value, dtype=np.float64)
    return value.reshape([-1 if n == axis else 1 for n in range(x.ndim)]) if value.ndim else value


def _dequantize(x, scale, zero_point=0, axis=1):
    return (x - _per_axis(zero_point, x, axis)) * _per_axis(scale, x, axis)


def _quantize_to(limits):
    def quantize(x, scale, zero_point, axis=1):
        codes = np.rint(x / _per_axis(scale, x, axis)) + _per_axis(zero_point, x, axis)
        return np.clip(codes, limits.min, limits.max)
    return quantize


_OPERATORS = {
    "FloatQuant": _float_quant,
    "Quant": _quant,
    "Add": np.add,
    "PRelu": lambda x, slope: np.where(x < 0, slope * x, x),
    "BipolarQuant": lambda x, scale: np.where(x >= 0, scale, -scale),
    "Conv": _conv,
    "Relu": lambda x: np.maximum(x, 0),
    "Neg": np.negative,
    "Mul": np.multiply,
    "Clip": np.clip,
    "Concat": lambda *parts, axis: np.concatenate(parts, axis),
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdims=True),
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
    "Flatten": lambda x, axis=1: x.reshape(*x.shape[:axis], -1),
    "Gemm": _gemm,
    "MatMul": np.matmul,
    "BatchNormalization": _batch_norm,
    "Sub": np.subtract,
    "DequantizeLinear": _dequantize,
}


def evaluate(model, images):
    """The result of `model` (an ONNX model with one input, one output) for a batch, in float64."""
    graph = model.graph
    if len(graph.input) != 1:
        raise ValueError(f"the model must have one input, not {len(graph.input)}")
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    shape = [item.dim_value for item in graph.input[0].type.tensor_type.shape.dim]
    values = {name: value.astype(np.float64) for name, value in constants.items()}
    values[graph.input[0].name] = np.asarray(images, np.float64).reshape(-1, *shape[1:])
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            operator = _quantize_to(np.iinfo(constants[node.input[2]].dtype))
        else:
            operator = _OPERATORS[node.op_type]
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        values[node.output[0]] = operator(*(values[name] for name in node.input), **attributes)
    return values[graph.output[0].name]


def accuracy(path, images, labels):
    """The share of `images` for which the file's largest result is at the label."""
    results = evaluate(onnx.load(path), images)
    return float(np.mean(results.argmax(1) == labels))


if __name__ == "__main__":
    for model_path in sys.argv[1:]:
        print(f"{model_path}: {100 * accuracy(model_path, *load_test()):.1f} % of 1,000")
