"""compile_graph: on random chips, programs compute what the network says, bit for bit; the memory
map is sound; what does not fit is refused with a reason; and the fast paths are fast."""

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.compile.compile import compile_graph
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Int, parse
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Memory, Opcode
from systolith.hw.spec.loops import moved_bytes
from systolith.hw.spec.program import Program
from systolith.sim.machine.access import check_program
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.memory_plan import check_memory_plan
from systolith.sim.machine.races import find_races, find_stall
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.pool import Pool
from systolith.sim.random.arch import random_arch

from ...layers import changed, convolution
from ...networks import random_network, run_program, wide_enough


def cramped(arch, seed):
    """The same chip with memories that force every kind of tiling."""
    draw = random.Random(f"cramped {seed}")
    return replace(
        arch, activation_depth=draw.randint(18, 50), weight_depth=arch.rows * draw.randint(1, 6),
        parameter_depth=arch.chunks * draw.randint(1, 3), accumulator_depth=draw.randint(9, 30),
        operand_depth=min(arch.operand_depth, draw.randint(6, 40)))


def assert_computes(program, graph, codes, seed):
    gold = graph.run(codes, program.arch)
    outputs, maps, _ = run_program(program, {k: v[0] for k, v in codes.items()}, seed)
    assert set(maps) == {conv.output for conv in graph.layers}
    for name, array in maps.items():
        assert (array == gold[name][0]).all(), name
    assert list(outputs) == list(dict.fromkeys(graph.outputs))
    for name, array in outputs.items():
        assert (array == gold[name][0]).all(), name


