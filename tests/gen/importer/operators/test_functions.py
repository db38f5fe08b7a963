"""Functions by table, slopes, and squeeze-and-excite, against ONNX Runtime."""

from dataclasses import replace

import numpy as np
import pytest
from onnxruntime.quantization import QuantFormat, QuantType
from systolith.gen.compile.compile import compile_graph
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch

from ....networks import run_program
from ....onnx_exact import check, integer_network, qdq, weights
from ....onnx_networks import Network, evaluate, quantized, run_onnx
from .test_pairs import convolution, onnx_codes

INT8 = Int(8)
CHIP = Arch(rows=4, columns=8, activation_depth=1024, weight_depth=1024, operand_depth=400,
            parameter_depth=32, largest_k=1 << 12, table_depth=256, leaky=True)
ONE = np.float32(1)


def erf_gelu(net, x):
    y = net.node("Add", net.node("Erf", net.node("Div", x, np.float32(np.sqrt(2)))), ONE)
    return net.node("Mul", net.node("Mul", x, y), np.float32(0.5))


def hard_swish(net, x):
    y = net.node("Clip", net.node("Add", x, 3 * ONE), 0 * ONE, 6 * ONE)
    return net.node("Div", net.node("Mul", x, y), 6 * ONE)


def mish(net, x):
    return net.node("Mul", x, net.node("Tanh", net.node("Softplus", x)))


def silu(net, x):
    return net.node("Mul", net.node("Sigmoid", x), x)


def pooled_silu(net, x):
    return net.node("MaxPool", silu(net, x), kernel_shape=[2, 2], strides=[2, 2])


def one(operator, *constants, **attributes):
    return lambda net, x: net.node(operator, x, *constants, **attributes)


#: One layer of its own where nothing can take the function.
FUNCTIONS = {
    "sigmoid": one("Sigmoid"), "tanh": one("Tanh"), "hard swish": one("HardSwish"),
    "hard sigmoid": one("HardSigmoid", alpha=1 / 6), "elu": one("Elu", alpha=0.5),
    "leaky": one("LeakyRelu", alpha=0.1), "one slope": one("PRelu", np.float32([[[-0.3]]])),
    "square": one("Pow", np.float32(2)), "abs": one("Abs"), "silu": silu, "pooled": pooled_silu,
    "mish": mish, "gelu": erf_gelu, "hard swish in parts": hard_swish,
}


def quantized_network(function, path, qdq_format=True, signed=False, channels=6):
    """(Graph, path) of convolution, function, convolution."""
    net = Network(np.random.default_rng(3), (3, 8, 8), opset=17)
    x = function(net, convolution(net, "x", 3, channels, 3))
    model = net.model(convolution(net, x, channels, 5, 1))
    data = np.float32(net.rng.standard_normal((4, 1, 3, 8, 8)))
    quantized(model, data, path, per_channel=True, weight_type=QuantType.QInt8,
              quant_format=QuantFormat.QDQ if qdq_format else QuantFormat.QOperator,
              activation_type=QuantType.QInt8 if signed else QuantType.QUInt8)
    return load(path)


def assert_onnx_runtimes(graph, path, images):
    """The results are ONNX Runtime's, the program's those of the golden model."""
    codes = graph.run(graph.encode_inputs(images))
    found = graph.decode_outputs({name: codes[name] for name in graph.outputs})
    theirs, = run_onnx(path, images, optimized=False).values()
    steps = np.abs(found - theirs) / graph.tensors[graph.outputs[0]].scale
    assert steps.max() < 1.01 and (steps > 0.01).mean() <= 0.002
    return assert_computes(graph, codes)


def assert_computes(graph, codes):
    program = compile_graph(graph, CHIP)
    _, maps, _ = run_program(program, {item.name: codes[item.name][0] for item in graph.inputs})
    for name, array in maps.items():
        assert (array == codes[name][0]).all(), name
    return program


