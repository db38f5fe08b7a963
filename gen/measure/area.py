"""Area by Yosys: LUTs, flip-flops, DSP blocks and block RAMs, in total and by part of the chip.

The hierarchy is kept while mapping, so that each module is mapped once, however many instances it
has: a 32 x 32 array takes the time of one processing element. Savings across the borders of
modules, which a flattened design might allow, are not included.

How cells are counted:

- `lut`: ECP5: each LUT4 one, each CCU2C (carry) two, each TRELLIS_DPR16X4 (LUT RAM) six - four
  that store, two that its write port takes. xc7: each LUT1 to LUT6 and inverter one; LUT RAM and
  shift registers the LUTs that they take; carry chains none, they share the LUTs that drive them.
  ice40: each SB_LUT4 one; carries none, they share a LUT's logic cell.
  gowin: each LUT1 to LUT4 and ALU (carry) one, each RAM16SDP (LUT RAM) six; multiplexers none.
- `ff`: flip-flops of any kind.
- `dsp`: MULT18X18D, DSP48E1, SB_MAC16, MULT18X18 (MULT9X9 is a half, MULT36X36
  four). Processing elements whose products have at most 10 bits
  (short floats, int4) get none.
- `bram`: DP16KD (18 kbit), RAMB36E1 (36 kbit; RAMB18E1 is a half), SB_RAM40_4K (4 kbit);
  Gowin's SP, SDP and DP (18 kbit). iCE40's SPRAM is not counted.
"""

import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from systolith.gen.kit.errors import UserError
from systolith.hw.board.parts import Part
from systolith.hw.spec import structures
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.records import FLAT, OPTIONAL, Record
from systolith.hw.spec.structures import structure_of

from .hierarchy import PARTS, attribute, instances, leaves
from .yosys import ICE40_SCALES, memories_in_flipflops, run_yosys

__all__ = ["FIGURES", "TARGETS", "Area", "Figures", "built_for", "check_target", "count", "measure",
           "synthesis"]

#: Targets for which a whole chip can be mapped.
TARGETS = (*(target for target in structures.TARGETS if target != "asic"), "gowin")
#: Targets whose processing elements are built like those of another target.
_ELEMENTS_OF = {"gowin": "ecp5"}


def synthesis(target: str, top: str, *, dsp: bool = True, pe_dsp: bool = True) -> list[str]:
    """Yosys commands from Verilog to mapped cells; see `measure`."""
    # the family's own cells, such as a PLL, are known from synthesis on, which checks for others
    commands = [f"hierarchy -top {top}"]
    if dsp and not pe_dsp:
        commands += [f"{name} systolith_pe" for name in (
            "proc", "opt_expr", "opt_clean", "wreduce", "peepopt", "opt_clean")]
        commands += ["alumacc systolith_pe/t:$mul",
                     "maccmap systolith_pe/t:$macc systolith_pe/t:$macc_v2"]
    if target == "xc7":
        command = f"synth_xilinx -family xc7 -noiopad -noclkbuf -top {top}"
        return [*commands, command if dsp else f"{command} -nodsp"]
    if target == "ice40":
        # large memories with one port go into SPRAM: a board's own, never a core's
        command = f"synth_ice40 -noflatten -spram -top {top}"
        return [*commands, *([ICE40_SCALES, f"{command} -dsp"] if dsp else [command])]
    if target == "gowin":
        command = f"synth_gowin -family gw2a -noflatten -noiopads -top {top}"
        return [*commands, command if dsp else f"{command} -nodsp"]
    # Without wide multiplexers, and with the older mapper, the same logic takes up to a third
    # fewer LUT4 in a third of the time.
    command = f"synth_ecp5 -noflatten -nowidelut -top {top}" + ("" if dsp else " -nodsp")
    return [*commands, f"{command} -run begin:map_luts", "abc -lut 4", "clean",
            f"{command} -run map_cells:"]


_LUT = {
    "LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6, "SB_LUT4": 1, "INV": 1, "LUT6_2": 1,
    **{f"LUT{n}": 1 for n in (1, 2, 3, 5, 6)},
    "SRL16E": 1, "SRLC16E": 1, "SRLC32E": 1, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4,
    "RAM32M": 4, "RAM64M": 4, "ALU": 1,
    "RAM16SDP1": 6, "RAM16SDP2": 6, "RAM16SDP4": 6,
}
_FF = re.compile(r"TRELLIS_FF|SB_DFF\w*|FD[RSCP]E(_1)?|DFFN?[RSPC]?E?")
_DSP = {"MULT18X18D": 1, "DSP48E1": 1, "SB_MAC16": 1, "MULT9X9": 0.5, "MULT18X18": 1,
        "MULT36X36": 4}
_BRAM = {"DP16KD": 1, "PDPW16KD": 1, "RAMB36E1": 1, "RAMB18E1": 0.5, "SB_RAM40_4K": 1,
         **{f"{name}{wide}": 1 for name in ("SP", "SDPB", "DPB") for wide in ("", "X9", "X9B")},
         "SDPX9B": 1, "DPX9B": 1}

@dataclass(frozen=True)
class Figures(Record):
    """What areas are compared by: LUTs, flip-flops, DSP blocks and block RAMs, in the units of the
    target; of small ones perhaps a half."""
    lut: float
    ff: float
    dsp: float
    bram: float

    @classmethod
    def of(cls, part: Part) -> Self:
        """What a part has."""
        return cls(part.lut, part.ff, part.dsp, part.bram)


#: Their names.
FIGURES = tuple(item.name for item in fields(Figures))


