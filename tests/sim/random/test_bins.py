"""Which values of fields are told apart."""

import pytest
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode
from systolith.sim.random.bins import bins

ARCH = Arch(rows=4, columns=4, activation_depth=512, accumulator_depth=64, weight_depth=64)


def value(opcode, name, number, **others):
    return bins(Instruction(opcode, {name: number, **others}), ARCH)[name][1]


@pytest.mark.parametrize("opcode, name, values", [
    (Opcode.ARRAY, "base", {0: "least", 1: "between", 255: "between", 256: "most", 511: "most"}),
    (Opcode.ARRAY, "stride_ox", {-2048: "least", -1024: "least", -1023: "between", 0: "between",
                                 1023: "between", 1024: "most"}),
    (Opcode.ARRAY, "out_x", {1: "least", 2: "between", 63: "between", 64: "most"}),
    (Opcode.POST, "low", {-128: "least", -127: "between", 126: "between", 127: "most"}),
    (Opcode.POST, "pooling", {0: "0", 3: "3"}),
    (Opcode.STORE, "burst", {0: "0", 1: "1"}),
])
def test_values_of_a_field(opcode, name, values):
    assert {number: value(opcode, name, number) for number in values} == values


def test_only_what_the_chip_executes_is_wanted():
    names = bins(Instruction(Opcode.POST, {}), ARCH)
    assert "operand" not in names and "table" not in names and "signs" not in names
    assert names["destination"] == ({"0", "1"}, "0")
    more = Arch(rows=4, columns=4, operand_depth=64)
    assert bins(Instruction(Opcode.POST, {}), more)["destination"][0] == {"0", "1", "2", "3"}
    assert "gain" not in bins(Instruction(Opcode.POST, {}), more)          # there is no operand
    assert "gain" in bins(Instruction(Opcode.POST, {"operand": 1}), more)
    assert bins(Instruction(Opcode.BEGIN, {"identity": 1}), ARCH) == {}
    tokens = bins(Instruction(Opcode.LOAD, wait=4, layer=4095), ARCH)
    assert tokens["wait.post"][1] == "1" and tokens["wait.array"][1] == "0"
    assert "wait.load" not in tokens and tokens["layer"][1] == "most"
