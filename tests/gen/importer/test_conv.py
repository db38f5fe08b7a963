"""Convolutions and pools of one and two dimensions, with any geometry, against ONNX Runtime; the
golden model on the instruction-level simulator, and on the core in Verilator."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.compile.compile import compile_graph
from systolith.gen.importer.reader import load
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.rtl import core as rtl

from ...onnx_exact import CHIPS, bias, integer_network, on_chip, qdq, spread
from ...onnx_networks import run_onnx


def channel_weights(net, *shape):
    """With a scale for each output channel, powers of two so that float32 sums are exact."""
    codes = net.rng.integers(-127, 128, shape).astype(np.int8)
    scales = np.float32(2.0 ** -net.rng.integers(4, 7, shape[0]))
    return net.node("DequantizeLinear", codes, scales, np.zeros(shape[0], np.int8), axis=0)


def padded(draw, net, x, shape):
    """`x` after a Pad of any mode, and its shape."""
    mode = draw(st.sampled_from(["constant", "edge", "edge", "reflect", "wrap"]))
    most = [size - (mode == "reflect") for size in shape[1:]]
    sides = [[draw(st.integers(0, min(2, m))) for m in most] for _ in range(2)]
    value = [np.float32(draw(st.sampled_from([0, 0.5])))] if mode == "constant" else []
    x = net.node("Pad", x, np.array([0, 0, *sides[0], 0, 0, *sides[1]]), *value, mode=mode)
    return x, [shape[0], *(size + a + b for size, a, b in zip(shape[1:], *sides, strict=True))]


def window(draw, sizes, most=5):
    """(attributes of a window that fits, its kernel)"""
    kernel, stride, dilation = ([draw(st.integers(1, top)) for _ in sizes] for top in (most, 3, 3))
    kind = draw(st.sampled_from(["pads", "pads", "none", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if kind.startswith("SAME"):
        dilation = [1] * len(sizes)             # ONNX Runtime knows no other with auto_pad
    pads = [draw(st.integers(0, (k - 1) * d)) if kind == "pads" else 0
            for _ in range(2) for k, d in zip(kernel, dilation, strict=True)]
    for n, size in enumerate(sizes):
        if (kernel[n] - 1) * dilation[n] >= size + pads[n] + pads[n + len(sizes)]:
            kernel[n] = dilation[n] = 1
            pads[n] = pads[n + len(sizes)] = 0
    attributes = dict(kernel_shape=kernel, strides=stride, dilations=dilation)
    if kind == "pads":
        attributes["pads"] = pads
    elif kind != "none":
        attributes["auto_pad"] = kind
    return attributes, kernel


def any_convolution(draw):
    """A network of a Pad, a convolution, perhaps a Relu, and a quantizer."""
    rank = draw(st.integers(1, 2))
    groups = draw(st.sampled_from([1, 1, 2, 3, 6]))
    channels = groups * draw(st.integers(1, 6 // groups))
    shape = [channels, *(draw(st.integers(1, 9)) for _ in range(rank))]
    net, x = integer_network(np.random.default_rng(draw(st.integers(0, 999))), tuple(shape),
                             draw(st.sampled_from([5, 0, -128])))
    if draw(st.booleans()):
        x, shape = padded(draw, net, x, shape)
    attributes, kernel = window(draw, shape[1:])
    outputs = groups * draw(st.integers(1, 4))
    weight = channel_weights(net, outputs, channels // groups, *kernel)
    some = [bias(net, outputs)] if draw(st.booleans()) else []
    y = net.node("Conv", x, weight, *some, group=groups, **attributes)
    return net, net.node("Relu", y) if draw(st.booleans()) else y


def compared(net, y, count=4, apart=0.01):
    """(graph, codes) after a comparison with ONNX Runtime, whose float32 sums are exact here."""
    model = net.model(y)
    images = np.float32(net.rng.standard_normal((count, *net.shape)) * 4)
    graph = load(model)
    codes = graph.encode_inputs(images)
    found = graph.decode_outputs(graph.run(codes))
    expected, = run_onnx(model, images, optimized=False).values()
    assert found.shape == expected.shape
    steps = np.rint((found - expected) / graph.tensors[graph.outputs[0]].scale)
    assert np.abs(steps).max() <= 1 and (steps != 0).sum() <= max(1, apart * steps.size)
    return graph, codes


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_convolutions_of_any_geometry(data):
    net, y = any_convolution(data.draw)
    graph, codes = compared(net, spread(net, y))
    on_chip(graph, codes, data.draw(st.sampled_from(CHIPS)))


@given(st.data())
@settings(max_examples=10, deadline=None)
def test_pools_of_one_dimension(data):
    draw = data.draw
    shape = [3, draw(st.integers(3, 12))]
    net, x = integer_network(np.random.default_rng(draw(st.integers(0, 999))), tuple(shape))
    x = qdq(net, net.node("Conv", x, channel_weights(net, 5, 3, 1), bias(net, 5)), 8, 3)
    kind = draw(st.sampled_from(["MaxPool", "AveragePool", "GlobalAveragePool"]))
    size = draw(st.integers(1, 3))
    y = net.node(kind, x, **{} if kind.startswith("Global") else dict(
        kernel_shape=[size], strides=[size]))
    graph, codes = compared(net, spread(net, y), apart=0.05)
    on_chip(graph, codes, draw(st.sampled_from(CHIPS)))


def test_on_the_core():
    """Random convolutions, one after the other on one core in Verilator."""
    arch, jobs, right = CHIPS[1], [], []

    @given(st.data())
    @settings(max_examples=12, deadline=None, database=None, derandomize=True)
    def gather(data):
        net, y = any_convolution(data.draw)
        graph, codes = compared(net, spread(net, y))
        program = compile_graph(graph, arch)
        memory = bytearray(program.window_bytes)
        memory[:len(program.image)] = program.image
        start, content = program.host.input_offset, pack_inputs(program, codes[0])
        memory[start:start + len(content)] = content
        outside = program.host.output_offset, program.host.output_bytes
        jobs.append(rtl.Job(program, [rtl.Run([(0, bytes(memory))], [outside])], latency=5,
                            stalls=0.2, seed=len(jobs)))
        right.append((program, graph.outputs[0], graph.run(codes)[graph.outputs[0]][0]))
    gather()
    for (program, name, codes), runs in zip(
            right, rtl.simulate(core_verilog(arch), jobs).runs, strict=True):
        found = unpack_outputs(program, bytes(runs[0].outputs[0]))[name]
        assert (found == codes).all()
