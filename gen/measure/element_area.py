"""Area of one small module, a processing element or an array of them: logic only, best of flows.

Where `area` keeps a chip's hierarchy and lets the tools use what a part has, this here is for
comparing circuits: no block RAM, LUT RAM, shift registers, I/O; DSP blocks only where asked for.
Targets have several flows of commands; the one that gives the smallest result counts.

- `lut`: LUT cells of any size, each one. xc7: `bare_carry` are the carry positions in use whose
  own LUT is not: silicon spends that LUT as a wire, so that lut + bare_carry bounds what a placer
  can reach. ecp5: `slice_lut` adds the two LUT4 that each CCU2C takes the place of.
- `slices`: xc7: no fewer than ceil(lut / 4) and ceil(ff / 8) slices hold it: a lower bound.
- `transistors`: asic: Yosys' count for static CMOS gates.
- `um2`: asic: cell area with a liberty file of standard cells.
"""

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from systolith.gen.kit.errors import UserError
from systolith.hw.spec.structures import TARGETS

from .yosys import ICE40_SCALES, AreaError, run_yosys

__all__ = ["ELEMENT_TARGETS", "LIBERTY", "element_area", "figures_of",
           "find_liberty", "merit"]

ELEMENT_TARGETS = tuple(TARGETS)
#: A library of standard cells, where Debian's package qflow-tech-osu018 installs it.
LIBERTY = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")

_GATES = "AND,NAND,OR,NOR,XOR,XNOR,MUX,AOI3,OAI3,AOI4,OAI4"
_LUT = {f"LUT{n}" for n in range(1, 7)} | {"LUT6_2", "SB_LUT4", "INV"}
_FLIPFLOP = ("FDRE", "FDSE", "FDCE", "FDPE", "TRELLIS_FF", "SB_DFF", "$_DFF", "$_SDFF")
_CARRY = {"CARRY4", "CCU2C", "SB_CARRY"}
_WIDE_MUX = {"MUXF7", "MUXF8", "PFUMX", "L6MUX21"}
_MODULE = re.compile(r"^\s*module \\?(\S+?)(?:\s|\(|$)", re.MULTILINE)
_DSP = {"DSP48E1", "MULT18X18D", "SB_MAC16"}


def _flows(target, top, dsp, flatten, liberty):
    """Flow name -> commands that follow on reading the source."""
    if target == "xc7":
        synth = ("synth_xilinx -family xc7 -nobram -nolutram -nosrl -noiopad -noclkbuf"
                 + ("" if dsp else " -nodsp") + (" -flatten" if flatten else "") + f" -top {top}")
        # "area" maps again with every LUT size at the same cost and no delay target.
        return {"default": [synth],
                "area": [f"{synth} -run begin:map_luts", "opt_expr -mux_undef -noclkinv",
                         "abc9 -luts 6:1 -D 1000000", "clean",
                         "techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v "
                         "-D LUT_WIDTH=6",
                         "xilinx_dffopt", "opt_lut_ins -tech xilinx", "clean"]}
    if target == "ecp5":
        synth = ("synth_ecp5 -nobram -nolutram" + ("" if dsp else " -nodsp")
                 + ("" if flatten else " -noflatten") + f" -top {top}")
        return {"default": [synth], "area": [f"{synth} -nowidelut"]}
    if target == "ice40":
        return {"default": [*[ICE40_SCALES] * dsp, "synth_ice40 -nobram" + (" -dsp" if dsp else "")
                            + ("" if flatten else " -noflatten") + f" -top {top}"]}
    synth = "synth" + (" -flatten" if flatten else "") + f" -top {top}"
    # Standard cells have no flip-flops that begin as anything.
    legal = ["setattr -unset init w:*", "dfflegalize -cell $_DFF_P_ x"]
    flows = {"default": [synth, *legal, "abc -g cmos", "opt_clean"],
             "area": [synth, *legal, f"abc -g {_GATES}", "opt_clean"]}
    if liberty:
        flows["liberty"] = [synth, legal[0], f'dfflibmap -liberty "{liberty}"',
                            f'abc -liberty "{liberty}"', "opt_clean"]
    return flows


def merit(target: str) -> str:
    """The figure by which flows of a target are compared."""
    return {"ecp5": "slice_lut", "asic": "transistors"}.get(target, "lut")


def find_liberty(path: Path | str | None = None) -> Path | None:
    """The liberty file to use: `path`, else Debian's if it is there, else None.

    Raises UserError where `path` is no file.
    """
    if path is not None:
        if not Path(path).is_file():
            raise UserError(f"{path}: there is no such liberty file")
        return Path(path).absolute()
    return LIBERTY if LIBERTY.is_file() else None


