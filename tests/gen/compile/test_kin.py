"""What is done once for chips that differ in the depths of memories: the same as done for each."""

from dataclasses import replace

import pytest
from systolith.gen.compile import kin as module
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.kin import Kin, deeper, same_but_depths
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.memory_plan import MemoryPlanError, check_memory_plan
from systolith.sim.random.graphs import random_graph

CHIP = Arch(rows=4, columns=4, activation_depth=512, parameter_depth=64)
DEEP = {"activation_depth": 1024, "weight_depth": 2 * CHIP.weight_depth}


@pytest.fixture
def finished(monkeypatch):
    """The chips for which a stream has been finished."""
    chips = []

    def finish(code, sections, arch, layers):
        chips.append(arch)
        return original(code, sections, arch, layers)
    original = module.finish
    monkeypatch.setattr(module, "finish", finish)
    return chips


def test_programs_are_what_compiling_gives(finished):
    shared = 0
    for seed in range(12):
        kin, graph = Kin(), random_graph(CHIP, seed)[0]
        del finished[:]
        for arch in (CHIP, replace(CHIP, **DEEP), replace(CHIP, activation_depth=4096)):
            program = compile_graph(graph, arch, finish=kin.finish)
            assert program == compile_graph(graph, arch)
            kin.check(program)
            check_memory_plan(program)
        shared += 3 - len(finished)
    assert shared > 12                  # of 24


@pytest.mark.parametrize("changes", [{"activation_depth": 511}, {"queue_depth": 3}, {"rows": 8},
                                     {"token_bits": 6}, {"bus_bits": 32}, {"operand_depth": 64}])
def test_others_are_finished_and_proven_anew(finished, changes):
    kin, graph = Kin(), random_graph(CHIP, 3)[0]
    known = compile_graph(graph, CHIP, finish=kin.finish)
    kin.check(known)
    other = replace(CHIP, **changes)
    assert not deeper(other, CHIP)
    checked = []
    program = compile_graph(graph, other, finish=kin.finish)
    assert program == compile_graph(graph, other)
    kin.check(program, checked.append)
    assert finished == [CHIP, other] and checked == [program]


def test_what_differs_in_anything_is_proven_anew():
    kin, graph = Kin(), random_graph(CHIP, 3)[0]
    kin.check(compile_graph(graph, CHIP))
    program = compile_graph(graph, replace(CHIP, **DEEP))
    checked = []
    kin.check(program, checked.append)
    assert not checked                  # it is the same
    first = next(n for n, i in enumerate(program.instructions) if i.fields.get("words"))
    fewer = program.instructions[first].bare()
    fewer.fields["words"] += 1
    host, image = program.host, bytearray(program.image)
    image[-1] ^= 1
    others = [replace(program, instructions=[
        *program.instructions[:first], fewer, *program.instructions[first + 1:]]),
        replace(program, host=replace(host, peak=dict.fromkeys(host.peak, 0))),
        replace(program, image=bytes(image)),
        replace(program, window_bytes=program.window_bytes + 64)]
    for other in others:
        assert not same_but_depths(other, program)
        kin.check(other, checked.append)
    assert checked == others
    with pytest.raises(MemoryPlanError):
        check_memory_plan(others[1])


def test_what_was_not_proven_is_not_taken_for_proven():
    kin, graph = Kin(), random_graph(CHIP, 3)[0]
    program = compile_graph(graph, CHIP)
    wrong = replace(program, host=replace(
        program.host, peak=dict.fromkeys(program.host.peak, 0)))
    for _ in range(2):
        with pytest.raises(MemoryPlanError):
            kin.check(wrong)
