"""Channels of different scales: quantizers with one for each channel, and layers that read what is
put together of several."""

import numpy as np
import pytest
from systolith.gen.compile.widen import widened
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError

from ...onnx_exact import CHIPS, on_chip, qdq
from ...onnx_networks import Network, evaluate
from .dialects.test_qonnx import compare
from .operators.test_sums import CHIP, Case
from .test_groups import convolution, network


def each(array):
    return np.float32(array).reshape(1, -1, 1, 1)


def joined(case, zeros=(3, -9), **attributes):
    """Two convolutions, quantized with scales of their own, and their Concat."""
    parts = [case.quantized(case.conv(case.x), zeros[0]),
             case.quantized(case.conv(case.x, 4, kernel=1), zeros[1])]
    return case.net.node("Concat", *parts, axis=1, **attributes)


@pytest.mark.parametrize("kind", ["convolution", "padded", "dense", "depthwise", "Relu", "pooled",
                                  "mean", "sum", "odd zero points"])
def test_concat_of_different_scales(kind):
    case = Case(50)
    net = case.net
    x = joined(case, (-128, 7) if kind == "odd zero points" else (3, 3) if kind in (
        "padded", "Relu") else (3, -9))
    if kind == "Relu":
        x = case.conv(net.node("Relu", x), 5, 9)
    elif kind == "pooled":
        x = case.conv(net.node("MaxPool", x, kernel_shape=[2, 2]), 5, 9, kernel=1)
    elif kind == "depthwise":
        x = case.conv(x, 9, 9, group=9, pads=[0] * 4)
    elif kind == "mean":
        x = net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    elif kind == "sum":
        x = net.node("Add", x, case.quantized(case.conv(case.x, 9)))
    elif kind == "dense":
        weight = net.quant(np.float32(case.rng.integers(-100, 100, (9 * 42, 30)) / 800),
                           1 / 800)
        x = net.node("MatMul", net.node("Flatten", x), weight)
    else:
        x = case.conv(x, 5, 9, kernel=3)
    # A code before the layer may be one off, since biases are rounded to steps of its sums.
    graph = case.check(case.quantized(x), 0.02, near=0.25)
    if kind == "depthwise":
        assert len(graph.layers) == 3       # exact: no digits


@pytest.mark.parametrize("zero, kernel", [(3, 3), (-9, 1)])
def test_ratios_of_two_are_in_the_weights(zero, kernel):
    """Without padding, whatever the zero points."""
    case = Case(51, weight=5)
    parts = [qdq(case.net, case.conv(case.x), *form) for form in ((1 / 8, 3), (1 / 16, zero))]
    x = case.conv(case.net.node("Concat", *parts, axis=1), 5, 10, kernel=kernel)
    model = case.net.model(case.quantized(x))
    graph = load(model)
    assert len(graph.layers) == 3 and [layer.weights.format.bits for layer in graph.layers][2] == 6


def test_an_output_of_different_scales():
    case = Case(52)
    model = case.net.model(joined(case))
    images = np.float32(case.rng.standard_normal((4, 4, 6, 7)))
    graph = load(model)
    codes = graph.encode_inputs(images)
    expected = evaluate(model, images)[model.graph.output[0].name]
    found = graph.decode_outputs(graph.run(codes))
    assert (np.abs(found - expected) > 1e-5).mean() < 0.01
    on_chip(graph, codes, CHIP)


SCALES = [0.25, 0.125, 0.0625, 0.125, 0.5, 0.25]


@pytest.mark.parametrize("place, reader", [
    (place, reader) for place in ("input", "convolution", "Clip", "codes", "pool")
    for reader in ("depthwise", "dense", "output") if (place, reader) != ("input", "output")])
