"""Hand-made quantized networks, checked by arithmetic in float64 and on a chip's simulator."""

import numpy as np
from systolith.gen.compile.compile import compile_graph
from systolith.gen.importer.reader import load
from systolith.hw.spec.arch import Arch

from .networks import run_program
from .onnx_networks import Network, evaluate

_MEMORIES = dict(largest_k=4096, activation_depth=512, weight_depth=256, accumulator_depth=64,
                 parameter_depth=32, post_lanes=2, operand_depth=128)
#: Words of 8 channels in groups of 4; words of 4 that may come from the top. Memories hold the
#: tests' maps, but not much more.
CHIPS = (Arch(rows=8, columns=4, **_MEMORIES), Arch(rows=4, columns=4, depthwise=True, **_MEMORIES))


def integer_network(rng, shape, zero=5, scale=1 / 16):
    """(network, dequantized input)"""
    net = Network(rng, shape, opset=21)
    return net, qdq(net, "x", scale, zero)


def qdq(net, x, scale, zero, kind=np.int8):
    """`x` quantized and dequantized."""
    scale, zero = net.constant(np.float32(scale)), net.constant(kind(zero))
    return net.node("DequantizeLinear", net.node("QuantizeLinear", x, scale, zero), scale, zero)


def weights(net, *shape, scale=1 / 32):
    codes = net.rng.integers(-127, 128, shape).astype(np.int8)
    return net.node("DequantizeLinear", codes, np.float32(scale), np.int8(0))


def bias(net, count, scale=1 / 16):
    """In steps of the sum, where the input has this scale and the weights the default."""
    return net.node("DequantizeLinear", net.rng.integers(-5000, 5000, count, dtype=np.int32),
                    np.float32(scale / 32), np.int32(0))


def spread(net, x, zero=-7):
    """`x` quantized with the scale that spreads its results over the codes."""
    model = net.model(x)
    sample = evaluate(model, np.float32(net.rng.standard_normal((8, *net.shape)) * 4))[x]
    return qdq(net, x, max(np.abs(sample).max(), 1e-3) / 100, zero)


def on_chip(graph, codes, arch, seed=0):
    """Run a program of `graph` on the instruction-level simulator; every layer's results must be
    the golden model's."""
    program = compile_graph(graph, arch)
    names = [item.name for item in graph.inputs]
    codes = codes if isinstance(codes, dict) else {names[0]: codes}
    first = {name: array[:1] for name, array in codes.items()}
    gold = graph.run(first, arch)
    outputs, _, _ = run_program(program, {name: array[0] for name, array in first.items()}, seed)
    assert list(outputs) == list(dict.fromkeys(graph.outputs))
    for name, array in outputs.items():
        assert (array == gold[name][0]).all(), name
    return program


def check(net, *results, count=3, chips=CHIPS, rarely=0.002):
    """The golden model's outputs must be what float64 gives, but for a step where a tie is near,
    and the simulators' those of the golden model. Returns (graph, programs)."""
    model = net.model(*results)
    images = np.float32(net.rng.standard_normal((count, *net.shape)) * 4)
    graph = load(model)
    codes = graph.encode_inputs(images)
    tensors = graph.run(codes)
    found = graph.decode_outputs(tensors)
    found = found if isinstance(found, dict) else {results[0]: found}
    expected = evaluate(model, images)
    for decoder in graph.decoders:
        result, exact = found[decoder.name], expected[decoder.name]
        assert result.shape == exact.shape
        steps = (result - exact) / np.max(graph.tensors[decoder.tensor].scale)
        assert np.abs(steps).max() < 1.01 and (np.abs(steps) > 0.01).mean() <= rarely
        assert len(np.unique(result)) > 5
    return graph, [on_chip(graph, codes, arch) for arch in chips]
