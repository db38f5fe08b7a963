"""The host driver on the simulated core: an executable of `harness.sv` that obeys commands.

The executable runs in a process of its own, whose commands go through a pipe: a register access, a
transfer, a wait for the core. What the core does meanwhile, and how, is in `commands.cpp`.
"""

import math
import os
import select
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from systolith.hw.spec.program import Program
from systolith.hw.spec.widths import has_window_base

from .device import Device, DeviceError, RunResult, devices_of, memory_bytes, spread
from .verilate import SimulationError

__all__ = ["WINDOW_BASE", "Job", "RtlRun", "Run", "SimulatedTransport", "run_jobs"]

#: Multiple of 4096; not 0, where a chip allows it, so that an address without it is outside.
WINDOW_BASE = 0x4000_3000

#: Commands, and kinds of transfers.
_RESET, _CLOCKS, _FAULT, _ACCESS, _TRANSFER, _WAIT = range(6)
_LOAD, _DUMP, _FILL, _LOG, _TRACE = 1, 2, 3, 4, 5
#: Seconds until a simulation that is to stop does.
_POLL = 0.2


@dataclass
class Run:
    """One start of the program: (offset, bytes) to write to the window before it, and
    (offset, size) to read from it in the end."""
    writes: list = field(default_factory=list)
    reads: list = field(default_factory=list)


@dataclass
class Job:
    """A program and its runs, from the core's reset on; on a chip of several cores the runs are
    spread over them, as of `device.spread`.

    What nothing has written to the window holds a pattern that `seed` selects.

    Attributes
    ----------
    program : Program
    runs : list of Run
        Ends early where one does not finish.
    latency : int
        Cycles from an accepted address to its first beat, and to a write's response; from 1 up.
    stalls : float
        Share of cycles, below 1, in which each channel of the memory bus stalls, at random.
    seed : int
        Of stalls and pattern.
    fault : (kind, first, last) or None
        Bytes of the window, both ends included, that answer wrongly.
    response : int
        What RRESP or BRESP then is, where the fault is an error: 2 SLVERR, 3 DECERR.
    watchdog : int
        Cycles without progress until the core gives up; 0: never.
    limit : int or None
        Clock cycles that a run may take.
    damage : (what, Program) or None
        In words what is wrong with it, and what is loaded for the runs in place of `program`.
    limit_again : int or None
        That of the run of `again`.
    again : "", "soft" or "hard"
        After the runs, finished or not, this reset, the memory as it was at first, without fault
        and damage, and the first run once more; its result comes after theirs. Where a soft reset
        does not end, a hard one follows. Of one core alone.
    """
    program: Program
    runs: list
    latency: int = 32
    stalls: float = 0.0
    seed: int = 0
    fault: tuple | None = None
    damage: tuple[str, Program] | None = None
    response: int = 2
    watchdog: int = 1 << 16
    limit: int | None = None
    limit_again: int | None = None
    again: str = ""


@dataclass
class RtlRun(RunResult):
    """A run and what was seen on the way.

    Attributes
    ----------
    trace : list of (layer, raw, item)
        Every result of post-processing, in program order; `item` as an integer.
    written : (addresses, values)
        int64 and uint8 arrays [n]: every byte written to the window, in order. With several cores
        the first run of a job has all that its cores write, at addresses from core 0's window on.
    write_cycles : int64 array [beats]
        When each beat of write data was accepted, counted from the simulation's start.
    broken : list of str
        Rules of AXI, or of the window, that the core has broken; with several, as `written`.
    reset : str
        The one of `Job.again` that it followed: "soft", "hard", or "soft in vain".
    """
    trace: list = field(default_factory=list)
    written: tuple = ()
    write_cycles: np.ndarray | None = None
    broken: list = field(default_factory=list)
    reset: str = ""


