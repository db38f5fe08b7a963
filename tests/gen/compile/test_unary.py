"""Integers of few bits on a binary chip, as signs."""

import numpy as np
import pytest
from systolith.gen.compile.unary import integers_as_signs
from systolith.gen.compile.widen import widened
from systolith.gen.flow.check import check
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Bipolar
from systolith.hw.spec.arch import Arch

from ...onnx_exact import on_chip
from ...onnx_networks import Network, evaluate

BINARY = Arch(rows=3, columns=4, lanes=4, activation="bipolar1", weight="bipolar1",
              bit_planes=True, activation_depth=2048, weight_depth=2048, largest_k=1 << 12)


def weights(net, *shape):
    return net.bipolar_quant(np.float32(net.rng.choice([-1, 1], shape)), 0.5)


def network(seed, bits, signed, narrow, **settings):
    """Layers of +-1 weights between quantizers of few bits: all scales are powers of two."""
    net = Network(np.random.default_rng(seed), (6, 9, 8), opset=17)
    x = net.quant("x", 0.5, bits=4) if seed % 2 else net.bipolar_quant("x", 0.5)
    for inputs, width, groups in ((6, 4, 1), (4, 6, 2), (6, 8, 1)):
        x = net.node("Conv", x, weights(net, width, inputs // groups, 3, 2), np.float32(
            net.rng.integers(-4, 5, width)), group=groups, pads=settings.get("pads", [0] * 4))
        x = net.quant(x, 2.0, bits=bits, signed=signed, narrow=narrow)
        if groups == 2:
            x = net.node("MaxPool", x, kernel_shape=[2, 2])
    if settings.get("sign"):
        return net, net.bipolar_quant(net.node("Conv", x, weights(net, 4, 8, 1, 1)))
    x = net.node("Flatten", x)
    size = evaluate(net.model(x, shapes=[[]]), np.zeros((1, *net.shape)))[x].shape[1]
    return net, net.node("MatMul", x, weights(net, size, 3))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bits, signed, narrow", [(2, 1, 0), (2, 1, 1), (2, 0, 0), (3, 1, 0)])
def test_results_are_those_of_integers(seed, bits, signed, narrow):
    """Padded with zeros, which may need signs of their own, and not."""
    net, y = network(seed, bits, signed, narrow, pads=[1, 1, 1, 0] if seed > 1 else [0] * 4,
                     sign=seed == 3)
    model = net.model(y)
    images = np.float32(net.rng.integers(-8, 8, (20, *net.shape)) / 4)
    graph = widened(load(model), BINARY)
    assert {item.format for item in graph.tensors.values()
            if item.format and item.name != graph.inputs[0].name} == {Bipolar(1)}
    codes = graph.encode_inputs(images)
    found = graph.decode_outputs(graph.run(codes))
    np.testing.assert_allclose(found, evaluate(model, images)[y], rtol=1e-6, atol=1e-6)
    on_chip(graph, codes[:1], BINARY, seed)


def test_means():
    net = Network(np.random.default_rng(1), (3, 6, 6), opset=17)
    x = net.quant(net.node("Conv", net.bipolar_quant("x"), weights(net, 4, 3, 3, 3)), 2.0, bits=2)
    x = net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    y = net.bipolar_quant(net.node("Sub", x, np.float32(0.3)))
    model = net.model(y)
    images = np.float32(net.rng.standard_normal((20, 3, 6, 6)))
    graph = widened(load(model), BINARY)
    codes = graph.encode_inputs(images)
    assert (graph.decode_outputs(graph.run(codes)) == evaluate(model, images)[y]).all()
    on_chip(graph, codes[:1], BINARY, 1)


@pytest.mark.parametrize("made, message", [
    (lambda net, x: net.quant(net.node("Conv", x, weights(net, 4, 3, 3, 3)), 0.5, bits=8),
     "255 signs on a binary chip, and may take 15: quantize it to fewer bits, or choose a chip"),
    (lambda net, x: net.quant(net.node("Add", net.quant(x, 1.0, bits=2), x), 1.0, bits=2),
     "combines two maps.*a binary chip's results are signs; choose a chip with integers")])
def test_refused(made, message):
    net = Network(np.random.default_rng(1), (3, 6, 6), opset=17)
    x = net.quant(made(net, net.bipolar_quant("x")), 1.0, bits=3)
    channels = 4 if any(node.op_type == "Conv" for node in net.nodes) else 3
    model = net.model(net.node("Conv", x, weights(net, 2, channels, 1, 1)))
    with pytest.raises(UserError, match=message):
        integers_as_signs(load(model), BINARY)
    assert any("choose a chip with integers" in item for item in check(model, BINARY).problems)
