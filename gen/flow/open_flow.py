"""From the Verilog of a whole FPGA to the file that configures it, by the open tools: synthesis,
several seeds of place and route, the best of them packed. What is done stays in the folder, so that
it can go on later."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import write_file
from systolith.gen.kit.processes import Processes
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.gen.kit.resume import open_folder
from systolith.gen.measure.flows import FLOWS, Flow
from systolith.gen.measure.place_and_route import (
    Job,
    Timing,
    achieved,
    place_all,
    synthesize,
)
from systolith.hw.board.parts import PARTS

__all__ = ["Bitstream", "Design", "make_bitstream"]

#: What was placed and routed, beside the bitstream.
WORK, KEY, REPORT = "place-and-route", "design.sha256", "timing.json"


@dataclass(frozen=True)
class Design:
    """A whole FPGA, as Verilog.

    Attributes
    ----------
    what : str
        What it is, in messages: "the ulx3s-85f".
    top : str
        Its top module; the bitstream is called so, too.
    verilog : str
        The text of all modules but the vendor's cells.
    pins : (str, str)
        Name and text of its file of constraints.
    part : str
        Of `PARTS`.
    mhz : float
        The clock of the core in it.
    pe_dsp : bool
        Whether processing elements may have DSP blocks.
    loader : str
        What openFPGALoader calls the board.
    single_clock : bool
        The core's clock is the only one. Else the constraints have the clocks, and all must close.
    facts : dict
        Whose it is, for timing.json.
    """
    what: str
    top: str
    verilog: str
    pins: tuple[str, str]
    part: str
    mhz: float
    pe_dsp: bool
    loader: str
    single_clock: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flow(self) -> Flow:
        """Raises KeyError where there is none for the part."""
        return FLOWS[PARTS[self.part].target]


@dataclass
class Bitstream:
    """A file that configures a board, the report of what it reaches, and that itself."""
    file: Path
    report: Path
    timing: Timing
    load: list[str]


def make_bitstream(design: Design, folder: Path | str, *, seeds: Sequence[int] = (1, 2, 3),
                   jobs: int | None = None, progress: Reporter = SILENT) -> Bitstream:
    """Make the bitstream of a design in a folder.

    Seeds that were placed there before, of the same design, are taken as they are, also after an
    interruption. Raises UserError where a tool is missing, the design does not fit, or no seed
    closes timing.
    """
    flow = design.flow
    for tool in (flow.placer, flow.packer):
        tool.command()
    folder = open_folder(folder)
    work = open_folder(folder / WORK)
    _forget_another_design(work, _key(design))
    netlist = work / "netlist.json"
    if not netlist.is_file():
        synthesize(design.verilog, flow, design.top, netlist, part=design.part,
                   pe_dsp=design.pe_dsp, what=design.what, progress=progress)
    write_file(work / design.pins[0], design.pins[1])
    options = *flow.constraints(design.pins[0]), *flow.algorithms
    job = Job(work, netlist.name, flow, design.part, options,
              design.mhz if design.single_clock else None)
    timing = achieved(place_all(job, seeds, jobs=jobs, keep=True, progress=progress),
                      asked=design.mhz, single_clock=design.single_clock)
    file = folder / f"{design.top}{flow.suffixes[1]}"
    made = Bitstream(file, folder / REPORT, timing,
                     ["openFPGALoader", "-b", design.loader, str(file)])
    write_file(made.report, json.dumps(
        {"file": file.name, **design.facts, "part": design.part, "seed": timing.best,
         "clock_mhz": design.mhz, **timing.to_dict(), "load": made.load}, indent=2) + "\n")
    if timing.mhz[timing.best] < design.mhz:
        file.unlink(missing_ok=True)
    timing.needs_to_close(design.what)
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


def _forget_another_design(work, key):
    """Empties the folder unless its files are of the design with this key. Raises UserError where
    it holds files of somebody else."""
    if (work / KEY).is_file() and (work / KEY).read_text() == key:
        return
    if any(work.iterdir()) and not (work / KEY).is_file():
        raise UserError(f"{work}: holds other files than an earlier result (there is no {KEY})"
                        "; give -o another folder")
    shutil.rmtree(work)
    work.mkdir()
    write_file(work / KEY, key)


def _key(design):
    """A hash of all that the result depends on: the design, the tools and their options."""
    flow = design.flow
    asked = [design.verilog, design.pins, design.part, design.mhz,
             flow.synthesis(design.top, design.pe_dsp), flow.placer.command(), flow.algorithms,
             _version(flow)]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest() + "\n"


def _version(flow):
    """The version of the placer's package; None for a native program."""
    from importlib.metadata import PackageNotFoundError, version
    try:
        return version(flow.placer.module)
    except PackageNotFoundError:
        return None
