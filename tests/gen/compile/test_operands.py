"""Operand memory: maps that stay there, sub-tiles that are loaded, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.operands import operand_lives
from systolith.gen.kit.errors import UserError
from systolith.gen.report.profile import moved
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Destination, Opcode
from systolith.sim.machine.races import find_races
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.requantization import Operand

from ...layers import changed, convolution
from ...networks import run_program

INT8 = Int(8)
CHIP = Arch(rows=4, columns=8, activation_depth=1024, weight_depth=512, accumulator_depth=64,
            operand_depth=600, parameter_depth=16)


def block_of(rng, name, source, operand, shape, groups=1, raw=False):
    """A 3x3 convolution as large as its input, combined with `operand`."""
    channels = shape[0]
    conv = convolution(
        name, source, f"{name}.out", rng.integers(0, 256, (channels, channels // groups, 3, 3)),
        INT8, groups=groups, pads=(1, 1, 1, 1), bias=rng.integers(-99, 99, channels),
        multiplier=rng.integers(1 << 24, 1 << 25, channels), shift=np.full(channels, 33), low=-128,
        high=127, input_shape=shape)
    if operand is None:
        return conv
    return changed(conv, shift=np.full(channels, 29), low=-(1 << 16), high=(1 << 16) - 1,
                   operand=Operand(operand, gain=1 << 20, operand_gain=-(1 << 23) - 77,
                                   operand_zero=5, shift=24, zero_point=-7, low=-100, high=127))


def network(shape=(12, 9, 7), groups=1, broadcast=False):
    """Two residual blocks, and a last layer that is combined with another input."""
    rng = np.random.default_rng(0)
    layers = [block_of(rng, "a", "in", None, shape), block_of(rng, "b", "a.out", "in", shape),
              block_of(rng, "c", "b.out", None, shape),
              block_of(rng, "d", "c.out", "b.out", shape, groups),
              block_of(rng, "e", "d.out", "other", shape, groups)]
    tensors = [Tensor(name, shape, INT8) for name in ("in", *(item.output for item in layers))]
    tensors.append(Tensor("other", (shape[0], 1, 1) if broadcast else shape, INT8))
    if broadcast:
        layers[-1] = replace(layers[-1], operand=replace(
            layers[-1].operand, product=True, shift=31))
    graph = Graph("blocks", [tensors[0], tensors[-1]], {item.name: item for item in tensors},
                  layers, ["e.out"])
    return graph, {item.name: rng.integers(0, 256, (1, *item.shape)) for item in graph.inputs}


def assert_computes(graph, codes, arch):
    program = compile_graph(graph, arch)
    gold = graph.run(codes)
    _, maps, _ = run_program(program, {name: item[0] for name, item in codes.items()})
    for name, array in maps.items():
        assert (array == gold[name][0]).all(), name
        assert len(np.unique(array)) > 20
    assert find_races(program.instructions, arch) == []
    return program


@pytest.mark.parametrize("broadcast", [False, True])
def test_maps_stay_in_operand_memory_while_they_fit(broadcast):
    graph, codes = network(broadcast=broadcast)
    program = assert_computes(graph, codes, CHIP)
    assert operand_lives(graph) == {"in": (1, 1), "b.out": (1, 3), "other": (4, 4)}
    pixels = 3 * 9 * 7
    other = 3 if broadcast else pixels
    assert program.host.peak["operand_words"] <= 2 * pixels
    # both inputs come from outside, once
    assert [layer["operand"] for layer in moved(program)[0]] == [
        0, pixels * CHIP.activation_bytes, 0, 0, other * CHIP.activation_bytes]
    written = {i.layer: i.destination for i in program.instructions if i.opcode == Opcode.POST}
    assert written[1] == Destination.BOTH and written[3] == Destination.ACTIVATION
    assert all(i.broadcast == broadcast for i in program.instructions
               if i.opcode == Opcode.POST and i.layer == 4)


@pytest.mark.parametrize("depth, groups, facts", [
    (2, 1, {}), (9, 8, {"depthwise": True, "rows": 8}), (30, 8, {"depthwise": True, "rows": 8}),
    (9, 1, {"activation_depth": 40}), (30, 1, {"columns": 2}),
    (12, 8, {"rows": 8, "columns": 4})])
def test_what_does_not_fit_is_loaded_for_each_sub_tile(depth, groups, facts):
    graph, codes = network((8, 5, 4), groups=groups)
    arch = replace(CHIP, operand_depth=depth, **facts, post_lanes=None)
    try:
        program = assert_computes(graph, codes, arch)
    except UserError as error:
        least = int(str(error).partition("of which ")[2].split()[0])
        assert depth < least and "raise buffers.operands" in str(error)
        program = assert_computes(graph, codes, replace(arch, operand_depth=least))
    layers, _ = moved(program)
    assert program.host.peak["operand_words"] <= program.arch.operand_depth
    assert layers[1]["operand"] >= 20 * arch.activation_bytes
    assert layers[3]["operand"] > 0


def test_rows_are_posted_one_by_one_where_operands_stand_closer_than_results():
    graph, codes = network((4, 3, 20))
    arch = replace(CHIP, operand_depth=30, accumulator_depth=36)
    program = assert_computes(graph, codes, arch)
    posts = [i for i in program.instructions if i.opcode == Opcode.POST and i.layer == 3]
    assert {i.out_y for i in posts} == {1} and max(i.out_x for i in posts) < 20


def test_a_shortcut_of_its_own_goes_to_operand_memory_alone():
    graph, codes = network()
    # Then nothing but d's sum reads b.out.
    graph.layers[2] = replace(graph.layers[2], input="in")
    program = assert_computes(graph, codes, CHIP)
    assert {i.destination for i in program.instructions
            if i.opcode == Opcode.POST and i.layer == 1} == {Destination.OPERAND}
    assert program.host.tensors["b.out"].chip is None


@pytest.mark.parametrize("change, text", [
    (dict(tensor="e.out"), "has the operand 'e.out' before anything writes it"),
    (dict(tensor="other"), r"must have the shape \(12, 9, 7\) or \(12, 1, 1\), not \(12, 3, 1\)")])
def test_operands_that_do_not_fit_the_graph(change, text):
    graph, _ = network()
    graph.tensors["other"] = replace(graph.tensors["other"], shape=(12, 3, 1))
    graph.layers[4] = replace(graph.layers[4], operand=None)
    graph.layers[3] = replace(graph.layers[3], operand=replace(graph.layers[3].operand, **change))
    with pytest.raises(ValueError, match=text):
        Graph("wrong", graph.inputs, graph.tensors, graph.layers, graph.outputs)


def test_what_the_instructions_cannot_hold():
    graph, _ = network()
    layer = graph.layers[3]
    graph.layers[3] = replace(layer, operand=replace(layer.operand, gain=1 << 27))
    with pytest.raises(UserError, match=r"layer 'd'.*POST\.gain must be from"):
        compile_graph(graph, CHIP)
    with pytest.raises(UserError, match=r"layer 'b' combines its results with 'in'.* no operand"):
        compile_graph(graph, replace(CHIP, operand_depth=0))
