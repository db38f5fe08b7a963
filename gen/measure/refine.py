"""Annealing of what nextpnr has placed on an ECP5, by the delays that wires have after routing.

nextpnr's placers estimate a wire of 20 tiles at 4 ns and more, where its router needs 2.2, so that
they weigh the wrong connections; the last step of its placer "static" moves cells by three tiles at
most. `anneal.cpp`, compiled on first use, moves LUTs, flip-flops, carry chains, slices and tiles
further. Blocks of RAM, multipliers, pins, distributed RAM and wide multiplexers stay.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections import defaultdict
from importlib import resources
from pathlib import Path
from typing import Any

from systolith.gen.kit.cache import cache_folder
from systolith.gen.kit.processes import Processes, ToolError

from .block_sites import logic_tiles

__all__ = ["compiler", "place_of", "refine", "wire_delay"]

_BEL = re.compile(r"X(\d+)/Y(\d+)/(?:SLICE([ABCD])\.(K|FF)([01])$)?")
_LUT, _FLIP_FLOP, _OTHER = range(3)
_SLICES = "ABCD"
#: Places of a tile that distributed RAM is written through.
_WRITE_PLACES = (4, 5)
#: ns of an ECP5 of speed grade 6, from nextpnr's data: from the clock to an output, and setups.
_LAUNCH = {"TRELLIS_FF": 0.525, "MULT18X18D": 0.735, "DP16KD": 0.956}
_LATE = {"MULT18X18D": 4.5, "DP16KD": 5.8}      # without their output registers
_LUT_DELAY, _CARRY_IN, _CARRY_OUT, _CARRY, _LOCAL = 0.236, 0.447, 0.443, 0.036, 0.13
_SETUP = {"TRELLIS_FF": 0.0, "MULT18X18D": 0.095, "DP16KD": 0.251, "TRELLIS_RAMW": 0.0}
_ENABLE_SETUP = {"MULT18X18D": 0.252, "DP16KD": 0.34}
_RESET_SETUP, _WRITE_SETUP = 0.424, 0.392
#: ns that a wire to such a pin takes less than one to a LUT.
_LESS = {"LSR": 0.454, "CE": 0.126, "M": 0.156}
_WRITE_PINS = ("WD", "WAD0", "WAD1", "WAD2", "WAD3", "WRE")
_CLOCKS = ("CLK", "WCK")
#: LUTs that are distributed RAM, and those that its write ports stand in place of.
_MEMORY_MODES = ("DPRAM", "RAMW_BLOCK")


def compiler() -> str | None:
    """The C++ compiler that there is."""
    return next(filter(shutil.which, [os.environ.get("CXX") or "g++", "g++", "clang++"]), None)


def wire_delay(one: tuple[int, int], other: tuple[int, int]) -> float:
    """ns of a wire between tiles, as a rule; in `anneal.cpp` the same. Where it has n readers,
    0.069 * log(n) come to it."""
    def beyond(distance, near, middle, far):
        return (near * min(distance, 3) + middle * min(max(distance - 3, 0), 9)
                + far * max(distance - 12, 0))
    across, down = (abs(a - b) for a, b in zip(one, other, strict=True))
    return 0.767 + beyond(across, 0.093, 0.068, 0.061) + beyond(down, 0.136, 0.058, 0.048)


def place_of(cell: dict[str, Any]) -> tuple[int, int, int, int]:
    """(kind, x, y, place in the tile) of a placed cell."""
    found = _BEL.match(cell["attributes"]["NEXTPNR_BEL"])
    assert found is not None
    x, y = int(found[1]), int(found[2])
    if found[3] is None or cell["type"] not in ("TRELLIS_COMB", "TRELLIS_FF"):
        return _OTHER, x, y, 0
    return (_LUT if found[4] == "K" else _FLIP_FLOP, x, y,
            2 * _SLICES.index(found[3]) + int(found[5]))


def refine(module: dict[str, Any], part: str, seed: int, processes: Processes) -> None:
    """Move the cells of a module of nextpnr's JSON, as placed on an ECP5, and not routed.

    `module` is changed. Raises ToolError where the annealer fails.
    """
    placed = _Placed(module, part)
    with tempfile.TemporaryDirectory(prefix="systolith-anneal-") as name:
        code, text = processes.run([str(_program(processes)), str(seed)], cwd=name,
                                   input=placed.text())
    lines = [line for line in text.splitlines() if " of " not in line]
    if code or len(lines) != len(placed.cells):
        raise ToolError(f"annealing failed: {text.strip()[-200:]}", text)
    placed.move(tuple(map(int, line.split())) for line in lines)


def _program(processes):
    """The compiled annealer."""
    source = resources.files("systolith.gen.measure").joinpath("anneal.cpp").read_bytes()
    command = compiler()
    if command is None:
        raise ToolError("annealing a placement needs a C++ compiler: install g++")
    key = hashlib.sha256(source + command.encode()).hexdigest()[:24]
    program = cache_folder("anneal") / key
    if not program.is_file():
        with tempfile.TemporaryDirectory(prefix=".anneal-", dir=program.parent) as name:
            file, made = Path(name) / "anneal.cpp", Path(name) / "anneal"
            file.write_bytes(source)
            code, text = processes.run([command, "-std=c++17", "-O2", "-o", str(made), str(file)],
                                       cwd=name)
            if code:
                raise ToolError(f"{command} failed on the annealer", text)
            made.replace(program)
    return program


class _Placed:
    """The cells and nets of a placed module, and their text for the annealer."""

    def __init__(self, module, part):
        self.cells = list(module["cells"].values())
        self.nets = module["netnames"]
        self.part = part
        self.places = [place_of(cell) for cell in self.cells]
        self.drivers, self.readers = {}, defaultdict(list)
        for number, cell in enumerate(self.cells):
            for pin, bits in cell["connections"].items():
                for bit in bits:
                    if isinstance(bit, str):
                        continue
                    if cell["port_directions"][pin] == "output":
                        self.drivers[bit] = number, pin
                    else:
                        self.readers[bit].append((number, pin))

    def move(self, places):
        """Cells stand at these (x, y, place) from now on."""
        for cell, before, (x, y, place) in zip(self.cells, self.places, places, strict=True):
            if before[0] != _OTHER and before[1:] != (x, y, place):
                cell["attributes"]["NEXTPNR_BEL"] = (
                    f"X{x}/Y{y}/SLICE{_SLICES[place // 2]}."
                    f"{'K' if before[0] == _LUT else 'FF'}{place % 2}")

    def text(self):
        memories = {place[1:3] for cell, place in zip(self.cells, self.places, strict=True)
                    if cell["type"] == "TRELLIS_RAMW" or _mode(cell) == "DPRAM"}
        tiles = logic_tiles(self.part)
        lines = [f"{1 + max(x for x, _ in tiles)} {1 + max(y for _, y in tiles)} {len(tiles)}",
                 *(f"{x} {y} {int((x, y) in memories)}" for x, y in tiles),
                 str(len(memories) * len(_WRITE_PLACES)),
                 *(f"{_LUT} {x} {y} {place}" for x, y in sorted(memories)
                   for place in _WRITE_PLACES),
                 str(len(self.cells))]
        tile_keys: dict[Any, int] = {}
        slice_keys: dict[Any, int] = {}
        macros = self._macros()
        for cell, place, macro in zip(self.cells, self.places, macros, strict=True):
            keys = (_number(tile_keys, _tile_key(cell)), _number(slice_keys, _slice_key(cell))
                    ) if place[0] == _FLIP_FLOP else (-1, -1)
            lines.append(" ".join(map(str, (*place, int(_mode(cell) == "CCU2"), *keys, macro))))
        lines += self._net_lines()
        return "\n".join(lines) + "\n"

    def _macros(self):
        """For each cell the number of what moves together with it; -1: it stays."""
        above = list(range(len(self.cells)))

        def top(number):
            while above[number] != number:
                number = above[number]
            return number
        stays = {number for number, (cell, place) in enumerate(zip(
            self.cells, self.places, strict=True)) if place[0] == _OTHER
            or _mode(cell) in _MEMORY_MODES}
        for bit, (driver, _) in self.drivers.items():
            for number, pin in self.readers.get(bit, ()):
                if _direct(self.cells[number], pin):
                    above[top(number)] = top(driver)
                    if pin in ("FXA", "FXB", "F1"):
                        stays.add(number)
        fixed = {top(number) for number in stays}
        macros: dict[int, int] = {}
        return [-1 if (one := top(number)) in fixed else _number(macros, one)
                for number in range(len(self.cells))]

    def _net_lines(self):
        nets: dict[Any, int] = {}
        for bit, (number, _) in self.drivers.items():
            cell = self.cells[number]
            if cell["type"] in ("DCCA", "EHXPLLL") or _constant(cell):
                continue
            if any(pin not in _CLOCKS for _, pin in self.readers.get(bit, ())):
                nets[bit] = len(nets)
        lines = [str(len(nets))]
        for bit in nets:
            number, pin = self.drivers[bit]
            readers = [one for one in self.readers[bit] if one[1] not in _CLOCKS]
            lines.append(f"{number} {_launch(self.cells[number], pin)} {len(readers)}")
            for reader, pin in readers:
                cell = self.cells[reader]
                direct, setup = _direct(cell, pin), _setup(cell, pin)
                arcs = [f"{nets[out]} {delay}" for output, delay in _arcs(cell, pin, setup)
                        for out in cell["connections"].get(output, ()) if out in nets]
                adjust = (_LOCAL if pin == "DI" else 0) if direct else -_LESS.get(pin, 0)
                lines.append(f"{reader} {adjust} {setup} {int(direct)} {len(arcs)} "
                             + " ".join(arcs))
        return lines


def _mode(cell):
    return cell["parameters"].get("MODE", "LOGIC")


def _constant(cell):
    """Whether a LUT has no input."""
    return cell["type"] == "TRELLIS_COMB" and not any(
        cell["connections"].get(pin) for pin in ("A", "B", "C", "D", "FCI"))


def _number(numbers, key):
    return numbers.setdefault(key, len(numbers))


def _net(cell, pin):
    return (cell["connections"].get(pin) or [None])[0]


def _tile_key(cell):
    options, reset = cell["parameters"], _net(cell, "LSR")
    return (_net(cell, "CLK"), options.get("CLKMUX"), reset,
            options.get("LSRMUX") if reset is not None else None, options.get("SRMODE"))


def _slice_key(cell):
    options = cell["parameters"]
    return _net(cell, "CE"), options.get("CEMUX"), options.get("GSR")


def _direct(cell, pin):
    """Whether a pin is connected within a tile, or along a chain of carries."""
    return pin in ("FCI", "FXA", "FXB", "F1") or (pin == "DI" and cell["type"] == "TRELLIS_FF")


def _launch(cell, pin):
    """ns from the clock to an output; -1: from inputs."""
    kind, options = cell["type"], cell["parameters"]
    if kind == "TRELLIS_COMB":
        return -1
    if (kind == "DP16KD" and options.get(f"REGMODE_{pin[2]}") != "OUTREG") or (
            kind == "MULT18X18D" and options.get("REG_OUTPUT_CLK", "NONE") == "NONE"):
        return _LATE[kind]
    return _LAUNCH.get(kind, 0)


def _setup(cell, pin):
    """ns before the clock; -1: no register."""
    kind = cell["type"]
    if kind == "TRELLIS_COMB":
        return -1 if pin not in _WRITE_PINS else _WRITE_SETUP if pin == "WRE" else 0.0
    if kind == "TRELLIS_FF" and pin == "LSR":
        return _RESET_SETUP
    return _ENABLE_SETUP[kind] if kind in _ENABLE_SETUP and pin.startswith("CE") else (
        _SETUP.get(kind, -1))


def _arcs(cell, pin, setup):
    """(output, ns) that follow from an input of a LUT."""
    if cell["type"] != "TRELLIS_COMB" or setup >= 0:
        return ()
    carry = pin == "FCI"
    return (("F", _CARRY_OUT if carry else _LUT_DELAY), ("FCO", _CARRY if carry else _CARRY_IN),
            ("OFX", _LUT_DELAY))
