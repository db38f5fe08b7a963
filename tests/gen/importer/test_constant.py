"""Channels whose results are constant: dead ones, tiny scales, biases beyond all limits."""

from fractions import Fraction

import numpy as np
import onnx
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.compile.compile import compile_graph
from systolith.gen.importer.reader import load
from systolith.sim.model import numerics

from ...onnx_networks import Network, run_onnx

#: What is odd about a channel: (scale of its weights, its bias).
ODD = [(1e-9, 0.0412), (1e-7, 0.3), (1e-12, -3.2), (0.01, 900.0), (0.01, -900.0), (1e-30, 1.0),
       (3e-5, 1e4), (1e-4, -0.024), (0.02, 0.5), (1e-8, 0.3251)]


def network(seed, activation, zeros):
    """Some odd channels and some ordinary ones; two channels are dead where `zeros`."""
    rng = np.random.default_rng(seed)
    net = Network(rng, (3, 6, 6), opset=17)
    zero = net.constant(np.uint8(rng.integers(0, 200)))
    scale = np.float32(0.02)
    x = net.node("QuantizeLinear", "x", scale, zero)
    x = net.node("DequantizeLinear", x, scale, zero)
    scales, biases = np.float32(ODD).T
    codes = rng.integers(-127, 128, (len(ODD), 3, 3, 3)).astype(np.int8)
    if zeros:
        codes[[1, 8]] = 0
    w = net.node("DequantizeLinear", codes, scales, np.zeros(len(ODD), np.int8), axis=0)
    units = scales * scale
    long = np.float64(biases) / units
    integers = np.abs(long).max(initial=0) if seed % 2 else np.inf
    if integers < 2 ** 31:
        bias = net.node("DequantizeLinear", np.rint(long).astype(np.int32), units,
                        np.zeros(len(ODD), np.int32), axis=0)
    else:
        bias = biases
    x = net.node("Conv", x, w, bias, pads=[1, 0, 1, 1])
    if activation == "PRelu":
        x = net.node("PRelu", x, np.float32(rng.uniform(-0.2, 0.3, (len(ODD), 1, 1))))
    elif activation:
        x = net.node(activation, x)
    step, point = np.float32(0.05), np.int8(rng.integers(-20, 20))
    x = net.node("DequantizeLinear", net.node("QuantizeLinear", x, step, point), step, point)
    return net.model(x), np.float32(rng.standard_normal((8, 3, 6, 6)) * 3)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("activation", ["", "Relu", "LeakyRelu", "PRelu"])
def test_constant_channels_are_exact_and_short(seed, activation):
    model, images = network(seed, activation, zeros=seed > 1)
    graph = load(model)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    expected, = run_onnx(model, images, optimized=False).values()
    off = np.abs(found - expected) > 1e-4
    assert off.mean() < 0.002 and np.abs(found - expected).max() < 0.051
    layer, = graph.layers
    dead = [n for n in range(len(ODD)) if not layer.weights.codes[n].any()]
    assert {0, 2, 3, 5} <= set(dead) and not {7} & set(dead)
    arch = load_chip("sim-16x16-int8", ["post.leaky=true"])
    compile_graph(graph, arch)
    assert np.abs(layer.bias).max() < 1 << 23


def test_a_sum_that_decides_is_kept():
    """A tiny range around a tie is constant only where the multiplier could not tell either."""
    for share, dead in ((1e-3, False), (1e-8, True)):
        net = Network(np.random.default_rng(0), (1,), opset=17)
        x = net.node("QuantizeLinear", "x", np.float32(1), np.int8(0))
        x = net.node("DequantizeLinear", x, np.float32(1), np.int8(0))
        w = net.node("DequantizeLinear", np.full((1, 1), 1, np.int8), np.float32(share / 128),
                     np.int8(0))
        x = net.node("QuantizeLinear", net.node("Gemm", x, w, np.float32([2.5])), np.float32(1),
                     np.int8(0))
        graph = load(net.model(net.node("DequantizeLinear", x, np.float32(1), np.int8(0)),
                               shapes=[(1,)]))
        assert (not graph.layers[0].weights.codes.any()) == dead
        assert Fraction(2) <= graph.run(graph.encode_inputs(np.float32([[3]])))[
            graph.outputs[0]].item() <= 3


@pytest.mark.parametrize("seed", range(6))
def test_two_results_need_no_long_bias(seed):
    """Biases next to a threshold, in units so small that they are beyond the accumulators."""
    rng = np.random.default_rng(seed)
    net = Network(rng, (3, 6, 6), opset=17)
    scale, zero = net.constant(np.float32(0.02)), net.constant(np.int8(rng.integers(-20, 20)))
    x = net.node("DequantizeLinear", net.node("QuantizeLinear", "x", scale, zero), scale, zero)
    codes = rng.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8)
    w = net.node("DequantizeLinear", codes, np.float32(10.0 ** rng.uniform(-7.5, -6, 8)),
                 np.zeros(8, np.int8), axis=0)
    step, point = np.float32(1 / 16), np.int8(rng.integers(-100, 100))
    levels = rng.integers(-90, 90, 8) - int(point) * (seed % 2)
    bias = np.float32((levels + 0.5 + rng.uniform(-1e-3, 1e-3, 8)) / 16)
    x = net.node("Conv", x, w, bias)
    x = net.node("DequantizeLinear", net.node("QuantizeLinear", x, step, point), step, point)
    model, images = net.model(x), np.float32(rng.standard_normal((8, 3, 6, 6)) * 2)
    graph = load(model)
    layer, = graph.layers
    reals = 1 / 16 * np.abs(levels) / (0.02 * 10 ** -6)
    assert reals.max() > 1 << 27 > 2 * np.abs(layer.bias).max()
    compile_graph(graph, load_chip("sim-16x16-int8"))
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    # In float32, the reference adds a bias of some units to sums of 1e-4.
    codes = graph.encode_inputs(images).astype(np.int64)
    codes = np.where(codes > 127, codes - 256, codes)
    exact = _sums(codes - graph.inputs[0].zero_point, model)
    order = np.clip(np.rint((exact + np.float64(bias)[:, None, None]) * 16) + point, -128, 127)
    off = np.abs(found - (order - point) / 16) > 1e-6
    assert off.mean() < 2e-3
    assert sum(len(np.unique(found[:, n])) == 2 for n in range(8)) >= 2


def _sums(integers, model):
    """The convolution in float64, without its bias."""
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    reader = next(node for node in model.graph.node if node.op_type == "Conv")
    maker = next(node for node in model.graph.node if node.output[0] == reader.input[1])
    codes, scales = (constants[name].astype(np.float64) for name in maker.input[:2])
    sums = numerics.convolve(integers, codes.astype(np.int64))
    return sums * (scales * np.float64(np.float32(0.02)))[:, None, None]
