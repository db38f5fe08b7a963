"""Asymmetric weights, which less their zero point need a bit more than the chip's have: the passes
that exceed them are made twice."""

from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.compile.boxes import runs_of
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.layer import Layer
from systolith.gen.flow.check import check
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Int
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.memory_plan import check_memory_plan
from systolith.sim.model.weights import Weights

from ...layers import changed
from ...onnx_exact import CHIPS, integer_network, on_chip, qdq
from ...onnx_networks import run_onnx


def network(seed, depthwise=False, per_channel=False, kind=np.uint8, spread=90):
    """Two layers with random zero points; few weights are far from the middle where `spread` is
    small."""
    rng = np.random.default_rng(seed)
    net, x = integer_network(rng, (6, 6, 5))
    ends = np.iinfo(kind)
    for outputs, kernel in ((6, 3), (5, 1)):
        apart = depthwise and kernel == 3
        middle = (ends.min + ends.max) / 2
        codes = np.clip(rng.normal(middle, spread, (outputs, 1 if apart else 6, kernel, kernel)),
                        ends.min, ends.max).astype(kind)
        zero = (middle + rng.integers(-60, 60, outputs if per_channel else ())).astype(kind)
        w = net.node("DequantizeLinear", codes, np.float32(np.full(zero.shape, 1 / 64)), zero,
                     axis=0)
        x = net.node("Conv", x, w, np.float32(rng.integers(-300, 300, outputs) / 128),
                     pads=[kernel // 2] * 4, group=6 if apart else 1)
        x = qdq(net, x, 0.5, -7)
    images = np.float32(rng.standard_normal((4, *net.shape)) * 3)
    return net.model(x), images


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("arch", CHIPS)
def test_results_are_those_of_wider_weights(seed, arch):
    kind = np.int8 if seed == 3 else np.uint8
    model, images = network(seed, seed % 2, seed > 2, kind, 90 if seed % 3 else 40)
    graph = load(model)
    assert any(layer.weights.format == Int(9) for layer in graph.layers)
    assert any(len(Layer(n, layer, arch).addends) > 1 for n, layer in enumerate(graph.layers))
    codes = graph.encode_inputs(images)
    program = on_chip(graph, codes, arch, seed)
    check_memory_plan(program)
    expected, = run_onnx(model, images, optimized=False).values()
    # All scales are powers of two.
    np.testing.assert_array_equal(graph.decode_outputs(graph.run(codes)), expected)
    assert check(model, arch).maps


def test_all_magnitudes():
    """255 is the sum of three of the chip's weights, and what is beyond that is refused."""
    graph = load(network(0)[0])
    layer = graph.layers[0]
    images = np.resize([255, -255, 254, -256, 0, 127, -128, 128, -129], layer.weights.shape)
    wide = replace(layer, weights=Weights(images, Int(10)))
    parts = Layer(0, wide, CHIPS[0]).addends
    assert len(parts) == 3 and (sum(item.images for item in parts) == images).all()
    assert all(item.has_codes.all() and item.format == CHIPS[0].weight for item in parts)
    graph.layers[0] = wide
    rng = np.random.default_rng(0)
    on_chip(graph, rng.integers(0, 256, (1, *graph.inputs[0].shape)), CHIPS[0])
    graph.layers[0] = replace(wide, weights=Weights(images * 2, Int(10)))
    with pytest.raises(UserError, match="has int10 weights, the chip's are int8; set"):
        compile_graph(graph, CHIPS[0])


def test_few_weights_beyond_the_range_cost_few_passes():
    graph = load(network(1)[0])
    layer, arch = graph.layers[0], CHIPS[0]
    images = np.clip(layer.weights.images, -128, 127)
    graph.layers[1] = changed(graph.layers[1], weight=graph.layers[1].weights.codes * 0)
    counts, times = [], []
    for wide in (0, 1, images.size):
        mine = images.copy().reshape(-1)
        mine[:wide] = 200
        graph.layers[0] = replace(layer, weights=Weights(mine.reshape(images.shape), Int(9)))
        counts.append(Layer(0, graph.layers[0], arch).passes)
        times.append(cycles(compile_graph(graph, arch)).cycles)
    assert counts[1] == counts[0] + 1 and counts[2] == 2 * counts[0]
    assert times[0] < times[1] < times[0] * 1.15 < times[2]


def test_sums_as_floats_are_refused():
    graph = load(network(2)[0])
    with pytest.raises(UserError, match=r'sums of the chip\'s.*set array.sums to "integers"'):
        compile_graph(graph, replace(CHIPS[0], sums="1-6-9"))


def test_saturating_accumulators_are_refused():
    graph = load(network(2)[0])
    with pytest.raises(UserError, match=r"are sums of the chip's int8.*set array.acc"):
        compile_graph(graph, replace(CHIPS[0], accumulator=19))


@pytest.mark.parametrize("seed", range(5))
def test_runs_are_a_partition(seed):
    rng = np.random.default_rng(seed)
    made = rng.random((4, 5, 3)) < seed / 4
    box = (1, 3, 0, 4, 1, 2)
    seen = np.zeros(made.shape, int)
    for y, rows, x, columns, first, blocks in runs_of(made, box):
        seen[y:y + rows, x:x + columns, first:first + blocks] += 1
    inside = np.zeros(made.shape, int)
    inside[1:4, 0:4, 1:3] = 1
    assert (seen == made * inside).all()
    assert seed != 4 or runs_of(made, box) == [box]
