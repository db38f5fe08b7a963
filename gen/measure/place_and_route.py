"""The clock that a board's top level reaches: Yosys and nextpnr, several seeds side by side.

Needs the extra `boards`, or nextpnr on PATH. The result of a placer varies with its seed, so a
measurement takes the median of several seeds, and a bitstream the best one.
"""

import json
import os
import re
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from systolith.gen.chip.verilog import board_verilog, core_verilog
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.processes import Processes, ToolError
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.hw.spec.arch import Arch

from .flows import DEVICES, Flow, flow_of
from .paths import Path as CriticalPath
from .paths import critical_paths
from .refine import compiler, refine
from .reroute import forget_detours
from .yosys import run_yosys

__all__ = ["Job", "Timing", "achieved", "board_timing", "jobs_for", "place_all", "synthesize",
           "timing_text"]


@dataclass
class Timing:
    """What place and route reached.

    Attributes
    ----------
    mhz : dict
        MHz by seed.
    cells : dict
        What the placed design takes of each kind of cell: (used, available).
    paths : dict
        The slowest paths from register to register by seed, of `paths.Path`.
    asked : float or None
        MHz that every seed was asked for, where that counts.
    """
    mhz: dict
    cells: dict
    paths: dict = field(default_factory=dict)
    asked: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.mhz.values())

    @property
    def best(self) -> int:
        """The seed with the fastest clock."""
        return max(self.mhz, key=lambda seed: self.mhz[seed])

    def needs_to_close(self, what: str) -> None:
        """Raises UserError where no seed reaches the clock that was asked for; `what` says whose
        it is."""
        if self.asked is not None and self.mhz[self.best] < self.asked:
            slowest = self.paths.get(self.best)
            raise UserError(
                f"{what} runs at {self.asked:g} MHz, which timing does not close: seed "
                f"{self.best} closes {self.mhz[self.best]:.2f} MHz, the best of {len(self.mhz)}"
                + (f"; its slowest path is {slowest[0]}" if slowest else "")
                + f"; try more seeds, a smaller chip, or --clock {int(self.mhz[self.best])}")

    def to_dict(self) -> dict[str, Any]:
        found = {"mhz": self.median, "by_seed": self.mhz, "cells": self.cells,
                 "critical_paths": {seed: [path.to_dict() for path in paths]
                                    for seed, paths in self.paths.items()}}
        return found if self.asked is None else found | {
            "asked_mhz": self.asked, "closes": self.mhz[self.best] >= self.asked}


@dataclass(frozen=True)
class Job:
    """A netlist to place: `folder` holds it, as `netlist`, and the files that `options` name.

    `flow` is the `Flow`, `part` the name of a part in DEVICES. Results go to `folder`, too:
    `report(seed)` and `placed(seed)`. With `clock_mhz`, all of the design has one clock, of so many
    MHz, and what nextpnr has placed is annealed before it is routed (`refine.py`), where the flow
    does so and there is a C++ compiler.
    """
    folder: Path
    netlist: str
    flow: Flow
    part: str
    options: tuple = ()
    clock_mhz: float | None = None

    def report(self, seed: int) -> Path:
        """nextpnr's report; where it exists, the seed is done."""
        return self.folder / f"seed-{seed}.json"

    def placed(self, seed: int) -> Path:
        return self.folder / f"seed-{seed}{self.flow.suffixes[0]}"


def board_timing(arch: Arch, *, seeds: Sequence[int] = (1, 2, 3), jobs: int | None = None,
                 progress: Reporter = SILENT) -> Timing:
    """Place and route the top level of the chip's board; a `Timing`.

    Raises UserError where a tool is missing, the chip's board has no open flow, or the design does
    not fit.
    """
    board, flow = flow_of(arch.board)
    flow.placer.command()
    with tempfile.TemporaryDirectory(prefix="systolith-timing-") as name:
        folder = Path(name)
        synthesize(board_verilog(arch, core_verilog(arch)), flow, board.module,
                   folder / "netlist.json", part=board.part.name, pe_dsp=arch.pe_dsp,
                   what=f"the {board.name}", progress=progress)
        mhz = board.runs_at(arch.clock_mhz)
        (folder / board.constraints).write_bytes(
            (resources.files("systolith.constraints") / board.constraints).read_bytes())
        job = Job(folder, "netlist.json", flow, board.part.name,
                  (*flow.constraints(board.constraints), *flow.algorithms), mhz)
        return achieved(place_all(job, seeds, jobs=jobs, progress=progress), asked=mhz)


