"""The order of the stream: units keep theirs, loads come ahead, and limits have a way out."""

from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.compile import emit
from systolith.gen.compile.alloc import ALIGNMENT, Sections
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.tokens import outstanding
from systolith.gen.kit.errors import UserError
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Memory, Opcode, Unit
from systolith.sim.machine.access import accesses
from systolith.sim.machine.races import find_races, find_stall

from .test_compile import SMALL, assert_computes, chain


def test_every_unit_keeps_its_order(monkeypatch):
    seen = []

    def spy(instructions, used, arch):
        result = order(instructions, used, arch)
        seen.append((instructions, [instructions[n] for n in result]))
        return result
    order = emit.interleave
    monkeypatch.setattr(emit, "interleave", spy)
    compile_graph(chain((8, 12, 10), *({"out": 13, "kernel": 3},) * 2),
                  replace(SMALL, activation_depth=200))
    (before, after), = seen
    assert before != after
    for unit in Unit:
        assert [id(i) for i in before if i.unit == unit] == [
            id(i) for i in after if i.unit == unit]


def test_a_store_follows_its_post():
    code = compile_graph(chain((8, 12, 10), {"out": 13, "kernel": 3}), SMALL).instructions
    stores = [n for n, i in enumerate(code) if i.opcode == Opcode.STORE]
    assert stores and all(code[n - 1].opcode == Opcode.POST and code[n - 1].destination == 1
                          for n in stores)


def test_weights_of_the_next_layer_are_loaded_during_this_one():
    code = compile_graph(chain((16, 16, 16), *({"out": 16, "kernel": 3},) * 3),
                         load_chip("sim-16x16-int8")).instructions
    for layer in (1, 2):
        last = max(n for n, i in enumerate(code)
                   if i.opcode == Opcode.ARRAY and i.layer == layer - 1)
        first = min(n for n, i in enumerate(code) if i.opcode == Opcode.LOAD
                    and i.memory == Memory.WEIGHT and i.layer == layer)
        assert first < last


@pytest.mark.parametrize("base, order", [(0, [0, 1, 2]), (3, [0, 1, 2]), (4, [0, 2, 1])])
def test_words_are_loaded_anew_when_they_have_been_read(base, order):
    """Not before; words that nothing reads at once."""
    load = Instruction(Opcode.LOAD, {"memory": Memory.WEIGHT, "words": 4})
    code = [load, Instruction(Opcode.ARRAY, {"height": 4, "out_x": 8, "out_y": 8}),
            Instruction(Opcode.LOAD, load.fields | {"base": base})]
    assert emit.interleave(code, [accesses(i, SMALL) for i in code], SMALL) == order


@pytest.mark.parametrize("base, order", [(0, [0, 1, 2, 3, 4]), (8, [0, 1, 4, 2, 3])])
def test_words_are_not_loaded_anew_while_their_reader_waits_for_its_unit(base, order):
    loads = [Instruction(Opcode.LOAD, {"memory": Memory.WEIGHT, "words": 4, "base": n})
             for n in (0, 4, base)]
    arrays = [Instruction(Opcode.ARRAY, {"height": 4, "out_x": 8, "out_y": 8, "weight_base": n})
              for n in (4, 0)]
    code = [*loads[:2], *arrays, loads[2]]
    assert emit.interleave(code, [accesses(i, SMALL) for i in code], SMALL) == order


def test_programs_that_run_too_far_ahead_for_the_counters_do_not():
    graph = chain((8, 12, 10), *({"out": 13, "kernel": 3},) * 2)
    free = compile_graph(graph, SMALL)
    limit = (outstanding(free.instructions, SMALL) - 1).bit_length() - 1
    held = compile_graph(graph, replace(SMALL, token_bits=limit))
    assert held.instructions[1:] != free.instructions[1:]
    assert find_races(held.instructions, SMALL) == []
    assert find_stall(held.instructions, SMALL) is None
    codes = {"in": np.random.default_rng(1).integers(0, 256, (1, 8, 12, 10))}
    assert_computes(held, graph, codes, 2)


def test_what_fits_no_field_is_refused_with_the_layer():
    layer = Layer(0, chain((1, 5, 5), {"out": 1, "kernel": 1}).layers[0], SMALL)
    code = [(Instruction(Opcode.ARRAY, {"kernel_x": 2, "stride_kx": 2047, "x_start": 9}), None)]
    text = r"^layer 'conv0' \(ONNX nodes node0\) does not fit the chip's instructions: x runs from"
    with pytest.raises(UserError, match=text):
        emit.finish(code, Sections("code", "weights", "parameters"), SMALL, [layer])


def test_a_window_over_4_gib_is_refused():
    sections = Sections("code", "weights", "parameters", "spill")
    sections.add("spill", 1 << 32)
    with pytest.raises(UserError, match=r"^the network needs 4294967424 bytes of external memory"):
        emit.finish([], sections, SMALL, [])


def test_a_window_that_more_address_bits_would_reach_says_how_many():
    whole = Sections("code")
    whole.add("code", 2 * SMALL.instruction_bytes)
    for beyond, way_out in ((0, "; set bus.address_bits to 32 or more$"),
                            (ALIGNMENT, r"addresses \d+$")):
        sections = Sections("code", "weights")
        sections.add("weights", (1 << 32) - whole.close() + beyond)
        with pytest.raises(UserError, match=way_out):
            emit.finish([], sections, replace(SMALL, address_bits=20), [])
