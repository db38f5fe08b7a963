"""The memory plan's checker: passes what the compiler makes, and sees what an allocator can do
wrong."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from systolith.gen.compile import alloc, maps
from systolith.gen.compile.compile import compile_graph
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Destination, Memory, Opcode
from systolith.sim.machine.memory_plan import MemoryPlanError, check_memory_plan
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.requantization import Operand
from systolith.sim.random.arch import random_arch
from systolith.sim.random.graphs import random_graph

from ...faulty_programs import in_order, mutate, outputs
from ...gen.compile import test_side_by_side as side_by_side
from ...layers import changed, convolution
from ...networks import outputs_of

ARCH = Arch(rows=4, columns=4, activation_depth=400, weight_depth=200, accumulator_depth=64,
            operand_depth=300)


def network(layers=4):
    """Convolutions one behind the other, the last one added to the first one's result."""
    rng, int8 = np.random.default_rng(5), Int(8)
    tensors = [Tensor(f"map{n}", (8, 6, 6), int8) for n in range(layers + 1)]
    convs = [convolution(
        f"conv{n}", f"map{n}", f"map{n + 1}", rng.integers(0, 256, (8, 8, 3, 3)), int8,
        pads=(1, 1, 1, 1), multiplier=np.full(8, 1 << 16), shift=np.full(8, 27), low=-128, high=127,
        nodes=[f"node{n}"]) for n in range(layers)]
    convs[-1] = changed(convs[-1], low=-(1 << 19), high=(1 << 19) - 1, operand=Operand(
        "map1", gain=1 << 20, operand_gain=1 << 20, shift=21, low=-128, high=127))
    return Graph("net", tensors[:1], {item.name: item for item in tensors}, convs,
                 [tensors[-1].name])


@pytest.mark.parametrize("batch", [1, 2, 3, 6])
def test_a_program_of_the_compiler_passes(batch):
    program = compile_graph(network(), ARCH, batch)
    found = check_memory_plan(program)
    for name, words in found.items():
        assert words == program.host.peak.get(f"{name}_words", 0)


@pytest.mark.parametrize("rows", [5, 7])
def test_rows_that_come_along_from_the_top_need_no_reader(rows):
    program = compile_graph(*depthwise(rows))
    runs = [i for i in program.instructions if i.opcode == Opcode.ARRAY and i.starts > 1]
    assert sum(i.starts * i.out_y for i in runs) > rows
    check_memory_plan(program)
    for unit in (Opcode.POST, Opcode.STORE):
        lost = [i for i in program.instructions if i.opcode == unit][-1]
        less = replace(program, instructions=[i for i in program.instructions if i is not lost])
        with pytest.raises(MemoryPlanError):
            check_memory_plan(less)


@pytest.mark.parametrize("depth", [60, 100, 400])
def test_a_joined_map_is_read_before_all_of_it_is_there(depth):
    graph, arch = joined(depth)
    check_memory_plan(compile_graph(graph, arch, 2))
    graph.layers[1] = changed(graph.layers[1], channels=np.arange(8))
    with pytest.raises(MemoryPlanError, match=r"of layer 'b' (loads|reads)"):
        check_memory_plan(compile_graph(graph, arch))


def joined(depth):
    """(Graph, Arch): a map of three parts, two of which are read before all is there."""
    rng, int8 = np.random.default_rng(5), Int(8)
    tensors = [Tensor(name, (channels, 6, 6), int8)
               for name, channels in (("in", 8), ("joined", 24), ("out", 8))]

    def conv(name, source, target, inputs, **more):
        return convolution(
            name, source, target, rng.integers(0, 256, (8, inputs, 3, 3)), int8, pads=(1, 1, 1, 1),
            multiplier=np.full(8, 1 << 16), shift=np.full(8, 27), low=-128, high=127, **more)
    convs = [conv("a", "in", "joined", 8, first_channel=16),
             conv("b", "joined", "joined", 8, first_channel=8, channels=np.arange(16, 24)),
             conv("c", "joined", "joined", 16, channels=np.arange(8, 24)),
             conv("d", "joined", "out", 24)]
    graph = Graph("net", tensors[:1], {item.name: item for item in tensors}, convs, ["out"])
    return graph, replace(ARCH, rows=8, columns=8, activation_depth=depth)


