"""From a network and a chip to a folder with everything: Verilog, program, constraints, report."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import onnx
from systolith.gen.chip.package import PACKAGED, package_files
from systolith.gen.chip.toml import commented_toml, load_chip
from systolith.gen.chip.verilog import board_verilog, core_verilog
from systolith.gen.compile.widen import widened
from systolith.gen.importer.file import read
from systolith.gen.importer.reader import load
from systolith.gen.importer.sizes import Part
from systolith.gen.kit.errors import UserError, one_line
from systolith.gen.kit.files import MANIFEST, changed_files, new_folder, written_files
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.gen.measure.area import measure
from systolith.gen.quantize.dynamic import is_dynamic, with_fixed_ranges
from systolith.gen.quantize.quantize import Quantized, quantize, with_sizes
from systolith.gen.quantize.recipe import Recipe
from systolith.gen.report.build_page import write_build_page
from systolith.gen.report.quantization import files_beside, write_errors
from systolith.gen.report.report import make_report, write_report
from systolith.hw.board.boards import BOARDS
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.program import Program, ProgramError
from systolith.sim.machine.access import check_program
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.memory_plan import check_memory_plan
from systolith.sim.model.effort import LayerEffort, efforts
from systolith.sim.model.graph import Graph

from .compile import compile_network

__all__ = ["Build", "build", "check_files", "open_build"]

CHIP, CORE, MODEL, PROGRAM = "chip.toml", "core.v", "model.onnx", "program.bin"
#: The float network that the quantized one was made from, where it is known.
FLOAT = "float.onnx"


@dataclass
class Build:
    """The contents of a folder made by `build`; how its network was quantized, if `build` did, and
    what its layers are, in the network's own formats."""
    folder: Path
    arch: Arch
    graph: Graph
    program: Program
    quantized: Quantized | None = None
    arithmetic: tuple[LayerEffort, ...] = ()

    @property
    def verilog(self) -> str:
        """The text of the core's Verilog."""
        return (self.folder / CORE).read_text()

    @property
    def files(self) -> list[Path]:
        """Paths of what `build` wrote."""
        return written_files(self.folder)


def build(model: Path | str, arch: Arch, folder: Path | str, *, batch: int = 1, area: bool = True,
          calibration: Any = None, recipe: Recipe | None = None,
          source: str = "the calibration data", part: Part | None = None, target: str = "ecp5",
          dsp: bool | str = True, progress: Reporter = SILENT) -> Build:
    """Compile an ONNX network for a chip and write everything into a folder.

    Parameters
    ----------
    model : path
        A quantized ONNX network; a float one with `calibration`.
    arch : Arch
    folder : path
        Made when everything is there; of an earlier build, its files are replaced.
    batch : int
        Images that a run of the program computes.
    area : bool
        Measure the area, of the board's top level or else of the core on `target`.
    calibration, recipe, source
        Quantize the network first: data, `Recipe` and name as of `quantize.quantize`. Of a network
        that `quantize_dynamic` has quantized, only the ranges are chosen.
    part : Part
        What of the model; None: all.
    target, dsp
        As of `chip_area.chip_area`, of what can be an FPGA; on a board its own target counts.
    progress : Reporter

    Returns a `Build`. Raises UserError.
    """
    folder, wanted = Path(folder), (part or Part()).of(model)
    board = BOARDS.get(arch.board)
    with new_folder(folder) as new:
        quantized = None
        if calibration is not None and is_dynamic(found := read(wanted)):
            wanted = with_fixed_ranges(with_sizes(found, calibration), calibration,
                                       recipe or Recipe(), source, progress)
            calibration = None
        if calibration is not None:
            quantized = quantize(wanted, calibration, recipe, source=source, progress=progress)
            onnx.save_model(quantized.model, new / MODEL)
            onnx.save_model(quantized.float_model, new / FLOAT)
            write_errors(quantized, new / "quantization.csv", new / "quantization.json")
            network = load(new / MODEL, offsets=arch.slope_offsets)
            graph, program = compile_network(network, arch, batch, progress=progress)
        else:
            with progress.step(f"Reading {model}"):
                network = load(wanted, offsets=arch.slope_offsets)
            graph, program = compile_network(network, arch, batch, progress=progress)
            onnx.save_model(wanted if isinstance(wanted, onnx.ModelProto) else onnx.load(model),
                            new / MODEL)
            kept = files_beside(model)["float"]
            if kept.is_file():
                (new / FLOAT).write_bytes(kept.read_bytes())
        program.save(new / PROGRAM)
        with progress.step("Writing Verilog"):
            (new / CHIP).write_text(commented_toml(arch))
            core = core_verilog(arch)
            (new / CORE).write_text(core)
            whole, top = core, "systolith_core"
            if board is not None:
                whole, top, target = board_verilog(arch, core), board.module, board.part.target
                if board.name in PACKAGED:
                    for name, text in package_files(arch, core, board.name).items():
                        (new / name).write_text(text)
                else:
                    (new / f"{top}.v").write_text(whole)
                    constraints = resources.files("systolith.constraints") / board.constraints
                    (new / board.constraints).write_bytes(constraints.read_bytes())
        # Yosys in the main thread, where Ctrl-C and SIGTERM arrive and end it.
        with ThreadPoolExecutor(1) as pool:
            arithmetic = efforts(network)       # in its own formats, not the chip's
            counted = pool.submit(_report, program, graph, arithmetic, progress)
            measured = _area(arch, whole, top, target, dsp, progress) if area else None
            report, timing = counted.result()
        report = replace(report, area=measured)
        write_report(report, new)
        write_build_page(report, program, timing, new, quantized.rows if quantized else ())
    return Build(folder, arch, graph, program, quantized, arithmetic)


