"""Where quantizers stand at a network's end: what decodes results is the host's."""

import numpy as np
import pytest
from systolith.gen.importer import reader
from systolith.gen.quantize.network import read_float
from systolith.gen.quantize.places import find_places
from systolith.gen.quantize.quantize import quantize

from ...float_networks import conv, numbers, weights
from ...onnx_networks import Network, run_onnx


def head(net, x, channels):
    """A detector's outputs for one map: boxes, and scores between 0 and 1, joined."""
    box, score = (net.node("Conv", x, weights(net, count, channels, 1, 1), numbers(net, count))
                  for count in (4, 3))
    return net.node("Concat", box, net.node("Sigmoid", score), axis=1)


def decoded(net, rows, cells):
    """Boxes decoded as YOLOX does it: middles by a grid, sizes by powers of e."""
    x = net.node("Transpose", rows, perm=[0, 2, 1])
    parts = [net.node("Slice", x, np.int64([low]), np.int64([high]), np.int64([2]))
             for low, high in ((0, 2), (2, 4), (4, 7))]
    grid = np.float32(net.rng.integers(0, 8, (1, cells, 2)))
    middle = net.node("Mul", net.node("Add", parts[0], grid), np.float32(8))
    size = net.node("Mul", net.node("Exp", parts[1]), np.float32([[[8]]]))
    return net.node("Concat", middle, size, parts[2], axis=2)


def detector(rng):
    net = Network(rng, (3, 8, 8))
    fine = conv(net, "x", 3, 6)
    coarse = conv(net, fine, 6, 6, strides=[2, 2])
    rows = [net.node("Reshape", head(net, x, 6), np.int64([0, 7, -1])) for x in (fine, coarse)]
    return net, net.model(decoded(net, net.node("Concat", *rows, axis=2), 80))


def test_the_host_decodes_boxes_of_exact_sums():
    net, model = detector(np.random.default_rng(0))
    images = np.float32(net.rng.standard_normal((9, 3, 8, 8)))
    graph = reader.load(quantize(model, images).model)
    assert len(graph.layers) == 6
    assert [graph.tensors[name].format for name in graph.outputs] == [None] * 4
    kinds = [node.op_type for node in graph.tail.model.graph.node]
    assert kinds.count("Concat") == 4 and {"Exp", "Sigmoid", "Slice", "Transpose"} <= set(kinds)
    exact, = run_onnx(model, images).values()
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)), images)
    assert 10 * np.log10(np.square(exact).sum() / np.square(found - exact).sum()) > 40


@pytest.mark.parametrize("end", [
    lambda net, x, y: net.node("Add", x, y),
    lambda net, x, y: net.node("Concat", x, net.node("MaxPool", y, kernel_shape=[1, 1]), axis=1),
    lambda net, x, y: net.node("Mul", x, net.node("Sigmoid", x)),
    lambda net, x, y: net.node("Conv", net.node("Concat", x, y, axis=1),
                               weights(net, 2, 10, 1, 1)),
], ids=["sum", "pooled part", "silu", "read by a layer"])
def test_the_chip_keeps_the_work_of_layers(end):
    net = Network(np.random.default_rng(1), (3, 6, 6))
    x, y = (net.node("Conv", "x", weights(net, 5, 3, 3, 3)) for _ in range(2))
    places = find_places(read_float(net.model(end(net, x, y))))
    assert not places.tail and len(places.tensors) >= 2
