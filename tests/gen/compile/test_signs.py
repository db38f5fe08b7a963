"""Signs on chips that are not binary: numbers of +1 and -1."""

import numpy as np
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.compile.signs import signs_as_numbers
from systolith.gen.compile.widen import widened
from systolith.gen.flow.check import check
from systolith.gen.importer.reader import load
from systolith.hw.formats import Bipolar
from systolith.hw.spec.arch import Arch

from ...onnx_exact import on_chip
from ...onnx_networks import Network, evaluate

INTEGERS = load_chip("tiny-2x4-int4", ["array.activation=int8", "array.weight=int8",
                                       "array.largest_k=400"])
MANY = load_chip("sim-16x16-int8")
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


def per_channel(net, width, scale=0.5):
    return np.float32(net.rng.integers(-8, 9, (1, width, 1, 1)) * scale)


def integers(net, x, width):
    """A convolution of signs with integers, its sums in steps of 1/4."""
    weight = net.quant(np.float32(net.rng.integers(-7, 8, (*width, 3, 3))), 1.0, bits=4)
    return net.node("Mul", net.node("Conv", x, weight, pads=[1] * 4), np.float32(0.25))


def _rsign(net, x):
    """ReActNet's sign, moved for each channel."""
    return net.bipolar_quant(net.node("Add", x, per_channel(net, 6)))


