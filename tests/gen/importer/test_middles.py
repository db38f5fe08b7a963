"""Chains of operators without quantizers in between: exact against float64, or refused with advice
that makes them map."""

import re

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError

from ...onnx_exact import check, integer_network, spread, weights
from ...onnx_networks import evaluate

SHAPE = (4, 6, 8)
SLOPES = np.float32([[[0.3]], [[-0.2]], [[1.7]], [[0.6]]])
EACH = np.float32([[[1.5]], [[-0.7]], [[0.4]], [[2.1]]])


def norm(net, x, channels=4):
    return net.node("BatchNormalization", x, *np.float32([
        np.linspace(0.5, 2, channels), np.linspace(-2, 1, channels), np.linspace(1, -1, channels),
        np.linspace(0.5, 2, channels)]))


def clip(net, x):
    """To numbers without codes."""
    return net.node("Clip", x, np.float32(-0.33), np.float32(1.71))


def split(net, x):
    """Two halves of the channels."""
    name = net.node("Split", x, np.array([2, 2]), axis=1, outputs=2)
    return name, name + "1"


EXACT = {
    # A sum of sums is no mean of them.
    "sum of a sum": lambda net, x: net.node("ReduceSum", net.node("Add", x, net.node(
        "MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4)), np.array([2, 3])),
    "sum of a sum with a pixel": lambda net, x: net.node("ReduceSum", net.node("Add", net.node(
        "Add", x, net.node("ReduceMax", x, np.array([2, 3]))), np.float32(0.3)), np.array([2, 3])),
    # Channels with slopes of their own, apart.
    "slopes of two halves": lambda net, x: net.node("Max", *split(net, net.node(
        "PRelu", x, SLOPES))),
    # Copies of what is clipped to numbers without codes.
    "clipped, padded": lambda net, x: net.node("Add", net.node("Pad", clip(net, x), np.array(
        [0, 0, 1, 1, 0, 0, 1, 1]), mode="reflect"), np.float32(0.01)),
    # Parts with pixels between each other's are pooled as codes.
    "maximum of a transposed convolution": lambda net, x: net.node("MaxPool", net.node(
        "ConvTranspose", x, weights(net, 4, 3, 2, 2), strides=[2, 2]), kernel_shape=[3, 3],
        strides=[2, 2], pads=[1] * 4),
    # Channels that are not those of the map.
    "norm of blocks": lambda net, x: norm(net, net.node("DepthToSpace", x, blocksize=2), 1),
    "norm of rows as channels": lambda net, x: norm(net, net.node(
        "Transpose", x, perm=[0, 2, 1, 3]), 6),
    "slopes of rows as channels": lambda net, x: net.node("PRelu", net.node(
        "Transpose", x, perm=[0, 2, 1, 3]), np.float32(np.linspace(0.1, 2, 6).reshape(6, 1, 1))),
}


@pytest.mark.parametrize("name", EXACT)
def test_what_is_exact(name):
    net, x = integer_network(np.random.default_rng(7), SHAPE)
    check(net, spread(net, EXACT[name](net, x)), chips=(), rarely=0.01)


def with_quantizer(model, after=None, before=None):
    """The model with a quantizer after a node, or before one."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph, names = model.graph, {item.name for item in model.graph.initializer}
    nodes = {node.name: node for node in graph.node}
    tensors = [nodes[after].output[0]] if after else [
        item for item in nodes[before].input if item and item not in names]
    for item in (numpy_helper.from_array(np.float32(1 / 8), "s"),
                 numpy_helper.from_array(np.int8(3), "z")):
        graph.initializer.append(item)
    for tensor in tensors:
        for node in graph.node:
            if before is None or node.name == before:
                node.input[:] = [item if item != tensor else f"{tensor}/real"
                                 for item in node.input]
        place = next(n for n, node in enumerate(graph.node) if tensor in node.output) + 1
        graph.node.insert(place, helper.make_node(
            "DequantizeLinear", [f"{tensor}/codes", "s", "z"], [f"{tensor}/real"], f"{tensor}/d"))
        graph.node.insert(place, helper.make_node(
            "QuantizeLinear", [tensor, "s", "z"], [f"{tensor}/codes"], f"{tensor}/q"))
    return model


def moved(net, x):
    return net.node("Add", x, np.float32(0.013), name="add")


#: What is refused, and the place for a quantizer that the message gives.
ADVICE = {
    "a function scaled by channel": (lambda net, x: net.node("Mul", net.node(
        "Sigmoid", x, name="gate"), EACH), "put a quantizer after 'gate'"),
    "padding without a code": (lambda net, x: net.node("Conv", moved(net, x), weights(
        net, 3, 4, 3, 3), pads=[1] * 4, name="conv"), "put a quantizer before it"),
    "a pad without a code": (lambda net, x: net.node("Pad", moved(net, x), np.array(
        [0, 0, 1, 1, 0, 0, 1, 1]), name="pad"), "put a quantizer before it"),
    "a clip without a code": (lambda net, x: net.node("Conv", net.node(
        "Clip", x, np.float32(-0.3), np.float32(0.5), name="clip"), weights(net, 3, 4, 1, 1)),
        "result of 'clip', which is clipped"),
    "pixels in another order": (lambda net, x: net.node("Conv", net.node("Transpose", net.node(
        "Conv", x, weights(net, 4, 4, 1, 1), name="first"), perm=[0, 1, 3, 2], name="turn"),
        weights(net, 3, 4, 3, 3)), "pixels of 'first' in another order"),
    "a product of a sum": (lambda net, x: net.node("Mul", net.node("Add", net.node(
        "Conv", x, weights(net, 4, 4, 1, 1)), x, name="sum"), x),
        "put a quantizer after 'sum'"),
    "slopes of a function": (lambda net, x: net.node("PRelu", net.node("Sigmoid", x), SLOPES,
                                                     name="slopes"), "put a quantizer before it"),
    "slopes of a part": (lambda net, x: net.node("LeakyRelu", net.node("Concat", net.node(
        "PRelu", x, SLOPES), x, axis=1, name="both"), alpha=0.2), "reads the result of 'both'"),
    "channels moved after a Relu": (lambda net, x: net.node("Add", net.node("Resize", net.node(
        "Relu", net.node("Conv", x, weights(net, 4, 4, 1, 1)), name="relu"), "", np.float32(
        [1, 1, 2, 2]), mode="nearest", name="up"), EACH, name="move"), "put a quantizer between"),
}


@pytest.mark.parametrize("name", ADVICE)
def test_a_quantizer_where_the_message_says_makes_it_map(name):
    middle, message = ADVICE[name]
    net, x = integer_network(np.random.default_rng(8), SHAPE)
    x = spread(net, middle(net, x))
    shape = evaluate(net.model(x), np.zeros((1, *SHAPE)))[x].shape[1:]
    # A large layer, so that the host cannot have the rest.
    x = spread(net, net.node("Conv", x, weights(net, 200, shape[0], 3, 3)))
    model = net.model(x, shapes=[(200, shape[1] - 2, shape[2] - 2)])
    with pytest.raises(UserError, match=message) as error:
        load(model)
    node, text, place = re.fullmatch(r"node '(\S+)' \S+ (.*); put a quantizer (.*?)(?:; it is .*)?",
                                     str(error.value)).groups()
    if place.startswith("before it"):
        assert load(with_quantizer(model, before=node)).layers
    else:
        # Two that are named in the end, or the one that is named before.
        named = re.findall(r"after '(\S+)'", place) or re.findall(r" of '(\S+?)'", text) or ["up"]
        assert load(with_quantizer(model, after=named[0])).layers
