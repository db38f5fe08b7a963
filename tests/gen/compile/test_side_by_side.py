"""Taps side by side: the layer before writes its channels several times, and parts of the rows see
neighbouring pixels."""

from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.compile.compile import compile_graph
from systolith.hw.formats import parse
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Opcode
from systolith.sim.machine import host
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.iss import Simulator
from systolith.sim.machine.memory_plan import MemoryPlanError, check_memory_plan
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.pool import Pool

from ...layers import convolution

CHIP = Arch(rows=8, columns=8, largest_k=1024, activation_depth=1024, weight_depth=512,
            accumulator_depth=256, parameter_depth=64, post_lanes=8, side_taps=True)


def network(channels, *readers, form="int8", size=(9, 11), seed=1):
    """A 1 x 1 layer to so many channels, and layers (options of `convolution`, "kernel" and "out"
    among them) that read its result."""
    random, form = np.random.default_rng(seed), parse(form)
    low, high = form.ordered_range

    def layer(name, source, shape, out, kernel, **options):
        return convolution(
            name, source, name, random.integers(0, 1 << form.width, (out, shape[0], *kernel)), form,
            bias=random.integers(-50, 50, out), multiplier=random.integers(1 << 17, 1 << 18, out),
            shift=np.full(out, 18 + form.width), low=low, high=high, input_shape=shape, **options)
    layers = [layer("squeeze", "in", (5, *size), channels, (1, 1))]
    layers += [layer(f"out{n}", "squeeze", (channels, *size), **options)
               for n, options in enumerate(readers)]
    tensors = {"in": Tensor("in", (5, *size), form)} | {
        conv.output: Tensor(conv.output, conv.output_shape, form) for conv in layers}
    return Graph("side", [tensors["in"]], tensors, layers, [conv.name for conv in layers[1:]])


def same(graph, arch, seed=0):
    """The program, whose every output is the golden model's on the instruction-level simulator."""
    program = compile_graph(graph, arch)
    check_memory_plan(program)
    item = graph.inputs[0]
    codes = np.random.default_rng(seed).integers(0, 1 << item.format.width, (1, *item.shape))
    memory = bytearray(program.image).ljust(program.window_bytes, b"\0")
    section = host.pack_inputs(program, codes[0])
    at = program.host.input_offset
    memory[at:at + len(section)] = section
    Simulator(arch, memory).run(program.instructions, seed=seed)
    at = program.host.output_offset
    found = host.unpack_outputs(program, bytes(memory[at:at + program.host.output_bytes]))
    for name, wanted in graph.run(codes).items():
        if name in found:
            np.testing.assert_array_equal(found[name], wanted[0])
    return program


def sides(program):
    return [layer.array.side for layer in program.host.layers]


THREE = dict(out=7, kernel=(3, 3), pads=(1, 1, 1, 1), pad_code=3)


@pytest.mark.parametrize("channels, reader, side", [
    (2, THREE, 2), (4, THREE, 1), (3, THREE, 1), (5, THREE, 0), (1, THREE, 2),
    (2, dict(out=7, kernel=(1, 7), pads=(0, 3, 0, 3), pad_code=0), 2),
    (2, dict(out=20, kernel=(2, 2)), 1),
    (4, dict(out=7, kernel=(3, 3), stride=(2, 1), dilation=(2, 1), pads=(2, 0, 1, 2), pad_code=9),
     1),
    (4, dict(out=7, kernel=(3, 3), pads=(1, 1, 1, 1), replicate=True), 1),
    (4, dict(out=7, kernel=(3, 3), stride=(1, 2)), 0),
    (4, dict(out=7, kernel=(3, 3), pads=(1, 1, 1, 1)), 0),           # padding without a code
    (4, THREE | dict(pool=Pool((2, 2))), 1),
    (2, THREE | dict(pool=Pool((3, 3), (2, 2), (1, 1, 0, 0))), 2)])
def test_results_are_the_golden_models_in_fewer_cycles(channels, reader, side):
    graph = network(channels, reader)
    program = same(graph, CHIP)
    assert sides(program) == [0, side]
    if side:
        plain = compile_graph(graph, replace(CHIP, side_taps=False))
        assert cycles(program).cycles < cycles(plain).cycles


def test_copies_that_post_processing_takes_longer_for_are_not_made():
    """With one post lane each part of a word takes cycles of its own."""
    graph = network(2, dict(out=7, kernel=(2, 2)))
    assert sides(same(graph, CHIP)) == [0, 1]
    assert sides(same(graph, replace(CHIP, post_lanes=1))) == [0, 0]


def test_sub_tiles_start_their_rows_again():
    graph = network(2, THREE, size=(12, 13))
    program = same(graph, replace(CHIP, accumulator_depth=64))
    arrays = [i for i in program.instructions if i.opcode == Opcode.ARRAY and i.side]
    assert len({i.y_start for i in arrays}) > 1 and sides(program) == [0, 2]


def test_layers_that_cannot_take_their_taps_side_by_side_read_the_first_copy():
    graph = network(4, THREE, dict(out=3, kernel=(1, 1)), dict(out=3, kernel=(3, 3), stride=(2, 2)))
    assert sides(same(graph, CHIP)) == [0, 1, 0, 0]


@pytest.mark.parametrize("change", [
    dict(activation="e4m3", weight="e4m3"), dict(rows=16, columns=16), dict(rows=8, columns=4),
    dict(accumulator=24), dict(lanes=2, columns=16), dict(prefetch=False)])
def test_other_chips(change):
    arch = replace(CHIP, **change | {"post_lanes": None})
    program = same(network(2, THREE, form=str(arch.activation)), arch)
    assert any(sides(program)) == ("accumulator" not in change and change.get("columns") != 4)


def test_a_program_that_mistakes_its_pixels_is_found():
    program = compile_graph(network(2, THREE), CHIP)
    post = next(n for n, i in enumerate(program.instructions)
                if i.opcode == Opcode.POST and i.layer == 1)
    array = next(n for n, i in enumerate(program.instructions)
                 if i.opcode == Opcode.ARRAY and i.side)
    for number, fields in ((post, {"accumulator": 0}), (array, {"x_start": 0})):
        with pytest.raises(MemoryPlanError):
            code = list(program.instructions)
            code[number] = replace(code[number], fields=code[number].fields | fields)
            check_memory_plan(replace(program, instructions=code))
