"""Quantizers whose channels differ: bit widths of their own, and negative factors after a
MaxPool."""

import numpy as np
import pytest
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Int

from ...onnx_exact import CHIPS, integer_network, on_chip, qdq, weights
from ...onnx_exact import check as check_exact
from ...onnx_networks import Network
from .dialects.test_qonnx import compare


def network(seed, shape=(4, 9, 8)):
    rng = np.random.default_rng(seed)
    net = Network(rng, shape, opset=17)
    return net, rng, np.float32(3 * rng.standard_normal((5, *shape)))


def convolution(net, x, outputs, inputs, kernel=3, pad=1, group=1, bits=8, **settings):
    values = net.rng.standard_normal((outputs, inputs // group, kernel, kernel))
    weight = net.quant(net.constant(np.float32(values / kernel)), 2.0 ** -6, bits=bits, **settings)
    return net.node("Conv", x, weight, pads=[pad] * 4, group=group)


def widths(rng, channels):
    return np.float32([8, *rng.integers(3, 9, channels - 1)]).reshape(1, channels, 1, 1)


@pytest.mark.parametrize("signed, narrow", [(0, 0), (1, 0), (1, 1)])
@pytest.mark.parametrize("reader", ["dense", "depthwise", "pool", "mean", "concat", "output"])
def test_bit_widths_of_their_own(signed, narrow, reader):
    net, rng, images = network(0)
    x = convolution(net, net.quant("x", 2.0 ** -4), 6, 4)
    x = net.quant(net.node("Relu", x) if not signed else x, 2.0 ** -4, signed=signed,
                  narrow=narrow, bits=widths(rng, 6))
    if reader == "dense":
        x = net.quant(convolution(net, x, 3, 6), 2.0 ** -3)
    elif reader == "depthwise":
        x = net.quant(convolution(net, x, 6, 6, group=6), 2.0 ** -3)
    elif reader == "pool":
        x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        x = convolution(net, x, 3, 6)
    elif reader == "mean":
        x = net.node("Flatten", net.node("GlobalAveragePool", x))
    elif reader == "concat":
        other = net.quant(convolution(net, net.quant("x", 2.0 ** -4), 2, 4), 2.0 ** -4,
                          signed=signed)
        x = convolution(net, net.node("Concat", x, other, axis=1), 3, 8)
    graph = compare(net.model(x), images)
    on_chip(graph, graph.encode_inputs(images), CHIPS[reader == "depthwise"])


@pytest.mark.parametrize("signed", [0, 1])
def test_bit_widths_of_an_input_and_of_a_quantized_map(signed):
    net, rng, images = network(1)
    x = net.quant("x", 2.0 ** -4, signed=signed, bits=widths(rng, 4))
    y = net.quant(x, 2.0 ** -3, bits=widths(rng, 4))
    x = net.quant(convolution(net, x, 5, 4), 2.0 ** -2, bits=widths(rng, 5), signed=signed)
    graph = compare(net.model(x, y), images)
    on_chip(graph, graph.encode_inputs(images), CHIPS[0])


def test_bit_widths_and_zero_points_of_weights():
    net, rng, images = network(2)
    x = net.quant("x", 2.0 ** -4)
    x = convolution(net, x, 6, 4, bits=np.float32([2, 3, 4, 5, 6, 7]).reshape(6, 1, 1, 1))
    x = net.quant(x, 2.0 ** -3)
    x = convolution(net, x, 5, 6, zero=np.float32(rng.integers(-3, 4, (5, 1, 1, 1))), bits=5)
    graph = load(net.model(x))
    assert {layer.weights.format for layer in graph.layers} <= {Int(7), Int(5), Int(6)}
    compare(net.model(x), images)


def normalized(net, x, channels, low=-1.5):
    """A batch norm of both signs."""
    rng = net.rng
    return net.node("BatchNormalization", x, *np.float32([
        rng.uniform(low, 1.5, channels), rng.standard_normal(channels),
        rng.standard_normal(channels), rng.uniform(0.5, 2, channels)]))


WINDOWS = [dict(kernel_shape=[2, 2], strides=[2, 2]), dict(kernel_shape=[3, 2], strides=[1, 2]),
           dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])]