def depthwise(rows):
    """(Graph, Arch): a depthwise layer whose activations come from the top."""
    rng, int8 = np.random.default_rng(rows), Int(8)
    conv = convolution(
        "conv", "in", "out", rng.integers(0, 256, (6, 1, 3, 3)), int8, groups=6, pads=(1, 1, 1, 1),
        multiplier=np.full(6, 1 << 16), shift=np.full(6, 24), low=-128, high=127)
    tensors = [Tensor(name, (6, rows, 9), int8) for name in ("in", "out")]
    graph = Graph("net", tensors[:1], {item.name: item for item in tensors}, [conv], ["out"])
    return graph, Arch(rows=16, columns=16, activation_depth=400, weight_depth=200,
                       accumulator_depth=64, depthwise=True)


PROGRAMS = {
    "residual": lambda: compile_graph(network(), ARCH),
    "residual, two images": lambda: compile_graph(network(2), ARCH, 2),
    "residual, tiles": lambda: compile_graph(network(2), replace(
        ARCH, activation_depth=60, operand_depth=40)),
    "joined, tiles": lambda: compile_graph(*joined(60)),
    "depthwise": lambda: compile_graph(*depthwise(7)),
    **{f"random {seed}": lambda seed=seed: compile_graph(
        random_graph(random_arch(seed), seed)[0], random_arch(seed), 1 + seed % 2)
       for seed in (2, 5, 11, 20)}}


@pytest.mark.parametrize("name", PROGRAMS)
def test_whatever_changes_results_is_seen(name):
    program, draw = in_order(PROGRAMS[name]()), Random(name)
    check_memory_plan(program)
    good, faults = outputs(program), 0
    for _ in range(14):
        wrong, what = mutate(program, draw)
        found = outputs(wrong)
        if found is not None and found != good:
            faults += 1
            with pytest.raises(MemoryPlanError):
                check_memory_plan(wrong)
                pytest.fail(f"nothing is said of {what}")
    assert faults


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_pass(seed):
    arch = random_arch(seed)
    try:
        program = compile_graph(random_graph(arch, seed)[0], arch, 1 + seed % 3)
    except UserError:
        return
    check_memory_plan(program)


def test_maps_that_overlap_are_seen(monkeypatch):
    def all_at_the_start(*arguments):
        placement = alloc.place(*arguments)
        placement.maps = dict.fromkeys(placement.maps, 0)
        return placement
    monkeypatch.setattr(maps, "place", all_at_the_start)
    program = compile_graph(network(), ARCH)
    with pytest.raises(MemoryPlanError, match=r"of layer 'conv1' reads activation word \d+ for "
                                              r"'map1', where lies a part of 'map2', round 0"):
        check_memory_plan(program)


def test_weights_that_are_overwritten_are_seen(monkeypatch):
    def forgetful(self, name, words):
        base = self._next if self._next + words <= self.depth else 0
        self._kept[name] = (base, words)
        self._next = base + words
        return base
    monkeypatch.setattr(alloc.Ring, "place", forgetful)
    program = compile_graph(network(), ARCH, 2)
    with pytest.raises(MemoryPlanError, match=r"does not find its weights|states a peak"):
        check_memory_plan(program)