class SimulatedTransport:
    """Registers and memory of a simulated core, as `Device` wants them.

    Parameters
    ----------
    executable : path
        Of `core.build_core`.
    folder : path
        Where it runs, reads and writes its files.
    waves : path or None
        FST file to write, where the executable can.
    timeout : float or None
        Seconds from now after which it is ended.
    stop : threading.Event or None
        When it is set, what runs is ended soon.

    A context, whose end is the simulation's. What is called raises SimulationError where the
    simulation has failed, the time is up or it is to stop.

    Attributes
    ----------
    clocks : int
        Simulated while waiting for the core.
    spans : list of (start, end)
        Of each of these waits, in seconds of `time.perf_counter`.
    """

    def __init__(self, executable: Path, folder: Path, *, waves: Path | None = None,
                 timeout: float | None = None, stop: threading.Event | None = None):
        self.window_base = 0
        self.clocks = 0
        self.spans: list[tuple[float, float]] = []
        self._folder, self._timeout, self._stop = folder, timeout, stop
        self._until = None if timeout is None else time.monotonic() + timeout
        self._log = tempfile.TemporaryFile()
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        try:
            self._process = subprocess.Popen(
                [str(executable), str(commands), str(answers),
                 *(["--trace", str(waves)] if waves is not None else [])],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                pass_fds=(commands, answers))
        except OSError as error:
            self._close()
            raise SimulationError(f"the simulation could not be started: {error}") from None
        finally:
            os.close(commands)
            os.close(answers)

    def _close(self):
        for pipe in (self._commands, self._answers):
            os.close(pipe)
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if kind is None:
                os.close(self._commands)
                self._commands = os.open(os.devnull, os.O_WRONLY)
                try:
                    code = self._process.wait(self._left())
                except subprocess.TimeoutExpired:
                    raise self._late() from None
                if code:
                    raise self._failed()
        finally:
            self._process.kill()
            self._process.wait()
            self._close()

    def _left(self):
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    def _wait(self):
        """For an answer."""
        while self._until is not None or self._stop is not None:
            left = self._left()
            soon = left if self._stop is None else min(_POLL, math.inf if left is None else left)
            if select.select([self._answers], [], [], soon)[0]:
                return
            if self._stop is not None and self._stop.is_set():
                raise SimulationError("the simulation was stopped")
            if self._left() == 0:
                raise self._late()

    def _late(self):
        return SimulationError(f"the simulation took longer than {self._timeout} s")

    def _failed(self):
        self._process.kill()
        code = self._process.wait()
        self._log.seek(0)
        tail = self._log.read().decode(errors="replace").rstrip().splitlines()[-25:]
        return SimulationError("\n".join([f"the simulation failed (exit code {code})", *tail]))

    def _command(self, kind, *words):
        """The executable's answer to a command: three words of 32 bits."""
        data = struct.pack("<8I", kind, *(word & 0xFFFF_FFFF for word in words),
                           *[0] * (7 - len(words)))
        answer = b""
        try:
            os.write(self._commands, data)
            while len(answer) < 12:
                self._wait()
                part = os.read(self._answers, 12 - len(answer))
                if not part:
                    raise self._failed()
                answer += part
        except BrokenPipeError:
            raise self._failed() from None
        return struct.unpack("<3I", answer)

    def read_register(self, offset: int) -> int:
        return self._access(0, offset, 0)

    def write_register(self, offset: int, value: int) -> None:
        self._access(1, offset, value)

    def _access(self, write, offset, value):
        result, response, _ = self._command(_ACCESS, write, offset, value)
        if response:
            raise DeviceError(f"register {offset:#x} did not answer" if response & 4 else
                              f"register {offset:#x} answered with the error {response}")
        return result

    def read_memory(self, offset: int, size: int) -> bytes:
        self.transfer(_DUMP, 0, offset, size)
        return (self._folder / "dump.bin").read_bytes()[:size]

    def write_memory(self, offset: int, data: bytes) -> None:
        (self._folder / "load.bin").write_bytes(data)
        self.transfer(_LOAD, 0, offset, len(data))

    def transfer(self, kind: int, index: int, offset: int, size: int) -> None:
        """What the memory or its logs do between two clocks; see `memory.sv`."""
        self._command(_TRANSFER, kind, index, offset, size)

    def wait(self, limit: int | None) -> None:
        """Until the core's interrupt, or `limit` cycles."""
        clocks, low, high = self._command(_WAIT, 0xFFFF_FFFF if limit is None else limit)
        self.clocks += clocks
        now = time.perf_counter()
        self.spans.append((now - (low | high << 32) / 1e9, now))

    def set_fault(self, fault: tuple | None, response: int = 2) -> None:
        """See `Job`."""
        self._command(_FAULT, *(fault or (0, 0, 0)), response)

    def start(self, job: "Job") -> None:
        """Reset everything and set the memory up for a job."""
        arch = job.program.arch
        self.window_base = WINDOW_BASE if has_window_base(arch) else 0
        size = memory_bytes(arch, max(program.window_bytes for program in (
            job.program, job.damage[1] if job.damage else job.program)))
        self._command(_RESET, self.window_base, size, job.latency, round(job.stalls * 256),
                      job.seed, job.seed >> 32)
        self.set_fault(job.fault, job.response)
        self.transfer(_FILL, job.seed & 0xFFFFFFFF, 0, size)
        self._command(_CLOCKS, 3, 1)
        self._command(_CLOCKS, 1, 0)


def run_jobs(transport: SimulatedTransport, jobs: Sequence[Job]) -> list[list[RtlRun]]:
    """Results of every run of every job. Raises DeviceError."""
    results: list[list[RtlRun]] = []

    def start(job):
        transport.start(job)
        device = Device(transport)
        device.load(job.damage[1] if job.damage else job.program, job.watchdog)
        return device

    def run(device, job, what, **facts):
        transport.transfer(_LOG, sum(map(len, results)), 0, 0)
        found = device.run(what.writes, what.reads, job.limit)
        results[-1].append(RtlRun(**vars(found), **facts))
        return found.status.done and found.status.error is None

    def run_all(job):
        """Runs of a job on several cores; how they end is in the results."""
        if job.again:
            raise ValueError("a run again after a reset is for chips of one core")
        transport.start(job)
        first = sum(map(len, results))
        transport.transfer(_LOG, first, 0, 0)
        devices = devices_of(transport, job.program)
        for device in devices:
            device.load(job.program, job.watchdog)
        results.append([RtlRun(**vars(found)) for found in spread(
            devices, [(what.writes, what.reads) for what in job.runs], job.limit,
            lambda run, core: transport.transfer(_TRACE, first + run, core, 0))])

    for job in jobs:
        if job.program.arch.cores > 1:
            run_all(job)
            continue
        device = start(job)
        results.append([])
        for what in job.runs:
            if not run(device, job, what):
                break
        if job.again:
            good = replace(job, fault=None, damage=None, limit=job.limit_again)
            device, reset = _reset(transport, device, good, start)
            run(device, good, job.runs[0], reset=reset)
    transport.transfer(_LOG, sum(map(len, results)), 0, 0)
    return results


def _reset(transport, device, job, start):
    """The device after the reset that a job wants, with the memory as it was at first; and which
    reset it was."""
    reset = job.again
    if reset == "soft":
        try:
            device.reset()
        except DeviceError:
            reset = "soft in vain"
    if reset != "soft":
        return start(job), reset
    transport.set_fault(None)
    transport.transfer(_FILL, job.seed & 0xFFFFFFFF, 0, job.program.window_bytes)
    device.load(job.program, job.watchdog)
    return device, reset
