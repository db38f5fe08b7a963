"""Binary layers on the core in Verilator: channels that do not fill the lanes, and what padding
stands for: -1, +1, the nearest pixel, or nothing at all."""

import numpy as np
import pytest
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.compile.compile import compile_graph
from systolith.hw.formats import parse
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.machine.iss import Simulator
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.rtl import core as rtl

from ...layers import convolution

ARCH = Arch(rows=2, columns=3, lanes=13, activation="bipolar1", weight="bipolar1", post_lanes=1,
            activation_depth=256, weight_depth=64, largest_k=1000)
SIZE = 5
#: Channels of the 26 lanes, and the padding's value; 17 leave an odd number of lanes, of which one
#: cannot be cancelled by another and is made up for by the bias: so its padding must be -1, or
#: a pixel.
CASES = [(17, -1), (18, -1), (18, 1), (18, 0), (26, 0), (26, 1), (31, -1), (2, 0), (17, "edge"),
         (18, "edge"), (31, "edge"), (1, "edge")]


def made(case):
    """A Graph of one layer with raw sums, its input, and its sums by plain loops."""
    channels, padding = case
    rng, replicate = np.random.default_rng(channels), padding == "edge"
    values = rng.choice([-1, 1], (channels, SIZE, SIZE))
    weight = rng.choice([-1, 1], (4, channels, 3, 3))
    bias = rng.integers(-9, 9, 4)
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)), **dict(mode="edge") if replicate else dict(
        constant_values=padding))
    sums = np.array([[[bias[o] + (padded[:, y:y + 3, x:x + 3] * weight[o]).sum()
                       for x in range(SIZE)] for y in range(SIZE)] for o in range(4)])
    binary = parse("bipolar1")
    conv = convolution("conv", "in", "out", (weight + 1) // 2, binary, raw=True, pads=(1, 1, 1, 1),
                       pad_code=None if replicate or padding == 0 else (padding + 1) // 2,
                       replicate=replicate, bias=bias, input_shape=(channels, SIZE, SIZE))
    tensors = {"in": Tensor("in", (channels, SIZE, SIZE), binary),
               "out": Tensor("out", conv.output_shape, None)}
    graph = Graph("padding", [tensors["in"]], tensors, [conv], ["out"])
    return compile_graph(graph, ARCH), {"in": (values + 1) // 2}, sums


@pytest.fixture(scope="module")
def found():
    """Case -> (sums by the core, sums by the instruction-level simulator, right sums)."""
    everything, jobs = [made(case) for case in CASES], []
    for program, codes, _ in everything:
        memory = bytearray(program.window_bytes)
        memory[:len(program.image)] = program.image
        start, data = program.host.input_offset, pack_inputs(program, codes)
        memory[start:start + len(data)] = data
        outside = program.host.output_offset, program.host.output_bytes
        jobs.append(rtl.Job(program, [rtl.Run([(0, bytes(memory))], [outside])], stalls=0.3,
                            latency=5, seed=len(jobs)))
    results = {}
    for case, (program, _, right), job, runs in zip(
            CASES, everything, jobs, rtl.simulate(core_verilog(ARCH), jobs).runs, strict=True):
        memory = bytearray(job.runs[0].writes[0][1])
        Simulator(ARCH, memory).run(program.instructions, 3)
        first, size = job.runs[0].reads[0]
        results[case] = [unpack_outputs(program, bytes(data))["out"] for data in
                         (runs[0].outputs[0], memory[first:first + size])] + [right]
    return results


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums_with_padding_of_every_kind(found, case):
    core, simulator, right = found[case]
    assert core.tolist() == simulator.tolist() == right.tolist()


def test_the_kinds_of_padding_differ(found):
    assert len({str(found[18, padding][2][:, 0].tolist()) for padding in (-1, 0, 1, "edge")}) == 4
