"""What a network computes from constants alone."""

import numpy as np
from systolith.gen.importer.folding import computed_from_constants, folded, initializers
from systolith.gen.importer.nodes import nodes_of
from systolith.gen.importer.values import Constant, QuantizedConstant

from ...onnx_networks import Network


def parts(net, x):
    graph = net.model(x).graph
    return graph, nodes_of(graph), initializers(graph)


def fails(node, error):
    raise error


def test_constants_are_computed_through_quantizers_and_moves():
    net = Network(np.random.default_rng(0), (2, 4))
    codes = np.int8([[1, -2, 3, 4], [5, 6, -7, 8]])
    scales = np.float32([0.5, 0.25])
    weight = net.node("DequantizeLinear", codes, scales, np.int8([0, 0]), axis=0)
    turned = net.node("Transpose", weight, perm=[1, 0])
    double = net.node("Mul", net.constant(np.float32([3])), net.constant(np.float32([2])))
    x = net.node("Add", net.node("MatMul", "x", turned), double)
    graph, nodes, constants = parts(net, x)
    rest, made = folded(nodes, constants, fails)
    assert [node.operator for node in rest] == ["MatMul", "Add"]
    assert set(made) == {weight, turned, double}
    assert isinstance(made[turned], QuantizedConstant) and isinstance(made[double], Constant)
    assert (made[turned].images == codes.T).all()
    assert (made[turned].floats == (codes * scales[:, None]).T).all()
    assert made[double].array == 6
    for order in (nodes, nodes[::-1]):
        assert computed_from_constants(graph, order) == set(made) | set(constants)


def test_a_refused_constant_leaves_its_readers_over():
    net = Network(np.random.default_rng(0), (2,))
    bad = net.node("Reciprocal", net.constant(np.float32([0])), name="bad")
    x = net.node("Add", "x", net.node("Neg", bad, name="reader"))
    _, nodes, constants = parts(net, x)
    told = []
    with np.errstate(divide="ignore"):
        rest, made = folded(nodes, constants, lambda node, error: told.append((node.name, error)))
    assert [name for name, _ in told] == ["bad"] and "must be finite" in str(told[0][1])
    assert "reader" in [node.name for node in rest] and not made


def test_random_numbers_are_no_constants():
    net = Network(np.random.default_rng(0), (2,))
    made = net.node("RandomNormal", shape=[2])
    graph = net.model(net.node("Add", "x", made), shapes=[(2,)]).graph
    assert computed_from_constants(graph, nodes_of(graph)) == set()