#: Parts of networks that read signs, or make signs, with integers beside them: from a quantized
#: map x [6, 6, 6] in steps of 1/2, and s, its sign.
PARTS = {
    "moved sign": lambda net, x, s: _rsign(net, x),
    "shortcut": lambda net, x, s: net.quant(net.node(
        "Add", integers(net, _rsign(net, x), (6, 6)), x), 0.5),
    "sign of a sum": lambda net, x, s: net.bipolar_quant(net.node(
        "Add", net.node("Add", integers(net, s, (6, 6)), x), per_channel(net, 6, 0.25))),
    "sign of a batch norm of a sum": lambda net, x, s: net.bipolar_quant(net.node(
        "Mul", net.node("Sub", x, s), np.float32([1, 2, 3, 1, 2, 3]).reshape(1, 6, 1, 1))),
    "strict sign of a sum": lambda net, x, s: net.node("Where", net.node(
        "Greater", net.node("Add", x, s), np.float32(0)), np.float32(1), np.float32(-1)),
    "sign of a product": lambda net, x, s: net.bipolar_quant(net.node("Mul", x, s)),
    "sum with a sign": lambda net, x, s: net.quant(net.node("Add", s, x), 0.5),
    "sum of signs": lambda net, x, s: net.quant(net.node("Add", s, _rsign(net, x)), 0.5),
    "sum of one and 0 or 1": lambda net, x, s: net.quant(net.node("Add", x, net.node(
        "Relu", s)), 0.5),
    "relu before a sum": lambda net, x, s: net.quant(net.node("Add", net.node(
        "Relu", integers(net, s, (6, 6))), x), 0.5),
    "function": lambda net, x, s: net.quant(net.node("Sigmoid", s), 1 / 64),
    "slopes": lambda net, x, s: net.quant(net.node("PRelu", s, per_channel(net, 6, 2)[0]), 0.5),
    "function of both": lambda net, x, s: net.quant(net.node("Mul", s, net.node(
        "Abs", s)), 1 / 8),
    "sign of a function": lambda net, x, s: net.bipolar_quant(net.node("Sub", net.node(
        "Sigmoid", x), np.float32(0.7))),
    "largest sign": lambda net, x, s: net.node("MaxPool", s, kernel_shape=[2, 2]),
    "mean of signs": lambda net, x, s: net.quant(net.node(
        "AveragePool", s, kernel_shape=[2, 2]), 0.5),
    "sign of a mean": lambda net, x, s: net.bipolar_quant(net.node("Sub", net.node(
        "AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), np.float32(1.25))),
    "padded with 0": lambda net, x, s: net.node("MaxPool", net.node(
        "Pad", s, np.int64([0, 0, 1, 0, 0, 0, 0, 1])), kernel_shape=[2, 2]),
    "some channels": lambda net, x, s: net.quant(net.node("Conv", net.node(
        "Gather", s, np.int64([4, 1]), axis=1), net.bipolar_quant(np.float32(
            net.rng.standard_normal((3, 2, 1, 1))))), 0.5),
    "mean of a convolution": lambda net, x, s: net.quant(net.node(
        "AveragePool", net.node("Conv", s, net.bipolar_quant(np.float32(
            net.rng.standard_normal((3, 6, 2, 2))))), kernel_shape=[3, 3]), 0.5),
    "interpolated": lambda net, x, s: net.quant(net.node(
        "Resize", s, "", np.float32([1, 1, 2, 2]), mode="linear"), 1 / 16),
    "thresholds": lambda net, x, s: net.node(
        "MultiThreshold", net.node("Conv", x, net.bipolar_quant(np.float32(
            net.rng.standard_normal((3, 6, 1, 1))))), np.float32([[-1.2, -0.4, 0.4, 1.2]]),
        domain="qonnx.custom_op.general", out_scale=1.0, out_bias=-2.0, data_layout="NCHW"),
}


@pytest.mark.parametrize("part", PARTS)
def test_signs_between_integers(part):
    """All scales are powers of two, so that results must be exact; the program's, too."""
    net = Network(np.random.default_rng(5), (6, 6, 6), opset=17)
    x = net.quant("x", 0.5, bits=5)
    y = PARTS[part](net, x, net.bipolar_quant(net.node("Add", x, np.float32(0.25)), 0.5))
    model = net.model(y)
    images = np.float32(net.rng.integers(-16, 16, (20, 6, 6, 6)) / 2)
    graph = widened(load(model), MANY)
    codes = graph.encode_inputs(images)
    found = graph.decode_outputs(graph.run(codes))
    np.testing.assert_allclose(found, evaluate(model, images)[y], rtol=1e-6, atol=1e-6)
    on_chip(graph, codes[:1], MANY, 3)


def test_a_sum_of_signs_that_is_an_output():
    """All of signs, so that no tensor says how wide integers are."""
    net = Network(np.random.default_rng(6), (4, 5, 5), opset=17)
    s = net.bipolar_quant("x")
    y = net.node("Relu", net.node("Conv", s, net.bipolar_quant(np.float32(
        net.rng.standard_normal((4, 4, 1, 1))))))
    model = net.model(net.node("Add", y, s))
    images = np.float32(net.rng.standard_normal((9, 4, 5, 5)))
    graph = widened(load(model), MANY)
    codes = graph.encode_inputs(images)
    np.testing.assert_allclose(
        graph.decode_outputs(graph.run(codes)),
        evaluate(model, images)[model.graph.output[0].name], atol=1e-4)
    on_chip(graph, codes[:1], MANY, 1)


def test_what_stays_as_it_is():
    net = Network(np.random.default_rng(4), (4, 6, 6))
    graph = load(net.model(signs(net, net.bipolar_quant("x"), (6, 4))))
    binary = Arch(rows=3, columns=4, activation="bipolar1", weight="bipolar1")
    assert signs_as_numbers(graph, binary) is graph
    assert {item.format for item in graph.tensors.values()} == {Bipolar(1)}


@pytest.mark.parametrize("chip", [INTEGERS, FLOATS])
def test_functions_of_signs_on_the_host(chip):
    """What the host looks up by sign at an output without a quantizer."""
    net = Network(np.random.default_rng(6), (3, 6, 6))
    x = net.quant(signs(net, net.bipolar_quant("x"), (5, 3)), 0.25)
    end = net.node("Sub", x, net.node("Relu", x))
    model = net.model(end)
    images = np.float32(net.rng.choice([-1, 0, 1], (20, 3, 6, 6)))
    graph = signs_as_numbers(load(model), chip)
    assert graph.decoders[0].function is not None
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    wanted = evaluate(model, images)[end]
    assert (found == wanted).all() and len(np.unique(wanted)) == 2


def test_signs_combined_as_integers_on_a_chip_of_floats():
    """A product of signs is an integer: no chip of floats has it, and that is what is said."""
    net = Network(np.random.default_rng(7), (3, 6, 6))
    x = signs(net, net.bipolar_quant("x"), (3, 3))
    y = net.bipolar_quant(net.node("MaxPool", x, kernel_shape=[1, 1], strides=[1, 1]))
    end = net.bipolar_quant(net.node("Mul", x, y))
    found = check(net.model(end), FLOATS)
    assert not found.maps and "the chip computes in e4m3" in found.problems[0]
