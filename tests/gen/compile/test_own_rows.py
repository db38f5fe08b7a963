"""Taps of a kernel in rows of their own: the layer before writes its channels into each part of a
word, and banks of the activation memory are read at other pixels."""

from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.compile.compile import compile_graph
from systolith.hw.formats import Bipolar
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Opcode
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.host import unpack_outputs
from systolith.sim.machine.memory_plan import MemoryPlanError, check_memory_plan
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.pool import Pool
from systolith.sim.rtl import core

from ...layers import convolution
from ...networks import core_job, run_program

BINARY = Arch(rows=16, columns=8, lanes=8, activation="bipolar1", weight="bipolar1",
              largest_k=4608, activation_depth=512, weight_depth=512, accumulator_depth=256,
              parameter_depth=64, post_lanes=8, tap_rows=True)
NUMBERS = Arch(rows=8, columns=4, lanes=4, activation="int8", weight="int8", largest_k=4608,
               activation_depth=512, weight_depth=512, accumulator_depth=256, parameter_depth=64,
               post_lanes=2, tap_rows=True)


def network(arch, channels, *readers, size=(9, 11), inputs=24, seed=1):
    """A 1 x 1 layer to so many channels, and layers (options of `convolution`, "kernel" and "out"
    among them) that read its result; and codes of an image."""
    random, form = np.random.default_rng(seed), arch.activation
    low, high = form.ordered_range
    binary = isinstance(form, Bipolar)

    def layer(name, source, shape, out, kernel, **options):
        if binary:
            own = dict(high=1, bias=random.integers(-3, 4, out))
        else:
            own = dict(bias=random.integers(-50, 50, out), low=low, high=high, shift=np.full(
                out, 18 + form.width), multiplier=random.integers(1 << 17, 1 << 18, out))
        return convolution(
            name, source, name, random.integers(0, 1 << form.width, (out, shape[0], *kernel)),
            form, input_shape=shape, **own | options)
    layers = [layer("squeeze", "in", (inputs, *size), channels, (1, 1))]
    layers += [layer(f"out{n}", "squeeze", (channels, *size), **options)
               for n, options in enumerate(readers)]
    tensors = {"in": Tensor("in", (inputs, *size), form)} | {
        conv.output: Tensor(conv.output, conv.output_shape, form) for conv in layers}
    graph = Graph("rows", [tensors["in"]], tensors, layers, [conv.name for conv in layers[1:]])
    return graph, random.integers(0, 1 << form.width, (1, inputs, *size))


def same(graph, codes, arch):
    """The program, whose outputs are the golden model's on the instruction-level simulator."""
    program = compile_graph(graph, arch)
    check_memory_plan(program)
    outputs, _, _ = run_program(program, codes[0])
    for name, wanted in graph.run(codes, arch).items():
        if name in outputs:
            np.testing.assert_array_equal(outputs[name], wanted[0])
    return program


def together(program):
    """For each ARRAY whose taps have rows of their own: (layer, height, kernel_y, kernel_x)."""
    return {(i.layer, i.height, i.kernel_y, i.kernel_x) for i in program.instructions
            if i.opcode == Opcode.ARRAY and i.side == 3}


THREE = dict(out=20, kernel=(3, 3), pads=(1, 1, 1, 1), pad_code=1)


