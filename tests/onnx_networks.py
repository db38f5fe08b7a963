"""Random ONNX networks, and an evaluator of them in float64 that owes nothing to Systolith."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import CalibrationDataReader, quantize_static

QONNX = "qonnx.custom_op.general"


class Network:
    """Collects nodes and constants; each method returns the name of its result."""

    def __init__(self, rng, shape, name="x", opset=13, element=TensorProto.FLOAT):
        self.rng, self.nodes, self.constants, self.opset = rng, [], [], opset
        self.shape, self.input = shape, helper.make_tensor_value_info(name, element, ["N", *shape])

    def constant(self, array, name=None):
        name = name or f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, operator, *inputs, domain="", name=None, output=None, outputs=1, **attributes):
        """Add a node; inputs that are arrays become constants."""
        name = name or f"{operator.lower()}{len(self.nodes)}"
        inputs = [item if isinstance(item, str) else self.constant(item) for item in inputs]
        names = [output or f"{name}_out"] + [f"{name}_out{n}" for n in range(1, outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, name, domain=domain,
                                           **attributes))
        return names[0]

    def model(self, *outputs, types=TensorProto.FLOAT, shapes=None):
        """The network with these outputs; their shapes come from evaluating it."""
        graph = helper.make_graph(self.nodes, "net", [self.input], [], self.constants)
        domains = {node.domain for node in self.nodes} - {""}
        opsets = [helper.make_opsetid("", self.opset)] + [
            helper.make_opsetid(domain, 1) for domain in sorted(domains)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        if shapes is None:
            values = evaluate(model, np.zeros((2, *self.shape)))
            shapes = [values[name].shape[1:] for name in outputs]
        model.graph.output.extend(
            helper.make_tensor_value_info(name, types, ["N", *shape])
            for name, shape in zip(outputs, shapes, strict=True))
        return model

    # QONNX.

    def float_quant(self, x, scale, exponent=3, mantissa=2, bias=None, largest=None, name=None):
        bias = (1 << (exponent - 1)) - 1 if bias is None else bias
        top = 2.0 ** ((1 << exponent) - 1 - bias) * (2 - 2.0 ** -mantissa)
        numbers = [np.float32(item) for item in
                   (exponent, mantissa, bias, top if largest is None else largest)]
        return self.node("FloatQuant", x, np.float32(scale), *numbers, domain=QONNX, name=name,
                         has_inf=0, has_nan=0, has_subnormal=1, saturation=1,
                         rounding_mode="ROUND")

    def quant(self, x, scale, zero=0, bits=8, signed=1, narrow=0, name=None):
        return self.node("Quant", x, np.float32(scale), np.float32(zero), np.float32(bits),
                         domain=QONNX, name=name, signed=signed, narrow=narrow,
                         rounding_mode="ROUND")

    def bipolar_quant(self, x, scale=1.0, name=None):
        return self.node("BipolarQuant", x, np.float32(scale), domain=QONNX, name=name)


def random_cnn(rng, layers=3, opset=13):
    """A float CNN of random shapes, and calibration data: convolutions with random kernels,
    strides, pads and dilations, ReLUs, pooling, dense layers."""
    shape = [int(rng.integers(1, 5)), int(rng.integers(7, 15)), int(rng.integers(7, 15))]
    net, x = Network(rng, tuple(shape), opset=opset), "x"

    def weights(*sizes):
        values = rng.standard_normal(sizes) * rng.uniform(0.3, 2, (sizes[0],) + (1,) * (
            len(sizes) - 1))
        return np.float32(values / np.sqrt(np.prod(sizes[1:])))
    for _ in range(layers - 1):
        channels, outputs = shape[0], int(rng.integers(1, 13))
        kernel, stride = rng.integers(1, 4, 2), rng.integers(1, 3, 2)
        dilation, pads = rng.integers(1, 3, 2), rng.integers(0, 3, 4)
        sizes = [(shape[1 + n] + pads[n] + pads[n + 2] - dilation[n] * (kernel[n] - 1) - 1)
                 // stride[n] + 1 for n in (0, 1)]
        if min(sizes) < 2:
            break
        bias = [np.float32(rng.standard_normal(outputs) / 2)] if rng.random() < 0.8 else []
        x = net.node("Conv", x, weights(outputs, channels, *kernel), *bias,
                     strides=stride.tolist(), dilations=dilation.tolist(), pads=pads.tolist())
        shape = [outputs, *map(int, sizes)]
        parts = ["Relu"] * (rng.random() < 0.7) + ["MaxPool"] * (
            rng.random() < 0.5 and min(shape[1:]) >= 2)
        for part in rng.permutation(parts):
            if part == "Relu":
                x = net.node("Relu", x)
            else:
                x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
                shape = [shape[0], shape[1] // 2, shape[2] // 2]
    if not net.nodes or rng.random() < 0.8:
        if rng.random() < 0.5:
            x = net.node("Flatten", x)
        else:
            x = net.node("Reshape", x, np.array([-1, int(np.prod(shape))]))
        size, outputs = int(np.prod(shape)), int(rng.integers(2, 20))
        bias = np.float32(rng.standard_normal(outputs) / 2)
        if rng.random() < 0.7:
            transposed = int(rng.integers(0, 2))
            weight = weights(outputs, size)
            x = net.node("Gemm", x, weight if transposed else weight.T.copy(), bias,
                         transB=transposed)
        else:
            x = net.node("MatMul", x, weights(outputs, size).T.copy())
            if rng.random() < 0.7:
                x = net.node("Add", x, bias)
        if rng.random() < 0.4:
            x = net.node("Relu", x)
    model = net.model(x)
    return model, np.float32(rng.standard_normal((4, 1, *net.shape)) + rng.uniform(-1, 1))


class _Reader(CalibrationDataReader):
    def __init__(self, name, batches):
        self.batches = iter([{name: batch} for batch in batches])

    def get_next(self):
        return next(self.batches, None)


def quantized(model, batches, path, **settings):
    """`model` as quantize_static writes it, at `path`; returns the path."""
    quantize_static(model, str(path), _Reader(model.graph.input[0].name, batches), **settings)
    return path


def run_onnx(path, images, optimized=True, extra=()):
    """What ONNX Runtime computes: {output: array}, with the tensors `extra` among them."""
    model = onnx.load(path) if not isinstance(path, onnx.ModelProto) else path
    model = onnx.ModelProto.FromString(model.SerializeToString())
    have = {item.name for item in model.graph.output}
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in extra
                              if name not in have)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: images}),
                    strict=True))


# Evaluating in float64, QONNX's operators from their definition.

def _float_quant(x, scale, exponent, mantissa, bias, largest):
    x = x / scale
    with np.errstate(divide="ignore"):
        step = np.floor(np.log2(np.abs(x))) - mantissa
    step = np.exp2(np.maximum(step, 1 - bias - mantissa))
    top = (2 - 2.0 ** -mantissa) * 2.0 ** (2.0 ** exponent - 1 - bias)
    return np.clip(step * np.round(x / step), -min(top, largest), min(top, largest)) * scale


ROUNDINGS = {"ROUND": np.round, "FLOOR": np.floor, "CEIL": np.ceil}


def _quant(x, scale, zero, bits, signed, narrow, rounding_mode="ROUND"):
    low = -(2.0 ** (bits - 1)) + narrow if signed else 0
    high = 2.0 ** (bits - 1) - 1 if signed else 2.0 ** bits - 1 - narrow
    return (ROUNDINGS[rounding_mode](np.clip(x / scale + zero, low, high)) - zero) * scale


def _trunc(x, scale, zero, bits, *numbers, rounding_mode, signed=None, narrow=0):
    """`numbers`: the output's bits (version 1), or its scale and bits (version 2)."""
    whole = np.round(x / scale + zero)
    if len(numbers) == 1:
        return (ROUNDINGS[rounding_mode](whole / 2.0 ** (bits - numbers[0])) - zero) * scale
    shift = 2 ** np.round(np.log2(numbers[0] / scale))
    low = -(2.0 ** (numbers[1] - 1)) + narrow if signed else 0
    high = 2.0 ** (numbers[1] - 1) - 1 if signed else 2.0 ** numbers[1] - 1 - narrow
    return (ROUNDINGS[rounding_mode](np.clip(whole / shift, low, high)) - zero / shift) * numbers[0]


