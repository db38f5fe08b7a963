"""AveragePool, GlobalAveragePool and ReduceMean: alone, and folded with what is not quantized."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.quantization import QuantFormat
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError

from ....onnx_exact import check, integer_network, qdq, spread, weights
from ....onnx_networks import Network, quantized, run_onnx

sizes = st.integers(4, 9)


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_average_pooling_of_any_window(data):
    draw = data.draw
    shape = (draw(st.integers(1, 11)), draw(sizes), draw(sizes))
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    pads = [draw(st.integers(0, size - 1)) for size in (*kernel, *kernel)]
    net, x = integer_network(np.random.default_rng(draw(st.integers(0, 99))), shape,
                             draw(st.sampled_from([5, -128, 0])))
    x = net.node("AveragePool", x, kernel_shape=kernel, pads=pads, count_include_pad=1,
                 strides=[draw(st.integers(1, 3)) for _ in range(2)])
    check(net, spread(net, x), rarely=0.02)


@pytest.mark.parametrize("where", ["quantized", "sums"])
@pytest.mark.parametrize("attributes", [
    dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], ceil_mode=1),
    dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], ceil_mode=1, count_include_pad=1),
    dict(kernel_shape=[3, 2], strides=[2, 3], ceil_mode=1),
    dict(kernel_shape=[3, 2], dilations=[2, 3], pads=[2, 1, 1, 0]),
    dict(kernel_shape=[2, 3], auto_pad="SAME_UPPER"),
    dict(kernel_shape=[4, 4], pads=[2, 2, 2, 2], strides=[3, 2], ceil_mode=1, count_include_pad=1),
    dict(kernel_shape=[3], pads=[1, 1], strides=[2], ceil_mode=1)])
def test_averages_whose_divisors_differ(where, attributes):
    """Padding that does not count, windows that reach over what is padded, before and after a
    quantizer."""
    rank = len(attributes["kernel_shape"])
    net, x = integer_network(np.random.default_rng(8), (3, 8, 7)[:rank + 1])
    if where == "sums":
        x = net.node("Conv", x, net.node("DequantizeLinear", net.rng.integers(
            -7, 8, (5, 3, *(1,) * rank)).astype(np.int8), np.float32(1 / 16), np.int8(0)))
    check(net, qdq(net, net.node("AveragePool", x, **attributes), 0.0437, 3), rarely=0.02)


def test_an_average_is_one_layer_where_padding_counts():
    net, x = integer_network(np.random.default_rng(8), (3, 8, 8))
    x = net.node("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    graph, _ = check(net, qdq(net, x, 0.0437, 3))
    assert len(graph.layers) == 1


def test_a_mean_over_a_map_that_is_too_large_for_one_window_is_a_kernel_and_a_window():
    net, x = integer_network(np.random.default_rng(8), (3, 25, 10))
    graph, _ = check(net, qdq(net, net.node("GlobalAveragePool", x), 0.0037, 3))
    mean = graph.layers[-1]
    assert mean.pool.sum and mean.pool.size == (5, 10)
    assert mean.weights.shape[2:] == (5, 1) and mean.geometry.dilation == (5, 10)


def test_windows_of_a_qlinear_average_count_whole():
    """ONNX Runtime divides by all of a window that reaches over what is padded, unlike its
    AveragePool."""
    net = Network(np.random.default_rng(8), (3, 7, 7))
    scale, zero = net.constant(np.float32(1 / 16)), net.constant(np.int8(5))
    x = net.node("QuantizeLinear", "x", scale, zero)
    fine = net.constant(np.float32(0.0437))
    x = net.node("QLinearAveragePool", x, scale, zero, fine, zero, domain="com.microsoft",
                 kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, count_include_pad=1)
    model = net.model(net.node("DequantizeLinear", x, fine, zero), shapes=[(3, 4, 4)])
    images = np.float32(net.rng.standard_normal((3, 3, 7, 7)) * 4)
    graph = load(model)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    expected, = run_onnx(model, images, optimized=False).values()
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("operator, attributes", [
    ("GlobalAveragePool", {}), ("ReduceMean", dict(axes=[2, 3])),
    ("ReduceMean", dict(axes=[-1], keepdims=1)), ("ReduceMean", dict(axes=[-2, -1], keepdims=0))])
@pytest.mark.parametrize("relu", [False, True])
def test_means_of_whole_axes(operator, attributes, relu):
    net, x = integer_network(np.random.default_rng(1), (6, 5, 7), -3)
    x = net.node("Relu", x) if relu else x
    if "axes" in attributes:
        attributes = dict(attributes)
        x = net.node(operator, x, np.array(attributes.pop("axes")), **attributes)
    else:
        x = net.node(operator, x)
    graph, _ = check(net, spread(net, x), count=9, rarely=0.02)
    assert graph.layers[-1].geometry.groups == 6


def test_averages_of_one_dimensional_maps():
    net, x = integer_network(np.random.default_rng(2), (3, 20))
    x = spread(net, net.node("AveragePool", x, kernel_shape=[4], strides=[3]))
    x = net.node("GlobalAveragePool", net.node("Conv", x, weights(net, 5, 3, 1)))
    check(net, spread(net, x), count=20, rarely=0.02)


@pytest.mark.parametrize("window, kernel", [("global", 0), (2, 3), (2, 1), (3, 2)])
def test_weights_after_a_mean_that_is_not_quantized(window, kernel):
    """The mean is linear: it becomes part of the kernel that reads it."""
    net, x = integer_network(np.random.default_rng(3), (4, 7, 8))
    if window == "global":
        x = net.node("Flatten", net.node("GlobalAveragePool", x))
        x = net.node("Gemm", x, weights(net, 6, 4), np.float32(net.rng.normal(0, 1, 6)), transB=1)
    else:
        x = net.node("AveragePool", x, kernel_shape=[window] * 2, strides=[window] * 2)
        x = net.node("Conv", x, weights(net, 5, 4, kernel, kernel))
    graph, _ = check(net, spread(net, x), count=9)
    assert len(graph.layers) == 1


def test_a_mean_of_sums_that_are_not_quantized():
    net, x = integer_network(np.random.default_rng(4), (4, 6, 5))
    x = net.node("Conv", x, weights(net, 6, 4, 1, 1), np.float32(net.rng.normal(0, 1, 6)))
    graph, _ = check(net, spread(net, net.node("GlobalAveragePool", x)), count=9)
    assert [layer.weights.images.size for layer in graph.layers] == [6 * 4]


def test_a_dense_layer_after_a_mean_where_nothing_is_quantized():
    """Sums that are an output cannot be added up after the array: the kernel is the whole map."""
    net, x = integer_network(np.random.default_rng(7), (4, 3, 5))
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    x = net.node("Gemm", x, weights(net, 6, 4), transB=1)
    graph, _ = check(net, x)
    assert [layer.weights.images.size for layer in graph.layers] == [6 * 4 * 3 * 5]


@pytest.mark.usefixtures("chip_alone")
@pytest.mark.parametrize("middle, message", [
    (lambda net, x: net.node("AveragePool", x, kernel_shape=[1, 1], strides=[4, 4],
                             auto_pad="SAME_UPPER"), "attribute auto_pad must be 'NOTSET'"),
    (lambda net, x: net.node("GlobalAveragePool", net.node("Relu", net.node(
        "Conv", x, weights(net, 2, 3, 1, 1)))),
     "averages the result of 'relu.*' before it is quantized, and that is a sum, clipped"),
    (lambda net, x: net.node("AveragePool", net.node(
        "Conv", x, weights(net, 40, 3, 3, 3)), kernel_shape=[3, 3]),
     "one layer for both needs larger weights than int8 has; put a quantizer between"),
])
def test_refused(middle, message):
    net, x = integer_network(np.random.default_rng(5), (3, 6, 6))
    with pytest.raises(UserError, match=message):
        load(net.model(qdq(net, middle(net, x), 1, 0), shapes=[("C", "H", "W")]))


@pytest.mark.parametrize("layout", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_as_onnx_runtime_writes_them(layout, tmp_path):
    """A window of four whose mean has the scale of its input is a tie one time in four, and
    arithmetic in float32 then rounds as it comes."""
    rng = np.random.default_rng(6)
    net = Network(rng, (3, 12, 12))

    def conv(x, *shape):
        weight = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return net.node("Relu", net.node("Conv", x, np.float32(weight)))
    x = net.node("AveragePool", conv("x", 10, 3, 3, 3), kernel_shape=[2, 2], strides=[2, 2])
    x = net.node("Flatten", net.node("GlobalAveragePool", conv(x, 12, 10, 2, 2)))
    x = net.node("Gemm", x, np.float32(rng.standard_normal((12, 7))))
    images = np.float32(rng.standard_normal((16, 3, 12, 12)))
    path = quantized(net.model(x), images[:, None], tmp_path / "net.onnx", quant_format=layout)
    graph = load(path)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    expected, = run_onnx(path, images, optimized=False).values()
    steps = np.rint((found - expected) / graph.tensors[graph.outputs[0]].scale)
    assert np.abs(steps).max() <= 1 and (steps == 0).mean() > 0.7
