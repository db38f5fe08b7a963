"""What the open tools make of the SoC that `write_soc` wrote: its area, and a bitstream."""

import re
from collections.abc import Sequence
from pathlib import Path

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.gen.measure.area import Area, measure
from systolith.gen.measure.flows import FLOWS
from systolith.hw.board.parts import PARTS
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity

from .litex_soc import board_of, file_name
from .open_flow import Bitstream, Design, make_bitstream

__all__ = ["build_soc", "needs_open_flow", "soc_area"]

#: LiteX's comments differ from one writing of a SoC to the next: a date, a tree in any order.
_COMMENTS = re.compile(r"^//[^\n]*\n|^/\*.*?\*/\n", re.MULTILINE | re.DOTALL)


def needs_open_flow(name: str) -> None:
    """Raises UserError where a board's bitstream cannot be made here."""
    if PARTS[board_of(name).part].target not in FLOWS:
        raise UserError(f"there is no open flow for the {name}: run Vivado on "
                        f"gateware/{file_name(name)}.tcl, as its docs page says")


def build_soc(name: str, arch: Arch, folder: Path | str, *, mhz: float,
              seeds: Sequence[int] = (1, 2, 3), jobs: int | None = None,
              progress: Reporter = SILENT) -> Bitstream:
    """Make the bitstream of the SoC in a folder, of which every clock must close.

    Raises UserError where the board has no open flow, and as `make_bitstream` does.
    """
    board, folder, top = board_of(name), Path(folder), file_name(name)
    needs_open_flow(name)
    design = Design(
        f"the SoC on the {name}", top, _verilog(folder, top),
        (f"{top}.lpf", (folder / "gateware" / f"{top}.lpf").read_text()), board.part, mhz,
        arch.pe_dsp, board.loader, single_clock=False, facts={
            "chip": arch.name, "identity": f"{identity(arch):016x}", "board": name})
    return make_bitstream(design, folder, seeds=seeds, jobs=jobs, progress=progress)


def soc_area(name: str, arch: Arch, folder: Path | str, progress: Reporter = SILENT) -> Area:
    """What the SoC in a folder takes of its part, by Yosys, without place and route; an `Area`
    whose core is the part "core top" and what is below it. Raises AreaError."""
    top = file_name(name)
    with progress.step(f"Area on the {board_of(name).part} (Yosys)"):
        return measure(_verilog(Path(folder), top), top, PARTS[board_of(name).part].target,
                       pe_dsp=arch.pe_dsp)


def _verilog(folder, top):
    """The text of a SoC and its core; memories with contents name their file by its whole path."""
    gateware = folder / "gateware"
    verilog = _COMMENTS.sub("", (gateware / f"{top}.v").read_text())
    contents = gateware / f"{top}_mem.init"
    if contents.is_file():
        # as a part of the text, that a change of the contents is one of the design
        verilog = f"// {contents.read_text()!r}\n" + verilog.replace(
            f'"{contents.name}"', f'"{contents.resolve()}"')
    return f"{verilog}\n{(gateware / 'systolith_core.v').read_text()}"