def _multi_threshold(x, thresholds, out_dtype="", out_scale=1.0, out_bias=0.0, data_layout=""):
    levels = thresholds.reshape(len(thresholds), -1, *[1] * (x.ndim - 2))
    return out_scale * (x[:, :, None] >= levels).sum(axis=2) + out_bias


def _conv_transpose(x, weight, bias=None, group=1, strides=None, dilations=None, pads=None,
                    output_padding=None):
    """From its definition: every input pixel adds the kernel at its place. The reference evaluator
    knows no groups."""
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    pads, more = pads or [0] * 2 * rank, output_padding or [0] * rank
    each = weight.shape[1]
    out = [(n - 1) * s + (k - 1) * d + 1 + m for n, s, k, d, m in zip(
        x.shape[2:], strides, weight.shape[2:], dilations, more, strict=True)]
    result = np.zeros((len(x), each * group, *out))
    for n, part in enumerate(np.split(x, group, axis=1)):
        mine = weight[n * part.shape[1]:(n + 1) * part.shape[1]]
        for tap in np.ndindex(*weight.shape[2:]):
            place = tuple(slice(t * d, t * d + (size - 1) * s + 1, s) for t, d, size, s in zip(
                tap, dilations, x.shape[2:], strides, strict=True))
            result[(slice(None), slice(n * each, (n + 1) * each), *place)] += np.einsum(
                "ni...,io->no...", part, mine[(..., *tap)])
    result = result[(..., *(slice(a, size - b) for a, b, size in zip(
        pads[:rank], pads[rank:], out, strict=True)))]
    return result if bias is None else result + bias.reshape(-1, *[1] * rank)


