"""What each layer costs: all cycles shared out, what bounds a layer, bytes that are moved."""

import pytest
from systolith.gen.compile.compile import compile_graph
from systolith.gen.report.profile import layer_windows, profile, work
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.instruction import Instruction, sealed
from systolith.hw.spec.isa import INSTRUCTION_BYTES, Destination, Opcode, Unit
from systolith.hw.spec.program import Program
from systolith.sim.machine.cycles import cycles

from ...hosts import stated
from ...networks import random_network

ARCH = Arch(rows=4, columns=4, weight_depth=256, activation_depth=4096, bus_bits=64)
LOAD, ARRAY, POST, STORE = (1 << unit for unit in Unit)


def made_of(code, layers=1, macs=100):
    code = sealed([Instruction(Opcode.BEGIN, fields={"identity": identity(ARCH)}), *code,
                   Instruction(Opcode.END)])
    text = b"".join(item.encode().to_bytes(INSTRUCTION_BYTES, "little") for item in code)
    return Program(ARCH, code, text, 0, 1 << 16, stated(layers, macs=macs))


def costs(code, latency=8, **kwargs):
    program = made_of(code, **kwargs)
    timing = cycles(program, latency)
    return profile(program, timing), timing


@pytest.mark.parametrize("seed", range(4))
def test_every_cycle_is_counted_once(seed):
    arch = Arch(rows=5, columns=6, lanes=1, activation_depth=300, weight_depth=80,
                accumulator_depth=40, parameter_depth=16, operand_depth=100, bus_bits=32)
    program = compile_graph(random_network(seed, arch, layers=4)[0], arch)
    timing = cycles(program)
    found = profile(program, timing)
    assert len(found) == len(program.host.layers)
    assert sum(layer.cycles for layer in found) == timing.cycles
    for layer in found:
        assert sum(layer.charged.values()) == layer.cycles
        assert all(0 <= count <= layer.cycles for count in layer.at_work.values())
        assert layer.charged["latency"] <= layer.cycles - max(layer.at_work.values())
    # what each layer's array does, and what the bus brings, is what was planned
    assert sum(layer.at_work["array"] for layer in found) == pytest.approx(
        sum(layer.array_cycles for layer in program.host.layers), abs=2 * arch.rows)
    beats = sum(sum(layer.loaded_bytes.values()) for layer in found) // arch.beat_bytes
    loading = timing.activity["load"]["running"]
    assert beats <= loading <= beats + 4 * len(program.instructions)
    writing = timing.activity["store"]["running"]
    assert sum(layer.stored_bytes for layer in found) // arch.beat_bytes <= writing


def test_without_array_all_cycles_are_the_last_layers():
    load = Instruction(Opcode.LOAD, fields={"words": 30})
    (cost,), timing = costs([load, load])
    assert cost.cycles == timing.cycles > 0 and cost.utilization > 0
    assert cost.at_work["array"] == 0 < cost.at_work["load"] and cost.bound != "array"
    program = made_of([load, load])
    assert layer_windows(program, cycles(program, 8)) == [(0, timing.cycles, 0)]


def test_without_instructions_of_a_unit_there_is_no_window():
    program = made_of([])
    assert layer_windows(program, cycles(program, 8)) == []


def test_work_is_what_the_counters_call_running():
    arch = Arch(rows=3, columns=4, activation_depth=300, weight_depth=80, accumulator_depth=40)
    program = compile_graph(random_network(3, arch, layers=3)[0], arch)
    timing = cycles(program, 5)
    for unit, intervals in work(program, timing).items():
        length = int((intervals[:, 1] - intervals[:, 0]).sum())
        running = timing.activity[unit.name.lower()]["running"]
        assert 0 < length <= running + sum(code.unit == unit for code in program.instructions)


BOUND = {
    "array": [Instruction(Opcode.ARRAY, fields={"kernel_y": 5, "out_y": 20, "out_x": 20}),
              Instruction(Opcode.LOAD, fields={"words": 30})],
    "load": [Instruction(Opcode.LOAD, fields={"words": 3000}, signal=ARRAY),
             Instruction(Opcode.ARRAY, wait=LOAD, fields={"out_y": 20, "out_x": 20})],
    "post": [Instruction(Opcode.ARRAY, fields={"out_y": 20}, signal=POST),
             Instruction(Opcode.POST, wait=ARRAY, fields={"out_y": 20, "out_x": 20}, signal=ARRAY),
             Instruction(Opcode.ARRAY, wait=POST, fields={})],
    "store": [Instruction(Opcode.ARRAY, fields={"out_x": 10}, signal=POST),
              Instruction(Opcode.POST, wait=ARRAY,
                          fields={"out_y": 10, "out_x": 10, "raw": 1,
                                  "destination": Destination.STORE}),
              Instruction(Opcode.STORE, fields={"raw": 1, "rows": 10, "items": 10, "burst": 1})],
    "latency": [Instruction(Opcode.LOAD, fields={"words": 1}, signal=ARRAY),
                Instruction(Opcode.ARRAY, wait=LOAD, fields={})],
}


@pytest.mark.parametrize("bound", BOUND)
def test_what_bounds_a_layer(bound):
    (layer,), timing = costs(BOUND[bound], latency=100 if bound == "latency" else 8)
    assert layer.bound == bound, layer
    assert layer.cycles == timing.cycles
    assert layer.utilization == pytest.approx(100 / 16 / timing.cycles)


def test_layers_end_with_their_last_pixel_and_bytes_are_theirs():
    code = [
        Instruction(Opcode.LOAD, layer=1, fields={"rows": 2, "words": 7, "memory": 1}),
        Instruction(Opcode.ARRAY, layer=0, fields={"out_y": 20, "out_x": 20}),
        Instruction(Opcode.ARRAY, layer=1, fields={"out_y": 10, "out_x": 20}, signal=POST),
        Instruction(Opcode.POST, layer=1, wait=ARRAY,
                    fields={"out_x": 9, "destination": Destination.STORE}),
        Instruction(Opcode.STORE, layer=1, fields={"items": 9, "item_stride": 8})]
    (first, second), timing = costs(code, layers=2)
    assert second.loaded_bytes == {"input": 0, "weights": 14 * ARCH.weight_bytes,
                                      "parameters": 0}
    assert second.stored_bytes == 9 * ARCH.group_bytes
    assert not any(first.loaded_bytes.values()) and not first.stored_bytes
    assert (first.at_work["array"], second.at_work["array"]) == (400, 200)
    assert first.cycles == timing.instructions[2][0] + 400 - 1
