"""Depthwise and grouped layers of binary networks: weights of 0 made of pairs of passes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.compile.compile import compile_graph
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Bipolar
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.host import unpack_outputs
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.pool import Pool
from systolith.sim.rtl import core

from ...layers import changed, convolution
from ...networks import core_job, run_program
from ...onnx_networks import Network, evaluate

ARCH = Arch(rows=3, columns=4, lanes=5, activation="bipolar1", weight="bipolar1", post_lanes=1,
            largest_k=1 << 12, activation_depth=256, weight_depth=60)


def layer(rng, groups, shape, outputs, kernel, **geometry):
    """A Graph of one layer in groups, and codes of an image."""
    binary = Bipolar(1)
    conv = convolution(
        "conv", "in", "out", rng.integers(0, 2, (outputs, shape[0] // groups, *kernel)), binary,
        groups=groups, high=1, bias=rng.integers(-3, 4, outputs), input_shape=shape, **geometry)
    tensors = {"in": Tensor("in", shape, binary)}
    tensors["out"] = Tensor("out", conv.output_shape, binary)
    return (Graph("groups", [tensors["in"]], tensors, [conv], ["out"]),
            rng.integers(0, 2, (1, *shape)))


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_groups_equal_the_golden_model(data):
    draw = data.draw
    groups = draw(st.integers(2, 24))
    shape = groups * draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    kernel = tuple(draw(st.integers(1, min(3, n))) for n in shape[1:])
    pads = tuple(draw(st.integers(0, kernel[n % 2] - 1)) for n in range(4))
    how = draw(st.sampled_from([{}, dict(pad_code=0), dict(pad_code=1), dict(replicate=True)]))
    graph, codes = layer(np.random.default_rng(draw(st.integers(0, 999))), groups, shape,
                         groups * draw(st.integers(1, 2)), kernel, pads=pads,
                         stride=(draw(st.integers(1, 2)), 1), **how)
    arch = replace(ARCH, weight_depth=draw(st.sampled_from([6, 60, 400])),
                   activation_depth=draw(st.sampled_from([40, 512])),
                   accumulator=draw(st.sampled_from([None, 13])))
    outputs, _, _ = run_program(compile_graph(graph, arch), codes[0])
    assert (outputs["out"] == graph.run(codes, arch)["out"][0]).all()


def test_on_the_core():
    jobs, right = [], []
    # Windows apart and overlapping, of which some channels want the smallest result.
    apart = dict(pool=Pool((2, 2), least=tuple(np.arange(20) % 3 == 0)))
    overlapping = dict(pool=Pool((3, 2), (1, 1), (1, 0, 1, 1), tuple(np.arange(10) % 2 == 0)))
    for seed, (groups, how) in enumerate([(7, {}), (20, dict(pad_code=1, **apart)),
                                          (4, dict(replicate=True)),
                                          (10, dict(pad_code=0, **overlapping))]):
        graph, codes = layer(np.random.default_rng(seed), groups, (20 // groups * groups, 5, 4),
                             groups, (3, 2), pads=(1, 1, 1, 0), **how)
        program = compile_graph(graph, ARCH)
        jobs.append(core_job(program, codes[0], latency=5))
        right.append((program, graph.run(codes)["out"][0]))
    for (program, codes), runs in zip(right, core.simulate(core_verilog(ARCH), jobs).runs,
                                      strict=True):
        assert (unpack_outputs(program, bytes(runs[0].outputs[0]))["out"] == codes).all()


def test_a_depthwise_separable_network():
    rng = np.random.default_rng(3)
    net = Network(rng, (6, 8, 7), opset=17)
    x = net.bipolar_quant("x")
    for channels, outputs, group, size in ((6, 6, 6, 3), (6, 10, 1, 1), (10, 20, 10, 3)):
        weight = net.bipolar_quant(net.constant(np.float32(rng.standard_normal(
            (outputs, channels // group, size, size)))), 0.5)
        x = net.node("Conv", x, weight, group=group, pads=[size // 2] * 4)
        numbers = rng.standard_normal((3, outputs)) * [[1], [1], [2]]
        x = net.bipolar_quant(net.node("BatchNormalization", x, *np.float32(
            [*numbers, rng.uniform(1, 9, outputs)])))
    model = net.model(x)
    graph = load(model)
    images = np.float32(rng.standard_normal((3, 6, 8, 7)))
    codes = graph.encode_inputs(images)
    gold = graph.run(codes)
    assert (graph.decode_outputs(gold) == evaluate(model, images)[x]).all()
    outputs, _, _ = run_program(compile_graph(graph, replace(ARCH, lanes=6)), codes[0])
    assert (outputs[x] == gold[x][0]).all()


@pytest.mark.parametrize("change, arch, message", [
    (dict(requantization=None), {}, "binary weights in 8 groups, and its sums are not quantized"),
    ({}, dict(accumulator=6), "could saturate"),
    ({}, dict(largest_k=20), "raise array.largest_k"),
])
def test_refused(change, arch, message):
    graph, _ = layer(np.random.default_rng(4), 8, (8, 4, 4), 8, (3, 3))
    if change:
        graph.layers[0] = changed(graph.layers[0], **change)
        graph.tensors["out"] = replace(graph.tensors["out"], format=None)
    with pytest.raises(UserError, match=message):
        compile_graph(graph, replace(ARCH, **arch))
