"""Registers that move into block RAM: which ones, what is left in the netlist, and which ones must
not."""

import pytest
from systolith.gen.measure.output_registers import use_output_registers

CLOCK, WORDS, FOLLOWED = 2, (10, 11), (20, 21)


def netlist(**changed):
    """A block of RAM whose port B gives two bits to two flip-flops, and these to two ports of the
    module; `changed` are pins and parameters of the second flip-flop."""
    def cell(kind, inputs, outputs, **parameters):
        return {"type": kind, "parameters": parameters, "connections": inputs | outputs,
                "port_directions": dict.fromkeys(inputs, "input")
                | dict.fromkeys(outputs, "output")}

    def flipflop(number):
        return cell("TRELLIS_FF", {"CLK": [CLOCK], "DI": [WORDS[number]], "LSR": ["0"]},
                    {"Q": [FOLLOWED[number]]}, CLKMUX="CLK", CEMUX="1 ", REGSET="RESET")
    inputs = {f"{name}{port}": [level] for port in "AB" for name, level in (
        ("CE", "1"), ("OCE", "1"), ("RST", "0"), ("CLK", CLOCK))}
    cells = {
        "ram": cell("DP16KD", inputs, {"DOA0": [5], "DOB0": [WORDS[0]], "DOB1": [WORDS[1]]},
                    REGMODE_A="NOREG", REGMODE_B="NOREG"),
        "one": flipflop(0), "other": flipflop(1)}
    for name, value in changed.items():
        cell = cells["ram" if name in inputs or name.startswith("DATA") else "other"]
        cell["parameters" if isinstance(value, str) else "connections"][name] = value
        if not isinstance(value, str):
            cell["port_directions"].setdefault(name, "input")
    return {"cells": cells, "ports": {"out": {"bits": list(FOLLOWED)}}}


def test_the_block_gives_what_the_flipflops_gave():
    module = netlist()
    assert use_output_registers(module) == 2
    assert list(module["cells"]) == ["ram"]
    ram = module["cells"]["ram"]
    assert (ram["connections"]["DOB0"], ram["connections"]["DOB1"]) == ([20], [21])
    assert ram["connections"]["DOA0"] == [5]            # nobody reads it
    assert ram["parameters"] == {"REGMODE_A": "NOREG", "REGMODE_B": "OUTREG"}
    assert use_output_registers(module) == 0


@pytest.mark.parametrize("changed", [
    {"CLK": [3]}, {"CLKMUX": "INV"}, {"CEMUX": "CE"}, {"REGSET": "SET"}, {"LSR": [9]},
    {"DI": [30]}, {"CEB": [9]}, {"OCEB": ["0"]}, {"RSTB": [9]}], ids=str)
def test_what_does_more_than_to_follow_stays(changed):
    """The whole port, as its register is one."""
    module = netlist(**changed)
    if "DI" in changed:                                 # the second bit is read by a port instead
        module["ports"]["more"] = {"bits": [WORDS[1]]}
    assert use_output_registers(module) == 0
    assert set(module["cells"]) == {"ram", "one", "other"}
    assert module["cells"]["ram"]["connections"]["DOB0"] == [WORDS[0]]
    assert module["cells"]["ram"]["parameters"]["REGMODE_B"] == "NOREG"


def test_a_word_that_somebody_reads_early_stays():
    module = netlist()
    module["ports"]["early"] = {"bits": [WORDS[0]]}
    assert use_output_registers(module) == 0


def test_a_port_of_both_halves_stays():
    assert use_output_registers(netlist(DATA_WIDTH_B=f"{36:032b}")) == 0
    assert use_output_registers(netlist(DATA_WIDTH_B=f"{18:032b}")) == 2


def test_an_enable_that_is_always_on_is_none():
    assert use_output_registers(netlist(CEMUX="CE", CE=["1"])) == 2
