"""The golden model's data: running, converting, bounding, refusing."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from systolith.hw.formats import Bipolar, Int, parse
from systolith.hw.spec.arch import Arch
from systolith.sim.model import numerics
from systolith.sim.model.edges import Decoder, Encoder
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.pool import Pool

from ...layers import changed, convolution


def requantized(rng, channels, format):
    if isinstance(format, Int):
        low, high = format.image_range
    else:
        high = 1 if isinstance(format, Bipolar) else format.max_code
        low = 0 if isinstance(format, Bipolar) else -high
    return dict(bias=rng.integers(-50, 50, channels), multiplier=rng.integers(0, 1 << 18, channels),
                shift=rng.integers(14, 26, channels), low=low, high=high)


def network(rng, format):
    """Two convolutions, one of them pooled, and a raw dense layer, which share their tensors."""
    def codes(*shape):
        return rng.integers(0, 1 << format.width, shape)
    tensors = [Tensor("x", (3, 9, 7), format), Tensor("a", (5, 4, 3), format),
               Tensor("b", (2, 4, 3), format),
               Tensor("y", (4, 1, 1), None, rng.uniform(0.5, 2, 4), 0, rng.uniform(-1, 1, 4))]
    layers = [
        convolution("first", "x", "a", codes(5, 3, 3, 2), format, pads=(1, 0, 1, 1),
                    pool=Pool((2, 2)), **requantized(rng, 5, format)),
        convolution("second", "a", "b", codes(2, 5, 1, 1), format, **requantized(rng, 2, format)),
        convolution("third", "a", "y", codes(4, 5, 4, 3), format, raw=True,
                    bias=rng.integers(-9, 9, 4))]
    return Graph("net", tensors[:1], {item.name: item for item in tensors}, layers, ["b", "y"])


@pytest.mark.parametrize("format", [Int(8), Int(4), parse("e3m2"), parse("e4m3"), Bipolar(1)],
                         ids=str)
def test_running_is_layer_by_layer_and_pooling_comes_last(format):
    rng = np.random.default_rng(5)
    graph = network(rng, format)
    codes = rng.integers(0, 1 << format.width, (6, 3, 9, 7))
    result = graph.run(codes)
    first, _, third = graph.layers
    sums = numerics.convolve(format.image(codes), first.weights.images,
                             pads=first.geometry.pads)
    # The graph pools sums, the chip pools results: the same, since requantizing is monotone.
    results = first.requantization.results(numerics.add_bias(sums, first.bias), format)
    pooled = results[:, :, :8, :6].reshape(6, 5, 4, 2, 3, 2).max(axis=(3, 5))
    assert (result["a"] == format.from_ordered(pooled)).all()
    sums = np.einsum("nchw,ochw->no", format.image(result["a"]), third.weights.images)
    assert (result["y"][:, :, 0, 0] == sums + third.bias).all()
    assert (graph.run(codes[2:3])["y"] == result["y"][2:3]).all()
    decoded = graph.decode_outputs(result)
    real = result["y"] * graph.tensors["y"].scale[:, None, None] + graph.tensors[
        "y"].offset[:, None, None]
    assert decoded["y"].dtype == np.float32 and np.allclose(decoded["y"], real, rtol=1e-6)


def test_a_pad_code_is_not_the_same_as_no_padding():
    rng = np.random.default_rng(6)
    format = Int(8)
    codes, weight = rng.integers(0, 256, (2, 1, 3, 3)), rng.integers(1, 100, (1, 1, 3, 3))
    results = []
    for pad_code in (None, 0x85):
        layer = convolution("c", "x", "y", weight, format, raw=True, pads=(1, 1, 1, 1),
                            pad_code=pad_code)
        tensors = {"x": Tensor("x", (1, 3, 3), format), "y": Tensor("y", (1, 3, 3), None)}
        results.append(Graph("g", [tensors["x"]], tensors, [layer], ["y"]).run(codes)["y"])
    padded = np.full((2, 1, 5, 5), 0x85 - 256)
    padded[:, :, 1:4, 1:4] = format.image(codes)
    assert (results[1] == numerics.convolve(padded, weight)).all()
    assert (results[0] != results[1]).any()
    assert (results[0][..., 1, 1] == results[1][..., 1, 1]).all()


def test_narrow_accumulators_saturate_pass_by_pass():
    # Two passes of one lane: 100 * 100, then -100 * 100. 13 bits end at 4095.
    format = Int(8)
    weight = np.array([100, 256 - 100]).reshape(1, 2, 1, 1)

    def one(weight):
        tensors = {"x": Tensor("x", (weight.shape[1], 1, 1), format),
                   "y": Tensor("y", (1, 1, 1), None)}
        return Graph("g", [tensors["x"]], tensors, [
            convolution("c", "x", "y", weight, format, raw=True)], ["y"])
    graph = one(weight)
    codes = np.full((1, 2, 1, 1), 100)
    narrow = Arch(rows=1, columns=1, accumulator=16)
    exact = Arch(rows=1, columns=1)
    assert graph.run(codes)["y"].item() == graph.run(codes, exact)["y"].item() == 0
    weight = np.full((1, 5, 1, 1), 127)
    weight[0, 4] = 129
    graph = one(weight)
    codes = np.full((1, 5, 1, 1), 128)
    codes[0, 4] = 127
    assert graph.run(codes, narrow)["y"].item() == -(1 << 15)
    codes[0, 4] = 128
    assert graph.run(codes, narrow)["y"].item() == -(1 << 15) + 128 * 127
    assert graph.run(codes)["y"].item() == -128 * 127 * 3


@pytest.mark.parametrize("kernel, inputs", [((1, 1), 12), ((3, 2), 5)])
def test_sums_as_floats_are_rounded_pass_by_pass(kernel, inputs):
    """As Python's fractions say, in the order of the passes; the graph itself stays exact."""
    rng, format = np.random.default_rng(1), Int(8)
    shape = (4, inputs, *kernel)
    weight, codes = rng.integers(0, 256, shape), rng.integers(0, 256, (2, inputs, *kernel))
    tensors = {"x": Tensor("x", (inputs, *kernel), format), "y": Tensor("y", (4, 1, 1), None)}
    graph = Graph("g", [tensors["x"]], tensors, [
        convolution("c", "x", "y", weight, format, raw=True)], ["y"])
    arch = Arch(rows=2, columns=2, lanes=2, sums="1-6-9")

    def short(number):
        step = 1 << max(0, abs(number).bit_length() - 10)
        return round(Fraction(number, step)) * step
    w, x = (item - 256 * (item > 127) for item in (weight, codes))
    wanted, differs = np.zeros((2, 4), int), False
    for image, channel in np.ndindex(2, 4):
        total = exact = 0
        for y, column in np.ndindex(*kernel):
            for first in range(0, inputs, 4):
                part = int((w[channel, first:first + 4, y, column].astype(int)
                            * x[image, first:first + 4, y, column]).sum())
                total, exact = short(total + short(part)), exact + part
        wanted[image, channel] = total + int(graph.layers[0].bias[channel])
        differs |= total != exact
    assert differs and (graph.run(codes, arch)["y"].reshape(2, 4) == wanted).all()
    assert (graph.run(codes)["y"].reshape(2, 4) != wanted).any()