def assert_layers_are_onnx_runtimes(graph, path, images, rarely):
    """Each layer by itself, from what ONNX Runtime has before it."""
    theirs = onnx_codes(path, graph, images)
    for layer in graph.layers:
        operand = layer.operand and theirs[layer.operand.tensor]
        found = layer.run(theirs[layer.input], INT8, INT8, operand=operand)
        steps = (found - theirs[layer.output] + 128) % 256 - 128
        assert abs(steps).max() <= 1 and (steps != 0).mean() <= rarely, layer.name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_cost_no_layer_and_are_onnx_runtimes(name, tmp_path):
    turn = list(FUNCTIONS).index(name)
    path = tmp_path / "m.onnx"
    graph = quantized_network(FUNCTIONS[name], path, turn % 2 == 0, turn // 2 % 2 == 0)
    assert [layer.table is not None for layer in graph.layers] == [True, False]
    images = np.float32(np.random.default_rng(1).standard_normal((9, 3, 8, 8)))
    program = assert_onnx_runtimes(graph, path, images)
    assert program.host.layers[0].function == "table"
    assert program.host.peak["table_words"] <= 256


def test_a_slope_for_each_channel_takes_a_layer_with_two_factors(tmp_path):
    slopes = np.float32([0.25, -0.5, 0, 1, 1.75, 0.01])[:, None, None]
    graph = quantized_network(one("PRelu", slopes), tmp_path / "m.onnx")
    assert [layer.leaky for layer in graph.layers] == [False, True, False]
    images = np.float32(np.random.default_rng(1).standard_normal((9, 3, 8, 8)))
    assert_onnx_runtimes(graph, tmp_path / "m.onnx", images)


def test_a_maximum_of_what_a_negative_slope_gives(tmp_path):
    slopes = np.float32([0.25, -0.5, 0, -1, 1.75, 0.01])[:, None, None]
    graph = quantized_network(lambda net, x: net.node(
        "MaxPool", net.node("PRelu", x, slopes), kernel_shape=[2, 2], strides=[2, 2]),
        tmp_path / "m.onnx")
    images = np.float32(np.random.default_rng(1).standard_normal((9, 3, 8, 8)))
    assert_onnx_runtimes(graph, tmp_path / "m.onnx", images)


def squeeze_and_excite(net, x, channels):
    y = net.node("GlobalAveragePool", x)
    y = net.node("Relu", convolution(net, y, channels, 4, 1))
    y = net.node("HardSigmoid", convolution(net, y, 4, channels, 1), alpha=1 / 6)
    return net.node("Mul", x, y)


def test_a_block_of_mobilenet_v3(tmp_path):
    net, channels = Network(np.random.default_rng(8), (4, 8, 8), opset=17), 12
    x = net.node("HardSwish", convolution(net, "x", 4, channels, 1))
    kernel = np.float32(net.rng.standard_normal((channels, 1, 3, 3)) / 3)
    x = net.node("HardSwish", net.node("Conv", x, kernel, group=channels, pads=[1] * 4))
    x = squeeze_and_excite(net, x, channels)
    model = net.model(net.node("Add", convolution(net, x, channels, 4, 1), "x"))
    data = np.float32(net.rng.standard_normal((4, 1, *net.shape)))
    path = quantized(model, data, tmp_path / "m.onnx", per_channel=True,
                     weight_type=QuantType.QInt8)
    graph = load(path)
    # three convolutions, a mean, two small ones, the product
    assert len(graph.layers) == 7
    assert sum(layer.table is not None for layer in graph.layers) == 3
    images = np.float32(net.rng.standard_normal((9, *net.shape)))
    assert_layers_are_onnx_runtimes(graph, path, images, rarely=0.02)
    assert_computes(graph, graph.run(graph.encode_inputs(images)))


def exact_network(rng, function):
    """Convolution, function without quantizer between them, quantizer."""
    net, x = integer_network(rng, (3, 6, 6))
    x = net.node("Conv", x, weights(net, 5, 3, 3, 3), name="conv")
    return net, qdq(net, function(net, x), 0.25, 3)


@pytest.mark.parametrize("function", [
    one("LeakyRelu", alpha=0.1), one("PRelu", np.float32([0.1, -0.7, 0, 2.5, 1])[:, None, None]),
    one("HardSigmoid"), one("Neg"), one("Abs"), one("Max", np.float32(-0.5)),
    one("Min", np.float32(0.5)),
])
def test_what_needs_no_quantizer_in_front(function):
    net, x = exact_network(np.random.default_rng(5), function)
    model = net.model(x)
    graph = load(model)
    assert len(graph.layers) == 1 and graph.layers[0].table is None
    images = np.float32(net.rng.standard_normal((8, *net.shape)) * 4)
    codes = graph.run(graph.encode_inputs(images))
    found, theirs = graph.decode_outputs({x: codes[x] for x in graph.outputs}), run_onnx(
        model, images, optimized=False)[x]
    assert np.abs(found - theirs).max() <= 0.26 and (found != theirs).mean() < 0.002
    program = compile_graph(graph, CHIP)
    run_program(program, {item.name: codes[item.name][0] for item in graph.inputs})


def qonnx_network(function, bits):
    """Quantized convolution, function, quantizer, as Brevitas exports them."""
    net = Network(np.random.default_rng(4), (3, 7, 7), opset=17)
    kernel = net.quant(weights_of(net, 4, 3, 3, 3), 1 / 64, narrow=1)
    x = net.node("Conv", net.quant("x", 1 / 16), kernel, pads=[1] * 4)
    return net, net.quant(function(net, x), 2.0 ** (1 - bits), bits=bits, signed=1)


def weights_of(net, *shape):
    return np.float32(net.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])))


