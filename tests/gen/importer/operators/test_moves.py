"""Concat, Split, Slice, Gather, Pad and channel shuffles: what they become, and bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError

from ....onnx_exact import bias, check, integer_network, qdq, spread, weights
from ....onnx_networks import run_onnx


def conv(net, x, channels, outputs, kernel=1, scale=1 / 16, **attributes):
    """A convolution of `x`, of this scale."""
    return net.node("Conv", x, weights(net, outputs, channels, kernel, kernel),
                    bias(net, outputs, scale), **attributes)


def test_concat_moves_nothing():
    """Two convolutions write their parts, of 5 and 6 channels, the third reads both."""
    net, x = integer_network(np.random.default_rng(1), (3, 5, 6))
    a, b = (qdq(net, conv(net, x, 3, n), 8, 3) for n in (5, 6))
    joined = qdq(net, net.node("Concat", a, b, axis=1), 8, 3)
    graph, programs = check(net, spread(net, conv(net, joined, 11, 7, 2, scale=8)))
    assert [layer.placement.first_channel for layer in graph.layers] == [0, 5, 0]
    assert len(graph.layers) == 3 and [len(p.host.layers) for p in programs] == [3, 3]


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_concat_of_anything(data):
    """Parts of one scale, of others, not quantized, read by others too, of the input, views."""
    draw = data.draw
    net, x = integer_network(np.random.default_rng(draw(st.integers(0, 999))), (4, 4, 5))
    joined, others, total = [], [], 0
    for _ in range(draw(st.integers(2, 3))):
        count = draw(st.integers(1, 6))
        kind = draw(st.sampled_from(["same", "other", "sums", "read", "relu", "input", "split",
                                     "depthwise", "nested", "sum"]))
        part = conv(net, x, 4, count)
        if kind in ("same", "read", "relu", "depthwise", "nested"):
            part = qdq(net, part, 8, 3)
        elif kind in ("other", "split"):
            part = qdq(net, part, 5, -20)
        if kind == "relu":
            part = net.node("Relu", part)
        elif kind == "read":
            others.append(spread(net, conv(net, part, count, 2, scale=5 if kind == "split" else 8)))
        elif kind == "depthwise":
            others.append(spread(net, net.node("Conv", part, weights(net, count, 1, 2, 2),
                                               group=count)))
        elif kind == "input":
            part, count = x, 4
        elif kind == "sum":
            part = qdq(net, net.node("Add", qdq(net, part, 8, 3), qdq(net, conv(net, x, 4, count),
                                                                      4, 1)), 8, 3)
        elif kind == "split" and count > 1:
            part, rest = net.node("Split", part, np.array([1, count - 1]), axis=1, outputs=2), None
            rest = f"{net.nodes[-1].name}_out1"
            part = draw(st.sampled_from([part, rest]))
            count = 1 if part != rest else count - 1
        elif kind == "nested":
            part = qdq(net, net.node("Concat", part, qdq(net, conv(net, x, 4, 3), 8, 3), axis=1),
                       8, 3)
            count += 3
        joined.append(part)
        total += count
    y = qdq(net, net.node("Concat", *joined, axis=1), 8, 3)
    if draw(st.booleans()):
        others.append(y)
    if draw(st.booleans()):
        others.append(spread(net, conv(net, net.node("MaxPool", y, kernel_shape=[2, 2],
                                                     strides=[2, 2]), total, 3, scale=8)))
    check(net, spread(net, conv(net, y, total, 4, 3, pads=[1] * 4, scale=8)), *others)


def test_concat_that_no_quantizer_follows():
    net, x = integer_network(np.random.default_rng(2), (3, 4, 4))
    a, b = (qdq(net, conv(net, x, 3, n), 8, 3) for n in (3, 4))
    y = net.node("Relu", net.node("Concat", a, b, axis=1))
    graph, _ = check(net, *(spread(net, conv(net, y, 7, n, scale=8)) for n in (5, 2)))
    assert len(graph.layers) == 4


@pytest.mark.parametrize("axis", [2, 3])
def test_concat_of_pixels(axis):
    net, x = integer_network(np.random.default_rng(3), (3, 4, 5))
    a, b = qdq(net, conv(net, x, 3, 4), 8, 3), qdq(net, conv(net, x, 3, 4), 8, 3)
    y = qdq(net, net.node("Concat", a, b, a, axis=axis), 8, 3)
    graph, _ = check(net, spread(net, conv(net, y, 4, 5, 3, scale=8)))
    assert len(graph.layers) <= 5


def test_concat_of_dense_layers():
    net, x = integer_network(np.random.default_rng(4), (20,))
    a, b = (qdq(net, net.node("Gemm", x, weights(net, 20, n)), 16, 3) for n in (5, 6))
    y = qdq(net, net.node("Concat", a, b, axis=-1), 16, 3)
    graph, _ = check(net, spread(net, net.node("Gemm", y, weights(net, 11, 7))), count=20)
    assert len(graph.layers) == 3


def test_shuffled_and_split_channels_are_read_where_they_lie():
    """ShuffleNet: groups of channels take turns, and a half of them passes by."""
    net, x = integer_network(np.random.default_rng(5), (4, 4, 5))
    y = qdq(net, conv(net, x, 4, 12), 8, 3)
    y = net.node("Reshape", y, np.array([0, 3, 4, 4, 5]))
    y = net.node("Transpose", y, perm=[0, 2, 1, 3, 4])
    y = net.node("Reshape", y, np.array([0, 12, 4, 5]))
    a = net.node("Split", y, np.array([6, 6]), axis=1, outputs=2)
    b = f"{net.nodes[-1].name}_out1"
    b = qdq(net, conv(net, b, 6, 5, scale=8), 8, 3)
    z = qdq(net, net.node("Concat", a, b, axis=1), 8, 3)
    graph, _ = check(net, spread(net, conv(net, z, 11, 4, scale=8)))
    # Only the half that passes by is copied.
    assert len(graph.layers) == 4
    assert graph.layers[1].channels.tolist() == [2, 6, 10, 3, 7, 11]


@pytest.mark.parametrize("quantized", [False, True])
def test_slices_and_gathers(quantized):
    net, x = integer_network(np.random.default_rng(6), (4, 6, 7))
    y = conv(net, x, 4, 9)
    y = qdq(net, y, 8, 3) if quantized else y
    a = net.node("Slice", y, np.array([-1]), np.array([-100]), np.array([1]), np.array([-2]))
    b = net.node("Gather", y, np.array([7, 0, -3]), axis=1)
    c = net.node("Gather", y, np.array(2), axis=1) if not quantized else None
    outputs = [spread(net, item) for item in (a, b, c) if item]
    if quantized:
        crop = net.node("Slice", y, np.array([1, 2]), np.array([5, -1]), np.array([2, 3]))
        outputs += [spread(net, conv(net, b, 3, 4, 3, pads=[1, 0, 1, 2], scale=8)),
                    spread(net, conv(net, crop, 9, 5, 3, scale=8)),
                    spread(net, conv(net, crop, 9, 5, 3, pads=[0, 1, 0, 0], scale=8)),
                    spread(net, net.node("MaxPool", crop, kernel_shape=[2, 2], strides=[2, 2])),
                    spread(net, net.node("Conv", crop, weights(net, 9, 1, 2, 2), group=9))]
    if not quantized:
        outputs.pop()                       # three dimensions cannot be compared to a map
    check(net, *outputs)


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_pads_of_their_own(data):
    draw = data.draw
    zero = draw(st.sampled_from([5, 0]))
    net, x = integer_network(np.random.default_rng(draw(st.integers(0, 999))), (4, 5, 6), zero)
    pads = [0, 0, *(draw(st.integers(0, 2)) for _ in range(2)), 0, 0,
            *(draw(st.integers(0, 2)) for _ in range(2))]
    value = np.float32(draw(st.sampled_from([0, 0, 0.5])))
    y = net.node("Relu", x) if draw(st.booleans()) else x
    y = net.node("Pad", y, np.array(pads), value)
    if draw(st.booleans()):
        y = qdq(net, y, 1 / 16, zero)
    own = [draw(st.integers(0, 1)) for _ in range(4)]
    kind = draw(st.sampled_from(["conv", "depthwise", "dense", "max", "mean", "quantizer"]))
    sizes = [4, 5 + pads[2] + pads[6], 6 + pads[3] + pads[7]]
    if kind == "conv":
        y = conv(net, y, 4, 5, 3, pads=own)
    elif kind == "depthwise":
        y = net.node("Conv", y, weights(net, 4, 1, 2, 2), group=4, pads=own)
    elif kind == "dense":
        y = net.node("Gemm", net.node("Flatten", y), weights(net, int(np.prod(sizes)), 5))
    elif kind == "max":
        y = net.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    elif kind == "mean":
        y = net.node("AveragePool", y, kernel_shape=[2, 2])
    graph, _ = check(net, spread(net, y), rarely=0.02)
    assert kind not in ("conv", "depthwise") or any(own) or len(graph.layers) <= 2


@pytest.mark.usefixtures("chip_alone")
@pytest.mark.parametrize("middle, message", [
    (lambda net, x: net.node("Pad", x, np.array([0, 0, 1, 0, 0, 0, 0, 0]), np.float32(100)),
     "pads with 100, which has no code in its input"),
    (lambda net, x: net.node("Pad", x, np.array([0, 1, 0, 0, 0, 0, 0, 0])),
     "pads the rows and columns of maps"),
    (lambda net, x: net.node("Concat", x, np.zeros((2, 2, 6, 6), np.float32), axis=1),
     "joins an activation and a constant"),
    (lambda net, x: net.node("Concat", x, qdq(net, "x", 1, 0), axis=0),
     "attribute axis must be from 1 to 3 for .*, not 0: the batch dimension stays"),
    (lambda net, x: conv(net, net.node("Slice", conv(net, x, 3, 4), np.array([0]), np.array([9]),
                                       np.array([2]), np.array([2])), 4, 2),
     "needs the pixels of 'conv.*' in another order before they are quantized; put a quantizer"),
])
def test_refused(middle, message):
    net, x = integer_network(np.random.default_rng(5), (3, 6, 6))
    with pytest.raises(UserError, match=message):
        load(net.model(qdq(net, middle(net, x), 1, 0)))


@given(st.integers(0, 999), st.permutations([0, 1, 2]), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=15, deadline=None)
def test_dense_layers_read_pixels_in_any_order(seed, order, quantized, twice, transposed):
    """A Transpose, or two, before a Flatten, with quantizers around as ONNX Runtime sets
    them: the weights' order changes, nothing is computed."""
    net, x = integer_network(np.random.default_rng(seed), (3, 4, 5))
    x = qdq(net, conv(net, x, 3, 6, 2), 8, 3)
    perms = [order, np.random.default_rng(seed).permutation(3)] if twice else [order]
    for perm in perms:
        x = net.node("Transpose", x, perm=[0, *(int(n) + 1 for n in perm)])
        x = qdq(net, x, 8, 3) if quantized else x
    x = net.node("Reshape", x, np.array([-1, 72]))
    x = qdq(net, x, 8, 3) if quantized else x
    if transposed:
        x = net.node("Gemm", x, weights(net, 7, 72), transB=1)
    else:
        x = net.node("MatMul", x, weights(net, 72, 7))
    graph, _ = check(net, spread(net, x))
    assert len(graph.layers) == 2


@given(st.permutations([1, 2, 3]).filter(lambda order: order != [1, 2, 3]),
       st.sampled_from(["", "Reshape", "Softmax", "Concat"]), st.booleans())
@settings(max_examples=10, deadline=None)
def test_the_host_moves_pixels_at_the_end(order, after, quantized):
    net, x = integer_network(np.random.default_rng(7), (3, 4, 5))
    x = conv(net, x, 3, 6, 2)
    x = qdq(net, x, 8, 3) if quantized else x
    y = net.node("Transpose", x, perm=[0, *order])
    y = {"": lambda: y, "Reshape": lambda: net.node("Reshape", y, np.array([0, -1, 2])),
         "Softmax": lambda: net.node("Softmax", y),
         "Concat": lambda: net.node("Concat", net.node("Flatten", y), net.node("Flatten", x),
                                    axis=1)}[after]()
    model = net.model(y)
    graph = load(model)
    assert len(graph.layers) == 1
    images = np.float32(net.rng.standard_normal((3, 3, 4, 5)) * 4)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    theirs = run_onnx(model, images, optimized=False)[y]
    assert found.shape == theirs.shape and found == pytest.approx(theirs, rel=1e-4, abs=1e-2)