def assert_sound(program):
    """No two things share a place, and every transfer stays with what it is for."""
    host, arch = program.host, program.arch
    check_program(program)
    check_memory_plan(program)
    assert find_races(program.instructions, arch) == []
    assert find_stall(program.instructions, arch) is None

    sections = {item.section: range(item.offset, item.offset + item.bytes)
                for item in host.memory}
    for one, two in pairwise(sorted(sections.values(), key=lambda part: part.start)):
        assert one.stop <= two.start
    assert max(part.stop for part in sections.values()) <= program.window_bytes
    assert all(part.start % 64 == 0 for part in sections.values())
    assert len(program.image) == max(sections[name].stop for name in
                                     ("code", "weights", "parameters", "tables")
                                     if name in sections)

    outside = sorted((item.external, item.external + item.bytes, item.section)
                     for item in host.tensors.values() if item.external is not None)
    for one, two in pairwise(outside):
        assert one[1] <= two[0]
    for start, stop, section in outside:
        assert sections[section].start <= start and stop <= sections[section].stop

    for where, lives, depth in (("chip", "lives", arch.activation_depth),
                                ("operand", "operand_lives", arch.operand_depth)):
        inside = [(start, start + -(-item.shape[0] // arch.vector) * item.shape[1] * item.shape[2],
                   *getattr(item, lives))
                  for item in host.tensors.values() if (start := getattr(item, where)) is not None]
        for n, one in enumerate(inside):
            assert one[1] <= depth
            for two in inside[:n]:
                apart = one[3] < two[2] or two[3] < one[2]
                assert apart or one[1] <= two[0] or two[1] <= one[0]

    for i in program.instructions:
        if i.opcode == Opcode.LOAD:
            layer = host.layers[i.layer]
            tensor = host.tensors[layer.operand.tensor if i.memory == Memory.OPERAND
                                  else layer.input]
            allowed = {Memory.WEIGHT: sections.get("weights"),
                       Memory.PARAMETER: sections.get("parameters"),
                       Memory.TABLE: sections.get("tables"),
                       }.get(i.memory, range(tensor.external or 0,
                                             (tensor.external or 0) + tensor.bytes))
        elif i.opcode == Opcode.STORE:
            tensor = host.tensors[host.layers[i.layer].output]
            allowed = range(tensor.external, tensor.external + tensor.bytes)
        else:
            continue
        last = i.address + (i.rows - 1) * i.row_stride
        assert i.address in allowed and last in allowed


def compiled(graph, arch):
    """The program; where saturation and an odd bipolar tail are refused, what the refusal says
    would fix it must do so."""
    try:
        return compile_graph(graph, arch)
    except UserError as error:
        assert "could saturate" in str(error) and 'or to "exact"' in str(error), error
        return compile_graph(graph, replace(arch, accumulator=None))


@pytest.mark.parametrize("seed", range(16))
def test_random_networks_on_random_chips_are_bit_exact(seed):
    arch = wide_enough(random_arch(seed + 1000))
    graph, codes = random_network(seed + 1000, arch, size=7)
    program = compiled(graph, arch)
    assert_sound(program)
    assert_computes(program, graph, codes, seed)


@pytest.mark.parametrize("activation, weight", [("e4m3fn", "e4m3fnuz"), ("e3m4ieee", "e2m1")])
def test_networks_of_formats_with_codes_of_nan_are_bit_exact(activation, weight):
    arch = Arch(rows=5, columns=4, activation=activation, weight=weight)
    graph, codes = random_network(1, arch, size=7)
    assert_computes(compiled(graph, arch), graph, codes, 1)


@pytest.mark.parametrize("seed", range(18))
def test_small_memories_change_nothing_but_time(seed):
    arch = cramped(wide_enough(random_arch(seed + 2000)), seed)
    graph, codes = random_network(seed + 2000, arch, layers=2, size=7)
    program = compiled(graph, arch)
    assert_sound(program)
    if len(program.instructions) < 500:         # the others only cost time
        assert_computes(program, graph, codes, seed)


def chain(shape, *layers, format="int8"):
    """A Graph of layers, each a dict for `convolution` with `out` and `kernel`; "same" padding."""
    rng, tensors, convs = np.random.default_rng(3), {}, []
    format = parse(format)
    tensor = tensors["in"] = Tensor("in", shape, format)
    for n, layer in enumerate(layers):
        layer = dict(layer)
        out, kernel = layer.pop("out"), layer.pop("kernel")
        kernel = tensor.shape[1:] if kernel == "dense" else (kernel, kernel)
        side = kernel[0] // 2 if kernel != tensor.shape[1:] else 0
        weight = rng.integers(0, 1 << format.width, (out, tensor.shape[0], *kernel))
        numbers = {"bias": rng.integers(-99, 99, out),
                   "multiplier": rng.integers(1 << 16, 1 << 17, out), "shift": np.full(out, 29),
                   "low": -128, "high": 127}
        raw = layer.pop("raw", False)
        conv = convolution(f"conv{n}", tensor.name, f"map{n}", weight, format, raw, **{
            **({} if raw else numbers), "pads": (side,) * 4, "nodes": [f"node{n}"],
            "input_shape": tensor.shape} | layer)
        tensor = tensors[conv.output] = Tensor(
            conv.output, conv.output_shape, None if conv.raw else format)
        convs.append(conv)
    return Graph("chain", [tensors["in"]], tensors, convs, [tensor.name])


SMALL = Arch(rows=4, columns=6, activation_depth=512, weight_depth=256, accumulator_depth=64)


CONV = {"out": 13, "kernel": 3}


@pytest.mark.parametrize("memories, shape, layers, plan", [
    ({}, (8, 8, 8), [CONV, CONV], [
        {"tiles": 1, "input_buffers": 1}, {"tiles": 1, "input_buffers": 0}]),
    # The input comes in tiles, and all weights stay, or weights come again with every tile, or
    # the input comes again with every column block.
    ({"activation_depth": 200}, (8, 12, 10), [CONV],
     [{"tiles": 4, "input_buffers": 2, "loop_order": "tiles", "column_group": 3}]),
    ({"activation_depth": 200, "weight_depth": 40}, (8, 12, 10), [CONV],
     [{"tiles": 4, "input_buffers": 2, "loop_order": "tiles", "column_group": 3}]),
    ({"activation_depth": 200, "weight_depth": 80}, (8, 6, 30), [CONV],
     [{"tiles": 5, "input_buffers": 2, "loop_order": "tiles", "column_group": 3}]),
    # What one layer writes and the next one reads does not fit.
    ({"activation_depth": 90}, (4, 12, 10), [CONV, CONV], [
        {"tiles": 2, "input_buffers": 1},
        {"tiles": 18, "loop_order": "columns", "column_group": 1}]),
    # Not even one result's input fits: channels apart, then taps; in the order of the passes
    # where accumulators saturate.
    ({"activation_depth": 40}, (40, 6, 6), [CONV], [{"tiles": 2, "parts": 30}]),
    ({"activation_depth": 6}, (8, 5, 5), [CONV], [{"tiles": 5, "parts": 6}]),
    ({"activation_depth": 18, "accumulator": 18}, (20, 5, 6), [CONV], [{"parts": 45}]),
    # One pass's weights at a time.
    ({"weight_depth": 4}, (8, 5, 5), [{"out": 7, "kernel": "dense"}], [{"tiles": 1}]),
])
def test_tiling(memories, shape, layers, plan):
    arch = replace(SMALL, **memories)
    graph = chain(shape, *layers)
    codes = {"in": np.random.default_rng(1).integers(0, 256, (1, *shape))}
    program = compile_graph(graph, arch)
    for layer, expected in zip(program.host.layers, plan, strict=True):
        assert expected.items() <= vars(layer).items()
    assert_sound(program)
    assert_computes(program, graph, codes, 1)


def test_the_same_network_gives_the_same_bytes():
    graph, _ = random_network(5, SMALL)
    assert compile_graph(graph, SMALL).image == compile_graph(graph, SMALL).image


def test_the_host_data_survives_the_program_file(tmp_path):
    graph, codes = random_network(8, SMALL)
    compile_graph(graph, SMALL).save(tmp_path / "program.bin")
    program = Program.load(tmp_path / "program.bin", SMALL)
    assert_sound(program)
    assert_computes(program, graph, codes, 0)


def test_weights_that_fit_are_loaded_once():
    arch = load_chip("sim-16x16-int8")
    program = compile_graph(chain(
        (16, 18, 18), *({"out": 40, "kernel": 3, "pool": Pool((2, 2))},) * 2,
        {"out": 30, "kernel": 3}, {"out": 10, "kernel": "dense"}), arch)
    loaded = sum(moved_bytes(i, arch) for i in program.instructions
                 if i.opcode == Opcode.LOAD and i.memory == Memory.WEIGHT)
    size = next(item.bytes for item in program.host.memory if item.section == "weights")
    assert loaded == size


@pytest.mark.parametrize("lanes", [4, 16])
def test_a_large_convolution_keeps_the_array_busy(lanes):
    arch = replace(load_chip("sim-16x16-int8"), post_lanes=lanes)
    graph = chain((64, 32, 32), {"out": 64, "kernel": 3})
    timing = cycles(compile_graph(graph, arch), latency=32)
    ideal = graph.macs / arch.macs_per_cycle
    assert timing.compute_cycles <= 1.01 * ideal
    assert timing.cycles <= 1.03 * ideal


def test_a_small_layer_costs_few_cycles_beyond_its_passes():
    arch = load_chip("sim-16x16-int8")
    layers = [{"out": 16, "kernel": 3}] * 10 + [{"out": 10, "kernel": "dense", "raw": True}]
    program = compile_graph(chain((16, 8, 8), *layers), arch)
    passes = sum(layer.array_cycles for layer in program.host.layers)
    assert cycles(program).compute_cycles - passes <= 50 * len(layers)


def test_grouped_convolutions_skip_passes_without_weights():
    arch = replace(SMALL, weight_depth=512)
    graph = chain((24, 9, 9), {"out": 24, "kernel": 3})
    dense = compile_graph(graph, arch).host.layers[0].passes
    apart = np.arange(24)[:, None] // 6 != np.arange(24) // 6
    graph.layers[0] = changed(graph.layers[0], weight=np.where(
        apart[..., None, None], 0, graph.layers[0].weights.codes))
    program = compile_graph(graph, arch)
    assert program.host.layers[0].passes == dense // 3        # 2 of 6 blocks of channels
    codes = {"in": np.random.default_rng(0).integers(0, 256, (1, 24, 9, 9))}
    assert_computes(program, graph, codes, 1)


def test_a_weight_format_that_is_narrower_needs_no_other_chip():
    graph = chain((5, 6, 6), {"out": 7, "kernel": 3})
    graph.layers[0] = changed(graph.layers[0], weight=graph.layers[0].weights.codes & 7,
                              weight_format=Int(3))
    codes = {"in": np.random.default_rng(0).integers(0, 256, (1, 5, 6, 6))}
    assert_computes(compile_graph(graph, SMALL), graph, codes, 1)


def refused(graph, arch):
    with pytest.raises(UserError) as error:
        compile_graph(graph, arch)
    return str(error.value)


def test_other_formats_are_refused():
    graph = chain((3, 5, 5), {"out": 4, "kernel": 3})
    text = refused(graph, replace(SMALL, activation="int4", weight="int4"))
    assert text == ("layer 'conv0' (ONNX nodes node0) reads 'in' in int8, the chip computes in "
                    'int4; set array.activation to "int8" and array.weight to "int8", or '
                    "quantize the network to int4")
    weight = graph.layers[0].weights.codes.copy()
    weight[0, 0, 0, 0] = 1000
    graph.layers[0] = changed(graph.layers[0], weight=weight, weight_format=Int(12))
    assert refused(graph, SMALL).endswith("has int12 weights, the chip's are int8; set "
                                          'array.weight to "int12", or quantize the weights to '
                                          "int8")


def test_sums_that_need_longer_accumulators_are_refused_with_the_key_to_raise():
    graph = chain((64, 5, 5), {"out": 4, "kernel": 3})
    graph.layers[0] = changed(graph.layers[0], weight=0 * graph.layers[0].weights.codes + 0x80)
    arch = replace(SMALL, largest_k=100)
    text = refused(graph, arch)
    assert "layer 'conv0' (ONNX nodes node0): its sums need accumulators of 25 bits" in text
    assert "(array.largest_k = 100); raise array.largest_k to 512" in text
    longer = replace(arch, largest_k=512)
    codes = {"in": np.full((1, 64, 5, 5), 0x80)}
    assert_computes(compile_graph(graph, longer), graph, codes, 0)
    saturating = replace(arch, accumulator=22)
    assert_computes(compile_graph(graph, saturating), graph, codes, 0)


def test_a_bias_must_fit_saturating_accumulators():
    graph = chain((3, 5, 5), {"out": 4, "kernel": 3, "bias": np.full(4, 1 << 20)})
    text = refused(graph, replace(SMALL, accumulator=19))
    assert "a bias of 1048576 does not fit accumulators of 19 bits; raise array.accum" in text


def test_bipolar_tails_that_do_not_cancel_take_each_pass_twice():
    arch = Arch(rows=2, columns=3, lanes=4, activation="bipolar1", weight="bipolar1")
    graph = chain((5, 6, 6), {"out": 4, "kernel": 3}, {"out": 4, "kernel": 3}, format="bipolar1")
    graph.layers = [changed(layer, pad_code=1) for layer in graph.layers]
    graph.layers[1] = changed(graph.layers[1], weight=graph.layers[1].weights.codes[:, :4])
    compile_graph(graph, arch)                  # 5 channels, but as 15 with their taps
    wide = chain((4, 6, 6), {"out": 5, "kernel": 1}, {"out": 4, "kernel": 3}, format="bipolar1")
    codes = {"in": np.random.default_rng(0).integers(0, 2, (1, 4, 6, 6))}
    for pad_code, times in ((0, 1), (1, 2), (None, 2)):
        wide.layers[1] = changed(wide.layers[1], pad_code=pad_code)
        program = compile_graph(wide, arch)
        assert sum(box.passes for boxes in program.host.layers[1].array.passes
                   for box in boxes) == times * 9 * 2
        assert_computes(program, wide, codes, 0)
    wide.tensors["map1"] = replace(wide.tensors["map1"], format=None)
    wide.layers[1] = replace(wide.layers[1], requantization=None)
    text = refused(wide, arch)
    assert text.startswith("layer 'conv1' (ONNX nodes node1): 5 channels leave an odd number of the"
                           " 8 lanes (rows * lanes) unused")


def test_memories_that_are_too_small_for_anything_are_refused_with_numbers():
    graph = chain((3, 12, 12), {"out": 4, "kernel": 3, "pool": Pool((3, 3))})
    text = refused(graph, replace(SMALL, accumulator_depth=8))
    assert "a pooling window of 3 x 3 needs 9 accumulator words, the chip has 8; raise " in text
    text = refused(graph, replace(SMALL, activation_depth=8))
    assert "one result needs 9 input words at least" in text
    assert "has 8; raise buffers.activations" in text


def test_sums_cannot_be_read_by_a_layer():
    graph = chain((3, 5, 5), {"out": 4, "kernel": 3, "raw": True}, {"out": 4, "kernel": 3})
    assert "reads 'map0', which holds sums that were not quantized" in refused(graph, SMALL)


def test_an_input_that_is_an_output_is_refused():
    graph = chain((3, 5, 5), {"out": 4, "kernel": 3})
    graph.outputs.append("in")
    assert "output 'in' is an input of the network" in refused(graph, SMALL)
