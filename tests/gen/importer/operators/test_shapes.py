"""Reshape of what stays on the chip."""

import numpy as np
import pytest
from systolith.gen.importer.reader import load

from ....onnx_exact import bias, check, integer_network, qdq, weights


def network(shape=(3, 4, 6)):
    net, x = integer_network(np.random.default_rng(1), shape)
    return net, qdq(net, net.node("Conv", x, weights(net, 5, 3, 1, 1), bias(net, 5)), 1.483, -7)


@pytest.mark.parametrize("wanted, shape", [
    ([0, 5, 24], (5, 24)), ([0, -1], (120,)), ([0, 0, -1], (5, 24)), ([0, 0, 0, 0], (5, 4, 6)),
    ([-1, 120], (120,)), ([-1, 5, 24], (5, 24)), ([1, 5, -1], (5, 24)), ([1, -1], (120,)),
    ([0, 5, 1, 24], (5, 1, 24)), ([0, 1, 5, -1], (1, 5, 24)), ([1, 1, 120], (1, 120))])
def test_results_in_another_shape(wanted, shape):
    net, x = network()
    graph = load(net.model(net.node("Reshape", x, np.array(wanted)), shapes=[shape]))
    assert graph.decoders[0].shape == shape


def test_a_map_goes_on_as_one_pixel():
    net, x = network()
    x = net.node("Reshape", x, np.array([0, -1]))
    y = net.node("MatMul", x, weights(net, 120, 7))
    check(net, qdq(net, y, 4.31, 3))


def test_rows_that_become_one_again():
    """The batch goes on where the last dimension has what is left: 1."""
    net, x = network()
    x = net.node("Reshape", x, np.array([2, 60]))
    y = net.node("Reshape", x, np.array([1, 120, -1]))
    graph = load(net.model(y, shapes=[(120, 1)]))
    assert graph.decoders[0].shape == (120, 1)
