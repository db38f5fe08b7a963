"""Weights of up to twice the bits of the chip's in two passes (`array.wide_weights`)."""

from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.needs import SAVINGS
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.gen.quantize.pools import dual_numbers, fit_numbers
from systolith.gen.quantize.quantize import quantize
from systolith.gen.quantize.recipe import Recipe
from systolith.gen.quantize.rounded import sqnr
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Opcode
from systolith.sim.machine.memory_plan import check_memory_plan
from systolith.sim.model.weights import Weights

from ...onnx_exact import integer_network, on_chip, qdq
from ...onnx_networks import Network

ARCH = Arch(rows=4, columns=4, activation="int8", weight="int4", wide_weights=True,
            depthwise=True, largest_k=1 << 15, weight_widths=(2,))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_halves_are_all_weights_in_reach_and_no_others(bits):
    form = Int(bits)
    low, high = form.image_range
    reach = range((low << bits) + low, (high << bits) + high + 1)
    images = np.array(reach).reshape(-1, 1, 1, 1)
    lower, upper = Weights(images, Int(2 * bits + 1)).halves(form)
    assert (lower.images + (upper.images << bits) == images).all()
    for part in (lower, upper):
        assert low <= part.images.min() and part.images.max() <= high
    for beyond in (reach[0] - 1, reach[-1] + 1):
        assert not Weights(images * 0 + beyond, Int(2 * bits + 1)).halves(form)


@pytest.mark.parametrize("groups", [1, 9], ids=["dense", "depthwise"])
def test_results_are_those_of_the_weights(groups):
    """Layers of int4, of both halves, and of upper halves alone; only the passes that they need."""
    rng = np.random.default_rng(groups)
    net, x = integer_network(rng, (9, 6, 5))
    for low, high, step in ((-8, 7, 1), (-119, 119, 1), (-7, 7, 16)):
        codes = rng.integers(low, high + 1, (9, 9 // groups, 3, 3)) * step
        w = net.node("DequantizeLinear", codes.astype(np.int8), np.float32(1 / 64), np.int8(0))
        x = net.node("Conv", x, w, pads=[1] * 4, group=groups)
        x = qdq(net, x, 0.5, -7)
    graph = load(net.model(x))
    codes = graph.encode_inputs(np.float32(rng.standard_normal((2, *net.shape)) * 3))
    program = on_chip(graph, codes, ARCH, 3)
    check_memory_plan(program)
    arrays = [i for i in program.instructions if i.opcode == Opcode.ARRAY]
    assert [{i.double for i in arrays if i.layer == n} for n in range(3)] == [
        {0}, {0, 1}, {0, 1}]
    assert Layer(1, graph.layers[1], ARCH).passes == 2 * Layer(0, graph.layers[0], ARCH).passes
    with pytest.raises(UserError, match="has int8 weights, the chip's are int4"):
        on_chip(graph, codes, replace(ARCH, wide_weights=False), 3)


def test_what_no_two_weights_make_is_refused_and_what_needs_them_is_said():
    rng = np.random.default_rng(0)
    net, x = integer_network(rng, (4, 5, 5))
    codes = rng.integers(-119, 120, (4, 4, 3, 3))
    w = net.node("DequantizeLinear", codes.astype(np.int8), np.float32(1 / 64), np.int8(0))
    graph = load(net.model(qdq(net, net.node("Conv", x, w), 0.5, -7)))
    [row] = (need for need in SAVINGS if need.field == "wide_weights")
    conv = graph.layers[0]
    assert row.value(conv, graph.tensors, ARCH)
    most = conv.weights.images.copy()
    most.flat[0] = 127
    beyond = replace(conv, weights=replace(conv.weights, images=most))
    few = replace(conv, weights=replace(conv.weights, images=most // 16))
    assert not row.value(beyond, graph.tensors, ARCH) and not row.value(few, graph.tensors, ARCH)
    with pytest.raises(UserError, match="has int8 weights, the chip's are int4"):
        on_chip(replace(graph, layers=[beyond]), graph.encode_inputs(
            np.zeros((1, *net.shape), np.float32)), ARCH, 1)


@pytest.mark.parametrize("rounding", ["nearest", "learned"])
def test_dual_tensors_are_finer_and_a_chip_of_narrow_weights_takes_them(rounding):
    net = Network(np.random.default_rng(3), (12, 6, 6))
    x = "x"
    for number in range(2):
        w = np.float32(net.rng.standard_normal((12, 12, 3, 3)) / 8)
        x = net.node("Relu", net.node("Conv", x, w, pads=[1] * 4, name=f"conv{number}"))
    data = np.float32(net.rng.standard_normal((16, *net.shape)))
    made = quantize(net.model(x), data, Recipe("int8", "int4", rounding=rounding, layers={
        "conv1": {"weight": "dual4"}}))
    assert [row["weight"] for row in made.rows] == [None, "int4", "dual4"]
    coarse = quantize(net.model(x), data, Recipe("int8", "int4", rounding=rounding))
    assert made.rows[2]["alone_sqnr"] > coarse.rows[2]["alone_sqnr"] + 3
    graph = load(made.model)
    images = graph.layers[1].weights.images
    assert 100 < abs(images).max() <= 119
    program = on_chip(graph, graph.encode_inputs(data[:1]), ARCH, 1)
    assert {(i.layer, i.double) for i in program.instructions if i.opcode == Opcode.ARRAY} == {
        (0, 0), (1, 0), (1, 1)}


def test_numbers_of_dual_tensors():
    assert dual_numbers("int8") is None
    numbers = dual_numbers("dual3")
    assert numbers[0] == -27 and numbers[-1] == 27 and len(numbers) == 55
    weight = np.float32(np.random.default_rng(0).laplace(size=(4, 50)))
    scales, rounded = fit_numbers(dual_numbers("dual4"), weight, 0)
    assert np.rint(abs(rounded / scales[:, None])).max() <= 119
    assert sqnr(weight, rounded) > 30
    assert sqnr(weight, rounded) >= sqnr(weight, fit_numbers(
        dual_numbers("dual4"), weight, 0, "min-max")[1])
    with pytest.raises(UserError, match="sawb"):
        Recipe(weight="dual4", weight_range="sawb").formats()
