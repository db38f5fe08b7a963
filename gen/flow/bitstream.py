"""From a chip, or a build, to the file that configures its board, where the core has its memory on
the FPGA and its host on a serial line."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from systolith.gen.chip.toml import load_chip
from systolith.gen.chip.verilog import board_verilog, core_verilog
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.gen.measure.flows import flow_of
from systolith.gen.report.report import read_report
from systolith.hw.board.boards import BOARDS
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity

from .build import CHIP, PROGRAM
from .open_flow import Bitstream, Design, make_bitstream

__all__ = ["bitstream", "chip_of_build"]


def chip_of_build(folder: Path | str, board: str | None = None) -> tuple[Arch, str | None]:
    """The chip of a folder that `build` made, and a note where its board (or `board`, a name)
    cannot hold its program (else None). Raises UserError."""
    folder = Path(folder)
    if not (folder / CHIP).is_file():
        raise UserError(f"{folder}: is no build, {CHIP} is missing; make one with `systolith build`"
                        ", or name a chip with --chip")
    arch = load_chip(folder / CHIP)
    found = BOARDS.get(board or arch.board)
    if found is None or not (folder / PROGRAM).is_file():
        return arch, None
    needed = read_report(folder).memory.window_bytes
    return arch, None if needed <= found.memory_bytes else (
        f"the program in {folder} needs {needed:,} bytes of memory, the {found.name} has "
        f"{found.memory_bytes:,}: this bitstream can run smaller programs only")


def bitstream(arch: Arch, folder: Path | str, *, seeds: Sequence[int] = (1, 2, 3),
              jobs: int | None = None, progress: Reporter = SILENT) -> Bitstream:
    """Make the bitstream of the chip's board in a folder.

    Raises UserError where the board has no open flow, and as `make_bitstream` does.
    """
    board, flow = flow_of(arch.board)
    for tool in (flow.placer, flow.packer):
        tool.command()
    with progress.step(f"Writing the Verilog of {arch.name}"):
        verilog = board_verilog(arch, core_verilog(arch))
    pins = (resources.files("systolith.constraints") / board.constraints).read_text()
    design = Design(
        f"the {board.name}", board.module, verilog, (board.constraints, pins),
        board.part.name, board.runs_at(arch.clock_mhz), arch.pe_dsp, board.loader, facts={
            "chip": arch.name, "identity": f"{identity(arch):016x}", "board": board.name})
    return make_bitstream(design, folder, seeds=seeds, jobs=jobs, progress=progress)
