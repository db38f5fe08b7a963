"""Sums of which more than one addend is not quantized, or of more than two, against float64 and on
a chip's simulator."""

import numpy as np
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.flow.compile import compile_network
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch

from ....onnx_exact import on_chip, qdq
from ....onnx_networks import Network, evaluate

CHIP = Arch(rows=8, columns=8, activation_depth=4096, weight_depth=2048, accumulator_depth=512,
            parameter_depth=128, post_lanes=4, operand_depth=1024, table_depth=1024, leaky=True,
            depthwise=True, largest_k=1 << 16)
SHAPE = (4, 6, 7)


class Case:
    """A network of a quantized input `x` of zero point 3."""

    def __init__(self, seed=0, weight=8, kind=np.int8, zero=3):
        self.rng = np.random.default_rng(seed)
        self.net, self.weight = Network(self.rng, SHAPE, opset=17), weight
        self.x = qdq(self.net, "x", 1 / 16, zero, kind)

    def conv(self, x, outputs=5, inputs=4, kernel=3, each=False, **attributes):
        top = (1 << self.weight - 1) - 1
        group = attributes.get("group", 1)
        codes = self.rng.integers(-top, top + 1, (outputs, inputs // group, kernel, kernel))
        scale = self.rng.uniform(0.5, 1, outputs if each else ()) / top
        weight = self.net.quant(np.float32(codes * np.reshape(scale, (-1, 1, 1, 1))),
                                np.float32(scale.reshape(-1, 1, 1, 1) if each else scale),
                                bits=self.weight)
        bias = np.float32(self.rng.standard_normal(outputs))
        attributes.setdefault("pads", [kernel // 2] * 4)
        return self.net.node("Conv", x, weight, bias, **attributes)

    def norm(self, x, channels=5, sign=1):
        rng = self.rng
        return self.net.node("BatchNormalization", x, *np.float32([
            rng.uniform(0.3, 1.5, channels) * np.where(np.arange(channels) % 2, 1, sign),
            rng.standard_normal(channels), rng.standard_normal(channels),
            rng.uniform(0.5, 2, channels)]))

    def quantized(self, x, zero=-5, kind=np.int8):
        """`x` with the scale that spreads it over the codes."""
        sample = evaluate(self.net.model(x), np.float32(self.rng.standard_normal((6, *SHAPE)) * 4))
        return qdq(self.net, x, np.abs(sample[x]).max() / 110, zero, kind)

    def add(self, *addends):
        total = addends[0]
        for item in addends[1:]:
            total = self.net.node("Add", total, item)
        return total

    def check(self, result, allowed=0.01, chip=CHIP, near=0.02):
        """Codes must be those of float64 but where a tie is as `near` as the digits are fine."""
        model = self.net.model(result)
        images = np.float32(self.rng.standard_normal((4, *SHAPE)) * 4)
        graph = load(model)
        codes = graph.encode_inputs(images)
        found, expected = graph.decode_outputs(graph.run(codes)), evaluate(model, images)
        nodes = {node.output[0]: node for node in model.graph.node}
        before = nodes[nodes[result].input[0]].input[0] if result in nodes else result
        step = np.max(graph.tensors[graph.decoders[0].tensor].scale)
        steps = (found - expected[result]) / step
        wrong = np.abs(steps) > 0.01
        assert np.abs(steps).max() < 1.01 and wrong.mean() <= allowed
        if wrong.any():
            place = expected[before] / step
            assert np.abs(place - np.floor(place) - 0.5)[wrong].max() < near
        assert len(np.unique(found)) > 20
        on_chip(graph, codes, chip)
        return graph


def down(case, each=False):
    y = case.quantized(case.net.node("Relu", case.conv(case.x, strides=[2, 2], each=each)), -128)
    y = case.add(case.conv(y, 5, 5, each=each), case.conv(
        case.x, kernel=1, strides=[2, 2], each=each))
    return case.net.node("Relu", y)


def repvgg(case, each=False):
    x = case.quantized(case.conv(case.x))
    return case.net.node("Relu", case.add(
        case.conv(x, 5, 5, each=each), case.conv(x, 5, 5, kernel=1), case.norm(x)))


def pooled(case):
    y = case.net.node("AveragePool", case.conv(case.x, kernel=1), kernel_shape=[2, 2],
                      strides=[2, 2])
    return case.add(case.net.node("MaxPool", case.conv(case.x), kernel_shape=[2, 2],
                                  strides=[2, 2]), y)


def both(case):
    return case.add(case.conv(case.x), case.conv(case.x, kernel=1, each=True))


KINDS = {
    "downsample": down, "downsample per channel": lambda case: down(case, True),
    "RepVGG": repvgg, "RepVGG per channel": lambda case: repvgg(case, True),
    "pooled": pooled,
    "difference": lambda case: case.net.node("Sub", case.conv(case.x), case.conv(
        case.x, kernel=1)),
    "clipped": lambda case: case.net.node("Sub", case.net.node("Relu", case.conv(
        case.x, kernel=1)), case.net.node("Clip", case.conv(case.x, kernel=1), np.float32(-1),
                                          np.float32(2))),
    "norm": lambda case: case.norm(both(case), sign=-1),
    "LeakyRelu": lambda case: case.net.node("LeakyRelu", both(case), alpha=0.25),
    "MaxPool, norm": lambda case: case.norm(case.net.node(
        "MaxPool", both(case), kernel_shape=[2, 2]), sign=-1),
    "mean": lambda case: case.net.node("AveragePool", both(case), kernel_shape=[2, 2],
                                       strides=[2, 2]),
    "three codes": lambda case: case.add(*(case.quantized(case.conv(case.x)) for _ in range(3))),
    "nested": lambda case: case.net.node("Sub", case.conv(case.x), case.net.node(
        "Mul", case.add(case.conv(case.x, kernel=1), case.quantized(case.conv(case.x))),
        np.float32(0.75))),
    "constant": lambda case: case.net.node("Add", case.net.node("Add", case.x, case.x),
                                           np.float32(0.3)),
    "zero is no code": lambda case: case.add(case.x, case.net.node(
        "Add", case.x, np.float32(0.013))),
    "function": lambda case: case.add(case.net.node("Sigmoid", case.quantized(
        case.conv(case.x))), case.conv(case.x)),
    "pixel": lambda case: case.add(case.conv(case.x), case.conv(case.quantized(case.net.node(
        "GlobalAveragePool", case.x)), kernel=1)),
    "depthwise": lambda case: case.add(case.conv(case.x, 4, group=4), case.conv(
        case.x, 4, kernel=1)),
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_sums(kind):
    case = Case(sorted(KINDS).index(kind))
    case.check(case.quantized(KINDS[kind](case)))


@pytest.mark.parametrize("zero, kind", [(0, np.uint8), (131, np.uint8), (-128, np.int8)])
def test_zero_points(zero, kind):
    case = Case(40, kind=kind, zero=zero)
    case.check(case.quantized(case.net.node("Relu", both(case)), zero, kind))


def test_digits_of_narrow_networks_have_eight_bits():
    """Their chips, too, or addends are to be quantized."""
    net = Network(np.random.default_rng(40), SHAPE)
    x = net.quant("x", 1 / 4, bits=4)

    def branch(kernel):
        weight = np.float32(net.rng.standard_normal((5, 4, kernel, kernel)))
        return net.node("Relu", net.node("Conv", x, net.quant(weight, 0.31, bits=4),
                                         pads=[kernel // 2] * 4))
    total = net.node("Add", branch(3), branch(1), name="sum")
    graph = load(net.model(net.quant(total, 0.9, bits=4)))
    assert {graph.tensors[name].format for name in graph.digits} == {Int(8)}
    assert {note.kind for note in graph.notes} <= {"digits"} and graph.notes[0].off < 0.004
    with pytest.raises(UserError) as refused:
        compile_network(graph, load_chip("tiny-2x4-int4"))
    assert str(refused.value).endswith('set array.activation to "int8", or quantize the addends of '
                                       "'sum', and all else, to int4")
    keys = ["array.activation=int8", "array.largest_k=32768"]
    compile_network(graph, load_chip("tiny-2x4-int4", keys))


def test_weights_of_few_bits():
    case = Case(41, weight=4)
    chip = Arch(rows=8, columns=8, activation_depth=4096, weight_depth=2048, weight=Int(4),
                accumulator_depth=512, parameter_depth=128, post_lanes=4, operand_depth=1024,
                largest_k=1 << 16)
    case.check(case.quantized(both(case)), 0.01, chip)


def test_a_sum_of_codes_in_one_scale_is_exact():
    case = Case(42)
    total = case.add(*(qdq(case.net, case.conv(case.x), scale, zero) for scale, zero in
                       ((1 / 8, 3), (1 / 16, -20), (1 / 8, 0))))
    graph = case.check(qdq(case.net, total, 1 / 4, 1), 0.003)
    assert len(graph.layers) == 4


def test_branches_of_one_tensor_become_one_convolution_where_that_is_exact():
    case = Case(43, weight=5)
    x = case.net.quant(case.net.node("Relu", case.x), 1 / 16)
    weights = [case.net.quant(np.float32(case.rng.integers(-7, 8, (4, 4, k, k)) / 16), 1 / 16,
                              bits=5) for k in (3, 1)]
    y, z = (case.net.node("Conv", x, w, pads=[n] * 4) for w, n in zip(weights, (1, 0), strict=True))
    model = case.net.model(case.net.quant(case.add(y, z), 1 / 4))
    graph = load(model)
    assert [layer.weights.shape for layer in graph.layers][-1] == (4, 4, 3, 3)
    images = np.float32(case.rng.standard_normal((4, *SHAPE)))
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    assert (found == evaluate(model, images)[model.graph.output[0].name]).all()


def test_an_output_that_nothing_quantizes():
    case = Case(44)
    model = case.net.model(both(case))
    images = np.float32(case.rng.standard_normal((4, *SHAPE)))
    graph = load(model)
    found, expected = graph.decode_outputs(graph.run(graph.encode_inputs(images))), evaluate(
        model, images)[model.graph.output[0].name]
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_convolution_that_keeps_its_size_adds_up_the_digits_of_the_others():
    case = Case(0)
    graph = load(case.net.model(case.quantized(down(case))))
    assert [layer.weights.shape[2:] for layer in graph.layers].count((3, 3)) == 2
    assert graph.layers[-1].weights.shape[2:] == (3, 3)


@pytest.mark.usefixtures("chip_alone")
def test_what_reaches_too_far_is_refused():
    case = Case(45)
    with pytest.raises(UserError, match=r"whose addends are so large .* put a quantizer after one"):
        load(case.net.model(case.conv(qdq(case.net, both(case), 1e-4, 0), 5, 5)))


def test_floats_are_refused():
    net = Network(np.random.default_rng(0), SHAPE, opset=17)
    x = net.float_quant("x", 0.25)
    weights = [net.float_quant(net.constant(np.float32(net.rng.standard_normal((4, 4, 1, 1)))),
                               0.125) for _ in range(2)]
    y = net.node("Add", *(net.node("Conv", x, weight) for weight in weights))
    with pytest.raises(UserError, match="inputs are both not quantized; put a quantizer"):
        load(net.model(net.float_quant(y, 0.5), shapes=[SHAPE]))
