"""Weights that fit fewer bits than the chip's share words of memory (`buffers.weight_widths`)."""

from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.layer import Layer
from systolith.gen.importer.reader import load
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Memory, Opcode
from systolith.hw.spec.loops import moved_bytes
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.memory_plan import check_memory_plan

from ...onnx_exact import integer_network, on_chip, qdq

ARCH = Arch(rows=8, columns=8, post_lanes=4, weight_widths=(6, 4, 2), depthwise=True, bus_bits=32)
#: Bits of the weights of each layer, and the value of ARRAY's field `narrow` for them.
BITS, NARROW = (8, 6, 4, 2), (0, 1, 2, 3)


def network(seed=0, kernel=3, channels=16, apart=False, size=(6, 5)):
    rng = np.random.default_rng(seed)
    net, x = integer_network(rng, (channels, *size))
    for bits in BITS:
        low, high = -1 << bits - 1, (1 << bits - 1) - 1
        codes = rng.integers(low, high + 1, (channels, 1 if apart else channels, kernel, kernel))
        codes.flat[:2] = low, high
        w = net.node("DequantizeLinear", codes.astype(np.int8), np.float32(1 / 64), np.int8(0))
        x = net.node("Conv", x, w, pads=[kernel // 2] * 4, group=channels if apart else 1)
        x = qdq(net, x, 0.5, -7)
    graph = load(net.model(x))
    return graph, graph.encode_inputs(np.float32(rng.standard_normal((2, *net.shape)) * 3))


@pytest.mark.parametrize("apart", [False, True], ids=["dense", "depthwise"])
def test_results_are_those_of_a_word_for_each_row(apart):
    graph, codes = network(apart=apart)
    program = on_chip(graph, codes, ARCH, 3)
    check_memory_plan(program)
    seen = {i.layer: i.narrow for i in program.instructions if i.opcode == Opcode.ARRAY}
    assert tuple(seen[n] for n in range(4)) == NARROW


def loaded(program):
    """Bytes of weights that each layer loads."""
    found = dict.fromkeys(range(4), 0)
    for i in program.instructions:
        if i.opcode == Opcode.LOAD and i.memory == Memory.WEIGHT:
            found[i.layer] += moved_bytes(i, program.arch)
    return found


def test_weights_take_bytes_and_cycles_by_their_bits():
    graph, _ = network(kernel=1, channels=64, size=(1, 1))
    wide, narrow = (compile_graph(graph, arch)
                    for arch in (replace(ARCH, weight_widths=()), ARCH))
    for n, bits in enumerate(BITS):
        assert 8 * loaded(narrow)[n] == bits * loaded(wide)[n]
        assert 8 * narrow.host.layers[n].weight_bits == bits * wide.host.layers[n].weight_bits
    # a row's 8 weights are two beats of 32 bits, and each is used once: the bus bounds the network
    assert cycles(narrow).cycles < 0.8 * cycles(wide).cycles


def test_the_width_with_the_fewest_words_is_taken():
    graph, _ = network()
    arch = replace(ARCH, rows=3, columns=3, post_lanes=3, weight_widths=(7, 4))
    layers = [Layer(n, conv, arch) for n, conv in enumerate(graph.layers)]
    # 3 rows of 7 bits take 3 words as those of 8 do; of 4 bits, 2
    assert [(layer.narrow, layer.pass_words) for layer in layers] == [
        (0, 3), (0, 3), (2, 2), (2, 2)]
