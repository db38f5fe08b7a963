"""Bilinear enlargement against float64 and ONNX Runtime."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError

from ....onnx_exact import CHIPS, check, integer_network, on_chip, qdq, spread, weights
from ....onnx_networks import Network, evaluate, run_onnx

MODES = ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"]


def enlarged(net, x, factors, mode):
    return net.node("Resize", x, "", np.float32([1, 1, *factors]), mode="linear",
                    coordinate_transformation_mode=mode)


def steps_from_runtime(net, y, count=3):
    """How far the golden model is from ONNX Runtime, in steps of the output; the simulator must
    agree with the golden model."""
    model = net.model(y)
    images = np.float32(net.rng.standard_normal((count, *net.shape)) * 4)
    graph = load(model)
    codes = graph.encode_inputs(images)
    found = graph.decode_outputs(graph.run(codes))
    on_chip(graph, codes, CHIPS[1])
    expected, = run_onnx(model, images, optimized=False).values()
    return graph, (found - expected) / graph.tensors[graph.outputs[0]].scale


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_exactly_where_weights_are_codes(data):
    """Both axes at once: as exact as any convolution; thirds and fifths have ties of their own."""
    draw = data.draw
    mode = draw(st.sampled_from(MODES[:3]))
    factors = draw(st.sampled_from([(2, 2), (2, 2), (3, 2), (1, 4), (4, 4), (5, 1), (2, 3)]))
    shape = 3, draw(st.integers(1, 4)), draw(st.integers(3, 4))
    net, x = integer_network(np.random.default_rng(draw(st.integers(0, 999))), shape,
                             draw(st.sampled_from([5, 0, -128])))
    y = enlarged(net, net.node("Relu", x) if draw(st.booleans()) else x, factors, mode)
    if draw(st.booleans()):
        y = qdq(net, y, 1 / 16, 5)
        y = net.node("Conv", y, weights(net, 4, 3, 2, 1), pads=[1, 0, 0, 0])
    check(net, spread(net, y), count=5, rarely=0.02 if set(factors) <= {1, 2, 4} else 0.2)


@pytest.mark.parametrize("mode, factors, least", [
    ("align_corners", (2, 2), 0.5), ("align_corners", (1, 3), 0.98), ("half_pixel", (8, 8), 0.5),
    ("half_pixel", (8, 1), 0.98)])
def test_at_most_a_step_where_rows_come_first(mode, factors, least):
    net, x = integer_network(np.random.default_rng(3), (4, 5, 4))
    graph, steps = steps_from_runtime(net, qdq(net, enlarged(net, x, factors, mode), 1 / 16, 5))
    assert np.abs(steps).max() < 1.01 and (np.abs(steps) < 0.01).mean() >= least
    assert graph.tensors[graph.outputs[0]].shape == (4, 5 * factors[0], 4 * factors[1])


def test_one_dimension():
    net, x = integer_network(np.random.default_rng(4), (3, 6))
    y = net.node("Resize", x, "", np.float32([1, 1, 2]), mode="linear")
    check(net, spread(net, net.node("Conv", qdq(net, y, 1 / 16, 5), weights(net, 4, 3, 3))),
          count=20)


def test_floats_whose_products_have_no_code():
    """9 is none of e3m2's: rows first, 1 and 3 are."""
    net = Network(np.random.default_rng(5), (3, 4, 5), opset=17)
    x = net.float_quant("x", 1 / 4)
    y = net.float_quant(enlarged(net, x, (2, 2), "half_pixel"), 1 / 4)
    weight = net.float_quant(np.float32(net.rng.standard_normal((2, 3, 1, 1))), 1 / 8)
    model = net.model(net.node("Conv", y, weight))
    graph = load(model)
    images = np.float32(net.rng.standard_normal((4, 3, 4, 5)))
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    expected = evaluate(model, images)[model.graph.output[0].name]
    assert len(graph.layers) == 5
    assert np.abs(found - expected).max() < 0.2 * np.abs(expected).max()


@pytest.mark.parametrize("attributes, message", [
    (dict(coordinate_transformation_mode="tf_crop_and_resize"),
     "needs its input roi"),
    (dict(mode="cubic"), "attribute mode must be 'nearest' or 'linear', not 'cubic'"),
    (dict(exclude_outside=1), "attribute exclude_outside must be 0"),
])
def test_refused(attributes, message):
    net, x = integer_network(np.random.default_rng(5), (3, 6, 6))
    y = net.node("Resize", x, "", np.float32([1, 1, 2, 2]), **dict(mode="linear") | attributes)
    with pytest.raises(UserError, match=message):
        load(net.model(qdq(net, y, 1, 0), shapes=[("C", "H", "W")]))