@pytest.mark.parametrize("zero", [-128, 0, 31])
@pytest.mark.parametrize("attributes", WINDOWS)
@pytest.mark.parametrize("relu", [False, True])
def test_negative_factors_after_a_max_pool(zero, attributes, relu):
    net, x = integer_network(np.random.default_rng(200 + zero), (4, 9, 8))
    x = net.node("Conv", x, weights(net, 6, 4, 3, 3), pads=[1] * 4)
    x = normalized(net, net.node("MaxPool", x, **attributes), 6)
    x = qdq(net, net.node("Relu", x) if relu else x, 1 / 2, zero)
    # A bias in steps of the sum is rounded: see how rarely.
    x = net.node("Conv", x, weights(net, 5, 6, 3, 3), pads=[1] * 4)
    check_exact(net, qdq(net, x, 2, 3), rarely=0.05, chips=CHIPS[:1])


@pytest.mark.parametrize("low", [-1.5, -3, 1])
def test_negative_factors_after_a_max_pool_of_codes(low):
    net, x = integer_network(np.random.default_rng(5), (4, 9, 8))
    y = normalized(net, net.node("MaxPool", x, kernel_shape=[2, 2]), 4, low)
    z = net.node("Neg", net.node("MaxPool", net.node("Neg", x), kernel_shape=[2, 2]))
    z = net.node("Neg", net.node("Relu", z))
    check_exact(net, qdq(net, y, 1 / 8, 1), qdq(net, z, 1 / 8, 1), rarely=0.01)


def test_negative_factors_in_floats():
    net, rng, images = network(6)
    x = net.float_quant("x", 0.25)
    weight = net.float_quant(net.constant(np.float32(rng.standard_normal((5, 4, 3, 3)))), 2.0 ** -5)
    x = net.node("MaxPool", net.node("Conv", x, weight), kernel_shape=[2, 2], strides=[2, 2])
    x = net.node("Mul", x, np.float32([1, -1, 0.5, -0.25, -2]).reshape(1, 5, 1, 1))
    x = net.float_quant(net.node("Relu", x), 2.0 ** -2)
    graph = compare(net.model(x), images)
    assert len(graph.layers) == 3


def test_factors_all_negative_need_no_join():
    net, _, images = network(7)
    x = convolution(net, net.quant("x", 2.0 ** -4), 5, 4)
    x = net.node("Neg", net.node("MaxPool", x, kernel_shape=[2, 2]))
    graph = compare(net.model(net.quant(x, 2.0 ** -3), net.quant(
        net.node("Clip", x, np.float32(-1), np.float32(2)), 2.0 ** -4)), images)
    assert len(graph.layers) == 4 and {layer.geometry.groups for layer in graph.layers} == {1, 5}


@pytest.mark.parametrize("settings, message", [
    (dict(bits=np.float32([3, 4, 5, 1]).reshape(4, 1, 1, 1)), "bit widths must be from 2 to 16"),
    (dict(bits=np.float32([3, 4.5, 5, 6]).reshape(4, 1, 1, 1)), "width must be whole numbers")])
def test_what_is_refused(settings, message):
    net, _, _ = network(8)
    with pytest.raises(UserError, match=message):
        load(net.model(convolution(net, net.quant("x", 2.0 ** -4), 4, 4, **settings),
                       shapes=[(4, 9, 8)]))


@pytest.mark.parametrize("bias, codes", [(254, (126, 127)), (255, (127, 127)),
                                         (-255, (-128, -128)), (-254, (-128, -127))])
def test_a_channel_of_which_one_sum_gives_another_code(bias, codes):
    """The smallest sum, or the largest one, is on the other side of a limit."""
    net = Network(np.random.default_rng(0), (1, 16, 16))
    x = qdq(net, "x", 1, 0)
    weight = net.node("DequantizeLinear", np.int8([[[[1]]]]), np.float32(1), np.int8(0))
    moved = net.node("DequantizeLinear", np.int32([bias]), np.float32(1), np.int32(0))
    graph = load(net.model(qdq(net, net.node("Conv", x, weight, moved), 1, 0)))
    images = np.float32(np.arange(-128, 128)).reshape(1, 1, 16, 16)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    right = np.clip(images + bias, -128, 127)
    assert (right.min(), right.max()) == codes and (found == right).all()