@dataclass(frozen=True)
class _PartData(Record):
    figures: Figures = field(metadata=FLAT)
    cells: dict[str, int]
    count: int | None = field(default=None, metadata=OPTIONAL)

    @classmethod
    def of(cls, cells, times=None):
        return cls(count(cells), dict(sorted(cells.items())), times)


@dataclass(frozen=True)
class _AreaData(Record):
    target: str
    figures: Figures = field(metadata=FLAT)
    total: _PartData
    parts: dict[str, _PartData]
    processing_element: _PartData | None
    memories_in_flipflops: tuple[str, ...]
    seconds: float


@dataclass
class Area:
    """Area of a design, in total and by part.

    Attributes
    ----------
    target : str
        One of TARGETS.
    parts : dict of str to Counter
        Cells by part; together they are the whole design.
    pe : Counter or None
        Cells of one processing element.
    pe_count : int
        Its instances in the design.
    in_flipflops : list of str
        Memories that no block RAM or LUT RAM fits: module, name and bits.
    seconds : float
        Time that Yosys took.
    """
    target: str
    parts: dict
    pe: Counter | None = None
    pe_count: int = 0
    in_flipflops: list = field(default_factory=list)
    seconds: float = 0.0

    @property
    def cells(self) -> Counter:
        return sum(self.parts.values(), Counter())

    @property
    def total(self) -> Figures:
        return count(self.cells)

    def to_json(self) -> dict[str, Any]:
        """Plain data: `lut`, `ff`, `dsp`, `bram` and `cells` in `total` and in each of `parts`."""
        return _AreaData(
            self.target, self.total, _PartData.of(self.cells),
            {name: _PartData.of(cells) for name, cells in self.parts.items()},
            None if self.pe is None else _PartData.of(self.pe, self.pe_count),
            tuple(self.in_flipflops), round(self.seconds, 2)).to_json()

    @classmethod
    def from_json(cls, data: Any, where: str) -> Self:
        """The reverse. Raises RecordError naming the field that is missing or of a wrong type."""
        found = _AreaData.from_json(data, where)
        pe = found.processing_element
        return cls(found.target, {name: Counter(part.cells) for name, part in found.parts.items()},
                   None if pe is None else Counter(pe.cells), (pe and pe.count) or 0,
                   list(found.memories_in_flipflops), found.seconds)


def count(cells: Mapping[str, int]) -> Figures:
    """The figures of a count of cells by type, as the module's docstring says."""
    def total(weights):
        number = sum(weights.get(name, 0) * times for name, times in cells.items())
        return int(number) if number == int(number) else number
    return Figures(
        lut=total(_LUT), ff=sum(times for name, times in cells.items() if _FF.fullmatch(name)),
        dsp=total(_DSP), bram=total(_BRAM))


def built_for(arch: Arch, target: str, *, dsp: bool | str = True) -> Arch:
    """`arch` with what is "auto" resolved: the structure is the target's, or DSP blocks where they
    are worth it and allowed; post-processing and what multiplies by scales of blocks have such
    blocks unless there are none. `dsp` as of `chip_area`."""
    if not dsp and arch.post_multiplier == "auto":
        arch = replace(arch, post_multiplier="luts")
    if arch.weight.block_scale and arch.scale_multiplier == "auto" and not (
            dsp and target != "asic"):
        arch = replace(arch, scale_multiplier="luts")
    if arch.structure != "auto":
        return arch
    return replace(arch, structure=structure_of(_ELEMENTS_OF.get(target, target),
                                              dsp is True and arch.pe_dsp))


def measure(verilog: str, top: str, target: str = "ecp5", *, dsp: bool = True, pe_dsp: bool = True,
            log: Path | str | None = None, timeout: float | None = None) -> Area:
    """Map the design in the text `verilog` below the module `top`; an `Area`.

    Parameters
    ----------
    dsp : bool
        False: multipliers are built of LUTs.
    pe_dsp : bool
        False: only those of the processing elements (the module systolith_pe) are.
    log : path or None
        Where Yosys's log goes; None: a temporary file that stays only after a failure.
    timeout : float or None
        Seconds after which Yosys is stopped and AreaError raised.
    """
    check_target(target)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="systolith-area-") as folder:
        source, stat = Path(folder) / "design.v", Path(folder) / "stat.json"
        source.write_text(verilog)
        commands = [f'read_verilog -sv "{source}"',
                    *synthesis(target, top, dsp=dsp, pe_dsp=pe_dsp),
                    f'tee -q -o "{stat}" stat -json']
        text = run_yosys(commands, stat, log, timeout)
        modules = json.loads(stat.read_text())["modules"]
    modules = {name.removeprefix("\\"): content["num_cells_by_type"]
               for name, content in modules.items()}
    parts: dict[str, Counter] = {name: Counter() for name in PARTS}
    on_board = any(re.search(r"\.core$|^systolith_core$", name) for name in modules if name != top)
    attribute(modules, top, "board" if on_board else "core top", 1, parts)
    pe = modules.get("systolith_pe")
    return Area(
        target=target, parts={name: cells for name, cells in parts.items() if cells},
        pe=None if pe is None else leaves(modules, "systolith_pe"),
        pe_count=0 if pe is None else instances(modules, top, "systolith_pe"),
        in_flipflops=memories_in_flipflops(text), seconds=time.monotonic() - start)


def check_target(target: str) -> None:
    """Raises UserError for a target for which no chip can be mapped."""
    if target not in TARGETS:
        raise UserError(f"target must be one of {', '.join(TARGETS)}, not {target!r}")
