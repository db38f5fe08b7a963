"""Pads with pixels of the map: what they become, and bit for bit against float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError

from ...onnx_exact import bias, check, integer_network, qdq, spread, weights
from ...onnx_networks import Network, evaluate


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_pads_of_every_mode(data):
    """Before the network, or after a layer; other pads, poolings and crops after them."""
    draw = data.draw
    mode = draw(st.sampled_from(["edge", "edge", "reflect", "wrap"]))
    net, x = integer_network(np.random.default_rng(draw(st.integers(0, 999))), (4, 5, 4))
    if draw(st.booleans()):
        x = qdq(net, net.node("Conv", x, weights(net, 4, 4, 1, 1), bias(net, 4)), 8, 3)
    if draw(st.integers(0, 4)) == 0:
        x = net.node("Relu", x)
    sides = [draw(st.integers(0, 2)) for _ in range(4)]
    y = net.node("Pad", x, np.array([0, 0, *sides[:2], 0, 0, *sides[2:]]), mode=mode)
    after = draw(st.sampled_from(["nothing", "zeros", "crop"]))
    if after == "zeros":
        y = net.node("Pad", y, np.array([0, 0, 1, 0, 0, 0, 0, 2]))
    elif after == "crop":
        y = net.node("Slice", y, np.array([1, 0]), np.array([9, -1]), np.array([2, 3]))
    kind = draw(st.sampled_from(["conv", "conv", "depthwise", "max", "mean", "quantizer"]))
    if kind == "conv":
        y = net.node("Conv", y, weights(net, 5, 4, 2, 3), strides=[draw(st.integers(1, 2)), 1],
                     pads=[0, draw(st.integers(0, 1)), 0, 0])
    elif kind == "depthwise":
        y = net.node("Conv", y, weights(net, 4, 1, 2, 2), group=4)
    elif kind == "max":
        y = net.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    elif kind == "mean":
        y = net.node("AveragePool", y, kernel_shape=[2, 2])
    check(net, spread(net, y), rarely=0.02)


@pytest.mark.parametrize("first", [False, True])
def test_what_replicates_is_the_layer_after(first):
    net, x = integer_network(np.random.default_rng(1), (4, 6, 7))
    if not first:
        x = qdq(net, net.node("Conv", x, weights(net, 4, 4, 1, 1)), 8, 3)
    y = net.node("Pad", x, np.array([0, 0, 1, 2, 0, 0, 1, 2]), mode="edge")
    graph, _ = check(net, spread(net, net.node("Conv", y, weights(net, 5, 4, 3, 5))))
    last = graph.layers[-1]
    assert len(graph.layers) == 2 - first
    assert last.geometry.replicate and last.geometry.pads == (1, 2, 1, 2)


def test_reflected_inputs_are_the_hosts():
    net, x = integer_network(np.random.default_rng(2), (3, 6, 6))
    y = net.node("Pad", x, np.array([0, 0, 2, 1, 0, 0, 1, 2]), mode="reflect")
    graph, _ = check(net, spread(net, net.node("Conv", y, weights(net, 5, 3, 3, 3))))
    assert len(graph.layers) == 1 and graph.inputs[0].shape == (3, 9, 9)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_pads_before_the_first_quantizer(mode):
    net = Network(np.random.default_rng(3), (3, 9), opset=21)
    y = net.node("Pad", "x", np.array([0, 0, 2, 0, 0, 1]), np.float32(0.25), mode=mode)
    y = net.node("Conv", qdq(net, y, 1 / 16, 5), weights(net, 5, 3, 3))
    model = net.model(spread(net, y))
    images = np.float32(net.rng.standard_normal((3, 3, 9)) * 4)
    graph = load(model)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    assert np.abs(found - evaluate(model, images)[model.graph.output[0].name]).max() < 1e-4


@pytest.mark.usefixtures("chip_alone")
@pytest.mark.parametrize("middle, message", [
    (lambda net, x: net.node("Pad", x, np.array([0, 0, 6, 0, 0, 0, 0, 0]), mode="reflect"),
     r"mode 'reflect' with pads .* needs more pixels than \[N, 3, 6, 6\] has"),
    (lambda net, x: net.node("Pad", net.node("Conv", x, weights(net, 3, 3, 1, 1)),
                             np.array([0, 0, 1, 0, 0, 0, 0, 0]), mode="edge"),
     "crops or pads a value that is not quantized; put a quantizer before it"),
])
def test_refused(middle, message):
    net, x = integer_network(np.random.default_rng(5), (3, 6, 6))
    with pytest.raises(UserError, match=message):
        load(net.model(qdq(net, middle(net, x), 1, 0)))
