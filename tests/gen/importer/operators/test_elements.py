"""Operators on each number by itself."""

from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError

from ....onnx_exact import CHIPS, bias, check, integer_network, qdq, weights


def network():
    net, x = integer_network(np.random.default_rng(1), (3, 5, 6))
    return net, net.node("Conv", x, weights(net, 5, 3, 1, 1), bias(net, 5))


@pytest.mark.parametrize("low, high", [
    (np.float32(-20), np.float32(55)), (np.float32([-20]), np.float32([[55]])),
    (np.float32(0), np.float32(60)), ("", np.float32(31)), (np.float32(-31), "")])
def test_limits_are_single_numbers(low, high):
    net, x = network()
    check(net, qdq(net, net.node("Clip", x, low, high), 1.483, -7))


@pytest.mark.parametrize("low, high, text", [
    (np.float32([0, 1]), np.float32(6), r"must be one number, not \[0.0, 1.0\]"),
    (np.float32(0), np.float32([]), r"must be one number, not \[\]"),
    (np.float32(np.nan), np.float32(6), "must be one number, not .nan")])
def test_other_limits_are_refused(chip_alone, low, high, text):
    net, x = network()
    with pytest.raises(UserError, match=text):
        load(net.model(qdq(net, net.node("Clip", x, low, high), 1.483, -7), shapes=[(5, 5, 6)]))


def test_a_function_of_results_before_they_are_quantized():
    """SiLU as two nodes: the convolution's layer looks its results up."""
    net, x = network()
    silu = net.node("Mul", x, net.node("Sigmoid", net.node("Mul", x, np.float32(0.05))))
    chips = [replace(chip, table_depth=512) for chip in CHIPS]
    graph, _ = check(net, qdq(net, silu, 1.483, -7), chips=chips, rarely=0.05)
    assert sum(layer.table is not None for layer in graph.layers) == 1
