"""Nearest upsampling: parts that take turns pixel by pixel; and what is refused."""

import numpy as np
import pytest
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError

from ....onnx_exact import bias, check, integer_network, qdq, spread, weights


@pytest.mark.parametrize("operator", ["scales", "sizes", "half_pixel"])
@pytest.mark.parametrize("after", ["conv", "quantizer", "concat", "sums"])
def test_nearest_upsampling(operator, after):
    net, x = integer_network(np.random.default_rng(2), (3, 4, 3))
    y = net.node("Conv", x, weights(net, 6, 3, 1, 1), bias(net, 6))
    y = qdq(net, y, 8, 3) if after != "sums" else y
    how = dict(coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    if operator == "half_pixel":
        how = {}
    size = ("", "", np.array([1, 6, 8, 9])) if operator == "sizes" else (
        "", np.float32([1, 1, 2, 3]))
    if operator == "sizes":
        net.input.type.tensor_type.shape.dim[0].dim_value = 1
    y = net.node("Resize", y, *size, mode="nearest", **how)
    outputs = []
    if after == "conv":
        y = net.node("Conv", y, weights(net, 5, 6, 3, 3), pads=[1] * 4)
    elif after == "concat":
        if operator == "sizes":
            size = ("", "", np.array([1, 3, 8, 9]))
        other = net.node("Resize", x, *size, mode="nearest", **how)
        y = net.node("Concat", qdq(net, y, 8, 3), qdq(net, other, 1 / 16, 5), axis=1)
    outputs.append(spread(net, y) if after != "quantizer" else qdq(net, y, 8, 3))
    check(net, *outputs, count=1, rarely=0.02)          # a tie near is there six times


@pytest.mark.parametrize("middle, message", [
    (lambda net, x: net.node("Resize", x, "", np.float32([1, 2, 2, 1.5]), mode="nearest"),
     r"must leave batch and channels as they are"),
    (lambda net, x: net.node("ConvTranspose", x, weights(net, 3, 2, 2, 2), output_shape=[7, 7]),
     "attribute output_shape is not supported; give pads and output_padding"),
    (lambda net, x: net.node("Neg", net.node("MaxPool", net.node(
        "ConvTranspose", x, weights(net, 3, 2, 2, 2), strides=[2, 2]), kernel_shape=[2, 2],
        strides=[2, 2])), "pools the result of 'neg.*' before it is quantized"),
])
def test_refused(middle, message):
    net, x = integer_network(np.random.default_rng(5), (3, 6, 6))
    with pytest.raises(UserError, match=message):
        load(net.model(qdq(net, middle(net, x), 1, 0), shapes=[("C", "H", "W")]))
