"""The larger or smaller of two maps, and sums, means and extremes over any axes."""

import random

import numpy as np
import pytest
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError

from ....onnx_exact import bias, check, integer_network, qdq, weights

#: No sum is half-way between two steps of it.
SCALE = 1.483


def branch(net, x, channels, *zeros, relu=False):
    """A convolution of `x`, quantized where there is a zero point."""
    rank = len(net.shape) - 1
    x = net.node("Conv", x, weights(net, channels, net.shape[0], *(1,) * rank), bias(net, channels))
    x = net.node("Relu", x) if relu else x
    return qdq(net, x, SCALE, *zeros) if zeros else x


@pytest.mark.parametrize("operator", ["Max", "Min"])
@pytest.mark.parametrize("zeros", [
    [(-7,), (-7,)], [(-128,), (127,)], [(), (-7,)], [(), ()], [(3,), (3,), ()]])
def test_the_extreme_of_maps(operator, zeros):
    """Of the same codes, of others, before quantizers, of three."""
    net, x = integer_network(np.random.default_rng(1), (3, 5, 6))
    x = net.node(operator, *(branch(net, x, 5, *zero) for zero in zeros))
    check(net, qdq(net, x, SCALE, -7))


def test_a_map_whose_codes_have_other_limits():
    net, x = integer_network(np.random.default_rng(2), (3, 5, 6))
    parts = [branch(net, x, 4, -7, relu=True), branch(net, x, 4, -7)]
    least = net.node("Min", *parts)
    check(net, qdq(net, net.node("Mul", least, np.float32(-0.8)), 0.37, 5))


def test_the_larger_of_two_convolutions_takes_one_more_layer():
    net, x = integer_network(np.random.default_rng(3), (3, 5, 6))
    larger = net.node("Max", branch(net, x, 4, 2), branch(net, x, 4, 2))
    graph, _ = check(net, qdq(net, larger, SCALE, 2))
    assert len(graph.layers) == 3


def test_a_constant_beyond_the_range_of_a_map():
    net, x = integer_network(np.random.default_rng(3), (3, 5, 6))
    x = net.node("Max", net.node("Neg", branch(net, x, 4, relu=True)), branch(net, x, 4, 2),
                 np.float32(7))
    check(net, qdq(net, x, SCALE, -7))


@pytest.mark.parametrize("seed", range(20))
def test_reductions_over_any_axes(seed):
    draw = random.Random(f"reduce {seed}")
    operator = ("Max", "Min", "Mean", "Sum")[seed % 4]
    rank = 1 if seed % 5 == 4 else 2
    shape = 3, *(draw.randint(3, 7) for _ in range(rank))
    net, x = integer_network(np.random.default_rng(seed), shape, draw.choice([5, -128, 0]))
    x = branch(net, x, draw.choice([2, 3, 5, 9]), draw.choice([-7, 3, 40]))
    axes = sorted(draw.sample(range(1, rank + 2), draw.randint(1, rank)))
    if seed % 3 == 0:
        axes = [axis - rank - 2 for axis in axes]
    x = net.node(f"Reduce{operator}", x, np.array(axes), keepdims=draw.randrange(2))
    scale = {"Mean": 0.4371, "Sum": 4.0371}.get(operator, SCALE)
    check(net, qdq(net, x, scale, -7), count=20, rarely=0.02)


def test_a_window_larger_than_an_instruction():
    net, x = integer_network(np.random.default_rng(4), (2, 18, 3))
    x = net.node("ReduceMin", branch(net, x, 3, 4), np.array([2]))
    check(net, qdq(net, x, SCALE, 4), count=20, chips=(), rarely=0.02)


@pytest.mark.usefixtures("chip_alone")
@pytest.mark.parametrize("operator, axes, message", [
    ("ReduceMax", [0, 2], "its axes must leave the batch dimension"),
    ("ReduceSum", [4], "its axes must be from -4 to 3")])
def test_axes_that_are_refused(operator, axes, message):
    net, x = integer_network(np.random.default_rng(4), (2, 4, 3))
    x = net.node(operator, branch(net, x, 3, 4), np.array(axes))
    with pytest.raises(UserError, match=f"{message}|not valid ONNX"):
        load(net.model(qdq(net, x, 1, 0), shapes=[("C", "H", "W")]))


def test_the_extreme_of_an_input_is_refused():
    net, x = integer_network(np.random.default_rng(4), (2, 4, 3))
    with pytest.raises(UserError, match="compares an input before it is quantized"):
        load(net.model(qdq(net, net.node("Max", "x", x), 1, 0), shapes=[(2, 4, 3)]))


@pytest.mark.parametrize("zero", [(-7,), ()])
def test_the_extreme_of_maps_of_one_channel(zero):
    net, x = integer_network(np.random.default_rng(6), (3, 5, 6))
    x = net.node("Max", branch(net, x, 1, *zero), branch(net, x, 1, *zero))
    check(net, qdq(net, x, SCALE, -7))


def test_a_convolution_of_a_mean_is_one_layer():
    net, x = integer_network(np.random.default_rng(8), (3, 6, 8))
    x = net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    graph, _ = check(net, qdq(net, branch(net, x, 5), SCALE, -7))
    assert len(graph.layers) == 1
