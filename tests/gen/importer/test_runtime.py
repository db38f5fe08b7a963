"""Operator by operator against ONNX Runtime: where scales are powers of two, so that float32 is
exact, the golden model's outputs are its outputs, to the bit."""

import numpy as np
import onnxruntime
import pytest
from systolith.gen.importer.reader import load

from ...onnx_exact import bias, integer_network, qdq, weights

QUARTER = 1 / 4


def session(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def conv(net, x, *shape, bias_of=None, **attributes):
    b = [bias(net, bias_of or shape[0])] if bias_of != 0 else []
    return net.node("Conv", x, weights(net, *shape), *b, **attributes)


def two(net, x):
    """Two maps of the same shape."""
    return (qdq(net, conv(net, x, 4, 4, 1, 1), QUARTER, 3),
            qdq(net, conv(net, x, 4, 4, 3, 3, pads=[1] * 4), QUARTER * 2, -5))


def pair(operator):
    return lambda net, x: net.node(operator, *two(net, x))


def alone(operator, *inputs, **attributes):
    return lambda net, x: net.node(operator, qdq(net, conv(net, x, 4, 4, 1, 1), QUARTER, 3),
                                   *inputs, **attributes)


#: What is computed of a map of 4 channels and 8 x 8 pixels, before it is quantized.
OPERATORS = {
    "Conv": lambda net, x: conv(net, x, 6, 4, 3, 3),
    "Conv, pads and strides": lambda net, x: conv(net, x, 5, 4, 3, 2, pads=[1, 0, 2, 1],
                                                  strides=[2, 1]),
    "Conv, dilations": lambda net, x: conv(net, x, 3, 4, 2, 3, dilations=[3, 2]),
    "Conv, groups": lambda net, x: conv(net, x, 6, 2, 3, 3, group=2),
    "Conv, depthwise": lambda net, x: conv(net, x, 4, 1, 3, 3, group=4, pads=[1] * 4),
    "Conv without bias": lambda net, x: conv(net, x, 6, 4, 1, 1, bias_of=0),
    "ConvTranspose": lambda net, x: net.node(
        "ConvTranspose", x, weights(net, 4, 3, 3, 3), bias(net, 3), strides=[2, 2],
        pads=[1] * 4),
    "Gemm": lambda net, x: net.node("Gemm", net.node("Flatten", x), weights(net, 7, 256),
                                    bias(net, 7), transB=1),
    "MatMul": lambda net, x: net.node("MatMul", net.node("Flatten", x), weights(net, 256, 5)),
    "Add": pair("Add"), "Sub": pair("Sub"), "Mul": pair("Mul"), "Max": pair("Max"),
    "Min": pair("Min"), "Sum": pair("Sum"),
    "Concat": lambda net, x: net.node("Concat", *two(net, x), axis=1),
    "Relu": lambda net, x: net.node("Relu", conv(net, x, 4, 4, 1, 1)),
    "Clip": lambda net, x: net.node("Clip", conv(net, x, 4, 4, 1, 1), np.float32(-2),
                                    np.float32(6)),
    "LeakyRelu": lambda net, x: net.node("LeakyRelu", conv(net, x, 4, 4, 1, 1), alpha=0.25),
    "PRelu": lambda net, x: net.node("PRelu", conv(net, x, 4, 4, 1, 1), np.float32(
        [[[0.5]], [[0.25]], [[0.125]], [[1]]])),
    "MaxPool": alone("MaxPool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]),
    "AveragePool": alone("AveragePool", kernel_shape=[2, 4], strides=[2, 2]),
    "GlobalAveragePool": alone("GlobalAveragePool"),
    "GlobalMaxPool": lambda net, x: net.node("GlobalMaxPool", qdq(net, conv(net, x, 4, 4, 1, 1),
                                                                  1, 3)),
    "ReduceSum": alone("ReduceSum", np.int64([2, 3])),
    "Resize": alone("Resize", np.float32([]), np.float32([1, 1, 2, 2]), mode="nearest",
                    coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "DepthToSpace": alone("DepthToSpace", blocksize=2),
    "SpaceToDepth": alone("SpaceToDepth", blocksize=2),
    "Slice": alone("Slice", np.int64([1, 2]), np.int64([4, 7]), np.int64([1, 2])),
    "Pad": alone("Pad", np.int64([0, 0, 1, 2, 0, 0, 0, 1])),
    "Transpose": alone("Transpose", perm=[0, 1, 3, 2]),
    "Neg": alone("Neg"), "Abs": alone("Abs"),
    "BatchNormalization": lambda net, x: net.node(
        "BatchNormalization", conv(net, x, 4, 4, 1, 1), np.float32([1, 0.5, 2, -1]),
        np.float32([0.5, 0, -1, 2]), np.float32([0, 1, -1, 0.5]), np.float32([1, 4, 0.25, 1]),
        epsilon=0.0),
}


@pytest.mark.parametrize("kind", [np.int8, np.uint8], ids=["int8", "uint8"])
@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_gives_what_onnx_runtime_gives(name, kind):
    rng = np.random.default_rng(len(name))
    net, x = integer_network(rng, (4, 8, 8))
    result = OPERATORS[name](net, x)
    # Numbers of the quantizer, halves of its steps, and beyond its ends.
    images = np.float32(rng.integers(-320, 320, (8, 4, 8, 8)) / 32)
    floats, = session(net.model(result)).run(None, {"x": images})
    step = 2.0 ** np.floor(np.log2(np.abs(floats).max() / 100))     # so that some are clipped
    model = net.model(qdq(net, result, step, -3 if kind is np.int8 else 140, kind))
    graph = load(model)
    found = np.asarray(graph.decode_outputs(graph.run(graph.encode_inputs(images))))
    expected, = session(model).run(None, {"x": images})
    assert found.shape == expected.shape
    assert (found == expected).all(), (np.abs(found - expected).max(), (found != expected).mean())
    assert len(np.unique(found)) > 4
