"""Two slopes and what is added after them: PRelu with an offset, DPReLU, RPReLU."""

import numpy as np
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.compile.widen import widened
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError

from ....onnx_exact import on_chip
from ....onnx_networks import Network, evaluate

CHIP = load_chip("sim-16x16-int8")
OFFSETS = load_chip("sim-16x16-int8", ["post.offsets=true"])
WIDTH = 6


def each(net, low=-2.0, high=2.0):
    """A number for each channel."""
    return np.float32(net.rng.uniform(low, high, (1, WIDTH, 1, 1)))


def _relu(net, u):
    return net.node("Relu", u)


def _parts(net, u, a, c):
    """DPReLU spelled out."""
    above = net.node("Mul", _relu(net, u), a)
    below = net.node("Mul", net.node("Neg", _relu(net, net.node("Neg", u))), c)
    return net.node("Add", above, below)


#: Functions of a sum u, with numbers of their own for each channel.
FUNCTIONS = {
    "prelu moved": lambda net, u: net.node("Add", net.node(
        "PRelu", u, each(net, 0.1, 0.5)[0]), each(net)),
    "slopes of both signs": lambda net, u: net.node("Sub", net.node(
        "PRelu", u, each(net)[0]), each(net)),
    "scaled after a slope": lambda net, u: net.node("Mul", net.node(
        "LeakyRelu", u, alpha=0.25), each(net)),
    "dprelu": lambda net, u: net.node("Add", _parts(net, u, each(net, 0.5, 1), each(
        net, 0.1, 0.4)), each(net)),
    "dprelu without offset": lambda net, u: _parts(net, u, each(net, 0.5, 1), each(net)),
    "dprelu of any signs": lambda net, u: _parts(net, u, each(net), each(net)),
    "relu scaled by channel": lambda net, u: net.node("Mul", _relu(net, u), each(net)),
    "relu moved by channel": lambda net, u: net.node("Add", _relu(net, u), each(net)),
    "by its size": lambda net, u: net.node("Add", _relu(net, u), net.node("Mul", net.node(
        "Sub", u, net.node("Abs", u)), each(net, 0.1, 0.4))),
    "larger of two": lambda net, u: net.node("Max", net.node("Mul", u, each(net)), net.node(
        "Mul", u, each(net))),
    "smaller of two": lambda net, u: net.node("Min", u, net.node("Mul", u, each(net))),
    "clip from below": lambda net, u: net.node("Mul", net.node(
        "Clip", u, np.float32(-0.7)), each(net)),
    "pooled": lambda net, u: net.node("MaxPool", net.node("Add", net.node(
        "PRelu", u, each(net)[0]), each(net)), kernel_shape=[2, 2], strides=[2, 2]),
    "clipped": lambda net, u: net.node("Relu", net.node("Add", net.node(
        "PRelu", u, each(net)[0]), each(net))),
}


def network(function, seed=0):
    """Quantizer, convolution, bias, the function, quantizer."""
    net = Network(np.random.default_rng(seed), (4, 6, 7), opset=17)
    x = net.quant("x", 0.03)
    weight = net.quant(np.float32(net.rng.standard_normal((WIDTH, 4, 3, 3)) / 3), 0.01, narrow=1)
    u = net.node("Add", net.node("Conv", x, weight, pads=[1] * 4), each(net))
    return net, net.quant(function(net, u), 0.0517)


def compared(net, y, ties, chip=CHIP):
    model = net.model(y)
    images = np.float32(net.rng.standard_normal((30, *net.shape)) * 1.5)
    graph = widened(load(model, offsets=chip.slope_offsets), chip)
    codes = graph.encode_inputs(images)
    off = np.abs(graph.decode_outputs(graph.run(codes)) - evaluate(model, images)[y]) / 0.0517
    assert off.max() < 1.01
    assert (off > 0.01).mean() <= ties
    on_chip(graph, codes[:1], chip, 1)
    return graph


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("seed", range(2))
def test_functions_of_a_convolution(name, seed):
    compared(*network(FUNCTIONS[name], seed), ties=0.002)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_layer_on_chips_with_offsets(name):
    graph = compared(*network(FUNCTIONS[name]), ties=0.002, chip=OFFSETS)
    # a channel whose results fall above 0 and rise below it has no factor above 0
    peaks = name in ("dprelu of any signs", "relu scaled by channel", "smaller of two",
                     "clip from below")
    assert (len(graph.layers) > 1) == peaks


#: RPReLU of a convolution and a shortcut, which is quantized, as ReActNet has it; with shortcuts
#: of one number for each channel, subtracted, and with zero points.
SHORTCUTS = {
    "added": lambda net, u, x: net.node("Add", u, x),
    "first": lambda net, u, x: net.node("Add", x, u),
    "subtracted": lambda net, u, x: net.node("Sub", u, x),
    "subtracted from": lambda net, u, x: net.node("Sub", x, u),
    "moved": lambda net, u, x: net.node("Add", u, net.node("Add", x, np.float32(0.21))),
    "a pixel": lambda net, u, x: net.node("Add", u, net.quant(net.node(
        "GlobalAveragePool", x), 0.02)),
}


@pytest.mark.parametrize("name", SHORTCUTS)
@pytest.mark.parametrize("end", ("prelu moved", "prelu", "clipped"))
def test_slopes_after_a_shortcut_are_one_layer(name, end):
    net = Network(np.random.default_rng(len(name)), (WIDTH, 6, 7), opset=17)
    x = net.quant("x", 0.03)
    weight = net.quant(np.float32(net.rng.standard_normal((WIDTH, WIDTH, 3, 3)) / 4), 0.01,
                       narrow=1)
    u = net.node("Add", net.node("Conv", x, weight, pads=[1] * 4), each(net))
    u = net.node("Add", SHORTCUTS[name](net, u, x), each(net))
    u = net.node("PRelu", u, each(net, 0.1, 0.5)[0])
    u = u if end == "prelu" else net.node("Add", u, each(net))
    y = net.quant(net.node("Relu", u) if end == "clipped" else u, 0.0517)
    graph = compared(net, y, ties=0.003, chip=OFFSETS)
    assert len(graph.layers) == 1 + (name == "a pixel") and graph.layers[-1].requantization.late


@pytest.mark.parametrize("chip, layers", [(CHIP, 4), (OFFSETS, 2)])
def test_of_a_quantized_map(chip, layers):
    """DPReLU after a shortcut that is quantized: PokeBNN's block."""
    def function(net, u):
        return FUNCTIONS["dprelu"](net, net.node("Sub", net.quant(u, 0.03), each(net)))
    graph = compared(*network(function), ties=0.003, chip=chip)
    assert len(graph.layers) == layers


def test_what_one_layer_can_say_is_one():
    for name in ("dprelu without offset", "relu scaled by channel"):
        def positive(net, u, name=name):
            if name.startswith("relu"):
                return net.node("Mul", _relu(net, u), each(net, 0.5, 1))
            return FUNCTIONS[name](net, u)
        assert len(load(network(positive)[0].model(network(positive)[1])).layers) == 1


@pytest.mark.usefixtures("chip_alone")
def test_an_output_needs_a_quantizer():
    net, _ = network(FUNCTIONS["dprelu"])
    with pytest.raises(UserError, match="of two slopes is an output of the network before it is"):
        load(net.model(net.nodes[-1].input[0]))
