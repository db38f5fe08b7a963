"""Transposed convolutions: parts that take turns pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.quantization import QuantFormat
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError

from ....onnx_exact import bias, check, integer_network, qdq, spread, weights
from ....onnx_networks import Network, quantized, run_onnx


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_transposed_convolutions(data):
    draw = data.draw
    stride = [draw(st.integers(1, 3)) for _ in range(2)]
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    dilation = [draw(st.integers(1, 2)) for _ in range(2)]
    pads = [draw(st.integers(0, (k - 1) * d)) for _ in range(2)
            for k, d in zip(kernel, dilation, strict=True)]
    more = [draw(st.integers(0, s - 1)) for s in stride]
    group = draw(st.sampled_from([1, 1, 2, 4]))
    each = draw(st.integers(1, 5))
    net, x = integer_network(np.random.default_rng(draw(st.integers(0, 999))), (4, 3, 4),
                             draw(st.sampled_from([5, 0, -128])))
    if draw(st.booleans()):
        x = net.node("Pad", x, np.array([0, 0, 1, 0, 0, 0, 0, 1]))
    sizes = [(n - 1) * s + (k - 1) * d + 1 - a - b + m for n, s, k, d, a, b, m in zip(
        (3, 4), stride, kernel, dilation, pads[:2], pads[2:], more, strict=True)]
    if min(sizes) < 1:
        pads = [0] * 4
    y = net.node("ConvTranspose", x, weights(net, 4, each, *kernel), bias(net, each * group),
                 strides=stride, pads=pads, dilations=dilation, output_padding=more, group=group)
    if draw(st.booleans()):
        y = net.node("Relu", y)
    graph, _ = check(net, spread(net, y))
    assert len(graph.layers) <= stride[0] * stride[1] + 1


def test_one_dimension_and_what_reads_it():
    net, x = integer_network(np.random.default_rng(1), (3, 9))
    y = net.node("ConvTranspose", x, weights(net, 3, 6, 4), strides=[2], pads=[1, 1])
    y = net.node("Conv", qdq(net, y, 8, 3), weights(net, 4, 6, 3), pads=[1, 1])
    graph, _ = check(net, spread(net, y), count=6)
    assert [layer.placement.step for layer in graph.layers] == [(1, 2), (1, 2), (1, 1)]


def test_a_small_u_net_as_onnx_runtime_quantizes_it(tmp_path):
    rng = np.random.default_rng(6)
    net = Network(rng, (2, 8, 8))

    def conv(operator, x, *shape, **attributes):
        weight = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return net.node("Relu", net.node(operator, x, np.float32(weight), **attributes))
    top = conv("Conv", "x", 6, 2, 3, 3, pads=[1] * 4)
    low = conv("Conv", net.node("MaxPool", top, kernel_shape=[2, 2], strides=[2, 2]), 9, 6, 3, 3,
               pads=[1] * 4)
    up = conv("ConvTranspose", low, 9, 5, 2, 2, strides=[2, 2])
    x = conv("Conv", net.node("Concat", top, up, axis=1), 4, 11, 3, 3, pads=[1] * 4)
    images = np.float32(rng.standard_normal((8, 2, 8, 8)))
    path = quantized(net.model(x), images[:, None], tmp_path / "net.onnx")
    graph = load(path)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    expected, = run_onnx(path, images, optimized=False).values()
    steps = np.rint((found - expected) / graph.tensors[graph.outputs[0]].scale)
    assert np.abs(steps).max() <= 1 and (steps == 0).mean() > 0.99


def _convolutions(net, x):
    """A transposed convolution between two convolutions, in floats."""
    def numbers(*shape):
        return np.float32(net.rng.standard_normal(shape) / 4)
    x = net.node("Relu", net.node("Conv", x, numbers(4, 3, 3, 3), numbers(4), pads=[1] * 4))
    x = net.node("ConvTranspose", x, numbers(4, 5, 2, 2), numbers(5), strides=[2, 2])
    return net.node("Conv", net.node("Relu", x), numbers(4, 5, 3, 3), pads=[1] * 4)


def test_transposed_convolutions_that_an_export_leaves_in_float(tmp_path):
    """ONNX Runtime's QOperator export does, and the message names the one that does not."""
    net = Network(np.random.default_rng(7), (3, 6, 6))
    model = net.model(_convolutions(net, "x"))
    data = [np.float32(net.rng.standard_normal((2, 3, 6, 6))) for _ in range(3)]
    path = quantized(model, data, tmp_path / "q.onnx", quant_format=QuantFormat.QOperator)
    with pytest.raises(UserError, match=r"ConvTranspose.: its weights .* are plain numbers: quanti"
                                        r"ze them, with .*quant_format=QuantFormat\.QDQ"):
        load(path)
    path = quantized(model, data, tmp_path / "qdq.onnx", quant_format=QuantFormat.QDQ)
    graph = load(path)
    images = np.concatenate(data)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    expected, = run_onnx(path, images, optimized=False).values()
    steps = (found - expected) / graph.tensors[graph.outputs[0]].scale
    assert (np.abs(steps) > 0.01).mean() < 0.01 and np.abs(steps).max() < 1.01


@pytest.mark.parametrize("scales", [(), (1, 5, 1, 1)])
def test_weights_that_were_dequantized_in_advance(scales):
    """Plain numbers that are codes times a scale in float32: as the DequantizeLinear would be."""
    found = []
    for folded in (True, False):
        net, x = integer_network(np.random.default_rng(8), (4, 5, 6))
        codes = net.rng.integers(-127, 128, (4, 5, 2, 2)).astype(np.int8)
        codes[0, :, 0, 0] = 127
        scale = np.float32(net.rng.uniform(0.01, 0.1, scales))
        weight = codes * scale if folded else net.node(
            "DequantizeLinear", codes, scale.reshape(-1) if scales else scale,
            np.zeros(5 if scales else (), np.int8), axis=1)
        y = net.node("ConvTranspose", x, np.float32(weight) if folded else weight, strides=[2, 2])
        model = net.model(qdq(net, y, 0.5, 3))
        graph = load(model)
        images = np.float32(net.rng.standard_normal((3, 4, 5, 6)) * 4)
        found.append((graph.decode_outputs(graph.run(graph.encode_inputs(images))),
                      [layer.weights.codes.tolist() for layer in graph.layers]))
    assert found[0][1] == found[1][1] and (found[0][0] == found[1][0]).all()
    assert len(np.unique(found[0][0])) > 50