def synthesize(verilog: str, flow: Flow, top: str, netlist: Path, *, part: str, pe_dsp: bool,
               what: str, progress: Reporter = SILENT) -> None:
    """Write the netlist of the Verilog text of a whole FPGA, a `part` of DEVICES, below the module
    `top`; `what` says what it is. Raises AreaError."""
    with progress.step(f"Synthesis for {what} (Yosys)"), \
            tempfile.TemporaryDirectory(prefix="systolith-synthesis-") as name:
        source, made = Path(name) / "design.v", Path(name) / "netlist.json"
        source.write_text(verilog)
        run_yosys([f'read_verilog -sv "{source}"', *flow.synthesis(top, pe_dsp),
                   f'write_json "{made}"'], made)
        if flow.finish is not None:
            design = json.loads(made.read_text())
            for module in design["modules"].values():
                flow.finish(module, part)
            made.write_text(json.dumps(design))
        shutil.move(made, netlist)


def jobs_for(seeds: Sequence[int]) -> int:
    """How many seeds run side by side, if nothing else is said: one a processor."""
    return min(len(seeds), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
               else os.cpu_count() or 1)


def place_all(job: Job, seeds: Sequence[int], *, jobs: int | None = None, keep: bool = False,
              progress: Reporter = SILENT) -> dict[int, dict[str, Any]]:
    """Place and route with each seed, `jobs` (None: one a processor) at a time: nextpnr's reports
    by seed.

    Seeds whose report exists are taken as done. With `keep`, the placed designs stay, too. What a
    seed has is whole or not there, also where this is stopped. Raises ToolError where the design
    does not fit.
    """
    left = [seed for seed in seeds if not job.report(seed).is_file()]
    with Processes() as processes, _pool(jobs or jobs_for(seeds), processes) as pool:
        running = [pool.submit(_place, job, seed, keep, processes, progress) for seed in left]
        for done in as_completed(running):
            done.result()
    return {seed: json.loads(job.report(seed).read_text()) for seed in seeds}


@contextmanager
def _pool(jobs, processes):
    """A pool of threads; an error ends what runs in it first."""
    pool = ThreadPoolExecutor(jobs)
    try:
        yield pool
    except BaseException:
        processes.stop()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def _place(job, seed, keep, processes, progress):
    """Place and route with one seed; what is unfinished has a folder of its own."""
    with tempfile.TemporaryDirectory(prefix=f".seed-{seed}-", dir=job.folder) as name, \
            progress.step(f"Place and route, seed {seed}") as moved:
        folder = Path(name)
        report, placed = folder / "report.json", folder / f"placed{job.flow.suffixes[0]}"
        line = _Stage(moved).line

        def nextpnr(*options):
            try:
                job.flow.placer.run(
                    processes,
                    # paths from the job's folder on: a program in WebAssembly has its own /tmp
                    [*DEVICES[job.part], *map(inside, options), "--seed", seed,
                     "--timing-allow-fail"], cwd=job.folder, temporary=folder, line=line)
            except ToolError as error:
                raise _told(error, job.part) from None

        def inside(option):
            return option.relative_to(job.folder) if isinstance(option, Path) else option
        clock = () if job.clock_mhz is None else ("--freq", f"{job.clock_mhz:g}")
        design, options = job.folder / job.netlist, job.options
        if job.flow.anneals and job.clock_mhz is not None and compiler() is not None:
            # nextpnr places, and routes what has been annealed; then it routes detours again
            made, delays = folder / "design.json", folder / "delays.sdf"
            placed_so = "--no-pack", "--no-place"
            nextpnr("--json", design, *options, *clock, "--no-route", "--write", made)
            moved("annealing")
            _change(made, lambda module: refine(module, job.part, seed, processes))
            nextpnr("--json", made, *placed_so, *clock, "--sdf", delays, "--write", made)
            with delays.open() as lines:
                _change(made, lambda module: _route_again(module, lines))
            delays.unlink()
            design, options = made, placed_so
        nextpnr("--json", design, *options, *clock, "--report", report, job.flow.placed, placed)
        if not report.is_file():
            raise ToolError(f"{job.flow.placer.name} wrote no report")
        # the clocks at once, as other seeds may take long, or be stopped
        moved(", ".join(f"{clock['achieved']:.1f} MHz"
                        for clock in json.loads(report.read_text())["fmax"].values()))
        if keep:
            placed.replace(job.placed(seed))
        report.replace(job.report(seed))


