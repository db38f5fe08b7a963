"""Area of a core as an ASIC: gates and flip-flops by part, in cells of a library or without one.

The core's memories are macros (`macros`), counted apart. Without a library, logic is mapped to
simple gates, and `gates` are their transistors in static CMOS, four for each NAND2. With a liberty
file, it is mapped to that library's cells, `um2` is the sum of their areas, and `gates` that sum
in NAND2 cells of the library. The hierarchy is kept, as for FPGAs: no buffers, no clock tree, no
fill, nothing of layout.
"""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from systolith.gen.chip.verilog import core_verilog
from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import Arch

from .area import built_for
from .hierarchy import PARTS, attribute, instances, leaves
from .liberty import Liberty, read_liberty
from .macros import Macro, black_boxes, compositions, with_macros
from .yosys import memories_in_flipflops, run_yosys

__all__ = ["AsicArea", "asic_area", "mapped"]

#: Transistors in static CMOS, as Yosys' `stat -tech cmos` has them; of a flip-flop, 16.
_TRANSISTORS = {
    "$_NOT_": 2, "$_BUF_": 1, "$_AND_": 6, "$_NAND_": 4, "$_OR_": 6, "$_NOR_": 4, "$_XOR_": 12,
    "$_XNOR_": 12, "$_MUX_": 12, "$_AOI3_": 6, "$_OAI3_": 6, "$_AOI4_": 8, "$_OAI4_": 8,
    "$_DFF_P_": 16}
_GATES = "AND,NAND,OR,NOR,XOR,XNOR,MUX,AOI3,OAI3,AOI4,OAI4"
#: No part of an ASIC: a register's value before reset, and notes of Yosys.
_NOTES = {"$scopeinfo"}


@dataclass
class AsicArea:
    """Area of a core as an ASIC.

    `parts`: part -> cells by type, macros included; `pe`, `pe_count`, `in_flipflops`, `seconds` as
    of `area.Area`; `macros`: those that are used; `memory_bits`: bits of the memories that are made
    of them; `liberty`: the library, None for simple gates.
    """
    parts: dict
    pe: Counter
    pe_count: int
    macros: Sequence[Macro]
    liberty: Liberty | None = None
    in_flipflops: list = field(default_factory=list)
    seconds: float = 0.0
    memory_bits: int = 0
    target = "asic"

    def figures(self, cells: Mapping[str, int]) -> dict[str, Any]:
        """`gates` (NAND2), `ff`, `um2` of logic, `macro_bits`, `macro_um2` of a count of cells; a
        figure that is unknown is None."""
        sizes = {macro.name: macro for macro in self.macros}
        there = {name: times for name, times in cells.items() if name in sizes}
        logic = {name: times for name, times in cells.items() if name not in sizes}
        areas = [sizes[name].area for name in there]
        figures: dict[str, Any] = {
            "macro_bits": sum(times * sizes[name].words * sizes[name].bits
                              for name, times in there.items()),
            "macro_um2": None if None in areas else round(sum(
                times * (sizes[name].area or 0) for name, times in there.items()), 1)}
        if self.liberty is None:
            total = sum(times * _TRANSISTORS[name] for name, times in logic.items())
            return {"gates": round(total / 4), "ff": logic.get("$_DFF_P_", 0), "um2": None,
                    **figures}
        um2 = sum(times * self.liberty.areas[name] for name, times in logic.items())
        nand2 = self.liberty.nand2
        return {"gates": None if nand2 is None else round(um2 / nand2),
                "ff": sum(times for name, times in logic.items()
                          if name in self.liberty.flipflops),
                "um2": round(um2, 1), **figures}

    @property
    def cells(self) -> Counter:
        return sum(self.parts.values(), Counter())

    @property
    def total(self) -> dict[str, Any]:
        return self.figures(self.cells)

    def rows(self) -> list[list]:
        """Rows for `text_table`."""
        names = ["gates", "ff", "um2", "macro_bits", "macro_um2"]
        title = {"gates": "NAND2", "ff": "FF", "um2": "um2", "macro_bits": "macro bits",
                 "macro_um2": "macro um2"}

        def row(label, cells):
            figures = self.figures(cells)
            return [label, *("-" if figures[name] is None else f"{figures[name]:,}"
                             for name in names)]
        parts = [row(f"{name} ({self.pe_count})" if name == "processing elements" else name, cells)
                 for name, cells in sorted(
                     self.parts.items(), key=lambda item: PARTS.index(item[0]))]
        return [["part", *map(title.__getitem__, names)], row("one processing element", self.pe),
                *parts, row("**total**", self.cells)]

    def to_json(self) -> dict[str, Any]:
        def part(cells):
            return {**self.figures(cells), "cells": dict(sorted(cells.items()))}
        return {
            "target": self.target,
            "library": None if self.liberty is None else self.liberty.name,
            "total": part(self.cells),
            "parts": {name: part(cells) for name, cells in self.parts.items()},
            "processing_element": {**part(self.pe), "count": self.pe_count},
            "macros": {macro.name: {"count": self.cells[macro.name], "um2": macro.area}
                       for macro in self.macros},
            "memory_bits": self.memory_bits,
            "memories_in_flipflops": self.in_flipflops, "seconds": round(self.seconds, 2)}