def test_scales_of_their_own_in_quant(place, reader):
    net, _, images = network(60)
    x = net.quant("x", 2.0 ** -4)
    if place == "input":
        x, scales = "x", SCALES[:4]
    elif place == "codes":
        scales = SCALES[:4]
    else:
        x, scales = convolution(net, x, 6, 4), SCALES
        if place == "Clip":
            x = net.node("Clip", x, np.float32(0), np.float32(6))
        elif place == "pool":
            x = net.node("MaxPool", net.node("Relu", x), kernel_shape=[2, 2], strides=[2, 2])
    x = net.quant(x, each(scales), bits=5, signed=int(place in ("input", "codes", "convolution")))
    channels = len(scales)
    if reader == "depthwise":
        x = net.quant(convolution(net, x, channels, channels, group=channels), 0.25)
    elif reader == "dense":
        x = net.quant(convolution(net, x, 3, channels, bits=4), 0.25)
    model = net.model(x)
    graph = load(model)
    codes = graph.encode_inputs(images)
    found = graph.decode_outputs(graph.run(codes))
    assert np.allclose(found, evaluate(model, images)[x], rtol=1e-5, atol=1e-5)
    graph = widened(graph, CHIPS[0])
    on_chip(graph, graph.encode_inputs(images), CHIPS[0])


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("reader", ["depthwise", "mean", "output"])
def test_scales_and_zero_points_along_an_axis(kind, reader):
    case = Case(61)
    net, least = case.net, 0 if kind == np.uint8 else -128
    scale = np.float32([0.07, 0.11, 0.05, 0.21, 0.1])
    zero = kind([least + n for n in (128, 131, 120, 128, 128)])
    x = net.node("Relu", case.conv(case.x))
    x = net.node("DequantizeLinear", net.node("QuantizeLinear", x, scale, zero, axis=1), scale,
                 zero, axis=1)
    if reader == "depthwise":
        x = case.conv(x, 5, 5, group=5, pads=[0] * 4)
    elif reader == "mean":
        x = net.node("AveragePool", x, kernel_shape=[3, 3])
    if reader != "output":
        case.check(case.quantized(x))
        return
    model = net.model(x)
    images = np.float32(case.rng.standard_normal((4, 4, 6, 7)))
    graph = load(model)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    wrong = np.abs(found - evaluate(model, images)[x]) > 1e-5
    assert wrong.mean() < 0.01
    on_chip(graph, graph.encode_inputs(images), CHIP)


def test_too_many_scales_are_refused():
    net = Network(np.random.default_rng(0), (6, 5, 5), opset=17)
    x = net.quant("x", each([0.1, 0.13, 0.17, 0.19, 0.23, 0.29]))
    weight = net.quant(net.constant(np.float32(net.rng.standard_normal((3, 6, 1, 1)))), 0.02)
    y = net.quant(net.node("Conv", x, weight), 0.25)
    with pytest.raises(UserError, match="reads channels of 6 scales whose ratios its weights"):
        load(net.model(y, shapes=[(3, 5, 5)]))


def test_a_relu_before_factors_of_channels():
    net, _, images = network(62)
    x = net.node("Relu", convolution(net, net.quant("x", 2.0 ** -4), 4, 4))
    x = net.node("Mul", x, each([0.5, 1, 2, 0.25]))
    compare(net.model(net.quant(x, 2.0 ** -3, signed=0)), images)


@pytest.mark.parametrize("pad", [0, 1])
def test_channels_that_are_constant(pad):
    net, _, images = network(63)
    x = net.quant("x", 2.0 ** -4)
    x = net.node("Mul", x, each([1, 0, 2, 0]))
    x = x if pad else net.node("Add", x, each([0, 0.5, 0, -1]))
    x = net.quant(convolution(net, x, 3, 4, pad=pad), 0.25)
    compare(net.model(x), images)


@pytest.mark.parametrize("zero", [-2, 3])
def test_padding_of_a_part_of_few_bits(zero):
    """A part of a Concat lies in a tensor of wider codes, and is padded with its own zero point
    there."""
    net = Network(np.random.default_rng(0), (4, 6, 6))
    x = net.quant("x", 1 / 16)

    def conv(x, outputs, inputs, kernel):
        numbers = np.float32(net.rng.standard_normal((outputs, inputs, kernel, kernel)))
        return net.node("Conv", x, net.quant(numbers, 1 / 32), pads=[kernel // 2] * 4)
    few = net.quant(conv(x, 3, 4, 1), 0.3, zero=zero, bits=4)
    both = net.node("Concat", few, net.quant(conv(x, 3, 4, 1), 0.021), axis=1)
    ends = [net.quant(conv(few, 5, 3, 3), 0.02), net.quant(conv(both, 5, 6, 1), 0.02)]
    model = net.model(*ends)
    images = np.float32(net.rng.standard_normal((4, 4, 6, 6)))
    graph = load(model)
    part, = (layer for layer in graph.layers if any(layer.geometry.pads))
    assert graph.tensors[part.input].format.bits == 8 and part.channels is not None
    codes = graph.encode_inputs(images)
    found, expected = graph.decode_outputs(graph.run(codes)), evaluate(model, images)
    for name, rarely in zip(ends, (0, 0.01), strict=True):
        assert (abs(found[name] - expected[name]) > 0.01).mean() <= rarely
    on_chip(graph, codes, CHIP)
