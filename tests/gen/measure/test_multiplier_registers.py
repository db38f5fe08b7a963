"""Registers that move into multipliers: which ones, what is left in the netlist, and which must
not."""

import pytest
from systolith.gen.measure.multiplier_registers import use_multiplier_registers

CLOCK, ENABLE = 2, 3
#: Of each bit: what its flip-flop takes and gives. Two bits a factor, and the product.
A, B, P = ([(number, number + 2) for number in (first, first + 1)] for first in (10, 20, 30))


def netlist(**changed):
    """A multiplier of 2 bits by 2 between flip-flops, those of B with an enable. A's first bit is
    read by a port of the module, too. `changed`: by name of a cell, its pins and parameters."""
    def cell(kind, inputs, outputs, **parameters):
        return {"type": kind, "parameters": parameters, "connections": inputs | outputs,
                "port_directions": dict.fromkeys(inputs, "input")
                | dict.fromkeys(outputs, "output")}

    def flipflop(bits, **enable):
        return cell("TRELLIS_FF", {"CLK": [CLOCK], "DI": [bits[0]], "LSR": ["0"]} | enable,
                    {"Q": [bits[1]]}, CLKMUX="CLK", CEMUX="CE" if enable else "1 ", REGSET="RESET")
    factors = {f"{port}{n}": [bits[n][1] if n < 2 else "0"]
               for port, bits in (("A", A), ("B", B)) for n in range(18)}
    cells = {"product": cell("MULT18X18D", factors,
                             {"P0": [P[0][0]], "P1": [P[1][0]], "P2": [40]}),
             "a0": flipflop(A[0]), "a1": flipflop(A[1]),
             "b0": flipflop(B[0], CE=[ENABLE]), "b1": flipflop(B[1], CE=[ENABLE]),
             "p0": flipflop(P[0]), "p1": flipflop(P[1])}
    for name, pins in changed.items():
        for pin, value in pins.items():
            kind = "parameters" if isinstance(value, str) else "connections"
            cells[name][kind][pin] = value
            if kind == "connections":
                cells[name]["port_directions"].setdefault(pin, "input")
    return {"cells": cells, "ports": {"out": {"bits": [P[0][1], P[1][1], A[0][1]]}}}


def test_the_multiplier_does_what_the_flipflops_did():
    module = netlist()
    assert use_multiplier_registers(module) == 1
    assert set(module["cells"]) == {"product", "a0"}        # somebody else reads a0
    pins, parameters = (module["cells"]["product"][what] for what in ("connections", "parameters"))
    assert [pins[pin] for pin in ("A0", "A1", "A2", "B0", "B1")] == [
        [10], [11], ["0"], [20], [21]]
    assert [pins[pin] for pin in ("P0", "P1", "P2")] == [[32], [33], [40]]
    assert {pin: pins[pin] for pin in ("CLK0", "CE0", "CE2", "RST0")} == {
        "CLK0": [CLOCK], "CE0": ["1"], "CE2": [ENABLE], "RST0": ["0"]}
    assert {name: parameters[f"REG_{name}_CE"] for name in ("INPUTA", "INPUTB", "OUTPUT")} == {
        "INPUTA": "CE0", "INPUTB": "CE2", "OUTPUT": "CE0"}
    assert all(parameters[f"REG_{name}_CLK"] == "CLK0" for name in ("INPUTA", "INPUTB", "OUTPUT"))
    directions = module["cells"]["product"]["port_directions"]
    assert {directions[pin] for pin in ("CLK0", "CE0", "CE2", "RST0")} == {"input"}
    assert use_multiplier_registers(module) == 0


@pytest.mark.parametrize("changed", [
    {"a0": {"LSR": [9]}}, {"a0": {"LSR": [9], "SRMODE": "ASYNC"}},
    {"b0": {"LSR": [9], "SRMODE": "LSR_OVER_CE"}}, {"p0": {"LSR": [9], "SRMODE": "LSR_OVER_CE"}},
    {"a0": {"LSR": [9], "SRMODE": "LSR_OVER_CE", "REGSET": "SET"}}, {"a0": {"CLK": [9]}},
    {"b0": {"CE": [9]}}, {"b1": {"CEMUX": "INV"}},
    {"a0": {"CE": [ENABLE], "CEMUX": "CE"}}, {"p0": {"REGSET": "SET"}},
    {"p0": {"CE": [9], "CEMUX": "CE"}}, {"p1": {"CLKMUX": "INV"}},
    {"p0": {"DI": [50]}, "p1": {"DI": [50]}}, {"p0": {"DI": [31]}}, {"product": {"A1": [60]}},
    {"product": {"B9": ["1"]}}], ids=str)
def test_what_is_more_than_registers_stays(changed):
    module = netlist(**changed)
    before = {name: (dict(cell["connections"]), dict(cell["parameters"]))
              for name, cell in module["cells"].items()}
    assert use_multiplier_registers(module) == 0
    assert {name: (cell["connections"], cell["parameters"])
            for name, cell in module["cells"].items()} == before


@pytest.mark.parametrize("mux", ["LSR", "INV"])
def test_a_factors_reset_becomes_a_lut(mux):
    """One for each flip-flop, although several bits of the factor are one's."""
    module = netlist(a1={"LSR": [9], "SRMODE": "LSR_OVER_CE", "LSRMUX": mux},
                     product={"A2": [A[1][1]]})
    assert use_multiplier_registers(module) == 1
    cells = module["cells"]
    assert set(cells) == {"product", "a0", "a1_LUT4_DI"}
    pins, lut = cells["product"]["connections"], cells["a1_LUT4_DI"]
    new, = lut["connections"].pop("Z")
    assert pins["A0"] == [A[0][0]] and pins["A1"] == pins["A2"] == [new]
    assert new not in {bit for name, cell in netlist()["cells"].items()
                       for bits in cell["connections"].values() for bit in bits}
    assert lut["connections"] == {"A": [A[1][0]], "B": [9], "C": ["0"], "D": ["0"]}
    # its value by A and B, whatever C and D are
    for row, value in enumerate(reversed(lut["parameters"]["INIT"])):
        one, reset = row & 1, row >> 1 & 1
        assert int(value) == (one and reset == (mux == "INV")), row


def test_a_product_that_is_a_factor_has_one_register():
    """Either the first multiplier's or the second one's."""
    module = netlist()
    module["cells"]["square"] = {
        "type": "MULT18X18D", "parameters": {}, "port_directions":
        {f"{port}{n}": "input" for port in "AB" for n in range(18)} | {"P0": "output"},
        "connections": {f"{port}{n}": [P[n][1] if n < 2 else "0"] for port in "AB"
                        for n in range(18)} | {"P0": [70]}}
    module["cells"]["last"] = {
        "type": "TRELLIS_FF", "parameters": {"CEMUX": "1 "}, "connections":
        {"CLK": [CLOCK], "DI": [70], "Q": [71]},
        "port_directions": {"CLK": "input", "DI": "input", "Q": "output"}}
    module["ports"] = {"out": {"bits": [71]}}
    assert use_multiplier_registers(module) == 1
    assert module["cells"]["product"]["connections"]["P0"] == [P[0][1]]
    assert module["cells"]["square"]["connections"]["A0"] == [P[0][1]]
    assert "REG_INPUTA_CLK" not in module["cells"]["square"]["parameters"]