def _report(program, graph, arithmetic, progress):
    with progress.step("Counting cycles"):
        timing = cycles(program)
        report = make_report(program, timing=timing)
        return replace(report, host=graph.host_work(), notes=tuple(graph.notes),
                       arithmetic=arithmetic), timing


def _area(arch, verilog, top, target, dsp, progress):
    with progress.step(f"Area for {target} (Yosys)"):
        return measure(verilog, top, target, dsp=bool(dsp), pe_dsp=dsp is True and arch.pe_dsp)


def open_build(folder: Path | str) -> Build:
    """The `Build` in a folder. Raises UserError where one is missing, damaged or mixed up."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; `systolith build` makes one")
    missing = [name for name in (CHIP, CORE, MODEL, PROGRAM, MANIFEST)
               if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: is no complete build, {missing[0]} is missing; make it with "
                        "`systolith build`")
    arch = load_chip(folder / CHIP)
    try:
        program = Program.load(folder / PROGRAM, arch)
    except ProgramError as error:
        raise UserError(str(error)) from None
    check_files(folder)
    _check_program(program, folder / PROGRAM)
    network = load(folder / MODEL, offsets=arch.slope_offsets)
    return Build(folder, arch, widened(network, arch), program, arithmetic=efforts(network))


def _check_program(program, path):
    """Refuse a program that this chip cannot run to its end, or that does not do what it states of
    its layers. The compiler makes none; a file may hold anything."""
    try:
        check_program(program)
        check_memory_plan(program)
        cycles(program)
    except Exception as error:
        # Records that contradict each other fail anywhere.
        raise UserError(f"{path}: is no program that the chip can run ({one_line(error)}); build "
                        "it again") from None


def check_files(folder: Path | str) -> None:
    """Refuse a build whose network, chip, program and Verilog do not belong together. Raises
    UserError naming the file."""
    changed = [name for name in changed_files(folder)
               if Path(name).suffix in (".toml", ".v", ".onnx", ".bin")]
    if changed:
        raise UserError(f"{Path(folder) / changed[0]}: is not the file that `systolith build` "
                        "wrote here, and need not belong to the others; build it anew")
