"""From the SoC that `write_soc` wrote to a bitstream by the open flow: the same tools as for the
boards of this project's own."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import write_file
from systolith.gen.kit.processes import Processes
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.gen.kit.resume import open_folder
from systolith.gen.measure.area import run_yosys
from systolith.gen.measure.flows import FLOWS
from systolith.gen.measure.place_and_route import Job, Timing, achieved, place_all
from systolith.hw.board.boards import PARTS
from systolith.hw.spec.arch import Arch

from .litex_soc import board_of, file_name

__all__ = ["LiteXBitstream", "build_soc"]

#: What was placed and routed, beside the bitstream.
WORK, KEY, REPORT = "place-and-route", "design.sha256", "timing.json"


@dataclass
class LiteXBitstream:
    """A file that configures a board, and what it reaches."""
    file: Path
    report: Path
    timing: Timing
    load: list[str]


def build_soc(name: str, arch: Arch, folder: Path | str, *, mhz: float,
              seeds: Sequence[int] = (1, 2, 3), jobs: int | None = None,
              progress: Reporter = SILENT) -> LiteXBitstream:
    """Make the bitstream of the SoC in a folder; what is done stays there, as of `bitstream`.

    Raises UserError where the board has no open flow, a tool is missing, the design does not fit,
    or a clock of the SoC is not closed by any seed.
    """
    board = board_of(name)
    flow = FLOWS.get(PARTS[board.part].target)
    if flow is None:
        raise UserError(f"there is no open flow for the {name}: run Vivado on "
                        f"gateware/{file_name(name)}.tcl, as its docs page says")
    for tool in (flow.placer, flow.packer):
        tool.command()
    folder, top = Path(folder), file_name(name)
    sources = [folder / "gateware" / file for file in
               (f"{top}.v", "systolith_core.v", f"{top}.lpf")]
    verilog, core, constraints = (source.read_text() for source in sources)
    contents = folder / "gateware" / f"{top}_mem.init"
    if contents.is_file():
        verilog = verilog.replace(f'"{contents.name}"', f'"{contents.resolve()}"')
    work = open_folder(folder / WORK)
    key = hashlib.sha256(json.dumps([
        sources[0].read_text(), core, constraints, contents.read_text() if contents.is_file()
        else "", mhz, flow.synthesis(top, arch.pe_dsp), flow.placer.command()]
        ).encode()).hexdigest() + "\n"
    if not (work / KEY).is_file() or (work / KEY).read_text() != key:
        shutil.rmtree(work)
        work.mkdir()
        write_file(work / KEY, key)
    netlist = work / "netlist.json"
    if not netlist.is_file():
        with progress.step(f"Synthesis for the {name} (Yosys)"), \
                tempfile.TemporaryDirectory(prefix="systolith-synthesis-") as temporary:
            source, made = Path(temporary) / "design.v", Path(temporary) / "netlist.json"
            source.write_text(f"{verilog}\n{core}")
            # the first command wants all modules, but the family's cells come with the next one
            run_yosys([f'read_verilog -sv "{source}"', *flow.synthesis(top, arch.pe_dsp)[1:],
                       f'write_json "{made}"'], made)
            shutil.move(made, netlist)
    write_file(work / sources[2].name, constraints)
    job = Job(work, netlist.name, flow, board.part, flow.constraints(sources[2].name))
    timing = _slowest(place_all(job, seeds, jobs=jobs, keep=True, progress=progress), mhz)
    load = ["openFPGALoader", "-b", board.loader, str(folder / f"{top}{flow.suffixes[1]}")]
    found = LiteXBitstream(folder / f"{top}{flow.suffixes[1]}", folder / REPORT, timing, load)
    write_file(found.report, json.dumps(
        {"board": name, "chip": arch.name, "clock_mhz": mhz, "seed": timing.best, "load": load,
         **timing.to_dict()}, indent=2) + "\n")
    if timing.mhz[timing.best] < mhz:
        found.file.unlink(missing_ok=True)
    timing.needs_to_close(f"the SoC on the {name}")
    with progress.step("Packing the bitstream"), Processes() as processes, \
            tempfile.TemporaryDirectory(prefix=".pack-", dir=work) as temporary:
        packed = Path(temporary) / found.file.name
        flow.packer.run(processes, flow.pack(job.placed(timing.best).name,
                                             packed.relative_to(work)), cwd=work,
                        temporary=temporary)
        if not packed.is_file() or not packed.stat().st_size:
            raise UserError(f"{flow.packer.name} wrote no bitstream")
        packed.replace(found.file)
    return found


def _slowest(reports, mhz):
    """The `Timing` of nextpnr's reports. A SoC has several clocks: the one that is closest to its
    own limit counts, in parts of the core's clock of `mhz`."""
    timing = achieved(reports, asked=mhz)
    timing.mhz = {seed: round(mhz * min(clock["achieved"] / clock["constraint"]
                                        for clock in report["fmax"].values()), 2)
                  for seed, report in reports.items()}
    return timing
