"""Runs of Yosys (the package `pyosys`), each in a process of its own with its log in a file.

A run counts as finished only when the file that it must write exists.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.processes import Processes

__all__ = ["ICE40_SCALES", "AreaError", "memories_in_flipflops", "run_yosys"]

#: Before `synth_ice40 -dsp`: Yosys 0.70 dies in its pass ice40_dsp where two registers follow a
#: product (`q <= p; p <= a * b;`), as in what multiplies by scales of blocks. It leaves alone what
#: must be kept.
ICE40_SCALES = "setattr -set keep 1 systolith_scale/w:product"

#: Runs Yosys on commands from standard input. On Linux, it is killed when the process that waits
#: for it ends, however that happens.
_WORKER = """
import ctypes, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)      # PR_SET_PDEATHSIG
from pyosys import libyosys as ys
design = ys.Design()
for line in sys.stdin.read().splitlines():
    ys.run_pass(line, design)
"""


class AreaError(UserError):
    """Yosys failed. The text has its error message and the path of its log."""


def run_yosys(commands: Iterable[str], result: Path, log: Path | str | None = None,
              timeout: float | None = None) -> str:
    """Run Yosys on `commands`, which must write the file `result`; returns its log.

    It runs in the folder of `result`; other paths in the commands must be absolute. Raises
    AreaError where it fails; the log is then kept, in `log` or else in a temporary file.
    """
    with Processes() as processes, _log(log) as file:
        try:
            code, text = processes.run([sys.executable, "-c", _WORKER], cwd=result.parent,
                                       input="\n".join(commands), line=file.write, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise AreaError(f"Yosys did not finish within {timeout:g} s; its log is in "
                            f"{file.name}") from None
        if code or not result.is_file():
            wrong = [line for line in text.splitlines()
                     if "ERROR" in line or "ModuleNotFoundError" in line]
            last = wrong[-1] if wrong else text.strip().splitlines()[-1] if text.strip() else (
                f"it stopped silently, exit code {code}")
            raise AreaError(f"Yosys failed: {last} (its log is in {file.name})")
    return text


@contextmanager
def _log(path):
    """An open file for a log: `path`, or where that is None a temporary file, which is removed
    unless the block raises AreaError."""
    if path is not None:
        with open(path, "w") as kept:
            yield kept
        return
    with tempfile.NamedTemporaryFile("w", suffix=".log", prefix="systolith-yosys-",
                                     delete=False) as temporary:
        try:
            yield temporary
        except AreaError:
            raise
        except BaseException:
            Path(temporary.name).unlink()
            raise
    Path(temporary.name).unlink()


def memories_in_flipflops(text: str) -> list[str]:
    """From Yosys' log: memories that became flip-flops, as `module.memory: words x bits`."""
    pattern = (r"Mapping memory \\?(\S+) in module \\?(\S+):\s+"
               r"created (\d+) \$dff cells and \d+ static cells of width (\d+)")
    found = (f"{module}.{name}: {words} x {width}"
             for name, module, words, width in re.findall(pattern, text)
             if int(words) and not name.startswith("$"))       # a table that a case became
    return sorted(set(found))
