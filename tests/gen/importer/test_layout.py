"""Where elements of tensors lie: dense layers on [N, T, C], shuffled pixels, vectors as maps; bit
for bit against ONNX's reference, in the golden model and on simulators."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError

from ...onnx_exact import CHIPS, bias, check, integer_network, qdq, spread, weights
from ...onnx_networks import run_onnx

_WITH_TABLES = tuple(replace(arch, table_depth=512) for arch in CHIPS)


def _network(seed, *shape):
    return integer_network(np.random.default_rng(seed), shape)


def _dense(net, x, inputs, outputs):
    """A dense layer as PyTorch exports it for tensors of 3 dimensions."""
    return net.node("Add", net.node("MatMul", x, weights(net, inputs, outputs)),
                    bias(net, outputs))


# Dense layers on tokens.

def test_feed_forward_of_tokens():
    """Two dense layers and the residual sum: two layers of single pixels, on an input that the host
    turns around, and the sum in the second one."""
    net, x = _network(1, 5, 6)
    y = spread(net, net.node("Relu", _dense(net, x, 6, 9)))
    y = spread(net, net.node("Add", spread(net, _dense(net, y, 9, 6)), x))
    graph, _ = check(net, y)
    assert [layer.weights.shape[2:] for layer in graph.layers] == [(1, 1)] * 2
    assert [tuple(item.shape) for item in graph.inputs] == [(6, 1, 5)]


def test_the_host_turns_inputs_that_dense_layers_read_later():
    """A function before the first dense layer copies nothing."""
    net, x = _network(2, 5, 6)
    x = spread(net, net.node("Tanh", x))
    graph, _ = check(net, spread(net, _dense(net, x, 6, 4)), chips=_WITH_TABLES, rarely=0.02)
    assert [tuple(item.shape) for item in graph.inputs] == [(6, 1, 5)] and len(graph.layers) == 2


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_dense_layers_of_any_shape(data):
    """Inputs of 3 to 5 dimensions; rows made images by a Reshape, and back; constants first."""
    draw = data.draw
    shape = [draw(st.integers(2, 5)) for _ in range(draw(st.integers(2, 4)))]
    net, x = _network(draw(st.integers(0, 99)), *shape)
    kind, outputs = draw(st.sampled_from(["matmul", "lead", "gemm", "first", "column"])), 7
    if kind == "matmul":
        y, result = _dense(net, x, shape[-1], outputs), [*shape[:-1], outputs]
    elif kind == "lead":
        # Weights [1, K, O].
        w = net.node("DequantizeLinear", net.rng.integers(-99, 99, (1, shape[-1], 7), np.int8),
                     np.float32(1 / 32), np.int8(0))
        y, result = net.node("MatMul", x, w), [*shape[:-1], outputs]
    elif kind == "gemm":
        y = net.node("Reshape", x, np.array([-1, shape[-1]]))
        y = net.node("Gemm", y, weights(net, outputs, shape[-1]), bias(net, outputs), transB=1)
        y, result = spread(net, y), [*shape[:-1], outputs]
        y = net.node("Reshape", y, np.array([-1, *result]))
    elif kind == "first":
        result = [*shape[:-2], outputs, shape[-1]]
        y = net.node("MatMul", weights(net, outputs, shape[-2]), x)
    else:
        w = net.node("DequantizeLinear", net.rng.integers(-99, 99, shape[-1], np.int8),
                     np.float32(1 / 32), np.int8(0))
        y, result = net.node("MatMul", x, w), shape[:-1]
    y = spread(net, y)
    if draw(st.booleans()):
        y = net.node("Transpose", y, perm=[0, *range(len(result), 0, -1)])
        y = spread(net, net.node("MatMul", y, weights(net, result[0], 3)))
    check(net, y, rarely=0.01)


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("fixed", [False, True])
def test_rows_of_a_fixed_batch(fixed, early):
    """Reshape to [T, C] where the model is for one image, before or after the quantizer."""
    net, x = _network(3, 4, 6)
    if early:
        net.nodes.clear()
        x = net.node("Add", "x", np.float32(0.25))
    y = net.node("Reshape", x, np.array([4, 6] if fixed else [-1, 6]))
    if early:
        y = qdq(net, net.node("Mul", y, np.float32(net.rng.uniform(1, 2, (1, 6)))), 1 / 16, 5)
    y = qdq(net, net.node("Gemm", y, weights(net, 6, 5), bias(net, 5)), 1, 3)
    model = net.model(y, shapes=[(5,)])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 4
    graph = load(model)
    image = np.float32(net.rng.standard_normal((1, 4, 6)))
    found = graph.decode_outputs(graph.run(graph.encode_inputs(image)))
    theirs = run_onnx(model, image, optimized=False)[y]
    assert found.shape == (4, 5)
    assert np.abs(found - theirs).max() <= graph.tensors[graph.outputs[0]].scale * 1.01


@given(st.integers(0, 99), st.booleans(), st.booleans())
@settings(max_examples=8, deadline=None)
def test_means_and_functions_of_tokens(seed, keep, normed):
    net, x = _network(seed, 6, 5)
    y = spread(net, _dense(net, x, 5, 8))
    if normed:
        y = spread(net, net.node("Mul", y, np.float32(net.rng.uniform(0.5, 2, 8))))
    y = spread(net, net.node("Tanh", qdq(net, y, 0.05, 3)))
    y = spread(net, net.node("ReduceMean", y, np.array([1]), keepdims=int(keep)))
    check(net, y, chips=_WITH_TABLES, rarely=0.2)


def test_mixer():
    """Dense layers along tokens and along channels, with residual sums."""
    net, x = _network(5, 5, 7)
    x = spread(net, _dense(net, x, 7, 6))
    y = net.node("Transpose", x, perm=[0, 2, 1])
    y = spread(net, net.node("Relu", net.node("MatMul", y, weights(net, 5, 8))))
    y = spread(net, net.node("MatMul", y, weights(net, 8, 5)))
    x = spread(net, net.node("Add", x, net.node("Transpose", y, perm=[0, 2, 1])))
    check(net, spread(net, _dense(net, x, 6, 4)), rarely=0.01)


def test_points():
    """Convolutions of single points, the largest over points, and dense layers."""
    net, x = _network(6, 7, 3)
    x = net.node("Transpose", x, perm=[0, 2, 1])
    y = spread(net, net.node("Relu", net.node("Conv", x, weights(net, 9, 3, 1), bias(net, 9))))
    y = net.node("Flatten", net.node("MaxPool", y, kernel_shape=[7]))
    graph, _ = check(net, spread(net, net.node("Gemm", y, weights(net, 9, 4))))
    assert len(graph.layers) == 2


def test_products_of_activations_and_other_weights_are_refused():
    net, x = _network(7, 4, 6)
    y = qdq(net, net.node("MatMul", x, net.node("Transpose", x, perm=[0, 2, 1])), 1, 0)
    with pytest.raises(UserError, match="products of two activations are not supported"):
        load(net.model(y))
    net, x = _network(7, 4, 6)
    w = net.node("DequantizeLinear", net.rng.integers(-9, 9, (4, 6, 3), np.int8), np.float32(1),
                 np.int8(0))
    with pytest.raises(UserError, match=r"one matrix, not of the shape \[4, 6, 3\]"):
        load(net.model(qdq(net, net.node("MatMul", x, w), 1, 0), shapes=[(4, 3)]))


# Pixels.

def _shuffled(net, x, channels, height, width):
    """PixelShuffle as PyTorch wrote it."""
    x = net.node("Reshape", x, np.array([-1, channels // 4, 2, 2, height, width]))
    x = net.node("Transpose", x, perm=[0, 1, 4, 2, 5, 3])
    return net.node("Reshape", x, np.array([-1, channels // 4, 2 * height, 2 * width]))


def _unshuffled(net, x, channels, height, width):
    x = net.node("Reshape", x, np.array([-1, channels, height // 2, 2, width // 2, 2]))
    x = net.node("Transpose", x, perm=[0, 1, 3, 5, 2, 4])
    return net.node("Reshape", x, np.array([-1, 4 * channels, height // 2, width // 2]))


def _focus(net, x, order):
    parts = [net.node("Slice", x, np.array(corner), np.array([99, 99]), np.array([2, 3]),
                      np.array([2, 2])) for corner in order]
    return net.node("Concat", *parts, axis=1)


_CORNERS = [[0, 0], [1, 0], [0, 1], [1, 1]]


@pytest.mark.parametrize("place", ["input", "quantized", "inside", "sums", "end"])
@pytest.mark.parametrize("kind", ["dcr", "crd", "depth", "focus", "shuffle", "unshuffle", "flip"])
def test_moved_pixels(kind, place):
    """On an input, before or after the quantizer, the host moves pixels; inside they are four
    copies."""
    net, y = _network(8, 8, 4, 6)
    if place == "input":
        net.nodes.clear()
        y = "x"
    elif place != "quantized":
        y = net.node("Conv", y, weights(net, 8, 8, 1, 1), bias(net, 8))
        y = y if place == "sums" else spread(net, y)
    move = {"dcr": lambda: net.node("DepthToSpace", y, blocksize=2),
            "crd": lambda: net.node("DepthToSpace", y, blocksize=2, mode="CRD"),
            "depth": lambda: net.node("SpaceToDepth", y, blocksize=2),
            "focus": lambda: _focus(net, y, _CORNERS),
            "shuffle": lambda: _shuffled(net, y, 8, 4, 6),
            "unshuffle": lambda: _unshuffled(net, y, 8, 4, 6),
            "flip": lambda: net.node("Slice", y, np.array([-1]), np.array([-99]), np.array([3]),
                                     np.array([-1]))}
    channels = {"dcr": 2, "crd": 2, "shuffle": 2, "flip": 8}.get(kind, 32)
    y = move[kind]()
    y = qdq(net, y, 1 / 16, 5) if place == "input" else y
    y = spread(net, y) if place == "sums" else y
    if place != "end":
        y = spread(net, net.node("Conv", y, weights(net, 3, channels, 2, 2)))
    graph, _ = check(net, y)
    # What one layer makes and another shuffles is made in four parts instead.
    copies = {"flip": 6, "dcr": 3, "crd": 3, "shuffle": 3}.get(kind, 4)
    assert len(graph.layers) == {"input": 1, "quantized": 1, "end": 1}.get(place, 2 + copies)


def test_channels_more_than_once():
    net, x = _network(9, 3, 4, 4)
    y = net.node("Gather", x, np.array([0, 2, 0, 1]), axis=1)
    check(net, spread(net, net.node("Conv", y, weights(net, 5, 4, 2, 2))))


# Vectors and maps.

def test_a_vector_becomes_a_map_and_a_vector_again():
    net, x = _network(10, 6)
    y = spread(net, net.node("Gemm", x, weights(net, 6, 36)))
    y = net.node("Reshape", y, np.array([-1, 4, 3, 3]))
    y = spread(net, net.node("ConvTranspose", y, weights(net, 4, 5, 2, 2), strides=[2, 2]))
    y = spread(net, net.node("Conv", y, weights(net, 2, 5, 3, 3)))
    y = net.node("Flatten", y)
    a = net.node("Slice", y, np.array([0]), np.array([13]), np.array([1]))
    b = net.node("Slice", y, np.array([13]), np.array([99]), np.array([1]))
    y = net.node("Add", net.node("Gemm", a, weights(net, 13, 4)), np.float32(1))
    z = net.node("Gemm", b, weights(net, 19, 4))
    check(net, spread(net, y), spread(net, z))


@pytest.mark.parametrize("back", [False, True])
def test_the_host_computes_with_rows(back):
    """A Softmax of tokens that are images, and one after they are tokens again."""
    net, x = _network(11, 4, 6)
    y = net.node("Reshape", x, np.array([-1, 6]))
    y = qdq(net, net.node("Gemm", y, weights(net, 6, 5)), 1 / 4, 3)
    y = net.node("Softmax", y, axis=1)
    y = net.node("Reshape", y, np.array([-1, 4, 5])) if back else y
    model = net.model(y, shapes=[(4, 5) if back else (5,)])
    graph = load(model)
    images = np.float32(net.rng.standard_normal((3, 4, 6)))
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    theirs = run_onnx(model, images, optimized=False)[y]
    assert found.shape == theirs.shape and found == pytest.approx(theirs, abs=0.05)


@pytest.mark.parametrize("keep", [0, 1])
def test_reductions_of_five_dimensions(keep):
    net, x = _network(12, 3, 4, 2)
    y = net.node("Reshape", x, np.array([-1, 2, 1, 4, 3]))
    y = net.node("ReduceSum", y, np.array([1, 4]), keepdims=keep)
    graph, _ = check(net, spread(net, y), rarely=0.02)
    assert len(graph.layers) == 1               # the host moves what it gives
