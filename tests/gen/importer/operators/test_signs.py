"""Binary networks whose signs are comparisons: 0 goes where the model says."""

import numpy as np
import pytest
from onnx import TensorProto
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.widen import widened
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import Arch

from ....networks import run_program
from ....onnx_networks import Network, evaluate

#: sign of x: (how the model says it, what it makes of 0)
RULES = {
    "greater": lambda net, x: net.node("Where", net.node("Greater", x, np.float32(0)),
                                       np.float32(1), np.float32(-1)),
    "at least": lambda net, x: net.node("Where", net.node("GreaterOrEqual", x, np.float32(0)),
                                        np.float32(0.5), np.float32(-0.5)),
    "not less": lambda net, x: net.node("Where", net.node("Not", net.node(
        "Less", x, np.float32(0))), np.float32(1), np.float32(-1)),
    "turned": lambda net, x: net.node("Where", net.node("LessOrEqual", np.float32(0), x),
                                      np.float32(-1), np.float32(1)),
    "less": lambda net, x: net.node("Where", net.node("Less", x, np.float32(0)), np.float32(2),
                                    np.float32(-2)),
    "cast": lambda net, x: net.node("Sub", net.node("Mul", net.node(
        "Cast", net.node("Greater", x, np.float32(0)), to=TensorProto.FLOAT), np.float32(2)),
        np.float32(1)),
}


@pytest.mark.parametrize("rule", RULES)
def test_zero_goes_where_the_model_says(rule):
    """Sums of six signs meet their thresholds often; batch norms of both directions."""
    rng = np.random.default_rng(5)
    net = Network(rng, (6,), opset=17)
    x = RULES[rule](net, net.node("Sub", "x", np.float32(0.5)))
    for size, width in ((6, 8), (8, 5)):
        weight = net.bipolar_quant(np.float32(rng.choice([-1, 1], (size, width))))
        x = net.node("MatMul", x, weight)
        if width == 8:
            gamma = np.float32(rng.choice([-2, 1, 3], width))
            mean = np.float32(rng.choice([-2, 0, 2], width))
            x = net.node("BatchNormalization", x, gamma, np.zeros(width, np.float32), mean,
                         np.ones(width, np.float32), epsilon=0.0)
            x = RULES[rule](net, x)
    model = net.model(x)
    images = np.float32(rng.choice([0, 0.5, 1], (60, 6)))
    graph = load(model)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    assert np.allclose(found, evaluate(model, images)[x])
    assert len(graph.layers) == 2


@pytest.mark.usefixtures("chip_alone")
@pytest.mark.parametrize("made, message", [
    (lambda net, x: net.node("Where", net.node("Greater", x, np.float32(0)), np.float32(1),
                             np.float32(1)), "chooses between two equal numbers"),
    (lambda net, x: net.node("Where", net.node("Greater", x, np.float32(0)), np.float32(1),
                             np.float32([1, 2, 3])), "must choose between two numbers"),
])
def test_refused(made, message):
    net = Network(np.random.default_rng(1), (4,), opset=17)
    x = net.node("MatMul", net.bipolar_quant("x"), net.bipolar_quant(np.ones((4, 3), np.float32)))
    with pytest.raises(UserError, match=message):
        load(net.model(made(net, x)))


