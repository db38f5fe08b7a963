"""Layers with few different weights keep numbers of weights in a pool (`buffers.weight_pools`)."""

from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.needs import SAVINGS
from systolith.gen.importer.reader import load
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Memory, Opcode
from systolith.hw.spec.loops import moved_bytes
from systolith.sim.machine.contents import MemoryPlanError
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.memory_plan import check_memory_plan

from ...onnx_exact import integer_network, on_chip, qdq

ARCH = Arch(rows=8, columns=8, post_lanes=4, weight_widths=(6,), weight_pools=(4, 4),
            depthwise=True, bus_bits=32)
PLAIN = replace(ARCH, weight_widths=(), weight_pools=())
#: Different weights of each layer, 0 among them; layers of so many have a pool's.
DIFFERENT = (17, 16, 16, 4)


def pool(rng, count):
    """As many different weights, the largest and the smallest and 0 among them."""
    others = rng.choice(np.setdiff1d(np.arange(-127, 127), [0]), count - 3, replace=False)
    return np.concatenate([[0, -128, 127], others])


def network(kernel=3, channels=16, apart=False, size=(6, 5), same=False):
    rng = np.random.default_rng(0)
    net, x = integer_network(rng, (channels, *size))
    shared = pool(rng, 16)
    for count in DIFFERENT:
        mine = shared if same else pool(rng, count)
        codes = rng.choice(mine, (channels, 1 if apart else channels, kernel, kernel))
        codes.flat[:len(mine)] = mine
        w = net.node("DequantizeLinear", codes.astype(np.int8), np.float32(1 / 64), np.int8(0))
        x = net.node("Conv", x, w, pads=[kernel // 2] * 4, group=channels if apart else 1)
        x = qdq(net, x, 0.5, -7)
    graph = load(net.model(x))
    return graph, graph.encode_inputs(np.float32(rng.standard_normal((2, *net.shape)) * 3))


def loads(program, memory):
    return [i for i in program.instructions if i.opcode == Opcode.LOAD and i.memory == memory]


@pytest.mark.parametrize("apart", [False, True], ids=["dense", "depthwise"])
def test_results_are_those_of_a_word_for_each_row(apart):
    graph, codes = network(apart=apart, channels=16 if apart else 12)
    program = on_chip(graph, codes, ARCH, 3)
    check_memory_plan(program)
    seen = {i.layer: i.narrow for i in program.instructions if i.opcode == Opcode.ARRAY}
    # layers take turns at the pools
    assert [seen[n] for n in range(4)] == [0, 3, 2, 3]


def test_weights_take_bytes_and_cycles_by_the_bits_of_their_numbers():
    graph, _ = network(kernel=1, channels=64, size=(1, 1))
    wide, narrow = (compile_graph(graph, arch) for arch in (PLAIN, ARCH))
    for n, part in enumerate((1, 2, 2, 2)):
        one, other = (sum(moved_bytes(i, ARCH) for i in loads(program, Memory.WEIGHT)
                          if i.layer == n) for program in (wide, narrow))
        assert one == part * other
    assert [i.words for i in loads(narrow, Memory.POOL)] == [16] * 3
    # a row's 8 weights are two beats of 32 bits, and each is used once: the bus bounds the network
    assert cycles(narrow).cycles < 0.8 * cycles(wide).cycles


def test_layers_with_the_same_weights_share_a_pool():
    graph, codes = network(same=True)
    program = on_chip(graph, codes, ARCH, 3)
    # four layers, two pools on the chip
    assert [i.base for i in loads(program, Memory.POOL)] == [16, 0] or [
        i.base for i in loads(program, Memory.POOL)] == [0, 16]


def test_a_pool_that_is_larger_than_what_it_saves_is_left_out():
    graph, _ = network(kernel=1, channels=8)
    layers = [Layer(n, conv, ARCH) for n, conv in enumerate(graph.layers)]
    assert all(layer.narrow == 0 and layer.weight_pool is None for layer in layers)


def test_a_narrower_width_comes_before_a_pool():
    graph, _ = network()
    arch = replace(ARCH, weight_widths=(4,))
    conv = graph.layers[1]
    few = replace(conv, weights=replace(conv.weights, images=conv.weights.images // 16))
    assert [Layer(0, item, arch).narrow for item in (conv, few)] == [2, 1]


def test_a_pool_of_another_layer_is_noticed():
    graph, _ = network()
    program = compile_graph(graph, ARCH)
    arrays = [n for n, i in enumerate(program.instructions)
              if i.opcode == Opcode.LOAD and i.memory == Memory.POOL]
    code = list(program.instructions)
    wrong = code[arrays[1]]
    code[arrays[1]] = replace(wrong, fields=wrong.fields | {"address": code[arrays[0]].address})
    with pytest.raises(MemoryPlanError, match="reads pool words that are not its own"):
        check_memory_plan(replace(program, instructions=code))


def test_which_layers_want_a_pool():
    graph, _ = network()
    [row] = (need for need in SAVINGS if need.field == "weight_pools")
    assert [row.value(conv, graph.tensors, PLAIN) for conv in graph.layers] == [0, 4, 4, 2]
    assert row.wanted(graph, PLAIN) == (4, 4)
    alone = replace(graph, layers=graph.layers[:2])
    assert row.wanted(alone, PLAIN) == (4,)
    assert row.wanted(replace(graph, layers=graph.layers[:1]), PLAIN) == ()
    few = replace(PLAIN, activation="int4", weight="int4")
    assert row.wanted(alone, few) == ()
