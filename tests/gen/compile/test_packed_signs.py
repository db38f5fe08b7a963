"""Signs, many in a code, between layers of integers."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from systolith.gen.compile.signs import kept_signs
from systolith.gen.compile.widen import widened
from systolith.gen.flow.compile import compile_network
from systolith.gen.importer.reader import load
from systolith.hw.formats import Bipolar
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Opcode

from ...onnx_exact import on_chip
from ...onnx_networks import Network, evaluate

CHIP = Arch(rows=8, columns=16, packed_signs=True, largest_k=4096, activation_depth=512,
            weight_depth=512, accumulator_depth=64, parameter_depth=64, operand_depth=256)
#: Words of two groups, of two lanes.
LANES = replace(CHIP, rows=4, lanes=4, columns=8, post_lanes=2)


def binary(net, x, width, gamma=(0.5, 1, 3), pool=False, **attributes):
    """A convolution of +-1, a batch norm, and the sign."""
    weight = net.bipolar_quant(np.float32(net.rng.choice([-1, 1], width)), 0.5)
    x = net.node("Conv", x, weight, **attributes)
    if pool:
        x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    count = width[0]
    x = net.node("BatchNormalization", x, np.float32(net.rng.choice(gamma, count)),
                 np.float32(net.rng.choice([-1, 0, 1], count)),
                 np.float32(net.rng.integers(-4, 5, count)) / 2, np.ones(count, np.float32),
                 epsilon=0.0)
    return net.bipolar_quant(x)


def numbers(net, x, width, **attributes):
    """A convolution of +-1, a batch norm, and a quantizer whose steps are not those of its sums."""
    weight = net.bipolar_quant(np.float32(net.rng.choice([-1, 1], width)), 0.5)
    count = width[0]
    x = net.node("BatchNormalization", net.node("Conv", x, weight, **attributes),
                 np.float32(net.rng.choice((0.5, 1, 3, -1), count)),
                 np.float32(net.rng.choice([-1, 0, 1], count)),
                 np.float32(net.rng.integers(-4, 5, count)) / 2, np.ones(count, np.float32),
                 epsilon=0.0)
    return net.quant(x, 0.75)


def integers(net, x, width, step=0.25):
    """A convolution with integers, quantized in steps of `step`."""
    weight = net.quant(np.float32(net.rng.integers(-7, 8, (*width, 1, 1))), 1.0, bits=4)
    return net.quant(net.node("Mul", net.node("Conv", x, weight), np.float32(0.25)), step)


def mixed(widths, channels=5, seed=3, pool=False, gamma=(0.5, 1, 3), **attributes):
    """(Network, its output, its signs): integers, binary layers of these widths, integers."""
    net = Network(np.random.default_rng(seed), (channels, 6, 6), opset=17)
    x = net.bipolar_quant(integers(net, net.quant("x", 0.5, bits=5), (widths[0], channels)))
    names = [x]
    for before, count in pairwise(widths):
        x = binary(net, x, (count, before, 3, 3), gamma, pool, **attributes)
        names.append(x)
    return net, integers(net, x, (4, widths[-1])), names


def held(net, y, chip):
    """The network as the chip computes it, after its results were held against the reference and
    a program's against it."""
    model = net.model(y)
    images = np.float32(net.rng.integers(-16, 16, (10, *net.shape)) / 2)
    graph = widened(load(model), chip)
    codes = graph.encode_inputs(images)
    found = graph.decode_outputs(graph.run(codes))
    np.testing.assert_allclose(found, evaluate(model, images)[y], rtol=1e-6, atol=1e-6)
    return graph, on_chip(graph, codes[:1], chip, 3)


def signs_of(graph):
    return [name for name, item in graph.tensors.items() if item.format == Bipolar(1)]


def passes(layer):
    return sum(box.passes for boxes in layer.array.passes for box in boxes)


@pytest.mark.parametrize("chip", [CHIP, LANES])
@pytest.mark.parametrize("widths, attributes", [
    ((16, 24, 16), {"pads": [1, 1, 1, 1]}),             # a part of a word
    ((64, 130), {"pads": [1, 0, 0, 1]}),                # a whole word, and more than two
    ((7, 20), {}),                                      # an odd number of channels
    ((35, 47), {"pads": [1, 1, 1, 1]}),                 # the same, padded: two passes each
    ((40, 40), {"pads": [1, 1, 1, 1], "pool": True, "strides": [1, 1]})])
def test_binary_layers_between_integers(chip, widths, attributes):
    net, y, names = mixed(widths, **attributes)
    graph, program = held(net, y, chip)
    assert signs_of(graph) == names[:-1]
    plain = replace(chip, packed_signs=False)
    slow = compile_network(load(net.model(y)), plain)[1]
    for layer, other in zip(program.host.layers, slow.host.layers, strict=True):
        if layer.input not in names[:-1]:
            continue
        words = -(-layer.input_shape[0] // chip.vector), -(-layer.input_shape[0] // (
            8 * chip.vector))
        twice = 1 + (layer.input_shape[0] % 2 and "pads" in attributes)
        assert passes(layer) * words[0] == twice * passes(other) * words[1]
    assert {i.signs for i in program.instructions if i.opcode == Opcode.POST} == {0, 1}