@pytest.mark.parametrize("rule", ["Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
@pytest.mark.parametrize("clip", ["Relu", "Clip"])
def test_comparisons_after_a_clip(rule, clip):
    """A threshold outside the limits makes a constant, one on them a constant or none."""
    rng = np.random.default_rng(3)
    net = Network(rng, (7,), opset=17)
    x = net.node("MatMul", net.bipolar_quant("x"), net.bipolar_quant(
        np.float32(rng.choice([-1, 1], (7, 6)))))
    x = net.node("Relu", x) if clip == "Relu" else net.node(
        "Clip", x, np.float32(-1), np.float32(3))
    x = net.node("Where", net.node(rule, x, np.float32([-3, -1, 0, 1, 3, 5])), np.float32(1),
                 np.float32(-1))
    model = net.model(net.node("MatMul", x, net.bipolar_quant(np.ones((6, 2), np.float32))))
    images = np.float32(rng.standard_normal((100, 7)))
    graph = load(model)
    found = graph.run(graph.encode_inputs(images))[graph.layers[-1].input]
    assert (2 * found[:, :, 0, 0] - 1 == evaluate(model, images)[x]).all()


#: Signs after pooling.
SIGNS = {
    "BipolarQuant": lambda net, x: net.bipolar_quant(x),
    "MultiThreshold": lambda net, x: net.node(
        "MultiThreshold", x, np.float32([[0.0]]), domain="qonnx.custom_op.general",
        out_scale=2.0, out_bias=-1.0, data_layout="NCHW"),
    "turned": RULES["turned"], "greater": RULES["greater"],
}


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("windows", [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}])
def test_factors_of_both_signs_after_pooling(sign, windows):
    """Conv, MaxPool, BatchNormalization, sign: where the factor is negative, the smallest sum of a
    window decides; in the program, too."""
    rng = np.random.default_rng(8)
    net = Network(rng, (6, 9, 9), opset=17)
    x = net.bipolar_quant(net.node("Sub", "x", np.float32(0.5)))
    for inputs, width, size in ((6, 10, 3), (10, 7, 2)):
        weight = net.bipolar_quant(np.float32(rng.choice([-1, 1], (width, inputs, size, size))))
        x = net.node("Conv", x, weight)
        x = net.node("MaxPool", x, **windows)
        gamma = np.float32(rng.choice([-2, -0.5, 0, 1, 3], width))
        mean = np.float32(rng.integers(-12, 13, width))
        x = net.node("BatchNormalization", x, gamma, np.float32(rng.choice([-1, 0, 1], width)),
                     mean, np.ones(width, np.float32), epsilon=0.0)
        x = SIGNS[sign](net, x)
    model = net.model(x)
    images = np.float32(rng.choice([0, 1], (20, 6, 9, 9)))
    graph = load(model)
    codes = graph.encode_inputs(images)
    found = graph.decode_outputs(graph.run(codes))
    assert np.allclose(found, evaluate(model, images)[x])
    assert [any(layer.pool.least) for layer in graph.layers] == [True, True]
    arch = Arch(rows=3, columns=4, lanes=5, activation="bipolar1", weight="bipolar1")
    program = compile_graph(graph, arch)
    outputs, _, _ = run_program(program, codes[0], 3)
    assert (outputs[graph.outputs[0]] == graph.run(codes[:1])[graph.outputs[0]][0]).all()


def test_channels_of_factors_of_both_signs():
    """Splitting what is not quantized yet takes the factors along."""
    rng = np.random.default_rng(9)
    net = Network(rng, (4, 6, 6), opset=17)
    x = net.bipolar_quant(net.node("Sub", "x", np.float32(0.5)))
    x = net.node("Conv", x, net.bipolar_quant(np.float32(rng.choice([-1, 1], (6, 4, 3, 3)))))
    x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.node("Mul", x, np.float32([1, -1, 1, 1, -1, -1]).reshape(1, 6, 1, 1))
    x = net.bipolar_quant(net.node("Gather", x, np.int64([4, 0, 2]), axis=1))
    model = net.model(x)
    images = np.float32(rng.choice([0, 1], (20, 4, 6, 6)))
    graph = load(model)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    assert np.allclose(found, evaluate(model, images)[x])


def int8_weights(net, weight, size):
    """Weights of -1 and +1 as QDQ has them: codes of one size, scales of each output channel."""
    scale = np.float32(abs(net.rng.standard_normal(weight.shape[0])) + 0.1)
    return net.node("DequantizeLinear", np.int8(size * weight), scale,
                    np.zeros(weight.shape[0], np.int8), axis=0)


@pytest.mark.parametrize("size", [1, 127])
@pytest.mark.parametrize("planes", [False, True])
def test_integer_weights_that_are_signs(size, planes):
    """int8 weights of one size after DequantizeLinear are binary ones, after integers, too."""
    rng = np.random.default_rng(4)
    net = Network(rng, (5, 6, 6), opset=17)
    x = net.quant("x", 1 / 8, bits=4) if planes else net.bipolar_quant("x")
    for inputs, width in ((5, 7), (7, 5)):
        weight = int8_weights(net, rng.choice([-1, 1], (width, inputs, 2, 2)), size)
        x = net.node("Conv", x, weight, np.float32(rng.standard_normal(width)))
        if width == 7:
            x = RULES["at least"](net, x)
    model = net.model(x)
    images = np.float32(rng.standard_normal((10, 5, 6, 6)))
    graph = load(model)
    assert {str(layer.weights.format) for layer in graph.layers} == {"bipolar1"}
    codes = graph.encode_inputs(images)
    results = graph.run(codes)
    np.testing.assert_allclose(graph.decode_outputs(results), evaluate(model, images)[x],
                               rtol=1e-4, atol=1e-4)
    arch = Arch(rows=3, columns=4, lanes=5, activation="bipolar1", weight="bipolar1",
                bit_planes=planes)
    outputs, _, _ = run_program(compile_graph(graph, arch), codes[0], 3)
    assert (outputs[graph.outputs[0]] == results[graph.outputs[0]][0]).all()


def signs_of_sums(rng, inputs, bias):
    """A network of ONNX's Sign between two layers, and the name of its output."""
    net = Network(rng, (inputs,), opset=17)
    x = net.node("MatMul", net.bipolar_quant("x"), net.bipolar_quant(
        np.float32(rng.choice([-1, 1], (inputs, 6)))))
    x = net.node("Sign", net.node("Add", x, np.float32(bias)))
    x = net.node("MatMul", x, net.bipolar_quant(np.float32(rng.choice([-1, 1], (6, 3)))))
    return net.model(x), x


@pytest.mark.parametrize("inputs, bias", [(7, 0), (7, 2), (6, 0.5), (6, 1), (6, -7)])
def test_sign_of_sums_that_are_never_zero(inputs, bias):
    rng = np.random.default_rng(6)
    model, name = signs_of_sums(rng, inputs, bias)
    images = np.float32(rng.standard_normal((50, inputs)))
    graph = load(model)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    assert len(graph.layers) == 2
    assert (found == evaluate(model, images)[name]).all()


@pytest.mark.parametrize("inputs, bias", [(6, 0), (6, 2), (7, 1)])
def test_sign_of_sums_that_can_be_zero(inputs, bias):
    """Signs of three values, on a binary chip two signs each."""
    rng = np.random.default_rng(6)
    model, name = signs_of_sums(rng, inputs, bias)
    images = np.float32(rng.standard_normal((50, inputs)))
    chip = Arch(rows=4, columns=4, lanes=4, activation="bipolar1", weight="bipolar1")
    for graph in (load(model), widened(load(model), chip)):
        codes = graph.encode_inputs(images)
        assert (graph.decode_outputs(graph.run(codes)) == evaluate(model, images)[name]).all()
    outputs, _, _ = run_program(compile_graph(graph, chip), codes[0], 3)
    assert (outputs[graph.outputs[0]] == graph.run(codes)[graph.outputs[0]][0]).all()


def test_signs_of_integer_sums_are_exact():
    """Channels that can be 0 beside others that cannot, clipped and pooled."""
    rng = np.random.default_rng(7)
    net = Network(rng, (3, 6, 6), opset=17)
    weight = net.quant(np.float32(rng.integers(-3, 4, (6, 3, 2, 2))), 1.0, bits=4)
    x = net.node("Conv", net.quant("x", 0.5, bits=3), weight,
                 np.float32([0, 0.5, 0.25, -1, -0.75, 2]))
    x = net.node("Mul", x, np.float32([1, -1, 2, -0.5, 1, 1]).reshape(1, 6, 1, 1))
    x = net.node("Sign", net.node("MaxPool", x, kernel_shape=[2, 2]))
    model = net.model(net.node("Relu", x), x)
    images = np.float32(rng.integers(-4, 4, (20, 3, 6, 6)) / 2)
    graph = load(model)
    found, wanted = graph.decode_outputs(graph.run(graph.encode_inputs(images))), evaluate(
        model, images)
    assert set(np.unique(wanted[x])) == {-1, 0, 1}
    assert all((found[item.name] == wanted[item.name]).all() for item in graph.decoders)


#: Signs of two quantized maps a and b, small integers that are often equal: LAB's comparison; OR
#: and AND of signs (BoolNet), of two and of three.
OF_TWO = {
    "greater": lambda net, a, b: _cast(net, net.node("Greater", a, b)),
    "at least": lambda net, a, b: _cast(net, net.node("GreaterOrEqual", a, b)),
    "less": lambda net, a, b: _cast(net, net.node("Less", a, b)),
    "at most": lambda net, a, b: _cast(net, net.node("LessOrEqual", a, b)),
    "or": lambda net, a, b: net.bipolar_quant(net.node("Max", _sign(net, a), _sign(net, b))),
    "and": lambda net, a, b: net.bipolar_quant(net.node("Min", _sign(net, a), _sign(net, b))),
    "or of three": lambda net, a, b: net.bipolar_quant(net.node(
        "Max", _sign(net, a), _sign(net, b), _sign(net, net.node("Sub", a, np.float32(2))))),
    "sign of the larger": lambda net, a, b: net.bipolar_quant(net.node(
        "Max", net.node("Sub", a, np.float32(0.5)), net.node("Sub", b, np.float32(0.5)))),
    "xnor": lambda net, a, b: net.bipolar_quant(net.node("Mul", _sign(net, a), _sign(net, b))),
}


def _cast(net, comparison):
    number = net.node("Cast", comparison, to=TensorProto.FLOAT)
    return net.node("Sub", net.node("Mul", number, np.float32(2)), np.float32(1))


def _sign(net, x):
    return net.bipolar_quant(net.node("Sub", x, np.float32(0.5)))


@pytest.mark.parametrize("name", OF_TWO)
def test_signs_of_two_maps(name):
    rng = np.random.default_rng(6)
    net = Network(rng, (4, 3, 3), opset=17)
    x = net.quant("x", 1.0, bits=3)
    a, b = (net.quant(net.node("Conv", x, net.quant(np.float32(
        rng.integers(-1, 2, (8, 4, 1, 1))), 1.0, narrow=1)), 1.0) for _ in range(2))
    model = net.model(net.quant(OF_TWO[name](net, a, b), 1.0))
    images = np.float32(rng.integers(-3, 4, (20, 4, 3, 3)))
    arch = Arch(rows=8, columns=8, packed_signs=True, operand_depth=64, activation_depth=64,
                weight_depth=64)
    graph = widened(load(model), arch)
    codes = graph.encode_inputs(images)
    gold = graph.run(codes, arch)
    expected = evaluate(model, images)[model.graph.output[0].name]
    assert (graph.decode_outputs({key: gold[key] for key in graph.outputs}) == expected).all()
    assert len(np.unique(expected)) == 2
    program = compile_graph(graph, arch)
    outputs, _, _ = run_program(program, {graph.inputs[0].name: codes[0]}, 1)
    for output, array in outputs.items():
        assert (array == gold[output][0]).all()
