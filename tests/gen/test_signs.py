"""Signs on chips that are not binary: numbers of +1 and -1."""

import numpy as np
import pytest
from systolith.gen.config import load_chip
from systolith.gen.onnx_in import load
from systolith.gen.signs import signs_as_numbers
from systolith.hw.arch import Arch
from systolith.hw.formats import Bipolar

from ..onnx_exact import on_chip
from ..onnx_networks import Network, evaluate

INTEGERS = load_chip("tiny-2x4-int4", ["array.activation=int8", "array.weight=int8",
                                       "array.largest_k=400"])
FLOATS = Arch(rows=3, columns=4, activation="e4m3", weight="e3m2", largest_k=64)


def signs(net, x, width, windows=None, gamma=(-2, -0.5, 0, 1, 3)):
    """Convolution of signs with signs, perhaps a MaxPool, a batch norm of factors of any sign, and
    a sign of sums that meet their thresholds often."""
    weight = net.bipolar_quant(np.float32(net.rng.choice([-1, 1], (*width, 3, 3))), 0.5)
    x = net.node("Conv", x, weight, pads=[1, 0, 0, 1])
    if windows:
        x = net.node("MaxPool", x, **windows)
    width = width[0]
    x = net.node("BatchNormalization", x, np.float32(net.rng.choice(gamma, width)),
                 np.float32(net.rng.choice([-1, 0, 1], width)),
                 np.float32(net.rng.integers(-4, 5, width)) / 2, np.ones(width, np.float32),
                 epsilon=0.0)
    return net.bipolar_quant(x, 0.75)


@pytest.mark.parametrize("chip", [INTEGERS, FLOATS])
@pytest.mark.parametrize("windows", [None, {"kernel_shape": [2, 2], "strides": [2, 2]}, {
    "kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}])
def test_binary_networks_on_other_chips(chip, windows):
    """All of signs, inputs and outputs, too; padded with nothing and with +1; factors of both signs
    after a MaxPool."""
    net = Network(np.random.default_rng(3), (3, 8, 8))
    x = net.node("Pad", net.bipolar_quant("x"), np.int64([0, 0, 1, 0, 0, 0, 0, 2]), np.float32(1))
    x = signs(net, x, (5, 3), windows)
    end = signs(net, x, (3, 5))
    model = net.model(x, end)
    images = np.float32(net.rng.choice([-1, 0, 1], (20, 3, 8, 8)))
    graph = signs_as_numbers(load(model), chip)
    assert {item.format for item in graph.tensors.values()} == {chip.activation}
    codes = graph.encode_inputs(images)
    found, wanted = graph.decode_outputs(graph.run(codes)), evaluate(model, images)
    for name in (x, end):
        assert (found[name] == wanted[name]).all()
    on_chip(graph, codes[:1], chip, 1)


@pytest.mark.parametrize("chip", [INTEGERS, FLOATS])
def test_sums_of_signs_that_are_outputs(chip):
    net = Network(np.random.default_rng(4), (4, 6, 6))
    x = signs(net, net.bipolar_quant("x"), (6, 4))
    weight = net.bipolar_quant(np.float32(net.rng.choice([-1, 1], (150, 5))), 0.5)
    x = net.node("MatMul", net.node("Flatten", x), weight)
    model = net.model(net.node("Add", x, np.float32(net.rng.standard_normal(5))))
    images = np.float32(net.rng.standard_normal((9, 4, 6, 6)))
    graph = signs_as_numbers(load(model), chip)
    codes = graph.encode_inputs(images)
    found = graph.decode_outputs(graph.run(codes))
    np.testing.assert_allclose(found, evaluate(model, images)[model.graph.output[0].name],
                               rtol=1e-6)
    on_chip(graph, codes[:1], chip, 2)


def test_what_stays_as_it_is():
    net = Network(np.random.default_rng(4), (4, 6, 6))
    graph = load(net.model(signs(net, net.bipolar_quant("x"), (6, 4))))
    binary = Arch(rows=3, columns=4, activation="bipolar1", weight="bipolar1")
    assert signs_as_numbers(graph, binary) is graph
    assert {item.format for item in graph.tensors.values()} == {Bipolar(1)}
