"""Maps that broadcast to each other, and constants that differ by position."""

import random

import numpy as np
import pytest
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError

from ....onnx_exact import bias, check, integer_network, qdq, weights
from ....onnx_networks import Network, evaluate


def branch(net, x, channels, reduced=(), scale=0.31):
    """A quantized convolution of `x`, and the largest over the axes `reduced`."""
    x = net.node("Conv", x, weights(net, channels, 3, 1, 1), bias(net, channels))
    x = qdq(net, x, scale, -3)
    return net.node("ReduceMax", x, np.array(reduced)) if reduced else x


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Max"])
@pytest.mark.parametrize("first, second", [
    ((), (1,)), ((1,), ()), ((), (1, 2, 3)), ((2, 3), ()), ((2,), (3,)), ((1,), (2, 3)),
    ((3,), ())])
def test_activations(operator, first, second):
    """[N, 1, H, W] with [N, C, H, W] and the like, in both orders."""
    net, x = integer_network(np.random.default_rng(1), (3, 4, 5))
    x = net.node(operator, branch(net, x, 6, first), branch(net, x, 6, second, 0.7))
    check(net, qdq(net, x, 21.37 if operator == "Mul" else 1.0437, -7), count=5)


def test_a_channel_that_a_convolution_makes_is_repeated_by_it():
    net, x = integer_network(np.random.default_rng(2), (3, 4, 5))
    gate = net.node("Conv", x, weights(net, 1, 3, 1, 1))
    x = net.node("Mul", branch(net, x, 6), gate)
    graph, _ = check(net, qdq(net, x, 21.37, 3))
    assert len(graph.layers) == 2


CONSTANTS = [(1, 6, 4, 5), (6, 4, 5), (4, 5), (1, 1, 4, 5), (5,), (1, 6, 4, 1)]


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Min"])
@pytest.mark.parametrize("shape", CONSTANTS)
def test_constants_that_a_quantizer_made(operator, shape):
    draw = random.Random(f"{operator} {shape}")
    net, x = integer_network(np.random.default_rng(3), (3, 4, 5))
    kind = draw.choice([np.int8, np.uint8])
    codes = net.rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape).astype(kind)
    constant = net.node("DequantizeLinear", codes, np.float32(0.113), kind(draw.choice([0, 7])))
    both = [branch(net, x, 6), constant]
    x = net.node(operator, *(both if draw.random() < 0.5 else both[::-1]))
    check(net, qdq(net, x, 21.37 if operator == "Mul" else 1.0437, -7), count=5)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div", "Max"])
def test_constants_that_no_quantizer_made(operator):
    """Several codes for each number."""
    net, x = integer_network(np.random.default_rng(4), (3, 4, 5))
    numbers = np.float32(net.rng.standard_normal((6, 4, 5)) * 5)
    x = net.node(operator, branch(net, x, 6), np.where(np.abs(numbers) < 1, 2, numbers))
    graph, _ = check(net, qdq(net, x, 21.37 if operator == "Mul" else 1.0437, -7), count=5)
    assert [tensor.shape for tensor in graph.inputs] == [(3, 4, 5), (24, 4, 5)]


def test_a_constant_larger_than_the_value():
    net, x = integer_network(np.random.default_rng(5), (3, 4, 5))
    numbers = np.float32(net.rng.standard_normal((1, 6, 4, 5)))
    x = net.node("Add", branch(net, x, 6, (2, 3)), numbers)
    check(net, qdq(net, x, 0.437, -7), count=5)


def test_a_mask_is_exact():
    net, x = integer_network(np.random.default_rng(6), (3, 4, 5))
    mask = np.float32(net.rng.integers(0, 2, (4, 5)))
    x = net.node("Mul", branch(net, x, 6), mask)
    graph, _ = check(net, qdq(net, x, 0.31, -3), rarely=0)
    assert [tensor.shape for tensor in graph.inputs] == [(3, 4, 5), (6, 4, 5)]


def test_a_product_that_is_not_quantized_cannot_broadcast(chip_alone):
    net, x = integer_network(np.random.default_rng(7), (3, 4, 5))
    whole, x = x, branch(net, x, 6)
    gate = net.node("Mul", branch(net, whole, 1), branch(net, whole, 1))
    with pytest.raises(UserError, match=r"broadcasts the result of 'mul.*' before it is quantized"):
        load(net.model(qdq(net, net.node("Add", x, gate), 1, 0), shapes=[(6, 4, 5)]))


@pytest.mark.parametrize("operator", ["Add", "Mul"])
def test_a_constant_beside_few_bits(operator):
    """Its codes and weights have eight bits where the network's have two and three."""
    net = Network(np.random.default_rng(8), (3, 4, 5))
    weight = net.quant(np.float32(net.rng.integers(-3, 4, (6, 3, 1, 1))), 1.0, bits=3)
    x = net.quant(net.node("Conv", net.quant("x", 0.25, bits=4), weight), 1.0, bits=2)
    numbers = np.float32(net.rng.standard_normal((6, 4, 5)) + 3)
    result = net.quant(net.node(operator, x, numbers), 1 / 16)
    model = net.model(result)
    images = np.float32(net.rng.standard_normal((9, 3, 4, 5)))
    graph = load(model)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    assert (found == evaluate(model, images)[result]).mean() > 0.998


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_sum_of_any_number(count):
    """Sum, as tf2onnx writes AddN: quantized maps, a convolution's sums and a number among them."""
    net, x = integer_network(np.random.default_rng(9), (3, 4, 5))
    parts = [qdq(net, net.node("Conv", x, weights(net, 6, 3, 1, 1)), 0.31, -3)
             for _ in range(min(count, 3))]
    if count > 3:
        parts += [net.node("Conv", x, weights(net, 6, 3, 1, 1)), np.float32(0.77)]
    check(net, qdq(net, net.node("Sum", *parts), 1.0437, -7), count=3)