#: Picoseconds that ABC aims at where it maps for speed: less than it can reach.
_FAST = 100


def _mapping(liberty: Liberty | None, top: str, fast: str | None = None) -> list[str]:
    """Yosys commands from Verilog, with black boxes of the macros, to mapped cells. `fast`: a file
    of constraints, with which ABC sizes and buffers for speed; None: smallest area."""
    first = [f"synth -run begin:fine -top {top}",
             # the value before reset, which FPGAs load; here the reset gives it
             "setattr -unset init w:*", f"synth -run fine:check -top {top}",
             # a memory that is read through a register brings that register's value back
             "setattr -unset init w:*"]
    if liberty is None:
        return [*first, "dfflegalize -cell $_DFF_P_ x", f"abc -g {_GATES}", "opt_clean"]
    extra = f' -constr "{fast}" -D {_FAST}' if fast else ""
    return [*first, f'dfflibmap -liberty "{liberty.path}"',
            f'abc -liberty "{liberty.path}"{extra}',
            "setundef -zero", "opt_clean"]


def asic_area(arch: Arch, *, liberty: Path | str | None = None,
              macros: Sequence[Macro] | None = None, log: Path | str | None = None,
              timeout: float | None = None) -> AsicArea:
    """The area of the core of `arch` as an ASIC; see the module.

    `liberty`: a file of standard cells; `macros`: those that its memories may be of; `log`,
    `timeout` as of `area.measure`. Raises UserError, AreaError.
    """
    start = time.monotonic()
    library = None if liberty is None else read_liberty(liberty)
    arch = built_for(arch, "asic", dsp="post")
    core = core_verilog(arch)
    text, used = with_macros(core, arch, macros, timeout=timeout)
    modules, written = mapped(text, used, library, log=log, timeout=timeout)
    parts: dict[str, Counter] = {name: Counter() for name in PARTS}
    names = {macro.name for macro in used}
    attribute(modules, "systolith_core", "core top", 1, parts, names.__contains__)
    left = memories_in_flipflops(written)
    bits = sum(made.words * made.bits * (
        module == "systolith_core" or instances(modules, "systolith_core", module))
               for (module, name), made in compositions(core, arch, macros).items()
               if not any(text.startswith(f"{module}.{name}:") for text in left))
    return AsicArea(
        parts={name: cells for name, cells in parts.items() if cells},
        pe=leaves(modules, "systolith_pe"),
        pe_count=instances(modules, "systolith_core", "systolith_pe"), macros=used,
        liberty=library, in_flipflops=left, memory_bits=bits,
        seconds=time.monotonic() - start)


def mapped(text: str, macros: Sequence[Macro], liberty: Liberty | None, *,
           top: str = "systolith_core", netlist: Path | None = None,
           after: Iterable[str] = (), fast: bool = False,
           log: Path | str | None = None, timeout: float | None = None
           ) -> tuple[dict[str, dict[str, int]], str]:
    """(module -> {cell or module: number}, Yosys' log) of a design with macros, mapped.

    `netlist`: where the mapped Verilog goes, after the commands `after`. `fast`: cells are sized
    and buffered for speed, which needs a library with a buffer; else for area.
    """
    if liberty is not None and not liberty.flipflops:
        raise UserError(f"{liberty.path}: has no flip-flops; a library of standard cells is needed")
    with tempfile.TemporaryDirectory(prefix="systolith-asic-") as name:
        folder = Path(name)
        stat = folder / "stat.json"
        (folder / "design.v").write_text(text)
        (folder / "boxes.v").write_text(black_boxes(macros))
        drive = folder / "drive"
        if fast and liberty is not None and liberty.buffer is None:
            raise UserError(f"{liberty.path}: has no buffer; timing needs a library with one")
        if fast and liberty is not None:
            drive.write_text(f"set_driving_cell {liberty.buffer}\n")
        commands = ["read_verilog -sv design.v", "read_verilog -sv -lib boxes.v",
                    *_mapping(liberty, top, str(drive) if drive.exists() else None)]
        if liberty is not None:
            commands.insert(0, f'read_liberty -lib -ignore_miss_func "{liberty.path}"')
        if netlist is not None:
            commands += [*after, f'write_verilog -noattr -noexpr -nohex -simple-lhs "{netlist}"']
        written = run_yosys([*commands, f'tee -q -o "{stat}" stat -json'], stat, log, timeout)
        found = json.loads(stat.read_text())["modules"]
    boxes = {macro.name for macro in macros} | set(liberty.areas if liberty else ())
    return {name.removeprefix("\\"): {
        cell: number for cell, number in content["num_cells_by_type"].items()
        if cell not in _NOTES} for name, content in found.items()
        if name.removeprefix("\\") not in boxes}, written
