"""Max pooling from ONNX: against ONNX Runtime, on chips, and in as few layers as it can be."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnxruntime import InferenceSession
from systolith.gen.importer.operators.pool import _pool_steps
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.sim.model.pool import Pool

from ....onnx_exact import CHIPS, bias, check, integer_network, qdq, weights


def random_pool(draw, sizes):
    """Attributes of a MaxPool over a map."""
    attributes = dict(kernel_shape=[], strides=[], ceil_mode=draw.randrange(2))
    pads = []
    for size in sizes:
        kernel = draw.randint(1, min(4, size))
        attributes["kernel_shape"].append(kernel)
        attributes["strides"].append(draw.randint(1, 4))
        pads.append([draw.randrange(kernel), draw.randrange(kernel)])
    if draw.random() < 0.7:
        attributes["pads"] = [side[n] for n in (0, 1) for side in pads]
    for size, kernel, stride, (before, after) in zip(
            sizes, attributes["kernel_shape"], attributes["strides"], pads, strict=True):
        rest = size - kernel + (before + after) * ("pads" in attributes)
        # ONNX and ONNX Runtime do not agree on windows that would begin after the map.
        if -(-rest // stride) * stride >= size + before * ("pads" in attributes):
            attributes["ceil_mode"] = 0
    return attributes


@pytest.mark.parametrize("seed", range(16))
def test_windows_of_any_kind(seed):
    draw = random.Random(f"pool {seed}")
    shape = (3, draw.randint(4, 11)) if seed % 8 == 7 else (
        3, draw.randint(4, 11), draw.randint(4, 11))
    net, x = integer_network(np.random.default_rng(seed), shape)
    kernel = 1 if len(shape) == 2 else (1, 1)
    conv = net.node("Conv", x, weights(net, 5, 3, *(1,) * (len(shape) - 1)), bias(net, 5),
                    kernel_shape=[kernel] if kernel == 1 else kernel)
    where = seed % 3
    if where == 0:                              # after a quantized layer, and read by another
        conv = qdq(net, net.node("Relu", conv), 1 / 2, -7)
    pooled = net.node("MaxPool", conv, **random_pool(draw, shape[1:]))
    graph, _ = check(net, qdq(net, pooled, 1 / 2, -7))
    assert len(graph.layers) == 1


def test_pooling_of_a_joined_map_is_done_part_by_part():
    net, x = integer_network(np.random.default_rng(1), (4, 9, 9))
    parts = [qdq(net, net.node("Relu", net.node("Conv", x, weights(net, n, 4, 1, 1), bias(net, n))),
                 1 / 2, -128) for n in (8, 4)]
    joined = qdq(net, net.node("Concat", *parts, axis=1), 1 / 2, -128)
    pooled = qdq(net, net.node("MaxPool", joined, kernel_shape=[3, 3], strides=[2, 2],
                               ceil_mode=1), 1 / 2, -128)
    graph, _ = check(net, qdq(net, net.node("Conv", pooled, weights(net, 3, 12, 1, 1)), 8, 3))
    assert [layer.pool.size for layer in graph.layers] == [(3, 3), (3, 3), (1, 1)]
    assert graph.layers[0].output == graph.layers[1].output == graph.layers[2].input


def test_a_map_with_several_readers_is_pooled_by_a_layer_of_its_own():
    net, x = integer_network(np.random.default_rng(2), (3, 8, 8))
    first = qdq(net, net.node("Conv", x, weights(net, 4, 3, 1, 1)), 1 / 2, 4)
    pooled = qdq(net, net.node("MaxPool", first, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), 1 / 2, 4)
    second = qdq(net, net.node("Conv", first, weights(net, 4, 4, 1, 1)), 4, 4)
    graph, _ = check(net, pooled, second)
    assert sorted(layer.pool.size for layer in graph.layers) == [(1, 1), (1, 1), (3, 3)]


@pytest.mark.parametrize("attributes", [
    [dict(kernel_shape=[3, 3], strides=[2, 2]), dict(kernel_shape=[2, 2], strides=[2, 2])],
    [dict(kernel_shape=[3, 3], pads=[1] * 4), dict(kernel_shape=[3, 3], pads=[1] * 4)],
    [dict(kernel_shape=[2, 2], strides=[3, 3]), dict(kernel_shape=[2, 2])],
    [dict(kernel_shape=[17, 5], strides=[2, 3])], [dict(kernel_shape=[16, 16], strides=[16, 16])]])
def test_pooling_after_pooling_and_large_windows(attributes):
    net, x = integer_network(np.random.default_rng(3), (4, 19, 18), scale=1 / 4)
    for item in attributes:
        x = net.node("MaxPool", x, **item)
    chips = [replace(arch, accumulator_depth=512) for arch in CHIPS]
    check(net, qdq(net, x, 1 / 4, 5), rarely=0, chips=chips)


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_the_golden_model_is_onnx_runtime(data):
    sizes = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=2))
    attributes = random_pool(data.draw(st.randoms(use_true_random=False)), sizes)
    if data.draw(st.booleans()):
        attributes["auto_pad"] = data.draw(st.sampled_from(("SAME_UPPER", "SAME_LOWER", "VALID")))
        attributes["ceil_mode"] = 0
        attributes.pop("pads", None)
        attributes["strides"] = [min(pair) for pair in zip(
            attributes["strides"], attributes["kernel_shape"], strict=True)]
    scale = [helper.make_tensor("scale", TensorProto.FLOAT, [], [1 / 8]),
             helper.make_tensor("zero", TensorProto.INT8, [], [3])]
    nodes = [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["a"]),
             helper.make_node("DequantizeLinear", ["a", "scale", "zero"], ["b"]),
             helper.make_node("MaxPool", ["b"], ["c"], **attributes),
             helper.make_node("QuantizeLinear", ["c", "scale", "zero"], ["d"]),
             helper.make_node("DequantizeLinear", ["d", "scale", "zero"], ["y"])]
    shapes = {"x": ["n", 2, *sizes], "y": ["n", 2, *(f"size{n}" for n in range(len(sizes)))]}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in shapes.items())
    model = helper.make_model(helper.make_graph(nodes, "net", [x], [y], scale), ir_version=10,
                              opset_imports=[helper.make_opsetid("", 21)])
    images = np.float32(np.random.default_rng(0).standard_normal((2, 2, *sizes)) * 8)
    expected, = InferenceSession(model.SerializeToString()).run(None, {"x": images})
    graph = load(model)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    assert found.shape == expected.shape and (found == expected).all()


@pytest.mark.parametrize("size, stride, count", [
    (16, 16, 3), (17, 1, 5), (40, 7, 4), (33, 24, 2), (224, 224, 1), (97, 5, 1), (300, 64, 3)])
def test_large_windows_are_small_ones_after_each_other(size, stride, count):
    values = np.random.default_rng(size).integers(-99, 99, (1, 1, 1, (count - 1) * stride + size))
    values[..., np.random.default_rng(0).random(values.shape[3]) < 0.9] = -100
    expected = Pool((1, size), (1, stride)).extremes(values)
    for small, step, pads in _pool_steps(size, stride, (0, 0), count):
        assert small <= 15 and pads == (0, 0)
        values = Pool((1, small), (1, step)).extremes(values)
    assert (values == expected).all()


@pytest.mark.parametrize("seed", range(24))
def test_windows_with_gaps(seed):
    """Dilated, before and after a quantizer, on one axis and two."""
    draw = random.Random(f"gaps {seed}")
    rank = 1 if seed % 6 == 5 else 2
    net, x = integer_network(np.random.default_rng(seed), (3, *(draw.randint(9, 13)
                                                                for _ in range(rank))))
    x = net.node("Conv", x, weights(net, 5, 3, *(1,) * rank), bias(net, 5))
    x = qdq(net, net.node("Relu", x), 1 / 2, -7) if seed % 2 else x
    kernel = [draw.randint(1, 3) for _ in range(rank - 1)] + [draw.randint(2, 3)]
    attributes = dict(kernel_shape=kernel, ceil_mode=int(seed in (1, 2, 14, 22)),
                      strides=[draw.randint(1, 2) for _ in kernel],
                      dilations=[draw.randint(1, 3) for _ in kernel[1:]] + [draw.randint(2, 3)])
    if seed % 3 == 0:
        attributes["pads"] = [draw.randrange(size) for size in kernel * 2]
    check(net, qdq(net, net.node("MaxPool", x, **attributes), 1 / 2, draw.choice([-7, 3])))


def test_a_convolution_is_computed_once_for_windows_with_gaps():
    net, x = integer_network(np.random.default_rng(3), (3, 8, 8))
    x = net.node("Conv", x, weights(net, 4, 3, 3, 3), pads=[1, 1, 1, 1])
    x = net.node("MaxPool", x, kernel_shape=[3, 3], dilations=[2, 2])
    graph, _ = check(net, qdq(net, x, 1, 0))
    assert [(layer.geometry.stride, layer.placement.step, layer.conv_shape[1:])
            for layer in graph.layers] == [
        ((2, 2), (2, 2), (4, 4))] * 4


def test_a_window_with_gaps_that_sees_nothing_is_refused():
    net, x = integer_network(np.random.default_rng(3), (3, 2, 9))
    x = net.node("MaxPool", x, kernel_shape=[2, 1], dilations=[3, 1], pads=[1, 0, 1, 0])
    x = qdq(net, x, 1, 0)
    with pytest.raises(UserError, match="the window at -1 has no pixel"):
        load(net.model(x, shapes=[(3, 1, 9)]))