#: Operators that ONNX Runtime computes, since ONNX's reference does not heed all attributes, and
#: the type in which it has them.
_BY_RUNTIME = {"AveragePool": TensorProto.FLOAT, "MaxPool": TensorProto.DOUBLE}


def _by_runtime(node, inputs):
    kind = _BY_RUNTIME[node.op_type]
    x, y = (helper.make_tensor_value_info(name, kind, None)
            for name in (node.input[0], node.output[0]))
    model = helper.make_model(helper.make_graph([node], "pool", [x], [y]), ir_version=10,
                              opset_imports=[helper.make_opsetid("", 22)])
    images = inputs[0].astype(helper.tensor_dtype_to_np_dtype(kind))
    result, = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {x.name: images})
    return [result.astype(np.float64)]


def evaluate(model, images):
    """Every tensor of a network in float64: {name: array}. Constants keep their precision."""
    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    values = {name: array.astype(np.float64) if array.dtype == np.float32 else array
              for name, array in values.items()}
    values[model.graph.input[0].name] = np.asarray(images, np.float64)
    for node in model.graph.node:
        inputs = [values[name] if name else None for name in node.input]
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type == "FloatQuant":
            result = [_float_quant(*inputs)]
        elif node.op_type == "Quant":
            mode = attributes["rounding_mode"].decode()
            result = [_quant(*inputs, attributes["signed"], attributes["narrow"], mode)]
        elif node.op_type == "Trunc":
            attributes["rounding_mode"] = attributes["rounding_mode"].decode()
            result = [_trunc(*inputs, **attributes)]
        elif node.op_type == "MultiThreshold":
            result = [_multi_threshold(*inputs, **attributes)]
        elif node.op_type == "BipolarQuant":
            result = [np.where(inputs[0] >= 0, 1.0, -1.0) * inputs[1]]
        elif node.op_type == "Cast":
            result = [inputs[0].astype(np.float64)]
        elif node.op_type == "ConvTranspose":
            result = [_conv_transpose(*inputs, **attributes)]
        elif node.op_type in _BY_RUNTIME:
            result = _by_runtime(node, inputs)
        else:
            feeds = {name: values[name] for name in node.input if name}
            result = ReferenceEvaluator(node).run(None, feeds)
        values.update(zip(node.output, result, strict=False))
    return values


