"""From a chip, or a build, to the file that configures its board: synthesis, several seeds of place
and route, the best of them packed. What is done stays in the folder, so that it can go on later."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from systolith.gen.chip.toml import load_chip
from systolith.gen.chip.verilog import board_verilog, core_verilog
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import write_file
from systolith.gen.kit.processes import Processes
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.gen.kit.resume import open_folder
from systolith.gen.measure.flows import flow_of
from systolith.gen.measure.place_and_route import (
    Timing,
    achieved,
    board_job,
    place_all,
    synthesize,
)
from systolith.gen.report.report import read_report
from systolith.hw.board.boards import BOARDS, Board
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity

from .build import CHIP, PROGRAM

__all__ = ["Bitstream", "bitstream", "chip_of_build"]

#: What was placed and routed, beside the bitstream.
WORK, KEY, REPORT = "place-and-route", "design.sha256", "timing.json"


@dataclass
class Bitstream:
    """A file that configures a board, what it reaches, and the chip that it is of."""
    file: Path
    report: Path
    timing: Timing
    arch: Arch
    board: Board

    @property
    def load(self) -> list[str]:
        """The words of the command line that configures the board."""
        return ["openFPGALoader", "-b", self.board.loader, str(self.file)]

    def to_dict(self) -> dict[str, Any]:
        return {"file": self.file.name, "chip": self.arch.name,
                "identity": f"{identity(self.arch):016x}", "board": self.board.name,
                "part": self.board.part.name, "seed": self.timing.best,
                "clock_mhz": self.timing.asked, **self.timing.to_dict(),
                "load": self.load}


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
    """Make the bitstream of the chip's board in a folder; a `Bitstream`.

    Seeds that were placed there before, of the same design, are taken as they are, also after an
    interruption. Raises UserError where the board has no open flow, a tool is missing, the design
    does not fit, or no seed closes timing at the board's clock.
    """
    board, flow = flow_of(arch.board)
    for tool in (flow.placer, flow.packer):
        tool.command()
    folder = open_folder(folder)
    work = open_folder(folder / WORK)
    with progress.step(f"Writing the Verilog of {arch.name}"):
        verilog = board_verilog(arch, core_verilog(arch))
    key, netlist = _key(verilog, board, flow, arch), work / "netlist.json"
    if not (work / KEY).is_file() or (work / KEY).read_text() != key:
        if any(work.iterdir()) and not (work / KEY).is_file():
            raise UserError(f"{work}: holds other files than an earlier result (there is no {KEY})"
                            "; give -o another folder")
        shutil.rmtree(work)
        work.mkdir()
        write_file(work / KEY, key)
    if not netlist.is_file():
        synthesize(verilog, board, netlist, pe_dsp=arch.pe_dsp, progress=progress)
    mhz = board.runs_at(arch.clock_mhz)
    job = board_job(board, work, mhz)
    timing = achieved(place_all(job, seeds, jobs=jobs, keep=True, progress=progress),
                      asked=mhz)
    file = folder / f"{board.module}{flow.suffixes[1]}"
    made = Bitstream(file, folder / REPORT, timing, arch, board)
    write_file(made.report, json.dumps(made.to_dict(), indent=2) + "\n")
    if timing.mhz[timing.best] < mhz:
        file.unlink(missing_ok=True)
    timing.needs_to_close(f"the {board.name}")
    with progress.step("Packing the bitstream"), Processes() as processes, \
            tempfile.TemporaryDirectory(prefix=".pack-", dir=work) as name:
        packed = Path(name) / file.name
        # paths as seen from the folder, as for nextpnr
        flow.packer.run(processes, flow.pack(job.placed(timing.best).name,
                                             packed.relative_to(work)), cwd=work, temporary=name)
        if not packed.is_file() or not packed.stat().st_size:
            raise UserError(f"{flow.packer.name} wrote no bitstream")
        packed.replace(file)
    return made


def _key(verilog, board, flow, arch):
    """A hash of all that the result depends on: the design, the board, the tools and their
    options."""
    asked = [verilog, board.name, board.part.name, board.runs_at(arch.clock_mhz),
             flow.synthesis(board.module, arch.pe_dsp), flow.placer.command(), _version(flow)]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest() + "\n"


def _version(flow):
    """The version of the placer's package; None for a native program."""
    from importlib.metadata import PackageNotFoundError, version
    try:
        return version(flow.placer.module)
    except PackageNotFoundError:
        return None