def element_area(verilog: str, top: str, target: str, *, dsp: bool = False, flatten: bool = True,
                 liberty: Path | None = None) -> dict[str, Any]:
    """Map the module `top` of the text `verilog`.

    Parameters
    ----------
    target : str
        One of ELEMENT_TARGETS.
    dsp : bool
        Let Yosys use DSP blocks.
    flatten : bool
        False: modules are mapped one by one, each once however often it stands in the design.
    liberty : path or None
        asic: also measure `um2` with these cells.

    Returns a dict: the figures (see the module), `flow` that was best, `flows`: what each reached,
    `cells` by type. Raises AreaError.
    """
    if target not in ELEMENT_TARGETS:
        raise UserError(f"target must be one of {', '.join(ELEMENT_TARGETS)}, not {target!r}")
    found, extra = {}, {}
    for name, commands in _flows(target, top, dsp, flatten, liberty).items():
        if name == "liberty":
            report, _ = _run(verilog, top, commands, target, flattened=flatten, liberty=liberty)
            extra["um2"] = round(float(report["area"]), 1)
        else:
            report, modules = _run(verilog, top, commands, target, flattened=flatten)
            found[name] = _figures(report, modules, top, target)
    key = merit(target)
    best = min(found, key=lambda name: found[name][key])
    if not flatten:
        # Mapping LUTs by itself, Yosys drops the flip-flops inside some kept modules; LUTs agree.
        extra["ff"] = max(figures["ff"] for figures in found.values())
    return found[best] | extra | {
        "flow": best, "flows": {name: figures[key] for name, figures in found.items()}}


def _run(verilog, top, commands, target, *, flattened, liberty=None):
    """(statistics of the whole design, modules of the netlist by name)."""
    with tempfile.TemporaryDirectory(prefix="systolith-element-") as folder:
        source, stat, written = (Path(folder) / name for name in
                                 ("design.v", "stat.json", "netlist.json"))
        source.write_text(verilog)
        mine = " ".join(_MODULE.findall(verilog) if not flattened else [top])
        option = f' -liberty "{liberty}"' if liberty else " -tech cmos" if target == "asic" else ""
        run_yosys([f'read_verilog -sv "{source}"', f"hierarchy -check -top {top}", *commands,
                   f"select {mine}", f'write_json -selected "{written}"', "select -clear",
                   f'tee -q -o "{stat}" stat -json{option}'], stat)
        report = json.loads(stat.read_text())["design"]
        return report, json.loads(written.read_text())["modules"]


def figures_of(cells: Mapping[str, int], target: str) -> dict[str, Any]:
    """The figures of a count of cells by type; without transistors and bare carry."""
    def total(wanted):
        return sum(number for cell, number in cells.items() if wanted(cell))
    figures = {"ff": total(lambda cell: cell.startswith(_FLIPFLOP))}
    if target != "asic":
        figures = {"lut": total(_LUT.__contains__), "carry": total(_CARRY.__contains__), **figures,
                   "wide_mux": total(_WIDE_MUX.__contains__), "dsp": total(_DSP.__contains__)}
    if target == "xc7":
        figures["slices"] = max(-(-figures["lut"] // 4), -(-figures["ff"] // 8))
    if target == "ecp5":
        figures["slice_lut"] = figures["lut"] + 2 * figures["carry"]
    return figures | {"cells": dict(sorted(cells.items()))}


def _figures(report, modules, top, target):
    cells = {name: number for name, number in report["num_cells_by_type"].items()
             if name != "$scopeinfo"}
    if target == "asic":
        number = str(report["estimated_num_transistors"])
        # A plus sign: some cells were not counted, be it the notes on where modules stood.
        if number.endswith("+") and "$scopeinfo" not in report["num_cells_by_type"]:
            raise AreaError(f"Yosys knows no transistors of some of {', '.join(sorted(cells))}")
        return {"transistors": int(number.rstrip("+")), **figures_of(cells, target)}
    if target == "xc7":
        return {"bare_carry": _bare_carry(modules, top), **figures_of(cells, target)}
    return figures_of(cells, target)


def _bare_carry(modules, top):
    """Positions of all CARRY4 cells that are used while no LUT drives their S."""
    module = modules[top]
    from_lut, read = set(), set()
    for port in module["ports"].values():
        if port["direction"] != "input":
            read.update(port["bits"])
    for cell in module["cells"].values():
        for pin, bits in cell["connections"].items():
            direction = cell["port_directions"].get(pin)
            if direction != "output":
                read.update(bits)
            elif cell["type"] in _LUT:
                from_lut.update(bits)
    bare = 0
    for cell in module["cells"].values():
        if cell["type"] == "CARRY4":
            pins = cell["connections"]
            used = [n for n in range(4) if read & {pins["O"][n], pins["CO"][n]}]
            bare += sum(pins["S"][n] not in from_lut for n in range(max(used, default=-1) + 1))
        elif cell["type"] in modules:
            bare += _bare_carry(modules, cell["type"])
    return bare
