"""What exporters write besides QuantizeLinear around float layers: operators on integers, short
floats and zero points of weights, thresholds, truncation."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from systolith.gen.chip.toml import load_chip
from systolith.gen.importer.reader import load, required_formats
from systolith.gen.kit.errors import UserError

from ...onnx_exact import on_chip
from ...onnx_networks import QONNX, Network, evaluate, run_onnx


def golden(model, images):
    graph = load(model)
    return graph, graph.decode_outputs(graph.run(graph.encode_inputs(images)))


def images_of(net, count=5, spread=3):
    return np.float32(net.rng.standard_normal((count, *net.shape)) * spread)


def compare(model, images, expected, rarely=0.002):
    graph, output = golden(model, images)
    assert output.shape == expected.shape and len(np.unique(output)) > 3
    steps = np.abs(output - expected) / np.min(graph.tensors[graph.outputs[0]].scale)
    assert steps.max() < 1.01 and (steps > 0.01).mean() <= rarely
    return graph


# Operators on integers.

@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("biased", [False, True])
def test_integer_operators_with_a_float_tail(kind, biased):
    rng = np.random.default_rng(80)
    net = Network(rng, (3, 7, 6))
    scale, zero = net.constant(np.float32(1 / 16)), net.constant(kind(100))
    x = net.node("QuantizeLinear", "x", scale, zero)
    codes = rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    x = net.node("ConvInteger", x, codes, zero, pads=[1, 0, 1, 2], strides=[2, 1])
    if biased:
        x = net.node("Add", x, rng.integers(-99, 99, (1, 4, 1, 1)).astype(np.int32))
    x = net.node("Mul", net.node("Cast", x, to=TensorProto.FLOAT),
                 np.float32(rng.uniform(0.001, 0.01, (1, 4, 1, 1))))
    x = net.node("Relu", net.node("Add", x, np.float32(rng.standard_normal((4, 1, 1)))))
    x = net.node("Flatten", net.node("QuantizeLinear", x, scale, zero))
    size = 4 * 4 * 6
    x = net.node("MatMulInteger", x, rng.integers(0, 256, (size, 5)).astype(np.uint8), zero,
                 np.uint8([128] * 5))
    x = net.node("Mul", net.node("Cast", x, to=TensorProto.FLOAT), np.float32(0.001))
    x = net.node("DequantizeLinear", net.node("QuantizeLinear", x, scale, zero), scale, zero)
    model, images = net.model(x, shapes=[(5,)]), images_of(net)
    compare(model, images, run_onnx(model, images, optimized=False)[x], rarely=0.04)


def test_concat_of_codes():
    rng = np.random.default_rng(81)
    net = Network(rng, (6, 5, 4))
    parts, numbers = [], []
    for n, kernel in enumerate((1, 3)):
        numbers += [(net.constant(np.float32(0.1 - n / 50)), net.constant(np.uint8(100 + n)))]
        x = net.node("QuantizeLinear", "x", np.float32(1 / 16), np.uint8(128))
        x = net.node("QLinearConv", x, np.float32(1 / 16), np.uint8(128),
                     rng.integers(-99, 99, (4, 6, kernel, kernel)).astype(np.int8),
                     np.float32(1 / 64), np.int8(0), *numbers[n], pads=[kernel // 2] * 4)
        parts += [x, *numbers[n]]
    x = net.node("QLinearConcat", *numbers[0], *parts, domain="com.microsoft", axis=1)
    x = net.node("DequantizeLinear", x, *numbers[0])
    model, images = net.model(x, shapes=[(8, 5, 4)]), images_of(net, 8)
    compare(model, images, run_onnx(model, images, optimized=False)[x])


@pytest.mark.parametrize("operator", ["DynamicQuantizeLinear"])
def test_scales_that_are_computed_are_refused(operator):
    net = Network(np.random.default_rng(82), (4,))
    net.node(operator, "x", name="odd", outputs=3)
    x = net.node("MatMulInteger", "odd_out", np.ones((4, 2), np.int8), "odd_out2")
    model = net.model(net.node("Cast", x, to=TensorProto.FLOAT), shapes=[(2,)])
    with pytest.raises(UserError, match=f"'odd' .{operator}.: its scale is computed from"):
        load(model)


# Programs.

def int9_network(net):
    scale, point = net.constant(np.float32(1 / 4)), net.constant(np.int8(3))
    codes = net.rng.integers(0, 256, (5, 3, 3, 3)).astype(np.uint8)
    x = net.node("DequantizeLinear", net.node("QuantizeLinear", "x", scale, point), scale, point)
    x = net.node("Conv", x, net.node("DequantizeLinear", codes, np.float32(1 / 128),
                                     np.uint8(100)))
    return net.node("DequantizeLinear", net.node("QuantizeLinear", x, scale, point), scale, point)


def short_float_network(net):
    scale = net.constant(np.float32(1 / 4))
    zero = net.constant(np.zeros((), helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E4M3FN)))
    x = net.node("DequantizeLinear", net.node("QuantizeLinear", "x", scale, zero), scale, zero)
    w = net.constant(np.float32(net.rng.standard_normal((5, 3, 3, 3))))
    w = net.node("DequantizeLinear", net.node("QuantizeLinear", w, scale, zero), scale, zero)
    x = net.node("QuantizeLinear", net.node("Conv", x, w), scale, zero)
    return net.node("DequantizeLinear", x, scale, zero)


def stairs_network(net):
    x = net.quant("x", 0.25, bits=8)
    x = net.node("Conv", x, net.quant(np.float32(net.rng.standard_normal((5, 3, 1, 1))), 0.25))
    thresholds = np.float32(net.rng.uniform(-5, 5, (5, 1)) + 0.25 * np.arange(255))
    x = net.node("MultiThreshold", x, thresholds, domain=QONNX, out_scale=0.5, out_bias=-40.0)
    x = net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    return net.node("Trunc", x, *map(np.float32, (0.125, 0, 10, 0.5, 8)), domain=QONNX, signed=1,
                    narrow=0, rounding_mode="FLOOR")


@pytest.mark.parametrize("make", [int9_network, short_float_network, stairs_network])
def test_programs_of_them(make):
    net = Network(np.random.default_rng(90), (3, 6, 6), opset=21)
    graph = load(net.model(make(net), shapes=[(5, 3, 3) if make is stairs_network else (5, 4, 4)]))
    activations, weight = (names[-1] for names in required_formats(graph))
    chip = load_chip("tiny-2x4-int4", [f"array.activation={activations}", f"array.weight={weight}",
                                       "array.largest_k=200"])
    codes = graph.encode_inputs(images_of(net, 1))
    on_chip(graph, codes, chip)


# Codes of every type.

TYPES = {"FLOAT8E4M3FN": "e4m3fn", "FLOAT8E5M2": "e5m2ieee", "FLOAT8E4M3FNUZ": "e4m3fnuz",
         "FLOAT8E5M2FNUZ": "e5m2fnuz", "FLOAT4E2M1": "e2m1", "FLOAT6E2M3": "e2m3",
         "FLOAT6E3M2": "e3m2", "INT4": "int4", "UINT4": "int4", "INT2": "int2", "UINT2": "int2",
         "INT16": "int16", "UINT16": "int16"}
OPSET = {"FLOAT4E2M1": 23, "FLOAT6E2M3": 28, "FLOAT6E3M2": 28, "INT2": 25, "UINT2": 25}


@pytest.mark.parametrize("kind", [kind for kind in TYPES if hasattr(TensorProto, kind)])
def test_codes_of_every_type(kind):
    rng = np.random.default_rng(83)
    net = Network(rng, (3, 6, 5), opset=OPSET.get(kind, 21))
    dtype = helper.tensor_dtype_to_np_dtype(getattr(TensorProto, kind))
    zero = net.constant(np.array(1 if kind == "UINT2" else 7 if kind == "UINT4" else 0, dtype))
    scale = net.constant(np.float32(1 / 2))

    def qdq(x):
        return net.node("DequantizeLinear", net.node("QuantizeLinear", x, scale, zero), scale, zero)
    numbers = rng.integers(-2, 3, (4, 3, 3, 3)) if "4" in kind or "2" in kind else (
        rng.integers(-9, 9, (4, 3, 3, 3)))
    codes = np.clip(numbers + (2 if kind == "UINT2" else 7 if kind[0] == "U" else 0), 0,
                    3 if "T2" in kind else 14) if kind[0] == "U" else np.clip(
        numbers, -2, 1) if kind == "INT2" else numbers
    zeros = np.full(4, 2 if kind == "UINT2" else 7 if kind[0] == "U" else 0)
    weight = net.node("DequantizeLinear", codes.astype(dtype), np.float32([1, .5, .25, 2]),
                      zeros.astype(dtype), axis=0)
    x = qdq(net.node("Conv", qdq("x"), weight, np.float32([1, 0, -1, 2])))
    model = net.model(x, shapes=[(4, 4, 3)])
    images = images_of(net, 4)
    graph, output = golden(model, images)
    assert required_formats(graph)[0] == [TYPES[kind]]
    expected, = ReferenceEvaluator(model).run(None, {"x": images})
    assert (output == expected).mean() > 0.99


@pytest.mark.parametrize("kind, zero, weight", [(np.uint8, 128, "int8"), (np.uint8, 120, "int9"),
                                                (np.int8, -20, "int9"), (np.int8, 0, "int8")])
def test_zero_points_of_weights_may_need_another_bit(kind, zero, weight):
    rng = np.random.default_rng(84)
    net = Network(rng, (3, 5, 5), opset=19)
    scale, point = net.constant(np.float32(1 / 4)), net.constant(np.int8(3))

    def qdq(x):
        return net.node("DequantizeLinear", net.node("QuantizeLinear", x, scale, point), scale,
                        point)
    ends = np.iinfo(kind)
    codes = rng.integers(ends.min, ends.max + 1, (4, 3, 3, 3)).astype(kind)
    codes[0, 0, 0] = ends.min, ends.max, zero
    w = net.node("DequantizeLinear", codes, np.float32(1 / 128), kind(zero))
    x = qdq(net.node("Conv", qdq("x"), w))
    model, images = net.model(x), images_of(net)
    graph = compare(model, images, ReferenceEvaluator(model).run(None, {"x": images})[0])
    assert required_formats(graph)[1] == [weight]


# Thresholds.

def threshold_network(thresholds, middle=None, **attributes):
    """Integers of 4 bits -> convolution -> MultiThreshold -> a layer of its own."""
    net = Network(np.random.default_rng(85), (4, 5, 6))
    weight = net.quant(np.float32(net.rng.integers(-7, 8, (3, 4, 2, 2))), 1.0, bits=8)
    x = net.node("Conv", net.quant("x", 1.0, bits=4), weight)
    x = x if middle is None else middle(net, x)
    return net, net.node("MultiThreshold", x, np.float32(thresholds), domain=QONNX, name="many",
                         **attributes)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 15, 255])
@pytest.mark.parametrize("sign", [1, -1])
def test_equidistant_thresholds_are_exact(count, sign):
    """Steps of every size, also of a fraction of an integer, and after a batch norm that turns
    a channel around."""
    rng = np.random.default_rng([86, count])
    steps = rng.uniform(3, 30, (3, 1))
    thresholds = rng.uniform(-60, 60, (3, 1)) + steps * (np.arange(count) - count // 2)

    def norm(net, x):
        return net.node("Mul", x, np.float32([sign, 1, 1]).reshape(1, 3, 1, 1))
    net, x = threshold_network(thresholds, norm, out_dtype="UINT8", out_scale=0.5, out_bias=-1.0)
    model, images = net.model(x), images_of(net, 9)
    _, output = golden(model, images)
    assert (output != evaluate(model, images)[x]).mean() < 0.01


def test_a_threshold_alone_is_a_sign():
    net, x = threshold_network([[3], [-2.5], [0]], out_dtype="BIPOLAR", out_scale=2.0,
                               out_bias=-1.0)
    model, images = net.model(x), images_of(net)
    graph, output = golden(model, images)
    assert (output == evaluate(model, images)[x]).all()
    assert "bipolar1" in required_formats(graph)[0]


def test_thresholds_of_the_input():
    net = Network(np.random.default_rng(87), (3, 4, 4))
    x = net.node("MultiThreshold", "x", np.float32([[-1.5, -0.5, 0.5, 1.5]]), domain=QONNX,
                 out_dtype="INT4", out_bias=-2.0)
    x = net.node("Conv", x, net.quant(np.ones((2, 3, 1, 1), np.float32), 1.0, bits=4))
    model = net.model(x)
    images = np.float32(net.rng.integers(-6, 7, (9, 3, 4, 4)) / 2)
    _, output = golden(model, images)
    assert (output == evaluate(model, images)[x]).all()


@pytest.mark.usefixtures("chip_alone")
@pytest.mark.parametrize("attributes, thresholds, message", [
    (dict(), [[0, 1, 50]], "must be equidistant"), (dict(out_scale=-1.0), [[1, 2]], "out_scale"),
    (dict(data_layout="NHWC"), [[1, 2]], "attribute data_layout must be"),
    (dict(), [[1, 2], [1, 2]], "one for each of 3 channels, not 2"),
    (dict(), [1, 2], "its thresholds must have the shape")])
def test_thresholds_that_no_chip_counts(attributes, thresholds, message):
    net, x = threshold_network(thresholds, **attributes)
    with pytest.raises(UserError, match=f"node 'many' .MultiThreshold.*{message}"):
        load(net.model(x, shapes=[(3, 4, 5)]))


@pytest.mark.parametrize("mode", ["FLOOR", "CEIL", "ROUND"])
@pytest.mark.parametrize("signed", [0, 1])
def test_quantizers_that_round_to_a_side(mode, signed):
    net = Network(np.random.default_rng(88), (4, 5, 6))
    weight = net.quant(np.float32(net.rng.integers(-7, 8, (3, 4, 2, 2))), 1.0, bits=8)
    x = net.node("Conv", net.quant("x", 1.0, bits=4), weight)
    x = net.node("Quant", x, np.float32(9.7), np.float32(0), np.float32(4), domain=QONNX,
                 signed=signed, narrow=0, rounding_mode=mode)
    model, images = net.model(x), images_of(net, 9)
    _, output = golden(model, images)
    expected = evaluate(model, images)[x]
    assert np.isclose(output, expected).mean() > 0.99 and len(np.unique(output)) > 5
    assert abs(output - expected).max() < 9.8


@pytest.mark.parametrize("mode", ["FLOOR", "CEIL", "ROUND"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("signed", [0, 1])
def test_means_that_are_truncated(mode, version, signed):
    """As Brevitas writes TruncAvgPool2d."""
    net = Network(np.random.default_rng(89), (3, 8, 8))
    x = net.quant("x", 0.25, signed=signed, bits=8)
    x = net.node("AveragePool", x, kernel_shape=[4, 4], strides=[4, 4])
    numbers = [0.25 / 16, 0, 12, *([] if version == 1 else [0.25]), 8]
    attributes = {} if version == 1 else {"signed": signed, "narrow": 0}
    x = net.node("Trunc", x, *map(np.float32, numbers), domain=QONNX, rounding_mode=mode,
                 **attributes)
    model = net.model(x)
    images = images_of(net, 20, 20)
    _, output = golden(model, images)
    assert (output == evaluate(model, images)[x]).all() and len(np.unique(output)) > 20