def test_macs_and_shapes():
    graph = network(np.random.default_rng(8), Int(8))
    assert [layer.conv_shape for layer in graph.layers] == [(5, 9, 7), (2, 4, 3), (4, 1, 1)]
    assert [layer.output_shape for layer in graph.layers] == [(5, 4, 3), (2, 4, 3), (4, 1, 1)]
    assert graph.macs == 5 * 9 * 7 * 18 + 2 * 4 * 3 * 5 + 4 * 60


# Host side.

def one_input(tensor, **encoder):
    graph = Graph("g", [tensor], {tensor.name: tensor}, [], [tensor.name])
    if encoder:
        graph.encoders = [Encoder("in", tensor=tensor.name, **encoder)]
    return graph


def test_inputs_are_quantized_as_onnx_does():
    tensor = Tensor("x", (2, 1, 1), Int(8), 0.1, -3)
    values = np.float32([[0.25, -0.35], [99, -99]]).reshape(2, 2, 1, 1)
    codes = one_input(tensor).encode_inputs(values)
    # Round half to even in float32, then the zero point: 2.5 -> 2, -3.5 -> -4.
    assert Int(8).image(codes).reshape(2, 2).tolist() == [[-1, -7], [127, -128]]


def test_input_steps_come_in_order():
    tensor = Tensor("x", (1, 2, 2), parse("e3m2"), 0.5)
    steps = [("transpose", (0, 2, 3, 1)), ("subtract", np.float32([[[1]]])), ("multiply", 2.0),
             ("clip", (0.0, float("inf"))), ("reshape", (1, 2, 2)), ("divide", 4.0), ("add", 0.25)]
    graph = one_input(tensor, shape=(2, 2, 1), steps=steps)
    values = np.float32([1, 2, 3, 0]).reshape(1, 2, 2, 1)
    expected = np.maximum(values.transpose(0, 2, 3, 1).reshape(1, 1, 2, 2) * 2 - 2, 0) / 4 + 0.25
    assert (graph.tensors["x"].real(graph.encode_inputs(values)) == expected).all()


def test_limits_of_an_input_hold_and_zero_is_plus_zero():
    tensor = Tensor("x", (1, 1, 1), parse("e4m3"))
    graph = one_input(tensor, shape=(1,), low=-0x7e, high=0x7e)
    codes = graph.encode_inputs(np.float32([[1000], [-1000], [-1e-9]]))
    assert codes.ravel().tolist() == [0x7e, 0xfe, 0]


