"""Resize by any factor, against ONNX Runtime, and on chips."""

import random
from fractions import Fraction

import numpy as np
import pytest
from onnx import TensorProto, helper
from systolith.gen.importer.operators.resize import Axis, _phases, _places, _whole
from systolith.gen.importer.reader import load

from ....onnx_exact import CHIPS, integer_network, on_chip, qdq, weights
from ....onnx_networks import run_onnx

MODES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric", "align_corners"]


def resize(shape, scales=(), sizes=(), roi=(), seed=1, opset=21, **attributes):
    """(model, its input) of a Resize after a convolution; no result is half-way between codes."""
    net, x = integer_network(np.random.default_rng(seed), shape)
    net.opset = opset
    x = qdq(net, net.node("Conv", x, weights(net, 4, shape[0], *(1,) * (len(shape) - 1))), 0.431, 3)
    scales = np.array([1, 1, *scales] if len(scales) else [], np.float32)
    inputs = [x, np.array(roi, np.float32), scales]
    if len(sizes):
        inputs = [*inputs[:2], "" if opset > 11 else scales, np.array([3, 4, *sizes], np.int64)]
    x = qdq(net, net.node("Resize", *inputs, **attributes), 0.4871, 3)
    images = np.float32(net.rng.standard_normal((3, *shape)) * 4)
    bare = helper.make_model(helper.make_graph(net.nodes, "net", [net.input], [
        helper.make_empty_tensor_value_info(x)], net.constants), ir_version=8,
        opset_imports=[helper.make_opsetid("", opset)])
    expected, = run_onnx(bare, images, optimized=False).values()
    bare.graph.output[0].CopyFrom(helper.make_tensor_value_info(
        x, TensorProto.FLOAT, ["N", *expected.shape[1:]]))
    return bare, images, expected


def agree(model, images, expected, chips=CHIPS):
    graph = load(model)
    codes = graph.encode_inputs(images)
    found = graph.decode_outputs(graph.run(codes))
    assert found.shape == expected.shape
    assert (np.abs(found - expected) > 1e-3).mean() <= 0.003
    for arch in chips:
        on_chip(graph, codes, arch)
    return graph


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("nearest", [
    "linear", "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_any_mode(mode, nearest):
    draw = random.Random(f"{mode} {nearest}")
    attributes = dict(coordinate_transformation_mode=mode, mode="linear")
    if nearest != "linear":
        attributes.update(mode="nearest", nearest_mode=nearest)
    exact = mode == "half_pixel_symmetric"      # factors by which float32 divides exactly
    scales = [draw.choice([0.5, 2] if exact else [0.5, 1.5, 0.75, 2.5, 2 / 3]) for _ in range(2)]
    agree(*resize((3, draw.randint(4, 7), draw.randint(4, 7)), scales, **attributes), CHIPS[:1])
    if mode != "half_pixel_symmetric" or nearest == "linear":
        agree(*resize((3, 5, 6), (), [draw.randint(2, 8), draw.randint(2, 8)], **attributes), ())


def test_half_in_one_layer():
    graph = agree(*resize((3, 8, 6), (0.5, 0.5), mode="linear"))
    assert [layer.geometry.stride for layer in graph.layers[1:]] == [(2, 2)]


def test_one_axis():
    agree(*resize((3, 9), (1.5,), mode="linear"))
    agree(*resize((3, 9), (), (4,), mode="nearest"))


def test_a_part_of_a_map():
    """tf_crop_and_resize; and tf_half_pixel_for_nn, which opset 11 has."""
    crop = dict(coordinate_transformation_mode="tf_crop_and_resize")
    roi = [0, 0, 0.25, 0, 1, 1, 0.75, 1]
    agree(*resize((3, 9, 7), (), (5, 6), roi, mode="linear", **crop), ())
    agree(*resize((3, 9, 7), (1.5, 0.5), opset=11, mode="nearest",
                  coordinate_transformation_mode="tf_half_pixel_for_nn"), ())


def test_inputs_that_opset_11_requires_may_be_empty():
    agree(*resize((3, 5, 6), (), (8, 4), opset=11, mode="linear"), ())


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_sizes_that_keep_the_ratio(policy):
    agree(*resize_axes((3, 6, 4), [9, 8], policy), ())


def resize_axes(shape, sizes, policy):
    model, images, _ = resize(shape, (1, 1), mode="linear")
    node = next(item for item in model.graph.node if item.op_type == "Resize")
    model.graph.initializer.append(helper.make_tensor("wanted", TensorProto.INT64, [2], sizes))
    node.input[2:] = ["", "wanted"]
    node.attribute.extend([helper.make_attribute("axes", [2, 3]),
                           helper.make_attribute("keep_aspect_ratio_policy", policy)])
    del model.graph.output[:]
    name = model.graph.node[-1].output[0]
    model.graph.output.append(helper.make_empty_tensor_value_info(name))
    expected, = run_onnx(model, images, optimized=False).values()
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(
        name, TensorProto.FLOAT, ["N", *expected.shape[1:]]))
    return model, images, expected


def test_results_at_equal_places_are_one_convolution():
    places = _places(Axis(8, 12, Fraction(3, 2)), "half_pixel", "floor", None)
    assert [(step, stride) for _, step, _, stride, *_ in _phases(places)] == [(3, 2)] * 3


@pytest.mark.parametrize("attributes", [
    dict(mode="linear", antialias=1), dict(mode="cubic"),
    # Places on the border between two pixels, which float32 decides.
    dict(mode="nearest", nearest_mode="floor",
         coordinate_transformation_mode="half_pixel_symmetric")])
def test_what_the_chip_cannot_is_left_to_the_host(attributes):
    model, *_ = resize((3, 9, 6), (), (3, 3), **attributes)
    assert load(model).tail is not None


def test_weights_as_whole_numbers_and_their_unit():
    whole, unit = _whole(np.array([[Fraction(1, 2), Fraction(1, 3)], [Fraction(0), Fraction(3)]]))
    assert whole.tolist() == [[3, 2], [0, 18]] and unit == Fraction(1, 6)


def test_more_places_than_are_computed_together():
    """17 x 16 places of different weights: first the rows, then the columns, rounded in between."""
    model, images, expected = resize((2, 3, 5), (), [17, 16], mode="linear")
    graph = load(model)
    assert 17 + 16 <= len(graph.layers) <= 17 + 16 + 2
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    step = float(graph.tensors[graph.outputs[0]].scale)
    assert np.abs(found - expected).max() <= 1.01 * step
    assert (np.abs(found - expected) > 0.01 * step).mean() <= 0.15