def scaled_gelu(net, x):
    y = net.node("Erf", net.node("Mul", x, np.float32(np.sqrt(0.5))))
    return net.node("Mul", x, net.node("Mul", net.node("Add", y, ONE), np.float32(0.5)))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("function", [one("Sigmoid"), silu, pooled_silu, scaled_gelu, hard_swish])
def test_functions_of_sums_are_rounded_finely(function, bits):
    net, x = qonnx_network(function, bits)
    model = net.model(x)
    graph = load(model)
    layer, = graph.layers
    assert 1 << bits < len(layer.table) <= 2048
    images = np.float32(net.rng.standard_normal((20, *net.shape)))
    codes = graph.run(graph.encode_inputs(images))
    found, exact = graph.decode_outputs({x: codes[x]}), evaluate(model, images)[x]
    steps = np.abs(found - exact) / graph.tensors[x].scale
    assert steps.max() < 1.01 and (steps > 0.01).mean() < (0.2 if bits == 8 else 0.02)
    assert len(np.unique(exact)) > 3
    if bits == 8:
        chip = replace(CHIP, table_depth=2048)
        _, maps, _ = run_program(compile_graph(graph, chip), {
            item.name: codes[item.name][0] for item in graph.inputs})
        assert (maps[x] == codes[x][0]).all()
        with pytest.raises(UserError, match=r"set buffers\.tables to (512|1024|2048)"):
            compile_graph(graph, replace(CHIP, table_depth=256))


@pytest.mark.usefixtures("chip_alone")
def test_what_a_chip_must_have():
    net, x = exact_network(np.random.default_rng(5), one("LeakyRelu"))
    graph = load(net.model(x))
    with pytest.raises(UserError, match=r"'conv'.*set post.leaky to true"):
        compile_graph(graph, Arch(rows=4, columns=4))
    net, x = exact_network(np.random.default_rng(5), lambda net, x: net.node(
        "Conv", net.node("Sigmoid", qdq(net, x, 0.25, 3)), weights(net, 2, 5, 1, 1)))
    with pytest.raises(UserError, match=r"node .*reads the result of 'sigmoid.*put a quantizer"):
        load(net.model(x))
    net, x = exact_network(np.random.default_rng(5), lambda net, x: net.node(
        "Conv", qdq(net, net.node("Sigmoid", qdq(net, x, 0.25, 3)), 1 / 256, -128),
        weights(net, 2, 5, 1, 1)))
    with pytest.raises(UserError, match=r"table of 256, and the chip has no table memory; "
                                        r"set buffers\.tables to 256"):
        compile_graph(load(net.model(x)), Arch(rows=4, columns=4))


@pytest.mark.usefixtures("chip_alone")
@pytest.mark.parametrize("function, message", [
    (lambda net, x: net.node("Conv", net.node("Sigmoid", x), weights(net, 5, 5, 1, 1)),
     "put a quantizer before 'sigmoid"),
    (lambda net, x: net.node("Sqrt", qdq(net, x, 0.25, 3)), "is not a number for some codes"),
    (lambda net, x: net.node("Pow", qdq(net, x, 0.25, 3), np.float32(np.arange(1, 5))),
     "a constant of several numbers, and one is"),
])
def test_what_is_no_function_of_codes(function, message):
    net, x = exact_network(np.random.default_rng(5), function)
    x = net.node("Conv", x, weights(net, 2, 5, 1, 1))
    with pytest.raises(UserError, match=message):
        load(net.model(qdq(net, x, 0.5, 0), shapes=[(2, 4, 4)]))


def test_a_sum_of_clipped_numbers_is_one_table():
    net, x = integer_network(np.random.default_rng(2), (3, 5, 6))
    x = qdq(net, net.node("Conv", x, weights(net, 6, 3, 1, 1)), ONE / 8, 3)
    y = net.node("Add", net.node("Clip", x, -2 * ONE, 6 * ONE),
                 net.node("Clip", x, -5 * ONE, 3 * ONE))
    y = net.node("Conv", qdq(net, y, ONE / 8, -4), weights(net, 4, 6, 1, 1))
    graph, _ = check(net, qdq(net, y, ONE / 4, 2), chips=[CHIP])
    assert [layer.table is not None for layer in graph.layers] == [True, False]
