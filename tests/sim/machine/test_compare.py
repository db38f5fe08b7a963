"""Every result finds its element of the golden model, and one changed bit is found and named."""

import numpy as np
import pytest
from systolith.gen.compile.compile import compile_graph
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.compare import compare, compare_outputs, locate, results_from_trace
from systolith.sim.machine.host import pack_inputs
from systolith.sim.machine.iss import Simulator
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.pool import Pool

from ...layers import convolution

CHIPS = {
    "roomy": Arch(rows=3, columns=6, activation_depth=2048, weight_depth=512),
    # feature maps do not fit: they are tiled and travel through external memory
    "tight": Arch(rows=2, columns=4, lanes=3, activation_depth=24, weight_depth=16,
                  accumulator_depth=16, parameter_depth=4, bus_bits=32),
}


def network(raw):
    """Three layers: padded 3x3, strided with pooling, dense; the last one raw or not."""
    rng, int8 = np.random.default_rng(3), Int(8)
    shapes = [(5, 9, 7), (7, 9, 7), (4, 2, 1), (3, 1, 1)]
    options = [dict(kernel=(3, 3), pads=(1,) * 4),
               dict(kernel=(2, 3), stride=(2, 2), pool=Pool((2, 2))), dict(kernel=(2, 1))]
    tensors = {"t0": Tensor("t0", shapes[0], int8)}
    layers = []
    for n, option in enumerate(options):
        channels, kernel = shapes[n + 1][0], option.pop("kernel")
        last_raw = raw and n == 2
        weight = rng.integers(0, 256, (channels, shapes[n][0], *kernel))
        bias, multiplier = rng.integers(-99, 99, channels), rng.integers(1, 999, channels)
        own = {} if last_raw else dict(multiplier=multiplier, shift=np.full(channels, 16),
                                       low=-128, high=127)
        layers.append(convolution(f"layer{n}", f"t{n}", f"t{n + 1}", weight, int8, last_raw,
                                  bias=bias, **own, **option))
        tensors[f"t{n + 1}"] = Tensor(f"t{n + 1}", shapes[n + 1], None if last_raw else int8)
    return Graph("three", [tensors["t0"]], tensors, layers, ["t3"])


def run(program, arch, codes):
    memory = bytearray(program.window_bytes)
    memory[:len(program.image)] = program.image
    data, start = pack_inputs(program, codes), program.host.input_offset
    memory[start:start + len(data)] = data
    simulator = Simulator(arch, memory)
    simulator.run(program.instructions, seed=1)
    return [result.items for result in sorted(simulator.results, key=lambda item: item.number)]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("chip", CHIPS)
def test_every_element_is_compared_and_a_changed_bit_is_named(chip, raw):
    arch, graph = CHIPS[chip], network(raw)
    program = compile_graph(graph, arch)
    codes = np.random.default_rng(1).integers(0, 256, (1, *graph.inputs[0].shape))
    golden = {name: item[0] for name, item in graph.run(codes, arch).items()}
    places, results = locate(program), run(program, arch, codes[0])
    found = compare(program, places, results, golden)
    assert found.bits == 0 and found.first is None
    assert found.elements >= sum(golden[layer.output].size for layer in graph.layers)

    spoiled = {name: item.copy() for name, item in golden.items()}
    spoiled["t2"][3, 1, 0] ^= 0b101
    spoiled["t3"][2, 0, 0] ^= 1
    found = compare(program, places, results, spoiled)
    times = sum(bool(((place.channel <= 3) & (place.channel + arch.group > 3) & (place.y == 1)
                      & (place.x == 0)).any()) for place in places if place.tensor == "t2")
    assert found.bits == 2 * times + 1
    assert str(found.first).startswith(
        "layer 1 (layer1), tensor 't2', channel 3, row 1, column 0: must be ")


@pytest.mark.parametrize("raw", [False, True])
def test_outputs_in_memory_are_compared(raw):
    arch, graph = CHIPS["tight"], network(raw)
    program = compile_graph(graph, arch)
    codes = np.random.default_rng(1).integers(0, 256, (1, *graph.inputs[0].shape))
    golden = graph.run(codes, arch)["t3"][0]
    found = compare_outputs(program, {"t3": golden}, {"t3": golden})
    assert (found.elements, found.bits, found.first) == (3, 0, None)
    wrong = golden.copy()
    wrong[1] = golden[1] ^ 6
    found = compare_outputs(program, {"t3": wrong}, {"t3": golden})
    assert (found.bits, found.first.layer, found.first.element) == (2, 2, (1, 0, 0))


def test_a_trace_of_the_core_reads_like_the_simulators_results():
    arch, graph = CHIPS["tight"], network(True)
    program = compile_graph(graph, arch)
    codes = np.random.default_rng(1).integers(0, 256, graph.inputs[0].shape)
    places, results = locate(program), run(program, arch, codes)
    trace = []
    for place, items in zip(places, results, strict=True):
        width = arch.raw_bits if place.raw else arch.activation.width
        trace += [(place.layer, int(place.raw), sum(
            (int(code) & (1 << width) - 1) << (lane * width) for lane, code in enumerate(item)))
            for item in items]
    for got, items in zip(results_from_trace(trace, places, arch), results, strict=True):
        assert np.array_equal(got, items)
    with pytest.raises(ValueError, match="the core made 1 results, the program says"):
        results_from_trace(trace[:1], places, arch)
    trace[0] = (2, *trace[0][1:])
    with pytest.raises(ValueError, match="results of layer 0 are marked as others'"):
        results_from_trace(trace, places, arch)
