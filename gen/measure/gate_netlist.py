"""A core after synthesis, as Verilog that simulates: what Yosys makes of it, in place of what was
written.

Cells are those of a family as Yosys models them, or gates, or a library's. Memories of iCE40 are
its blocks of RAM; those of ECP5 and xc7, whose blocks Yosys has no model of, stay what they were
written as; of gates they are macros, by their behaviour. The text is flat: each cell is replaced by
its model.
"""

import re
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from systolith.gen.chip.verilog import core_verilog
from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import Arch

from .area import built_for, synthesis
from .asic_area import mapped
from .liberty import read_liberty
from .macros import Macro, models, with_macros
from .yosys import run_yosys

__all__ = ["NETLISTS", "core_netlist", "family_netlist", "with_models"]

#: What a netlist can be of.
NETLISTS = ("gates", "ecp5", "ice40", "xc7")
_TOP = "systolith_core"
#: Of Yosys' synthesis of a family: the first step that maps memories, and the first after them.
_MEMORY_STEPS = {"ecp5": ("map_ram", "map_gates"), "xc7": ("map_memory", "fine")}
_FOLDERS = {"xc7": "xilinx"}
#: Behaviour of a cell of which Yosys has the ports only: a multiplier without registers, which is
#: how its mapping uses it.
_MULTIPLIER = f"""
  wire signed [18:0] a = {{SIGNEDA & A17, {", ".join(f"A{n}" for n in range(17, -1, -1))}}};
  wire signed [18:0] b = {{SIGNEDB & B17, {", ".join(f"B{n}" for n in range(17, -1, -1))}}};
  wire signed [37:0] product = a * b;
  assign {{{", ".join(f"P{n}" for n in range(35, -1, -1))}}} = product[35:0];
endmodule
"""


def core_netlist(arch: Arch, kind: str, *, liberty: Path | str | None = None,
                 macros: Sequence[Macro] | None = None) -> str:
    """The module systolith_core of `arch` after synthesis for one of NETLISTS, with cells' models.

    `liberty`, `macros`: of gates, the library's cells and memory macros, as of
    `asic_area.asic_area`. Raises UserError, AreaError.
    """
    if kind not in NETLISTS:
        raise UserError(f"a netlist is one of {', '.join(NETLISTS)}, not {kind!r}")
    if kind != "gates":
        if liberty is not None or macros is not None:
            raise UserError("a library and macros go with a netlist of gates only")
        built = built_for(arch, kind)
        return with_models(family_netlist(core_verilog(built), kind, pe_dsp=built.pe_dsp), kind)
    text, used = with_macros(core_verilog(built_for(arch, "asic", dsp="post")), arch, macros)
    library = None if liberty is None else read_liberty(liberty)
    with tempfile.TemporaryDirectory(prefix="systolith-netlist-") as name:
        netlist = Path(name) / "netlist.v"
        mapped(text, used, library, netlist=netlist)
        return with_models(netlist.read_text() + models(used), "gates", liberty=liberty)


def family_netlist(verilog: str, family: str, *, top: str = _TOP, pe_dsp: bool = True) -> str:
    """A design in Verilog mapped to the cells of a family, without their models."""
    commands = synthesis(family, top, pe_dsp=pe_dsp)
    if family in _MEMORY_STEPS:
        first, after = _MEMORY_STEPS[family]
        split = []
        for line in commands:
            command, _, steps = line.partition(" -run ")
            if command.startswith("synth_") and steps.partition(":")[0] in ("", "begin"):
                split += [f"{command} -run begin:{first}",
                          f"{command} -run {after}:{steps.partition(':')[2]}"]
            else:
                split.append(line)
        commands = split
    with tempfile.TemporaryDirectory(prefix="systolith-netlist-") as name:
        folder = Path(name)
        (folder / "design.v").write_text(verilog)
        run_yosys(["read_verilog -sv design.v", *commands, "delete t:$scopeinfo",
                   "write_verilog -noattr netlist.v"], folder / "netlist.v")
        return (folder / "netlist.v").read_text()


def with_models(netlist: str, kind: str, *, top: str = _TOP,
                liberty: Path | str | None = None) -> str:
    """The text of a netlist with the models of its cells in place of them, flat."""
    commands, cells = ["read_verilog -sv netlist.v"], ["t:[A-Z]*", "t:$*"]
    if kind == "gates":
        if liberty is not None:
            commands.append(f'read_liberty -ignore_miss_func "{Path(liberty).absolute()}"')
            cells = [f"t:{name}" for name in read_liberty(liberty).areas]
        else:
            commands.append("read_verilog -defer +/simcells.v")
    else:
        # only what is used is compiled: memories of initial values take long
        commands.append("read_verilog -sv -defer -D NO_ICE40_DEFAULT_ASSIGNMENTS -D NO_INCLUDES "
                        f"+/{_FOLDERS.get(kind, kind)}/cells_sim.v")
    with tempfile.TemporaryDirectory(prefix="systolith-netlist-") as name:
        path = Path(name)
        if kind == "ecp5":
            boxes = files("pyosys").joinpath("share", "ecp5", "cells_bb.v").read_text()
            ports, _, _ = boxes[boxes.index("module MULT18X18D("):].partition("endmodule")
            (path / "multiplier.v").write_text(ports + _MULTIPLIER)
            commands.append("read_verilog -defer multiplier.v")
        (path / "netlist.v").write_text(netlist)
        # cells without names, so that what is in them has none: the text is a tenth, which compiles
        run_yosys([*commands, f"hierarchy -check -top {top}", f"rename -hide {' '.join(cells)}",
                   "proc", "flatten", "opt_expr", "opt_clean", "memory -nomap", "opt_clean",
                   "write_verilog -noattr flat.v"], path / "flat.v")
        text = (path / "flat.v").read_text()
    if left := sorted(set(re.findall(r"^  (\\?[A-Z]\w+) +(?:#\(|\S+ \()", text, re.MULTILINE))):
        raise UserError(f"there is no model of {left[0].strip()}, which the netlist has")
    return text
