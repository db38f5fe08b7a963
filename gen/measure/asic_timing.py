"""Clock of a core as an ASIC before layout: OpenSTA on the netlist of a liberty file's cells.

Each module is mapped by itself for speed: ABC sizes cells and buffers what drives many. Wires and
the clock tree do not count: what is in the figure is the cells' own delay at their fanout. Paths
that begin or end in a memory macro count where the table gives the macro's liberty file.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from systolith.gen.chip.verilog import core_verilog
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import write_file
from systolith.hw.spec.arch import Arch

from .area import built_for
from .asic_area import mapped
from .liberty import read_liberty
from .macros import Macro, with_macros
from .paths import own_name
from .yosys import AreaError

__all__ = ["AsicPath", "AsicTiming", "asic_timing", "read_paths"]

_TOP = "systolith_core"
_POINT = re.compile(r"^\s+(-?[\d.]+)\s+(-?[\d.]+)\s+[v^]\s+(\S+)\s+\((\S+)\)",
                    re.MULTILINE)
_SETUP = re.compile(r"^\s+(-?[\d.]+)\s+-?[\d.]+\s+library setup time", re.MULTILINE)


@dataclass(frozen=True)
class AsicPath:
    """A path from register to register: its delay in ns, setup included, `levels` of cells between
    them, and the design's names along it, each module.signal."""
    ns: float
    levels: int
    names: tuple[str, ...]

    def __str__(self):
        return f"{' -> '.join(self.names)} ({self.ns:.2f} ns, {self.levels} cells)"


@dataclass(frozen=True)
class AsicTiming:
    """`paths`, slowest first; `untimed`: names of the macros whose paths do not count."""
    library: str
    paths: tuple[AsicPath, ...]
    untimed: tuple[str, ...]

    @property
    def mhz(self) -> float:
        return 1000 / self.paths[0].ns

    def to_dict(self) -> dict[str, Any]:
        return {"library": self.library, "mhz": round(self.mhz, 2),
                "paths": [vars(path) | {"names": list(path.names)} for path in self.paths],
                "untimed_macros": list(self.untimed)}


def asic_timing(arch: Arch, liberty: Path | str, *, macros: Sequence[Macro] | None = None,
                paths: int = 8, netlist: Path | None = None,
                timeout: float | None = None) -> AsicTiming:
    """Map the core of `arch` to the cells of `liberty` and find its slowest paths.

    `netlist`: a file for the mapped Verilog. Raises UserError where OpenSTA is missing or fails.
    """
    _sta()
    library = read_liberty(liberty)
    arch = built_for(arch, "asic", dsp="post")
    text, used = with_macros(core_verilog(arch), arch, macros, timeout=timeout)
    with tempfile.TemporaryDirectory(prefix="systolith-sta-") as name:
        written = Path(name) / "netlist.v"
        # cells by the names of what they drive
        mapped(text, used, library, netlist=written, after=["autoname"], timeout=timeout,
               fast=True)
        timed = [macro.views["liberty"] for macro in used if "liberty" in macro.views]
        report = run_sta(written, _TOP, [library.path, *timed], paths=paths, timeout=timeout)
        if netlist is not None:
            write_file(netlist, written.read_text())
    found = read_paths(report)
    if not found:
        raise AreaError(f"OpenSTA found no path from register to register: {_last(report)}")
    return AsicTiming(library.name, found, tuple(
        macro.name for macro in used if "liberty" not in macro.views))


def run_sta(netlist: Path, top: str, liberties: Sequence[Path | str], *, paths: int = 8,
            timeout: float | None = None) -> str:
    """OpenSTA's report of the slowest paths between registers of a mapped netlist."""
    commands = [*(f'read_liberty "{file}"' for file in liberties), f'read_verilog "{netlist}"',
                f"link_design {top}", "create_clock -name clk -period 1 [get_ports clk]",
                "set_input_transition 0.05 [all_inputs]",
                f"report_checks -path_delay max -from [all_registers -clock_pins] "
                f"-to [all_registers -data_pins] -group_count {paths} -format full "
                "-digits 4"]
    script = netlist.with_suffix(".tcl")
    script.write_text("\n".join([*commands, "exit"]) + "\n")
    try:
        done = subprocess.run([_sta(), "-no_splash", "-exit", str(script)], text=True,
                              capture_output=True, timeout=timeout, cwd=netlist.parent,
                              stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise AreaError(f"OpenSTA did not finish within {timeout:g} s") from None
    text = done.stdout + done.stderr
    if done.returncode or re.search(r"^Error", text, re.MULTILINE):
        wrong = [line for line in text.splitlines() if line.startswith("Error")]
        raise AreaError(f"OpenSTA failed: {wrong[0] if wrong else _last(text)}")
    return text


def _sta():
    command = shutil.which("sta")
    if command is None:
        raise UserError("timing of an ASIC needs OpenSTA, the command sta; on Debian and Ubuntu: "
                        "sudo apt install opensta")
    return command


def _last(text):
    return next((line for line in reversed(text.strip().splitlines()) if line.strip()),
                "it stopped silently")


def read_paths(report: str) -> tuple[AsicPath, ...]:
    """The paths in OpenSTA's report (`-format full`), slowest first."""
    found = []
    # Yosys appends the cell's name to what it drives, and this is not of capitals everywhere
    cells = sorted({cell for *_, cell in _POINT.findall(report)}, key=len, reverse=True)
    made = re.compile(rf"_(?:{'|'.join(map(re.escape, cells))})_.*")
    for part in report.split("Startpoint:")[1:]:
        arrival, *_ = part.split("data arrival time")
        points = [(float(delay), pin) for delay, _, pin, _ in _POINT.findall(arrival)]
        points = [(delay, pin) for delay, pin in points if "/" in pin]
        if not points:
            continue
        setup = _SETUP.search(part)
        time = sum(delay for delay, _ in points) - (float(setup[1]) if setup else 0.0)
        names: list[str] = []
        for _, pin in points:
            place = pin.rpartition("/")[0].replace("/", ".").replace("\\", "")
            name = own_name(made.sub("", place))
            if name and names[-1:] != [name]:
                names.append(name)
        # the register where it begins is there with clock and output, the last with its input
        found.append(AsicPath(round(time, 4), len(points) - 3, tuple(names)))
    return tuple(sorted(found, key=lambda path: -path.ns))