def _change(file, change):
    """Change the placed design in a file of nextpnr's."""
    design = json.loads(file.read_text())
    for module in design["modules"].values():
        if any("NEXTPNR_BEL" in cell["attributes"] for cell in module["cells"].values()):
            change(module)
    file.write_text(json.dumps(design))


def _route_again(module, delays):
    """Forget detours of the routing; the other router is taken then."""
    forget_detours(module, delays)
    module["settings"]["router"] = "router1"    # which counts, not an option


#: Beginnings of nextpnr's lines, and where it stands then.
_STAGES = (("Packing", "packing"), ("Creating initial", "placing"),
           ("Running Static placer", "placing"),
           ("Running simulated annealing", "refining"), ("Routing", "routing"),
           ("Setting up routing", "routing"), ("Running router", "routing"))
_ROUNDS = re.compile(r"at iteration #(\d+)")
_OVERLAP = re.compile(r"overlap: \w+=([0-9.]+)%")
_OVERUSED = re.compile(r"iter=(\d+) .*overused=(\d+)")
_ARCS = re.compile(r"\s*\d+ \|[^|]*\|[^|]*\|\s*(\d+)\|")


class _Stage:
    """Tells a step's progress from nextpnr's lines."""

    def __init__(self, moved):
        self.moved, self.stage = moved, "packing"

    def line(self, text):
        text = text.removeprefix("Info: ").strip()
        for begin, stage in _STAGES:
            if text.startswith(begin):
                self.stage = stage
                self.moved(stage)
        if found := _ROUNDS.search(text):
            self.moved(f"{self.stage}, round {found[1]}")
        elif found := _OVERLAP.match(text):
            self.moved(f"placing, {float(found[1]):.0f} % on top of each other")
        elif found := _OVERUSED.search(text):
            self.moved(f"routing, round {found[1]}, {int(found[2]):,} wires used twice")
        elif self.stage == "routing" and (found := _ARCS.match(text)):
            self.moved(f"routing, {int(found[1]):,} arcs left")


#: A kind of cell in nextpnr's table: name, used, available, percent.
_USED = re.compile(r"^Info:\s+(\w+): *(\d+)/ *(\d+) +\d+%", re.MULTILINE)


def _told(error, part):
    """The error of a design that does not fit, with the figures; others as they are."""
    over = [(name, int(used), int(available))
            for name, used, available in _USED.findall(error.log) if int(used) > int(available)]
    if not over:
        return error
    return ToolError(f"the design does not fit the {part}: "
                     + ", ".join(f"{used:,} of {available:,} {name}"
                                 for name, used, available in over), error.log)


def achieved(reports: Mapping[int, Mapping[str, Any]], asked: float | None = None,
             single_clock: bool = True) -> Timing:
    """The `Timing` of nextpnr's reports by seed.

    Of a design with several clocks that have limits of their own, the one that is closest to its
    own counts, in parts of the core's of `asked` MHz.
    """
    def reached(clock):
        return clock["achieved"] if single_clock or asked is None else (
            asked * clock["achieved"] / clock["constraint"])
    mhz = {seed: round(min(map(reached, report["fmax"].values())), 2)
           for seed, report in reports.items()}
    cells = {name: (item["used"], item["available"])
             for name, item in next(iter(reports.values()))["utilization"].items() if item["used"]}
    paths: dict[int, list[CriticalPath]] = {
        seed: critical_paths(report) for seed, report in reports.items()}
    return Timing(mhz, cells, paths, asked)


def timing_text(timing: Timing) -> str:
    """What was reached, as lines: clock, cells, and each seed's slowest path."""
    lines = [f"{timing.median:.1f} MHz, the median of "
             + ", ".join(f"{mhz:.1f}" for mhz in timing.mhz.values())]
    lines += [f"{name:16} {used:7,} of {available:7,}"
              for name, (used, available) in sorted(timing.cells.items())]
    lines += [f"slowest path of seed {seed}: {path}"
              for seed, paths in timing.paths.items() for path in paths[:1]]
    return "\n".join(lines)
