"""Verilog out of RTLIL: by Yosys, and then in fewer words.

Yosys (the package `pyosys`) writes each register twice: a process for what it takes next, and one
that takes it at the clock. `concise` makes one of them, as a person writes it, from which tools see
at once when a register keeps its value; it writes bits that are repeated as a repetition, and gives
an expression no bits that nothing reads.
"""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

__all__ = ["concise", "from_rtlil"]

#: Yosys on files that are numbered, in the current folder. On Linux, it is killed when the process
#: that waits for it ends, however that happens.
_WORKER = """
import ctypes, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)      # PR_SET_PDEATHSIG
from pyosys import libyosys as ys
removed = " ".join(f"-remove {name}" for name in (
    "generator", "top", "src", "amaranth.hierarchy", "amaranth.decoding"))
for number in range(int(sys.argv[1])):
    design = ys.Design()
    for command in (f"read_rtlil {number}.il", "proc -nomux -norom", "memory_collect",
                    f"attrmap {removed}", f"attrmap -modattr {removed}",
                    f"write_verilog -norename {number}.v"):
        ys.run_pass(command, design)
"""
#: Yosys' signal that never changes, by which simulators run a block when they start.
_AT_START = re.compile(r"\\\$auto\$verilog_backend\S+ ")
#: Which only says how a debugger is to show a signal; expressions say themselves how they read it.
_SIGNED = re.compile(r"^(  wire [^\n\\]*?) signed ", re.MULTILINE)

_NAME = r"(?:\\\S+ |\w+)"
_REGISTER = re.compile(rf"^  always @\(posedge (\w+)\)\n    ({_NAME}) <= ({_NAME});\n",
                       re.MULTILINE)
_PROCESS = re.compile(r"^  always @\* begin\n    if \(at_start \) begin end\n"
                      r"((?:    .*\n)*?)  end\n", re.MULTILINE)
_ASSIGNED = re.compile(rf"^ +({_NAME})(?:\[.*?\])? = ", re.MULTILINE)
_DECLARATION = re.compile(rf"^(?:  \(\*.*\*\)\n)*  reg (?:\[\d+:\d+\] )?({_NAME});\n", re.MULTILINE)
#: A wire without a name; an expression of which no bit depends on a higher one; a use of the wire.
_WIRE = re.compile(r"^  wire \[(\d+):0\] (\\\$\d+ );\n", re.MULTILINE)
_ALIKE = re.compile(r"^  assign (\\\$\d+ ) = [^=<>]*? (?:[-+*&|^]|\?) [^=<>]*;\n", re.MULTILINE)
_USE = re.compile(r"(\\\$\d+ )(?:\[(\d+)(:\d+)?\])?")
_TOGETHER = re.compile(r"\{ ([^{}\n]*) \}")


def from_rtlil(texts: Sequence[str]) -> list[str]:
    """Verilog of each of some texts of RTLIL, as Amaranth's own `verilog.convert` runs Yosys, but
    in one process for all. Raises RuntimeError with the end of Yosys' log."""
    with tempfile.TemporaryDirectory(prefix="systolith-") as name:
        folder = Path(name)
        for number, text in enumerate(texts):
            (folder / f"{number}.il").write_text(_SIGNED.sub(r"\1 ", text))
        done = subprocess.run([sys.executable, "-c", _WORKER, str(len(texts))], cwd=folder,
                              text=True, errors="replace", stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise RuntimeError("Yosys has not written the Verilog\n"
                               + "\n".join(done.stdout.rstrip().splitlines()[-20:]))
        return [concise(_AT_START.sub("at_start ", (folder / f"{number}.v").read_text()))
                for number in range(len(texts))]


def concise(text: str) -> str:
    """Verilog of Yosys with one process a register, repeated bits as repetitions, and expressions
    as wide as they are read."""
    text = "".join(_narrowed(_with_registers(module)) for module in re.split(
        r"(?<=^endmodule\n)", text, flags=re.MULTILINE))
    return _TOGETHER.sub(lambda found: _repeated(found[1].split(", ")), text)


def _with_registers(module):
    """A module whose registers have their next values in their own processes, where nothing else
    reads these."""
    processes = {found[1]: process for process in _PROCESS.finditer(module)
                 if (found := _ASSIGNED.search(process[1]))}
    registers = [found for found in _REGISTER.finditer(module) if found[3] in processes]
    declared = {found[1]: found for found in _DECLARATION.finditer(module)}
    mentioned = Counter(re.findall(_NAME, "\n".join(
        line for line in module.split("\n") if "_next" in line)))
    edits = []
    for found in registers:
        clock, register, following = found.groups()
        lines, count = [], 2                    # its declaration, and what reads it
        for line in processes[following][1].splitlines(keepends=True):
            start, what = len(line) - len(line.lstrip()), line.lstrip()
            if what.startswith((f"{following} ", f"{following}[")):
                count += 1
                line = " " * start + register + what[len(following):].replace(" = ", " <= ", 1)
                if what.strip() == f"{following} = {register};":
                    continue
            lines.append(line)
        if following in declared and mentioned[following] == count:
            edits += [(declared[following].span(), ""), (processes[following].span(), ""),
                      (found.span(), f"  always @(posedge {clock}) begin\n{''.join(lines)}  end\n")]
    for (start, end), instead in sorted(edits, reverse=True):
        module = module[:start] + instead + module[end:]
    return module


def _narrowed(module):
    """A module whose sums, products and choices lack the upper bits that nothing reads."""
    widths = {found[2]: found for found in _WIRE.finditer(module)}
    alike = {found[1]: found.start(1) for found in _ALIKE.finditer(module)}
    uses: dict[str, list[re.Match]] = {}
    for found in _USE.finditer(module):
        if found.start() != alike.get(found[1]):
            uses.setdefault(found[1], []).append(found)
    edits = []
    for wire in widths.keys() & alike.keys():
        reads = [found for found in uses[wire]
                 if not widths[wire].start() <= found.start() < widths[wire].end()]
        if not reads or any(found[2] is None for found in reads):
            continue
        top = max(int(found[2]) for found in reads)
        if top < int(widths[wire][1]):
            bits = f"[{top}:0] " if top else ""
            edits.append((widths[wire].span(), f"  wire {bits}{wire};\n"))
            edits += [(found.span(), wire) for found in reads
                      if found[0] == f"{wire}[{top}:0]" or not top]
    for (start, end), instead in sorted(edits, reverse=True):
        module = module[:start] + instead + module[end:]
    return module


def _repeated(items):
    """A concatenation, with three or more of the same as a repetition."""
    parts = []
    for item, same in groupby(items):
        times = len(list(same))
        parts += [f"{{{times}{{{item}}}}}"] if times > 2 else [item] * times
    return parts[0] if len(parts) == 1 and parts[0].startswith("{") else f"{{ {', '.join(parts)} }}"
