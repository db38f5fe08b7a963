"""Weights of several bits on binary chips: plane by plane the same results as the exact sums."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.weight_planes import integers_as_planes
from systolith.gen.compile.widen import widened
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Bipolar, Int
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.host import unpack_outputs
from systolith.sim.machine.memory_plan import MemoryPlanError, check_memory_plan
from systolith.sim.machine.races import find_races
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.weights import Weights
from systolith.sim.rtl import core

from ...layers import changed, convolution
from ...networks import core_job, run_program

ARCH = Arch(rows=3, columns=4, lanes=5, activation="bipolar1", weight="bipolar1", bit_planes=True,
            post_lanes=1, largest_k=1 << 20, activation_depth=2048, weight_depth=400)
BINARY = Bipolar(1)


def weights(rng, kind, shape):
    """Images of weights: of so many bits, or odd, or ternary."""
    if kind == "odd":
        return 2 * rng.integers(0, 4, shape) - 3
    if kind == "ternary":
        return rng.integers(-1, 2, shape)
    return rng.integers(-1 << kind - 1, 1 << kind - 1, shape)


def layer(rng, name, source, form, kind, outputs, kernel, groups=1, **settings):
    """A convolution of the tensor `source` (name, shape, format) with weights of that kind."""
    images = weights(rng, kind, (outputs, source.shape[0] // groups, *kernel))
    form = Int(8 if kind in ("odd", "ternary") else kind)
    return changed(convolution(name, source.name, f"{name}_out", images * 0, Int(8), high=1,
                               input_shape=source.shape, groups=groups, **settings),
                   weights=Weights(images, form))


def centred(rng, conv, codes, form):
    """With biases at which about half of the results are +1."""
    sums = conv.accumulate(codes, form)
    middle = conv.pool.summed * -np.int64(np.median(sums, axis=(0, 2, 3)))
    return changed(conv, bias=middle + rng.integers(-2, 3, len(conv.weights)))


def network(rng, bits, shape, kinds, kernel, groups=1, **settings):
    """A layer that reads `bits` bits, and one of raw sums after it; codes of an image."""
    form = BINARY if bits == 1 else Int(bits)
    source = Tensor("in", shape, form)
    codes = rng.integers(0, 1 << bits, (1, *shape))
    first = centred(rng, layer(rng, "first", source, form, kinds[0], 6, kernel, groups=groups,
                               **settings), codes, form)
    middle = Tensor("first_out", first.output_shape, BINARY)
    second = layer(rng, "second", middle, BINARY, kinds[1], 5, (1, 1))
    second = changed(second, requantization=None, bias=rng.integers(-9, 10, 5))
    tensors = {"in": source, "first_out": middle,
               "second_out": Tensor("second_out", second.output_shape, None, scale=np.array(1.0))}
    return Graph("planes", [source], tensors, [first, second], ["second_out"]), codes


def compute(graph, codes, arch, seed=0):
    """The program, whose results are those of the network with its own numbers."""
    made = widened(graph, arch)
    program = compile_graph(made, arch)
    check_memory_plan(program)
    assert find_races(program.instructions, arch) == []
    gold, own = made.run(codes, arch), graph.run(codes, replace(arch, activation="int8",
                                                                weight="int8", bit_planes=False))
    outputs, maps, _ = run_program(program, codes[0], seed)
    assert (outputs["second_out"] == gold["second_out"][0]).all()
    assert (maps["first_out"] == own["first_out"][0]).all()
    scale = np.asarray(made.tensors["second_out"].scale)
    assert (outputs["second_out"] * scale == own["second_out"][0]).all()
    return program


KINDS = st.sampled_from([2, 3, 4, 8, "odd", "ternary"])


@given(st.data())
@settings(max_examples=40)
def test_programs_equal_the_exact_sums(data):
    draw = data.draw
    bits = draw(st.sampled_from([1, 1, 1, 2, 8]))
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    pads = tuple(draw(st.integers(0, kernel[n % 2] - 1)) for n in range(4))
    shape = draw(st.integers(1, 20)), *(draw(st.integers(k, 8)) for k in kernel)
    how = draw(st.sampled_from([{}, dict(pad_code=0), dict(pad_code=1), dict(replicate=True)]))
    if bits > 1 and "pad_code" in how:
        how = dict(pad_code=how["pad_code"] << bits - 1)
    groups = 1
    if bits == 1 and draw(st.booleans()):
        groups = draw(st.sampled_from([1, 2, 3, 6]))
        shape = (groups * (1 + shape[0] // 6), *shape[1:])
    graph, codes = network(
        np.random.default_rng(draw(st.integers(0, 999))), bits, shape, (draw(KINDS), draw(KINDS)),
        kernel, groups, pads=pads, stride=(draw(st.integers(1, 2)), draw(st.integers(1, 2))), **how)
    arch = replace(ARCH, activation_depth=draw(st.sampled_from([40, 2048])),
                   weight_depth=draw(st.sampled_from([3, 12, 400])),
                   accumulator_depth=draw(st.sampled_from([8, 64])),
                   lanes=draw(st.sampled_from([4, 5])))
    try:
        compute(graph, codes, arch)
    except UserError as error:
        assert "raise buffers" in str(error), error


@pytest.mark.parametrize("kind, count, doublings", [
    (2, 3, 1), (4, 5, 3), (8, 9, 7), ("odd", 2, 1), ("ternary", 2, 0)])
def test_planes_of_weights(kind, count, doublings):
    rng = np.random.default_rng(1)
    graph, codes = network(rng, 1, (6, 4, 4), (kind, kind), (3, 3))
    program = compute(graph, codes, replace(ARCH, lanes=4))
    layers = program.host.layers
    assert [layer.passes for layer in layers] == [2 * 5 * count, 2 * count]
    arrays = [i for i in program.instructions if i.opcode == Opcode.ARRAY and i.layer == 1]
    assert sum(i.double for i in arrays) == 2 * doublings


@pytest.mark.parametrize("images", [
    [-2, 2, 0], [-1, 1, 0], [1, -1, -2], [-128, 127, 5], [127, 1, 0], [0, 0, 0], [64, -64, 3],
    [1, 1, 1], [-1, -1, -1]])
def test_even_integers_are_sums_of_planes(images):
    made = Weights(np.array(images).reshape(1, -1, 1, 1) * 2, Int(9)).planes
    total = sum(2 ** n * (-1 if signs is None else signs.images) for n, signs in made)
    assert total.ravel().tolist() == [2 * x for x in images]
    assert [n for n, _ in made] == sorted((n for n, _ in made), reverse=True)
    low, high = min(0, *images), max(0, *images)
    bits = max(max(-1 - low, 0).bit_length(), high.bit_length()) + 1
    flexible = bits > 1 and max(-low, high) <= 2 ** (bits - 2)
    assert len(made) == bits + (not flexible)


def test_odd_integers_are_planes_without_a_constant_one():
    made = Weights(np.array([-3, -1, 1, 3]).reshape(1, -1, 1, 1), Bipolar(2)).planes
    assert [n for n, _ in made] == [1, 0]
    assert sum(2 ** n * signs.images for n, signs in made).ravel().tolist() == [-3, -1, 1, 3]
    with pytest.raises(ValueError, match="even"):
        Weights(np.ones((1, 1, 1, 1), int), Int(3)).planes  # noqa: B018


@pytest.mark.parametrize("channels, odd", [(12, True), (7, False)])
def test_odd_weights_stay_odd_where_no_lane_needs_a_zero(channels, odd):
    rng = np.random.default_rng(2)
    graph, codes = network(rng, 1, (channels, 5, 5), ("odd", "odd"), (3, 3), pads=(1, 1, 1, 1))
    arch = replace(ARCH, lanes=4)
    made = integers_as_planes(graph, arch)
    assert (made.layers[0].weights.format == Bipolar(2)) == odd
    compute(graph, codes, arch)


def test_refusals():
    graph, _ = network(np.random.default_rng(3), 1, (12, 5, 5), (8, 8), (3, 3))
    for arch, message in (
            (replace(ARCH, bit_planes=False), "weights of several bits, the chip's are bipolar1; "
             "set array.bit_planes to true"),
            (replace(ARCH, largest_k=64), "its sums need accumulators of"),
            (replace(ARCH, accumulator=12), "the 9 planes of its weights could saturate "
             "accumulators of 12 bits; set array.accumulator to")):
        with pytest.raises(UserError, match=message):
            compile_graph(widened(graph, arch), arch)


@pytest.mark.slow
def test_memory_holds_the_bits_of_the_weights_alone():
    """Planes of the input share weights, and the plane of -1 has words for a few passes."""
    rng = np.random.default_rng(5)
    arch = replace(ARCH, lanes=4, activation_depth=8192, accumulator=27, accumulator_depth=128)
    graph, _ = network(rng, 8, (40, 9, 9), (8, 8), (5, 5), pads=(2, 2, 2, 2))
    program = compile_graph(widened(graph, arch), arch)
    check_memory_plan(program)
    first, second = program.host.layers
    each, rest = divmod(sum(box.passes for box in first.array.passes[0]), 8 * 9)
    assert each > 50 and not rest
    assert first.array.stored_passes == (8 * each + 1, 8 * each + 1)
    assert first.weight_bits == 6 * 40 * 25 * 8
    assert second.array.stored == (tuple(range(9)),) * 2


@pytest.mark.parametrize("bits", [1, 8])
def test_other_weights_are_refused(bits):
    """The memory plan knows which weights each pass takes, also where several take the same."""
    rng = np.random.default_rng(6)
    graph, _ = network(rng, bits, (12, 6, 6), (4, 4), (3, 3), pads=(1, 1, 1, 1))
    program = compile_graph(widened(graph, ARCH), ARCH)
    check_memory_plan(program)
    arrays = [n for n, i in enumerate(program.instructions)
              if i.opcode == Opcode.ARRAY and i.layer == 0]
    bases = {program.instructions[n].weight_base for n in arrays}
    refused = 0
    for n in arrays[:12]:
        for base in bases - {program.instructions[n].weight_base}:
            i = program.instructions[n]
            changed_code = list(program.instructions)
            changed_code[n] = Instruction(i.opcode, {**i.fields, "weight_base": base}, i.wait,
                                          i.signal, i.layer)
            try:
                check_memory_plan(replace(program, instructions=changed_code))
            except MemoryPlanError:
                refused += 1
            else:
                raise AssertionError(f"{i} with weights from word {base} was not refused")
    assert refused


def test_on_the_core():
    """The same in Verilator, cycle by cycle as the model says; also with the input's planes in
    rows."""
    arch = replace(ARCH, rows=9, columns=3, lanes=10, plane_rows=True)
    jobs, right = [], []
    for seed, (bits, shape, kinds, how) in enumerate([
            (8, (9, 5, 6), (8, "ternary"), {}), (3, (3, 6, 6), ("odd", 3), dict(pads=(1, 1, 1, 1))),
            (1, (8, 6, 6), (4, 8), dict(pads=(1, 1, 0, 1), groups=2))]):
        kernel = (1, 1) if bits == 8 else (3, 3)
        graph, codes = network(np.random.default_rng(seed), bits, shape, kinds, kernel, **how)
        made = widened(graph, arch)
        program = compile_graph(made, arch)
        rows = any(i.planes for i in program.instructions if i.opcode == Opcode.ARRAY)
        assert rows == (bits == 8)
        jobs.append(core_job(program, codes[0], latency=5))
        right.append((program, made.run(codes, arch)["second_out"][0]))
    for (program, sums), runs in zip(right, core.simulate(core_verilog(arch), jobs).runs,
                                     strict=True):
        found = unpack_outputs(program, bytes(runs[0].outputs[0]))["second_out"]
        assert (found == sums).all()
        assert runs[0].cycles == cycles(program, latency=5).cycles