@pytest.mark.parametrize("opcode", [Opcode.LOAD, Opcode.ARRAY, Opcode.POST, Opcode.STORE])
def test_an_instruction_that_is_missing_is_seen(opcode):
    for nth in range(4):
        program = compile_graph(network(), ARCH)
        # A piece of a sum more or less cannot be seen by its place.
        found = [n for n, i in enumerate(program.instructions) if i.opcode == opcode
                 and not (opcode == Opcode.ARRAY and i.accumulate)]
        del program.instructions[found[nth * len(found) // 4]]
        with pytest.raises(MemoryPlanError):
            check_memory_plan(program)


def test_an_output_that_is_not_stored_is_seen():
    program = compile_graph(network(), ARCH)
    program.instructions = [
        i for i in program.instructions if i.opcode != Opcode.STORE
        and not (i.opcode == Opcode.POST and i.destination == Destination.STORE)]
    with pytest.raises(MemoryPlanError, match="nothing writes all of the output 'map4'"):
        check_memory_plan(program)


def test_tensors_that_overlap_outside_are_named():
    program = compile_graph(network(), ARCH)
    tensors = program.host.tensors
    tensors["map4"] = replace(tensors["map4"], external=tensors["map0"].external + 64)
    with pytest.raises(MemoryPlanError, match="the tensors 'map0' and 'map4' overlap"):
        check_memory_plan(program)


def test_a_peak_that_is_too_low_is_seen():
    program = compile_graph(network(), ARCH)
    program.host.peak["activation_words"] -= 1
    with pytest.raises(MemoryPlanError, match="states a peak of"):
        check_memory_plan(program)


@pytest.mark.parametrize("destination", [Destination.OPERAND, Destination.BOTH])
def test_a_map_that_has_no_place_where_it_is_written_is_seen(destination):
    program = compile_graph(network(), ARCH)
    at, post = next((n, i) for n, i in enumerate(program.instructions)
                    if i.opcode == Opcode.POST and i.layer == 2)
    program.instructions[at] = replace(post, fields=post.fields | {"destination": destination})
    with pytest.raises(MemoryPlanError):
        check_memory_plan(program)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_taps_side_by_side_read_what_they_should(channels):
    program = compile_graph(side_by_side.network(channels, side_by_side.THREE), side_by_side.CHIP)
    check_memory_plan(program)
    at, array = next((n, i) for n, i in enumerate(program.instructions)
                     if i.opcode == Opcode.ARRAY and i.side)
    for name, step in (("base", 1), ("x_start", 1), ("x_start", -1), ("y_start", 1),
                       ("out_x", -1), ("accumulator", 1), ("side", -1), ("side", 1)):
        changed = replace(array, fields=array.fields | {name: array.fields[name] + step})
        program.instructions[at] = changed
        with pytest.raises(MemoryPlanError):
            check_memory_plan(program)


def test_parameters_of_lanes_without_channel_are_left_out_and_no_others():
    arch = replace(ARCH, rows=16, columns=16, post_lanes=16)
    program = compile_graph(network(2), arch)
    check_memory_plan(program)
    layer = program.host.layers[0]
    kept = layer.array.last_parameters
    assert kept is not None and arch.parameter_bytes // 2 <= kept < arch.parameter_bytes
    at, load = next((n, i) for n, i in enumerate(program.instructions)
                    if i.opcode == Opcode.LOAD and i.memory == Memory.PARAMETER)
    assert load.layer == 0 and load.word_beats * arch.beat_bytes == kept
    less = replace(layer, array=replace(
        layer.array, last_parameters=kept - 2 * arch.beat_bytes))
    fewer = replace(program.host, layers=(less, *program.host.layers[1:]))
    for beats, host in ((0, program.host), (load.word_beats - 2, program.host),
                        (load.word_beats - 2, fewer)):
        program.instructions[at] = replace(load, fields=load.fields | {"word_beats": beats})
        with pytest.raises(MemoryPlanError, match="other parts"):
            check_memory_plan(replace(program, host=host))


def one_pixel(channels):
    """A convolution whose only result has so many channels."""
    int8 = Int(8)
    conv = convolution("conv", "image", "result", np.ones((channels, 3, 2, 2), np.int64), int8,
                       multiplier=np.full(channels, 1 << 16), shift=np.full(channels, 17),
                       low=-128, high=127)
    tensors = [Tensor("image", (3, 2, 2), int8), Tensor("result", (channels, 1, 1), int8)]
    return Graph("net", tensors[:1], {item.name: item for item in tensors}, [conv], ["result"])


@pytest.mark.parametrize("channels, beats", [(8, 1), (9, 2), (24, 3), (25, 0), (32, 0), (43, 2)])
def test_beats_of_an_output_without_channels_are_not_stored_and_no_others(channels, beats):
    arch, graph = replace(ARCH, rows=32, columns=32), one_pixel(channels)   # four beats a group
    program = compile_graph(graph, arch)
    check_memory_plan(program)
    at, store = [(n, i) for n, i in enumerate(program.instructions) if i.opcode == Opcode.STORE][-1]
    assert store.item_beats == beats and store.burst == (beats == 0)
    codes = np.random.default_rng(1).integers(0, 256, (1, 3, 2, 2))
    np.testing.assert_array_equal(
        outputs_of(program, codes[0])[0]["result"], graph.run(codes)["result"][0])
    if beats > 1:
        program.instructions[at] = replace(store, fields=store.fields | {"item_beats": beats - 1})
        with pytest.raises(MemoryPlanError, match=f"stores {beats - 1} beats of a group of"):
            check_memory_plan(program)


@pytest.mark.parametrize("depth", [40, 300])
def test_an_operand_that_lies_outside_is_stored_whole(depth):
    """Its last group, which is not joined with others, has 8 channels of 32; with memory for it as
    a whole nothing of it is stored."""
    int8 = Int(8)
    first, last = (convolution(
        name, "image", output, np.ones((40, 3, 1, 1), np.int64), int8, input_shape=(3, 8, 8),
        multiplier=np.full(40, 1 << 16), shift=np.full(40, 17), low=-128, high=127)
        for name, output in (("first", "map"), ("last", "result")))
    last = changed(last, low=-(1 << 19), high=(1 << 19) - 1, operand=Operand(
        "map", gain=1 << 20, operand_gain=1 << 20, shift=21, low=-128, high=127))
    tensors = [Tensor("image", (3, 8, 8), int8), Tensor("map", (40, 8, 8), int8),
               Tensor("result", (40, 8, 8), int8)]
    graph = Graph("net", tensors[:1], {item.name: item for item in tensors}, [first, last],
                  ["result"])
    arch = replace(ARCH, rows=64, columns=32, activation_depth=200, operand_depth=depth)
    program = compile_graph(graph, arch)
    check_memory_plan(program)
    stores = [i for i in program.instructions if i.opcode == Opcode.STORE]
    assert any(i.layer == 0 for i in stores) == (depth == 40)
    assert {i.item_beats for i in stores if i.layer == 0} <= {0}
    assert {i.item_beats for i in stores if i.layer == 1} == {0, 1}
    codes = np.random.default_rng(1).integers(0, 256, (1, 3, 8, 8))
    np.testing.assert_array_equal(
        outputs_of(program, codes[0])[0]["result"], graph.run(codes)["result"][0])


def test_parts_of_groups_that_are_loaded_again_are_seen():
    arch = replace(ARCH, rows=16, columns=16, activation_depth=60)
    program = compile_graph(network(2), arch)
    stores = [(n, i) for n, i in enumerate(program.instructions)
              if i.opcode == Opcode.STORE and i.layer == 0]
    assert stores and not any(i.item_beats for _, i in stores)
    for n, i in stores:         # eight channels are in the first one of two beats
        program.instructions[n] = replace(i, fields=i.fields | {
            "burst": 0, "item_beats": 1, "item_stride": arch.activation_bytes})
    with pytest.raises(MemoryPlanError, match="loads words of 'map1', of which parts"):
        check_memory_plan(program)
