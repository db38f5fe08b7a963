"""Multipliers of the ECP5 with their own registers in use.

Yosys leaves the registers before and after a product in logic cells. Then a word goes all the way
to a DSP block, through its multiplier (3.9 ns) and back within one cycle. Here these registers move
into the blocks, in a mapped and flat netlist.
"""

import itertools
import re
from collections import Counter
from typing import Any

__all__ = ["use_multiplier_registers"]


def use_multiplier_registers(module: dict[str, Any]) -> int:
    """Move registers into multipliers; the number of multipliers that have changed.

    `module` is a module of Yosys' JSON, as mapped for the ECP5, and is changed. A multiplier
    changes where all bits of both factors come from flip-flops, or are constant 0, and flip-flops
    are the only readers of all bits of the product that are read at all. Those of each have one
    clock, one enable or none (the product's none), and 0 in the beginning. A product's have no
    reset; where some of a factor's without an enable do (synthesis makes one of bits that are 0 in
    one of two cases), a LUT before the multiplier takes its place. Flip-flops of a factor stay
    where somebody else reads them, too.
    """
    cells = module["cells"]
    multipliers = {name: cell for name, cell in cells.items() if cell["type"] == "MULT18X18D"
                   and all(value == "NONE" for parameter, value in cell["parameters"].items()
                           if re.fullmatch("REG_.*_CLK", parameter))}
    if not multipliers:
        return 0
    drivers: dict[Any, str] = {}
    reader: dict[Any, tuple[str, str]] = {}         # the last one
    count: Counter[Any] = Counter(bit for port in module["ports"].values() for bit in port["bits"])
    for name, cell in cells.items():
        for pin, bits in cell["connections"].items():
            for bit in bits:
                if cell["port_directions"][pin] == "input":
                    reader[bit] = name, pin
                    count[bit] += 1
                else:
                    drivers[bit] = name

    changed = 0
    fresh = itertools.count(1 + max(bit for cell in cells.values()
                                    for bits in cell["connections"].values()
                                    for bit in bits if isinstance(bit, int)))
    before: set[str] = set()
    for name, cell in multipliers.items():
        factors = [_registers_before(cells, cell, port, drivers) for port in "AB"]
        product = _registers_after(cells, cell, reader, count)
        if None in factors or not product or len(
                {control[0] for _, control in (*factors, product)}) > 1 or product[1][1]:
            continue
        _move(cells, cell, factors, product, count, fresh)
        drivers |= {cell["connections"][pin][0]: name for pin in product[0]}
        before.update(flipflop for found, _ in factors for flipflop in found.values())
        changed += 1
    for name in before & set(cells):
        if not count[cells[name]["connections"]["Q"][0]]:
            del cells[name]
    return changed


def _registers_before(cells, cell, port, drivers):
    """({pin: flip-flop} of the factor's bits, control); None where they are no such register."""
    found, controls = {}, set()
    for number in range(18):
        pin = f"{port}{number}"
        bit, = cell["connections"][pin]
        if bit == "0":
            continue
        if bit not in drivers or (control := _control(cells[drivers[bit]], resets=True)) is None:
            return None
        found[pin] = drivers[bit]
        controls.add(control)
    return (found, controls.pop()) if len(controls) == 1 else None


def _registers_after(cells, cell, reader, count):
    """({pin: flip-flop} of the product's bits that are read, control); None likewise."""
    found, controls = {}, set()
    for number in range(36):
        pin = f"P{number}"
        for bit in cell["connections"].get(pin, ()):
            if not count[bit]:
                continue
            name, at = reader.get(bit, ("", ""))
            if count[bit] > 1 or at != "DI" or (control := _control(cells[name])) is None:
                return None
            found[pin] = name
            controls.add(control)
    return (found, controls.pop()) if len(controls) == 1 else None


def _control(cell, resets=False):
    """(clock, enable or None) of a flip-flop that has no reset and is 0 in the beginning; None for
    other cells. `resets`: with a synchronous reset and no enable, too."""
    pins, parameters = cell["connections"], cell["parameters"]
    if (cell["type"] != "TRELLIS_FF" or parameters.get("CLKMUX", "CLK") != "CLK"
            or parameters.get("REGSET", "RESET") != "RESET"):
        return None
    # (Yosys puts a space after a text that could be taken for a number)
    mux, enable = parameters.get("CEMUX", "CE").strip(), pins.get("CE", ["1"])[0]
    enables = mux != "1" and enable != "1"
    if _resets(cell) and not (resets and not enables
                              and parameters.get("SRMODE") == "LSR_OVER_CE"
                              and parameters.get("LSRMUX", "LSR") in ("LSR", "INV")):
        return None
    if not enables:
        return pins["CLK"][0], None
    return (pins["CLK"][0], enable) if mux == "CE" else None


def _resets(flipflop):
    """Whether a flip-flop has a reset."""
    return flipflop["connections"].get("LSR", ["0"]) != ["0"]


def _taken_over(cells, name, fresh, count):
    """The bit that a flip-flop takes over at the clock's edge; where it has a reset, the output of
    a LUT that is made for it. `fresh`: numbers of new bits."""
    cell = cells[name]
    bit, = cell["connections"]["DI"]
    if not _resets(cell):
        return bit
    made = f"{name}_LUT4_DI"
    if made not in cells:
        reset, = cell["connections"]["LSR"]
        # A and not B, or A and B
        rows = "0010" if cell["parameters"].get("LSRMUX", "LSR") == "LSR" else "1000"
        cells[made] = {
            "hide_name": 1, "type": "LUT4", "parameters": {"INIT": 4 * rows}, "attributes": {},
            "port_directions": dict.fromkeys("ABCD", "input") | {"Z": "output"},
            "connections": {"A": [bit], "B": [reset], "C": ["0"], "D": ["0"],
                            "Z": [next(fresh)]}}
        count.update((bit, reset))
    return cells[made]["connections"]["Z"][0]


def _move(cells, cell, factors, product, count, fresh):
    """Use the registers of a multiplier in place of flip-flops; those of the product go."""
    pins, parameters, directions = (
        cell[what] for what in ("connections", "parameters", "port_directions"))
    controls = {"CLK0": product[1][0], "CE0": "1", "RST0": "0"}
    for number, (port, (found, (_, enable))) in enumerate(zip("AB", factors, strict=True), 1):
        for pin, name in found.items():
            count[pins[pin][0]] -= 1
            pins[pin] = [_taken_over(cells, name, fresh, count)]
            count[pins[pin][0]] += 1
        parameters |= {f"REG_INPUT{port}_CLK": "CLK0", f"REG_INPUT{port}_RST": "RST0",
                       f"REG_INPUT{port}_CE": "CE0" if enable is None else f"CE{number}"}
        if enable is not None:
            controls[f"CE{number}"] = enable
    for pin, name in product[0].items():
        pins[pin] = list(cells.pop(name)["connections"]["Q"])
    parameters |= {"REG_OUTPUT_CLK": "CLK0", "REG_OUTPUT_CE": "CE0", "REG_OUTPUT_RST": "RST0"}
    for pin, bit in controls.items():
        pins[pin], directions[pin] = [bit], "input"
