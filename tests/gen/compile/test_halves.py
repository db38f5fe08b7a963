"""Integers of half the bits, two in a code (`array.packed_halves`)."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.halves import kept_halves
from systolith.gen.compile.widen import widened
from systolith.gen.importer.reader import load
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Opcode
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.memory_plan import check_memory_plan

from ...onnx_exact import integer_network, on_chip, qdq

CHIP = Arch(rows=4, columns=4, post_lanes=2, packed_halves=True, bus_bits=32)


def model(channels=12, weights=8, results=ml_dtypes.int4, seed=0, size=(6, 5)):
    """(model, inputs): three convolutions, the first two with results in int4, and weights from
    -weights to weights - 1 in the last two."""
    rng = np.random.default_rng(seed)
    net, x = integer_network(rng, (channels, *size))
    for n, most in enumerate((100, weights, weights)):
        codes = rng.integers(-most, most, (channels, channels, 3, 3)).astype(np.int8)
        w = net.node("DequantizeLinear", codes, np.float32(1 / (8 * most)), np.int8(0))
        x = net.node("Conv", x, w, np.float32(rng.integers(-300, 300, channels) / 128),
                     pads=[1] * 4)
        x = qdq(net, x, 1.0, -3, results) if n < 2 else qdq(net, x, 0.5, -7)
    return net.model(x), np.float32(rng.standard_normal((2, *net.shape)) * 3)


def network(*args, **given):
    """(Graph, codes of its input) of `model`."""
    made, inputs = model(*args, **given)
    graph = load(made)
    return graph, graph.encode_inputs(inputs)


def used(program):
    """For each layer, whether its ARRAYs read halves."""
    return [bool(i.signs) for n in range(len(program.host.layers)) for i in
            [next(i for i in program.instructions if i.opcode == Opcode.ARRAY and i.layer == n)]]


@pytest.mark.parametrize("channels", [8, 12, 13])
def test_results_are_those_of_numbers_in_half_the_passes(channels):
    graph, codes = network(channels)
    held = widened(graph, CHIP)
    program = on_chip(held, codes, CHIP, 3)
    check_memory_plan(program)
    assert used(program) == [False, True, True]
    for name, found in held.run(codes).items():
        np.testing.assert_array_equal(found, graph.run(codes)[name])
    plain = replace(CHIP, packed_halves=False)
    whole = compile_graph(widened(graph, plain), plain)
    taken, before = ([sum(box.passes for boxes in layer.array.passes for box in boxes)
                      for layer in item.host.layers] for item in (program, whole))
    words = -(-channels // 4)
    assert taken[0] == before[0] and taken[1] * words == before[1] * -(-words // 2)
    assert cycles(program).cycles < cycles(whole).cycles


@pytest.mark.parametrize("chip, changes", [
    (CHIP, {"weights": 9}),                             # weights of more bits
    (CHIP, {"results": np.int8}),                       # results of more bits
    (CHIP, {"channels": 4}),                            # one word holds them anyway
    (CHIP, {"group": 8}),                               # each channel by itself
    (replace(CHIP, accumulator=40), {}),                # sums that saturate pass by pass
    (replace(CHIP, packed_halves=False), {})])
def test_what_halves_cannot_do_is_done_with_numbers(chip, changes):
    graph, codes = grouped(changes["group"]) if "group" in changes else network(**changes)
    assert not kept_halves(graph, chip)
    assert not any(used(on_chip(widened(graph, chip), codes, chip, 3)))


def grouped(groups, channels=8):
    rng = np.random.default_rng(1)
    net, x = integer_network(rng, (channels, 6, 5))
    for n in range(2):
        codes = rng.integers(-8, 8, (channels, channels // groups, 3, 3)).astype(np.int8)
        w = net.node("DequantizeLinear", codes, np.float32(1 / 64), np.int8(0))
        x = net.node("Conv", x, w, group=groups)
        x = qdq(net, x, 1.0, -3, ml_dtypes.int4) if n < 1 else qdq(net, x, 0.5, -7)
    graph = load(net.model(x))
    return graph, graph.encode_inputs(np.float32(rng.standard_normal((1, *net.shape)) * 3))


def test_kept_tensors_have_the_format_of_halves():
    graph, _ = network()
    kept = kept_halves(graph, CHIP)
    assert len(kept) == 2 and all(graph.tensors[name].format == Int(4) for name in kept)
    assert not kept_halves(graph, CHIP, kept)


@pytest.mark.parametrize("groups, channels, before, after", [
    (2, 8, 18, 18), (2, 24, 162, 108), (3, 24, 108, 54), (4, 24, 126, 90), (12, 24, 54, 54)])
def test_layers_with_groups_take_fewer_passes(groups, channels, before, after):
    """Passes whose weights are all zero are left out; those are fewer where words hold twice as
    many channels."""
    graph, codes = grouped(groups, channels)
    held = widened(graph, CHIP)
    program = on_chip(held, codes, CHIP, 3)
    plain = replace(CHIP, packed_halves=False)
    whole = compile_graph(widened(graph, plain), plain)
    assert used(program) == [False, True]
    assert [sum(box.passes for boxes in item.host.layers[1].array.passes for box in boxes)
            for item in (whole, program)] == [before, after]
    for name, found in held.run(codes).items():
        np.testing.assert_array_equal(found, graph.run(codes)[name])


@pytest.mark.parametrize("bias, halves", [(0, True), (1 << 20, True), (1 << 26, False)])
def test_sums_that_leave_the_chip_are_scaled_by_the_host(bias, halves):
    """Unless 2**half times as large ones need more bits than accumulators have."""
    rng = np.random.default_rng(2)
    net, x = integer_network(rng, (12, 4, 4))
    for n in range(2):
        codes = rng.integers(-8, 8, (12, 12, 1, 1)).astype(np.int8)
        w = net.node("DequantizeLinear", codes, np.float32(1 / 64), np.int8(0))
        x = net.node("Conv", x, w, np.float32(rng.integers(-300, 300, 12) / 128))
        x = qdq(net, x, 1.0, -3, ml_dtypes.int4) if n < 1 else x
    graph = load(net.model(x))
    first, last = graph.layers
    graph = replace(graph, layers=[first, replace(last, bias=np.arange(-6, 6) * bias // 6)])
    inputs = np.float32(rng.standard_normal((2, *net.shape)) * 3)
    codes = graph.encode_inputs(inputs)
    held = widened(graph, CHIP)
    program = on_chip(held, codes, CHIP, 3)
    assert used(program) == [False, halves]
    sums, larger = (item.run(codes)[item.outputs[0]] for item in (graph, held))
    np.testing.assert_array_equal(larger, sums << 4 * halves)
    np.testing.assert_array_equal(held.decode_outputs(held.run(codes)),
                                  graph.decode_outputs(graph.run(codes)))
