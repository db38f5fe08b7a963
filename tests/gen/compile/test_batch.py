"""Programs for several images: every image comes out as alone, weights are loaded once where they
fit, and the core takes what the cycle model says."""

import json
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.compile.compile import compile_graph
from systolith.gen.flow.build import build, open_build
from systolith.gen.flow.simulate import simulate
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Memory, Opcode
from systolith.sim.machine.compare import compare, locate
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.machine.iss import Simulator
from systolith.sim.machine.memory_plan import check_memory_plan
from systolith.sim.machine.races import find_races, find_stall
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.random.arch import random_arch

from ...layers import convolution
from ...networks import random_codes, random_network, wide_enough

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "digits" / "digits-cnn-int8.onnx"


def run(program, codes, seed=0):
    """({output: codes}, Comparison of every result) of a batch by the simulator."""
    host = program.host
    memory = np.random.default_rng(seed).integers(0, 256, program.window_bytes).astype(np.uint8)
    memory[:len(program.image)] = np.frombuffer(program.image, np.uint8)
    start, data = host.input_offset, pack_inputs(program, codes)
    memory[start:start + len(data)] = np.frombuffer(data, np.uint8)
    simulator = Simulator(program.arch, memory)
    simulator.run(program.instructions, seed)
    start = host.output_offset
    outputs = unpack_outputs(program, memory[start:start + host.output_bytes].tobytes())
    results = [item.items for item in sorted(simulator.results, key=lambda one: one.number)]
    return outputs, results


def assert_computes(program, graph, codes, seed=0):
    golden = graph.run(codes, program.arch)
    outputs, results = run(program, codes, seed)
    found = compare(program, locate(program), results, golden)
    assert found.bits == 0, str(found.first)
    for name, values in outputs.items():
        assert (values == golden[name]).all(), name
    check_memory_plan(program)
    assert find_races(program.instructions, program.arch) == []
    assert find_stall(program.instructions, program.arch) is None


def batch_of(graph, images, seed):
    rng = np.random.default_rng([seed, 11])
    return {item.name: random_codes(rng, item.format, (images, *item.shape))
            for item in graph.inputs}


@pytest.mark.parametrize("seed", range(24))
def test_every_image_of_a_batch_is_computed_as_alone(seed):
    draw = random.Random(seed)
    arch = wide_enough(random_arch(seed + 3000))
    if seed % 2:
        arch = replace(arch, activation_depth=draw.randint(40, 200),
                       weight_depth=arch.rows * draw.randint(1, 12),
                       accumulator_depth=draw.randint(9, 40))
    graph, _ = random_network(seed + 3000, arch, layers=3, size=5)
    images = draw.choice((2, 3, 4, 6))
    try:
        program = compile_graph(graph, arch, images)
    except UserError as error:
        assert "could saturate" in str(error)
        return
    assert program.host.batch == images
    if len(program.instructions) < 600:         # the others only cost time
        assert_computes(program, graph, batch_of(graph, images, seed), seed)


def dense(sizes):
    """A Graph of dense layers."""
    rng, int8 = np.random.default_rng(1), Int(8)
    tensors = [Tensor(f"map{n}", (size, 1, 1), int8) for n, size in enumerate(sizes)]
    layers = [convolution(
        f"dense{n}", f"map{n}", f"map{n + 1}", rng.integers(0, 256, (out, size, 1, 1)), int8,
        multiplier=np.full(out, 1 << 16), shift=np.full(out, 27), low=-128, high=127)
        for n, (size, out) in enumerate(pairwise(sizes))]
    return Graph("dense", tensors[:1], {item.name: item for item in tensors}, layers,
                 [tensors[-1].name])


def loaded(program, memory):
    return sum(i.words * i.rows for i in program.instructions
               if i.opcode == Opcode.LOAD and i.memory == memory)


def test_a_dense_layer_has_a_pixel_for_every_image():
    arch = Arch(rows=8, columns=8, weight_depth=128)
    graph = dense((64, 64, 64, 10))
    alone, program = compile_graph(graph, arch), compile_graph(graph, arch, 16)
    assert program.host.together == 16
    assert loaded(program, Memory.WEIGHT) == loaded(alone, Memory.WEIGHT)
    assert program.host.layers[0].passes == alone.host.layers[0].passes
    assert cycles(program).cycles < 16 * cycles(alone).cycles / 8
    assert_computes(program, graph, batch_of(graph, 16, 0))


def test_weights_that_fit_stay_from_image_to_image():
    arch = Arch(rows=4, columns=4, activation_depth=400, weight_depth=512)
    rng, int8 = np.random.default_rng(2), Int(8)
    tensors = [Tensor(f"map{n}", (4, 12, 12), int8) for n in range(4)]
    layers = [convolution(
        f"conv{n}", f"map{n}", f"map{n + 1}", rng.integers(0, 256, (4, 4, 3, 3)), int8,
        pads=(1, 1, 1, 1), multiplier=np.full(4, 1 << 16), shift=np.full(4, 26), low=-128, high=127)
        for n in range(3)]
    graph = Graph("convs", tensors[:1], {item.name: item for item in tensors}, layers, ["map3"])
    alone, program = compile_graph(graph, arch), compile_graph(graph, arch, 5)
    for memory in (Memory.WEIGHT, Memory.PARAMETER):
        assert loaded(program, memory) == loaded(alone, memory)
    assert loaded(program, Memory.ACTIVATION) == 5 * loaded(alone, Memory.ACTIVATION)
    assert cycles(program).cycles < 5 * cycles(alone).cycles
    assert_computes(program, graph, batch_of(graph, 5, 0))


def test_a_build_for_a_batch_fills_up_its_last_run(tmp_path):
    images = np.random.default_rng(0).uniform(0, 1, (5, 1, 28, 28)).astype(np.float32)
    made = build(EXAMPLE, load_chip("sim-16x16-int8"), tmp_path / "out", batch=2, area=False)
    again = open_build(tmp_path / "out")
    assert made.program.host.batch == again.program.host.batch == 2
    found = simulate(again, images, "isa")
    assert found.comparison.bits == 0 and len(found.outputs) == 5
    assert (found.outputs == simulate(again, images).outputs).all()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["network"]["batch"] == 2
    assert report["cycles"]["images_per_second"] == pytest.approx(
        2e6 * report["clock"]["mhz"] / report["cycles"]["total"])


def test_one_input_too_few_is_named():
    program = compile_graph(dense((8, 8)), Arch(rows=4, columns=4), 3)
    with pytest.raises(ValueError, match=r"'map0' must have the shape \(3, 8, 1, 1\), not"):
        pack_inputs(program, np.zeros((2, 8, 1, 1), int))


@pytest.mark.parametrize("batch", [0, -1, 257])
def test_a_batch_has_a_size(batch):
    with pytest.raises(UserError, match=f"a batch must be from 1 to 256 images, not {batch}"):
        compile_graph(dense((8, 8)), Arch(rows=4, columns=4), batch)
