"""What is checked of a network's nodes before any is read."""

import numpy as np
import pytest
from systolith.gen.importer.checks import (
    expanded,
    first_quantizer,
    is_quantized,
    ordered,
    unknown_operators,
)
from systolith.gen.kit.errors import UserError

from ...onnx_exact import qdq
from ...onnx_networks import Network


def network():
    net = Network(np.random.default_rng(0), (2, 4))
    return net, net.node("Relu", net.node("Neg", "x", name="first"), name="second")


def test_nodes_are_put_in_order():
    net, x = network()
    model = net.model(x)
    graph = model.graph
    nodes = expanded(graph)[::-1]
    assert [node.name for node in ordered(nodes, {"x"}, graph)] == ["first", "second"]
    with pytest.raises(UserError, match=r"reads 'x', which is no input.* make it an input"):
        ordered(nodes, set(), graph)
    with pytest.raises(UserError, match=r"writes 'second_out', which node 'second' .*; rename one"):
        ordered([*nodes, nodes[0]], {"x"}, graph)


def test_nodes_of_the_same_depth_keep_their_order():
    net = Network(np.random.default_rng(0), (2, 4))
    a, b = net.node("Neg", "x", name="a"), net.node("Abs", "x", name="b")
    deep = net.node("Relu", a, name="deep")
    model = net.model(net.node("Add", deep, b, name="sum"))
    nodes = {node.name: node for node in expanded(model.graph)}
    mixed = [nodes[name] for name in ("sum", "b", "deep", "a")]
    assert [node.name for node in ordered(mixed, {"x"}, model.graph)] == ["b", "a", "deep", "sum"]
    nodes["a"].inputs[0] = "deep_out"
    with pytest.raises(UserError, match="a cycle, through the nodes 'sum', 'deep', 'a'; remove"):
        ordered(mixed, {"x"}, model.graph)


def test_what_makes_a_network_a_quantized_one():
    net, x = network()
    assert not is_quantized(net.model(x))
    net, x = network()
    assert is_quantized(net.model(qdq(net, x, 0.5, 0)))
    net, x = network()
    codes = net.node("DynamicQuantizeLinear", x, outputs=3, name="ranges")
    model = net.model(net.node("Cast", codes, to=1), shapes=[(2, 4)])
    assert is_quantized(model) and first_quantizer(model).name == "ranges"


def test_operators_that_the_chip_does_not_have_are_named():
    net, x = network()
    x = net.node("Softmax", x, name="soft")
    model = net.model(net.node("Relu", x, name="last"))
    found = unknown_operators(model, expanded(model.graph))
    assert list(found) == ["soft"] and "only on the host" in str(found["soft"])