@pytest.mark.parametrize("channels, reader, made", [
    (8, THREE, {(1, 3, 3)}), (16, THREE, {(2, 2, 3), (2, 1, 3)}),
    (32, THREE, {(4, 1, 3)}), (24, THREE, {(4, 1, 3)}), (64, THREE, {(8, 1, 2), (8, 1, 1)}),
    (72, THREE, set()),
    (8, dict(out=9, kernel=(1, 7), pads=(0, 3, 0, 3), pad_code=0), {(1, 1, 4), (1, 1, 3)}),
    (8, dict(out=9, kernel=(5, 5)), {(1, 1, 3), (1, 1, 2)}),
    (8, dict(out=9, kernel=(3, 3), stride=(2, 1), dilation=(2, 3), pads=(2, 3, 1, 2), pad_code=1),
     {(1, 3, 3)}),
    (8, THREE | dict(pool=Pool((2, 2))), {(1, 3, 3)}),
    (8, THREE | dict(pool=Pool((3, 3), (2, 2), (1, 1, 0, 0))), {(1, 3, 3)}),
    (8, dict(out=9, kernel=(1, 1)), set()),
    (8, dict(out=9, kernel=(3, 3), pads=(1, 1, 1, 1)), set()),       # padding without a code
    (8, dict(out=9, kernel=(3, 3), pads=(1, 1, 1, 1), replicate=True), set())])
def test_results_are_the_golden_models_in_fewer_cycles(channels, reader, made):
    graph, codes = network(BINARY, channels, reader)
    program = same(graph, codes, BINARY)
    assert together(program) == {(1, *shape) for shape in made}
    plain = compile_graph(graph, replace(BINARY, tap_rows=False))
    assert (cycles(program).cycles < cycles(plain).cycles) == bool(made)


@pytest.mark.parametrize("channels, reader", [
    (4, THREE), (4, THREE | dict(stride=(2, 2), pad_code=7)), (8, THREE), (3, THREE), (16, THREE)])
def test_numbers(channels, reader):
    graph, codes = network(NUMBERS, channels, reader)
    assert together(same(graph, codes, NUMBERS))


@pytest.mark.parametrize("change, there", [
    (dict(prefetch=False), True), (dict(accumulator=16), False), (dict(accumulator_depth=32), True),
    (dict(rows=32, columns=16, weight_depth=1024, post_lanes=16), True),
    (dict(activation_depth=8192), True), (dict(weight_depth=16), True), (dict(bus_bits=256), True),
    (dict(activation_depth=100), False)])          # the map does not fit: its words have no copies
def test_other_chips(change, there):
    arch = replace(BINARY, **change)
    graph, codes = network(arch, 8, THREE, dict(out=8, kernel=(1, 1)))
    assert bool(together(same(graph, codes, arch))) == there


def test_on_the_core():
    jobs, right = [], []
    for seed, (channels, reader) in enumerate([
            (8, THREE), (16, THREE | dict(pool=Pool((2, 2)), pad_code=0)),
            (24, dict(out=9, kernel=(2, 4), dilation=(1, 2)))]):
        graph, codes = network(BINARY, channels, reader, seed=seed)
        program = compile_graph(graph, BINARY)
        assert together(program)
        jobs.append(core_job(program, codes[0], latency=5))
        right.append((program, cycles(program, 5).cycles, graph.run(codes)["out0"][0]))
    for (program, taken, wanted), runs in zip(
            right, core.simulate(core_verilog(BINARY), jobs).runs, strict=True):
        assert (unpack_outputs(program, bytes(runs[0].outputs[0]))["out0"] == wanted).all()
        assert runs[0].cycles == taken


def test_a_program_without_its_copies_or_with_other_pixels_is_found():
    program = compile_graph(network(BINARY, 8, THREE)[0], BINARY)
    post = next(n for n, i in enumerate(program.instructions)
                if i.opcode == Opcode.POST and i.layer == 0)
    array = next(n for n, i in enumerate(program.instructions)
                 if i.opcode == Opcode.ARRAY and i.side == 3)
    check_memory_plan(program)
    for number, fields in ((post, {"slot": 0}), (post, {"slot": 2 << BINARY.copy_bits}),
                           (array, {"x_start": 0}), (array, {"stride_ky": 1})):
        with pytest.raises(MemoryPlanError):
            code = list(program.instructions)
            code[number] = replace(code[number], fields=code[number].fields | fields)
            check_memory_plan(replace(program, instructions=code))
