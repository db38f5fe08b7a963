"""Weights in blocks from the quantizer to the simulator of a chip, and what is no block."""

import numpy as np
import pytest
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.kin import family_fields
from systolith.gen.compile.twins import for_twin, program_fields
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.gen.quantize.quantize import quantize
from systolith.gen.quantize.recipe import Recipe
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.sim.model.weights import Weights

from ...float_networks import numbers, weights
from ...onnx_exact import on_chip
from ...onnx_networks import Network, run_onnx

MEMORIES = dict(largest_k=1024, activation_depth=512, weight_depth=320, accumulator_depth=64,
                parameter_depth=64, post_lanes=2, operand_depth=128, table_depth=256)


def chip(weight, rows=8, lanes=2, **more):
    return Arch(rows=rows, columns=8, lanes=lanes, activation="int8", weight=weight,
                **MEMORIES | more)


def network():
    """(network, model): few channels, blocks at taps, groups, a map that becomes a vector."""
    net = Network(np.random.default_rng(6), (3, 6, 6))
    x = net.node("Relu", net.node("Conv", "x", weights(net, 40, 3, 3, 3), numbers(net, 40)))
    x = net.node("Relu", net.node("Conv", x, weights(net, 48, 40, 3, 3), pads=[1] * 4))
    x = net.node("Relu", net.node("Conv", x, weights(net, 48, 1, 3, 3), group=48, pads=[1] * 4))
    x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.node("Relu", net.node("Gemm", net.node("Flatten", x), weights(net, 192, 33)))
    return net, net.model(net.node("Gemm", x, weights(net, 33, 7)))


@pytest.mark.parametrize("weight, least", [("mxint8", 35), ("mxfp6", 22), ("mxfp4", 12),
                                           ("nvfp4", 15), ("mls", 13)])
def test_from_the_quantizer_to_the_chip(weight, least):
    """The golden model computes with the file's numbers; the simulator with elements and scales."""
    net, model = network()
    data = np.float32(net.rng.standard_normal((24, *net.shape)))
    made = quantize(model, data, Recipe("int8", weight, range="min-max"))
    graph = load(made.model)
    codes = graph.encode_inputs(data)
    found = graph.decode_outputs(graph.run(codes))
    exact = run_onnx(model, data)[model.graph.output[0].name]
    assert 10 * np.log10(np.square(exact).sum() / np.square(found - exact).sum()) > least
    assert {row["weight"] for row in made.rows} == {None, weight}
    program = on_chip(graph, codes, chip(weight))
    # Some passes of a layer with blocks have other scales than others.
    arrays = [i for i in program.instructions if i.opcode.name == "ARRAY"]
    assert arrays and all(i.height == 0 for i in arrays)


def test_rounding_by_results_keeps_blocks():
    net = Network(np.random.default_rng(6), (64, 3, 3))
    model = net.model(net.node("Conv", "x", weights(net, 5, 64, 2, 2)))
    data = np.float32(net.rng.standard_normal((8, *net.shape)))
    graph = load(quantize(model, data, Recipe("int8", "mxfp4", rounding="learned")).model)
    on_chip(graph, graph.encode_inputs(data), chip("mxfp4", rows=32, lanes=1))


def test_what_is_no_block_is_refused():
    net, model = network()
    data = np.float32(net.rng.standard_normal((8, *net.shape)))
    graph = load(quantize(model, data, Recipe("int8", "mxfp4")).model)
    layer = graph.layers[1]
    images = np.array(layer.weights.images)
    images[0, :2, 0, 0] = 3, 1 << 9         # both in one pass
    object.__setattr__(layer, "weights", Weights(images, layer.weights.format))
    with pytest.raises(UserError, match=r"has e4m1b1 weights of which some pass is no mxfp4 block, "
                                        r"16 elements and a scale"):
        compile_graph(graph, chip("mxfp4"))
    # Plain e2m1 weights are blocks with the scale 1.
    plain = load(quantize(model, data, Recipe("int8", "e2m1")).model)
    on_chip(plain, plain.encode_inputs(data), chip("mxfp4"))


def test_words_of_scales_are_prepared_for_luts_of_six_inputs():
    """Then programs are of such chips alone, and the simulator multiplies by what words say."""
    net, model = network()
    data = np.float32(net.rng.standard_normal((8, *net.shape)))
    graph = load(quantize(model, data, Recipe("int8", "nvfp4")).model)
    chips = [chip("nvfp4", structure="lut6", scale_multiplier=how) for how in ("dsp", "luts")]
    first, second = (on_chip(graph, graph.encode_inputs(data), one) for one in chips)
    assert [one.prepared_scales for one in chips] == [False, True]
    assert first.image != second.image
    assert len({identity(one) for one in chips}) == len({*map(program_fields, chips)}) == 2
    assert len({*map(family_fields, chips)}) == 2
    with pytest.raises(ValueError, match="is no twin"):
        for_twin(first, chips[1])
    gates = chip("nvfp4", structure="gates", scale_multiplier="luts")
    assert identity(gates) == identity(chips[0])