@pytest.mark.parametrize("channels", [9, 17, 33])
@pytest.mark.parametrize("value, code", [(0, None), (-1, 0), (1, 1), ("edge", None)])
@pytest.mark.parametrize("results", [binary, numbers])
def test_padding_of_an_odd_number_of_channels(channels, value, code, results):
    """Padding has the sign in all of a code's bits; where it adds nothing, passes are made twice,
    for numbers as well as for signs."""
    net = Network(np.random.default_rng(channels), (5, 5, 4), opset=17)
    x = net.bipolar_quant(integers(net, net.quant("x", 0.5, bits=5), (channels, 5)))
    pads = np.array([0, 0, 1, 1, 0, 0, 0, 1])
    if value == 0:
        y = results(net, x, (12, channels, 3, 3), pads=[1, 1, 0, 1])
    else:
        padded = net.node("Pad", x, pads, mode="edge") if value == "edge" else net.node(
            "Pad", x, pads, np.float32(value))
        y = results(net, padded, (12, channels, 3, 3))
    graph, _ = held(net, integers(net, y, (4, 12)), CHIP)
    assert x in signs_of(graph)
    assert [(layer.geometry.pad_code, layer.geometry.replicate) for layer in graph.layers
            if layer.input == x] == [(code, value == "edge")]


#: Signs of two maps of integers: LAB's comparison, the sign of a sum, and the XNOR of signs.
OF_TWO = {
    "greater": lambda net, a, b: net.node("Where", net.node("Greater", a, b), np.float32(1),
                                          np.float32(-1)),
    "sum": lambda net, a, b: net.bipolar_quant(net.node("Add", a, b)),
    "xnor": lambda net, a, b: net.bipolar_quant(net.node(
        "Mul", net.bipolar_quant(a), net.bipolar_quant(b)))}


@pytest.mark.parametrize("name", OF_TWO)
@pytest.mark.parametrize("chip, channels, packed", [
    (CHIP, 16, True), (LANES, 24, True), (replace(CHIP, rows=32, columns=8), 40, True),
    (CHIP, 20, False), (replace(CHIP, rows=24, columns=8), 16, False)])
def test_signs_of_two_maps(name, chip, channels, packed):
    """They stay signs where they fill their groups and a word has a power of two of these."""
    net = Network(np.random.default_rng(3), (5, 5, 4), opset=17)
    x = net.quant("x", 0.5, bits=5)
    s = OF_TWO[name](net, *(integers(net, x, (channels, 5)) for _ in range(2)))
    y = integers(net, binary(net, s, (24, channels, 3, 3), pads=[1] * 4), (4, 24))
    graph, program = held(net, y, chip)
    assert (graph.tensors[s].format == Bipolar(1)) == packed
    assert any(i.opcode == Opcode.POST and i.signs and i.operand
               for i in program.instructions) == packed


def test_signs_joined_of_several_layers():
    """BoolNet's slices: k thresholds of each channel, k signs, and a binary layer of all."""
    net = Network(np.random.default_rng(4), (16, 6, 6), opset=17)
    x = net.quant("x", 0.5, bits=5)
    slices = [net.bipolar_quant(net.node("Add", x, np.float32(
        net.rng.integers(-8, 9, (1, 16, 1, 1)) / 2))) for _ in range(4)]
    s = net.node("Concat", *slices, axis=1)
    y = integers(net, binary(net, s, (24, 64, 3, 3), pads=[1] * 4), (4, 24))
    graph, program = held(net, y, CHIP)
    assert [graph.tensors[name].shape[0] for name in signs_of(graph)] == [64]
    assert [passes(layer) for layer in program.host.layers if layer.macs == 24 * 64 * 9 * 36] == [
        9 * 2]


@pytest.mark.parametrize("results", [binary, numbers])
@pytest.mark.parametrize("group, packed", [(8, True), (16, False)])
def test_groups(group, packed, results):
    """Two passes for weights of 0, where numbers have no fewer."""
    net = Network(np.random.default_rng(4), (8, 5, 5), opset=17)
    x = net.bipolar_quant(integers(net, net.quant("x", 0.5, bits=5), (96, 8)))
    y = results(net, x, (32, 96 // group, 3, 3), pads=[1] * 4, group=group)
    graph, _ = held(net, integers(net, y, (4, 32)), CHIP)
    assert (x in signs_of(graph)) == packed


def test_two_passes_for_an_odd_number_of_channels_are_no_more_than_those_of_numbers():
    net, y, names = mixed((9, 7, 7), pads=[1] * 4)
    assert signs_of(held(net, y, CHIP)[0]) == names[:1]


def test_signs_of_the_smallest_of_a_window_stay_numbers():
    net, y, names = mixed((16, 16, 16), pool=True, gamma=(-1,), pads=[1] * 4)
    graph, _ = held(net, y, CHIP)
    assert names[1] not in signs_of(graph) and names[0] in signs_of(graph)


def test_maps_of_signs_that_do_not_fit_are_numbers():
    net, y, names = mixed((16, 16, 16), pads=[1] * 4)
    graph = load(net.model(y))
    assert kept_signs(graph, CHIP) == set(names[:-1])
    small = replace(CHIP, activation_depth=40)
    assert kept_signs(compile_network(graph, CHIP)[0], CHIP) == set(names[:-1])
    assert not signs_of(compile_network(graph, small)[0])


@pytest.mark.parametrize("batch", [2, 3])
def test_several_images(batch):
    net, y, names = mixed((16, 16, 10), pads=[1] * 4)
    graph, program = compile_network(load(net.model(y)), CHIP, batch)
    assert signs_of(graph) == names[:-1] and program.host.batch == batch
