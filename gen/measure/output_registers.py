"""Block RAM of the ECP5 with its own output register in use.

The output of a block of RAM is some 5.7 ns late after the clock; that of the register inside the
block, 1 ns. Yosys never uses that register: the hardware's own registers after the memory stay in
logic cells. Here they move into the blocks, in a mapped and flat netlist.
"""

from collections import defaultdict
from typing import Any

__all__ = ["use_output_registers"]

_BITS = range(18)


def use_output_registers(module: dict[str, Any]) -> int:
    """Move registers that follow block RAM into the blocks; the number of flip-flops that go.

    `module` is a module of Yosys' JSON, as mapped for the ECP5, and is changed. A port's register
    is used where a flip-flop is the only reader of each of its outputs that is read at all, and
    these do nothing but follow: the port's clock, no enable, no reset, 0 in the beginning.
    """
    cells = module["cells"]
    if all(cell["type"] != "DP16KD" for cell in cells.values()):
        return 0
    readers: dict[Any, list[tuple[str, str]]] = defaultdict(list)
    for name, cell in cells.items():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] == "input":
                for bit in bits:
                    readers[bit].append((name, pin))
    for port in module["ports"].values():
        for bit in port["bits"]:
            readers[bit].append(("", "port"))

    moved = 0
    for cell in list(cells.values()):
        if cell["type"] != "DP16KD":
            continue
        for port in "AB":
            moved += _move(cells, cell, port, readers)
    return moved


def _move(cells, cell, port, readers):
    """Use the register of one port of a block where it can be; the flip-flops that go."""
    pins, parameters = cell["connections"], cell["parameters"]
    # In words of 36 bits one port reads through the outputs of both: the tools disagree on which
    # port's settings its register then has.
    if int(parameters.get(f"DATA_WIDTH_{port}", "0"), 2) > 18:
        return 0
    if parameters.get(f"REGMODE_{port}", "NOREG") != "NOREG" or any(
            pins.get(name) != [level] for name, level in (
                (f"CE{port}", "1"), (f"OCE{port}", "1"), (f"RST{port}", "0"))):
        return 0
    registers = {}
    for number in _BITS:
        pin = f"DO{port}{number}"
        found = [reader for bit in pins.get(pin, ()) for reader in readers[bit]]
        if not found:
            continue
        if len(found) > 1 or found[0][1] != "DI" or not _follows(
                cells[found[0][0]], pins[f"CLK{port}"]):
            return 0
        registers[pin] = found[0][0]
    for pin, name in registers.items():
        pins[pin] = cells.pop(name)["connections"]["Q"]
    if registers:
        parameters[f"REGMODE_{port}"] = "OUTREG"
    return len(registers)


def _follows(cell, clock):
    """Whether a cell is a flip-flop that takes its input over with each edge of the clock."""
    pins, parameters = cell["connections"], cell["parameters"]
    return (cell["type"] == "TRELLIS_FF" and pins["CLK"] == clock
            and parameters.get("CLKMUX", "CLK") == "CLK"
            and parameters.get("REGSET", "RESET") == "RESET"
            # (Yosys puts a space after a text that could be taken for a number)
            and (parameters.get("CEMUX", "").strip() == "1" or pins.get("CE") == ["1"])
            and pins.get("LSR", ["0"]) == ["0"])
