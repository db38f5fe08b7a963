"""External programs: found on PATH or in an installed package, run in parallel, never left running,
with their temporary files in a folder that is removed."""

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError

__all__ = ["Processes", "Stopped", "Tool", "ToolError"]


class ToolError(UserError):
    """An external program failed. The text is its error message; `log` is all that it wrote."""

    def __init__(self, message: str, log: str = ""):
        super().__init__(message)
        self.log = log


class Stopped(Exception):
    """Raised by `Processes.run` when `Processes.stop` has ended the program."""


@dataclass(frozen=True)
class Tool:
    """A program that PATH has, or else a package from PyPI.

    Attributes
    ----------
    name : str
        Its name in messages.
    natives : tuple of str
        Names of its executable on PATH, the first one found is used.
    module : str
        The Python module that contains the program where PATH has none.
    python : tuple of str
        Arguments of the Python interpreter that run the module's program, before the program's own.
    extra : str
        The extra of Systolith that installs the package.
    """
    name: str
    natives: tuple[str, ...]
    module: str
    python: tuple[str, ...]
    extra: str

    def command(self) -> list[str]:
        """The command line that runs it, without arguments. Raises UserError where it is not
        installed."""
        for name in self.natives:
            if path := shutil.which(name):
                return [path]
        if importlib.util.find_spec(self.module) is None:
            raise UserError(f"{self.name} is neither on PATH nor installed from PyPI: pip install "
                            f"'systolith[{self.extra}]'")
        return [sys.executable, *self.python]

    def run(self, processes: "Processes", arguments: Iterable[Path | str], **options: Any) -> str:
        """Run it with `Processes.run` (`options` are its keywords); what it wrote. Raises ToolError
        with the first line that begins with "Error:" where its exit code is not 0."""
        code, text = processes.run([*self.command(), *map(str, arguments)], **options)
        if code:
            errors = re.findall(r"^(?:ERROR|Error): (.*)", text, re.MULTILINE)
            last = text.strip().splitlines()[-1:]
            why = errors[0] if errors else f"it stopped with exit code {code}" + (
                f" after writing {last[0]!r}" if last else " and no word")
            raise ToolError(f"{self.name} failed: {why}", text)
        return text


class Processes:
    """Programs that run at the same time, started from any thread. Use as a context manager: when
    the block is left, for whatever reason, all of them have been ended."""

    def __init__(self):
        self._lock = threading.Lock()
        self._running = set()
        self._stopped = False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()

    def stop(self) -> None:
        """End all programs, and what they have started; later calls of `run` raise Stopped."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _end(process)

    def run(self, command: Sequence[str], *, cwd: Path | str, temporary: Path | str | None = None,
            input: str = "", line: Callable[[str], object] | None = None,
            timeout: float | None = None) -> tuple[int, str]:
        """Run a program to its end: (exit code, all that it wrote).

        Parameters
        ----------
        command : list of str
        cwd : path
            Where it runs.
        temporary : path or None
            Where its temporary files go; None: `cwd`.
        input : str
            What it reads.
        line : function or None
            Called with each line that it writes, when it comes.
        timeout : float or None
            Seconds after which it is ended and `subprocess.TimeoutExpired` raised.

        Raises Stopped where `stop` has ended it.
        """
        environment = os.environ | {"TMPDIR": os.path.abspath(temporary or cwd)}
        with self._lock:
            if self._stopped:
                raise Stopped
            # A session of its own, so that what it starts can be ended together with it, and that
            # a Ctrl-C on the terminal reaches this program alone, which then ends the others.
            process = subprocess.Popen(
                command, cwd=cwd, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True)
            self._running.add(process)
        assert process.stdin is not None and process.stdout is not None
        late = threading.Event()
        timer = threading.Timer(timeout or 0, _end_late, (process, late))
        timer.daemon = True
        try:
            if timeout is not None:
                timer.start()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(input)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            text = []
            for piece in process.stdout:
                text.append(piece)
                if line is not None:
                    line(piece)
            code = process.wait()
        finally:
            timer.cancel()
            with self._lock:
                _end(process)
                self._running.discard(process)
                stopped = self._stopped
            process.stdout.close()
            process.wait()
        if timeout is not None and late.is_set():
            raise subprocess.TimeoutExpired(command, timeout)
        if stopped:
            raise Stopped
        return code, "".join(text)


def _end_late(process, late):
    late.set()
    _end(process)


def _end(process):
    """End a process and all of its session."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