def test_binary_inputs_are_plus_one_from_zero_up():
    tensor = Tensor("x", (4, 1, 1), Bipolar(1), 0.3)
    codes = one_input(tensor).encode_inputs(np.float32([[-1e-9, -0.0, 0.0, 5]]).reshape(1, 4, 1, 1))
    assert codes.ravel().tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("values, message", [
    (np.zeros((2, 3, 9, 8)), r"must have the shape \(N, 3, 9, 7\).*not \(2, 3, 9, 8\)"),
    (np.zeros((3, 9, 7)), "must have the shape"), (np.float32(1), "must have the shape"),
    (np.full((1, 3, 9, 7), np.nan), "must be finite, not nan"),
    (np.full((1, 3, 9, 7), np.inf), "must be finite, not inf"),
    (np.full((1, 3, 9, 7), "a"), "must be numbers"),
    ({"z": np.zeros((1, 3, 9, 7))}, "inputs must be x, not z")])
def test_wrong_inputs_are_refused(values, message):
    graph = network(np.random.default_rng(9), Int(8))
    with pytest.raises(ValueError, match=message):
        graph.encode_inputs(values)


def test_codes_of_the_wrong_shape_are_refused():
    graph = network(np.random.default_rng(9), Int(8))
    with pytest.raises(ValueError, match=r"must have the shape \(N, 3, 9, 7\)"):
        graph.run(np.zeros((1, 3, 7, 9), int))
    with pytest.raises(ValueError, match=r"codes of 'y' must have the shape \(N, 4, 1, 1\)"):
        graph.decode_outputs({"y": np.zeros((1, 4)), "b": np.zeros((1, 2, 4, 3), int)})
    with pytest.raises(ValueError, match="give a dict"):
        graph.decode_outputs(np.zeros((1, 4, 1, 1)))


def test_several_inputs_go_by_name():
    tensors = {name: Tensor(name, (1, 1, 1), Int(8)) for name in "ab"}
    graph = Graph("g", list(tensors.values()), tensors, [], ["b", "a"])
    codes = graph.encode_inputs({"b": np.full((1, 1, 1, 1), 3), "a": np.full((1, 1, 1, 1), 5)})
    assert {name: item.item() for name, item in codes.items()} == {"a": 5, "b": 3}
    outputs = graph.decode_outputs(graph.run(codes))
    assert {name: item.item() for name, item in outputs.items()} == {"a": 5.0, "b": 3.0}
    with pytest.raises(ValueError, match="2 inputs, a, b: give a dict"):
        graph.encode_inputs(np.zeros((1, 1, 1, 1)))
    with pytest.raises(ValueError, match="same number of images"):
        graph.encode_inputs({"a": np.zeros((1, 1, 1, 1)), "b": np.zeros((2, 1, 1, 1))})


def test_outputs_come_in_the_onnx_shape_and_units():
    tensor = Tensor("x", (2, 1, 3), Int(8), 0.5, 1)
    graph = one_input(tensor)
    codes = np.array([0, 1, 2, 3, 4, 255]).reshape(1, 2, 1, 3)
    graph.decoders = [Decoder("out", (6,), "x")]
    assert graph.decode_outputs(codes).tolist() == [[-0.5, 0, 0.5, 1, 1.5, -1]]
    graph.decoders = [Decoder("out", (2, 3), "x", np.array([2.0, 3.0]), np.array([0.0, 1.0]),
                              low=0.5)]
    assert graph.decode_outputs(codes).tolist() == [[[0.5, 2, 4], [10, 13, 0.5]]]


@pytest.mark.parametrize("change, message", [
    (dict(input="nothing"), "reads 'nothing' before anything writes it"),
    (dict(weight=np.zeros((5, 2, 3, 2), int)), "weights for 2 channels, and its input has 3"),
    (dict(pads=(0, 0, 0, 0)), r"tensor 'a' must have the shape \(5, 3, 3\), not \(5, 4, 3\)"),
    (dict(pool=Pool((10, 1))), "leaves no output pixel")])
def test_graphs_that_do_not_fit_together_are_refused(change, message):
    graph = network(np.random.default_rng(10), Int(8))
    layers = [changed(graph.layers[0], **change), *graph.layers[1:]]
    with pytest.raises(ValueError, match=message):
        Graph("g", graph.inputs, graph.tensors, layers, graph.outputs)


def test_a_layer_that_reads_sums_does_not_run():
    form, rng = Int(8), np.random.default_rng(11)
    tensors = {"x": Tensor("x", (1, 2, 2), form), "sums": Tensor("sums", (1, 2, 2), None),
               "y": Tensor("y", (1, 2, 2), None)}
    layers = [convolution(source, source, output, rng.integers(0, 9, (1, 1, 1, 1)), form, raw=True)
              for source, output in (("x", "sums"), ("sums", "y"))]
    graph = Graph("g", [tensors["x"]], tensors, layers, ["y"])
    with pytest.raises(ValueError, match="layer 'sums' reads 'sums', which holds raw sums"):
        graph.run(np.zeros((1, 1, 2, 2), int))


def test_a_graph_says_its_layers_the_shape_of_their_input_and_leaves_the_given_ones():
    graph = network(np.random.default_rng(12), Int(8))
    bare = [replace(layer, input_shape=None) for layer in graph.layers]
    again = Graph("g", graph.inputs, graph.tensors, bare, graph.outputs)
    assert [layer.input_shape for layer in again.layers] == [(3, 9, 7), (5, 4, 3), (5, 4, 3)]
    assert all(layer.input_shape is None for layer in bare)
