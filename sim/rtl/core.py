"""Programs on the core itself: its Verilog, compiled by Verilator."""

import math
import os
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.widths import register_bits

from .bench import Job, RtlRun, Run, SimulatedTransport, run_jobs
from .coverage import Coverage, read
from .cplusplus import processors
from .device import DeviceError, memory_bytes
from .verilate import SimulationError, build, run

__all__ = ["LONG", "Job", "RtlRun", "Run", "Simulation", "build_bench", "build_core",
           "clocks_per_second", "run_bench", "simulate", "simulate_parts"]

#: The C++ compiler's optimization, and the most clocks for which it is the best: on a core of
#: 16 x 16, "-O1" compiles for 4 CPU seconds more than "-O0" and makes runs four times as fast;
#: "-Os" and "-O2" compile for 10 more and gain a twentieth at most.
LONG = {"-O0": 300_000, "-O1": math.inf}
#: The module that takes most of a model's code where it stands in place, once for each column.
_LANE = "systolith_post_lane"
#: Kinds of `Job.fault`; the last three are of read beats: wrong RLAST, twice, never.
READ_ERROR, WRITE_ERROR, READ_SILENT, WRITE_SILENT, LAST, TWICE, LOST = range(1, 8)


@dataclass
class Simulation:
    """Results (a list of `RtlRun` for each job), the clocks that the runs took and when these were
    simulated, in seconds (start, end), and what was covered, where that was counted."""
    runs: list
    clocks: int
    spans: list[tuple[float, float]]
    coverage: Coverage | None = None


def clocks_per_second(found: Iterable[Simulation]) -> float:
    """How fast simulations were that may have run at the same time: all their clocks, by the
    seconds in which at least one of them ran; NaN where that is none."""
    found = list(found)
    seconds, until = 0.0, -math.inf
    for start, end in sorted(span for one in found for span in one.spans):
        seconds += max(0.0, end - max(start, until))
        until = max(until, end)
    return sum(one.clocks for one in found) / seconds if seconds else math.nan


def build_core(verilog: str, arch: Arch, *, window_bytes: int = 0, waves: bool = False,
               coverage: bool = False, optimize: str = "-O0",
               cache: Path | str | None = None) -> Path:
    """Compile `verilog` (a module `systolith_core` for `arch`) with memory and testbench.

    Returns the path of an executable for `simulate`; the same arguments give the same one again.
    """
    here = Path(__file__).parent
    sources = {"core.v": verilog, **{
        name: (here / name).read_text() for name in ("memory.sv", "harness.sv")}}
    if coverage:                                # of the core alone
        sources["coverage.vlt"] = "`verilator_config\n" + "".join(
            f'coverage_off -file "{name}"\n' for name in ("memory.sv", "harness.sv"))
    if not coverage and f"module {_LANE}(" in verilog:      # all lanes are one code, see `merge`
        sources["lanes.vlt"] = f'`verilator_config\nno_inline -module "{_LANE}"\n'
    return build(
        {**sources, "commands.cpp": (here / "commands.cpp").read_text()}, "harness",
        flags=["--timescale", "1ns/1ns"], waves=waves, coverage=coverage, optimize=optimize,
        cache=cache,
        parameters={"DATA_BITS": arch.bus_bits, "ITEM_BITS": arch.item_bits,
                    "SIZE_BITS": max(20, (memory_bytes(arch, window_bytes) - 1).bit_length()),
                    **({"CORES": arch.cores, "REGISTER_BITS": register_bits(arch)}
                       if arch.cores > 1 else {})})


def build_bench(sources: Mapping[str, str], top: str, **options: Any) -> Path:
    """Compile Verilog into an executable in which cocotb drives `top`, whose only port is `clk`.

    `sources` and `options` as of `verilate.build`. Returns the path, for `run_bench`.
    """
    import cocotb_tools.config as cocotb
    return build(
        {**sources, "main.cpp": (Path(__file__).parent / "main.cpp").read_text()}, top,
        flags=["--vpi", "--timescale", "1ns/1ns", *options.pop("flags", ())],
        link=[f"-Wl,-rpath,{cocotb.libs_dir}", f"-L{cocotb.libs_dir}", "-lcocotbvpi_verilator"],
        **options)


def run_bench(executable: Path, top: str, module: str, *, folder: Path,
              arguments: Sequence[str] = (), timeout: float | None = None) -> str:
    """Run an executable of `build_bench` with the cocotb tests of a Python module, in `folder`.

    Returns what it prints. Raises SimulationError.
    """
    return run(executable, arguments=arguments, env=_environment(top, module), folder=folder,
               timeout=timeout)


def simulate(verilog: str, jobs: Sequence[Job], *, waves: Path | str | None = None,
             strict: bool = True, coverage: bool = False, optimize: str = "-O0",
             cache: Path | str | None = None, timeout: float | None = None,
             stop: threading.Event | None = None) -> Simulation:
    """Run jobs, all for one chip, one after the other in one simulation.

    Parameters
    ----------
    verilog : str
        The module `systolith_core`.
    jobs : list of Job
    waves : path or None
        FST file to write.
    strict : bool
        Refuse a core that breaks a rule of AXI or writes outside its window.
    coverage : bool
        Count lines and toggles; takes twice the time or more.
    optimize, cache
        See `verilate.build`, and `LONG` for what pays.
    timeout : float or None
        Seconds that the simulation may take.
    stop : threading.Event or None
        When another thread sets it, the simulation ends soon, with SimulationError.

    Returns a `Simulation`. Raises SimulationError.
    """
    arch = jobs[0].program.arch
    if any(identity(job.program.arch) != identity(arch) for job in jobs):
        raise ValueError("all jobs of a simulation must be for one chip")
    executable = build_core(
        verilog, arch, window_bytes=max(job.program.window_bytes for job in jobs),
        waves=waves is not None, coverage=coverage, optimize=optimize, cache=cache)
    with tempfile.TemporaryDirectory(prefix="systolith-") as name:
        folder = Path(name)
        try:
            with SimulatedTransport(executable, folder, timeout=timeout, stop=stop, waves=None
                                    if waves is None else Path(waves).resolve()) as transport:
                results = run_jobs(transport, jobs)
        except DeviceError as error:
            raise SimulationError(str(error)) from error
        numbers = iter(range(sum(map(len, results))))
        runs = [[_with_logs(result, folder, next(numbers)) for result in job] for job in results]
        counted = read((folder / "coverage.dat").read_text(), verilog) if coverage else None
    broken = [text for job in runs for result in job for text in result.broken]
    if strict and broken:
        raise SimulationError("the core broke a rule of its memory bus (cycle, address, rule):\n"
                              + "\n".join(broken[:10]))
    return Simulation(runs, transport.clocks, transport.spans, counted)


def simulate_parts(verilog: str, parts: Iterable[Sequence[Job]], *,
                   waves: Path | str | None = None, optimize: str = "-O0"
                   ) -> Generator[Simulation, None, None]:
    """`simulate` for each of these lists of jobs, as many at a time as there are processors; what
    comes of it, in order. All are for one chip, and for windows of one size. `waves` are of a
    single list. Whoever stops reading closes the generator, which ends what still runs."""
    waiting = iter(parts)
    first = next(waiting)
    second = next(waiting, None)
    if second is None:
        yield simulate(verilog, first, waves=waves, optimize=optimize)
        return
    if waves is not None:
        raise ValueError("waveforms are of one simulation")
    # before several want the same one
    build_core(verilog, first[0].program.arch, window_bytes=first[0].program.window_bytes,
               optimize=optimize)
    stop, most = threading.Event(), processors()
    with ThreadPoolExecutor(most) as pool:
        running: deque = deque()
        try:
            for jobs in chain([first, second], waiting):
                running.append(pool.submit(simulate, verilog, jobs, optimize=optimize, stop=stop))
                if len(running) > most:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            stop.set()
            for left in running:
                left.cancel()


def _with_logs(result, folder, number):
    trace = []
    with open(folder / f"trace_{number}.txt") as lines:
        for line in lines:
            layer, raw, item = line.split()
            trace.append((int(layer, 16), int(raw), int(item, 16)))
    cycles, addresses, values = [], [], bytearray()
    writes, broken = (folder / f"{name}_{number}.txt" for name in ("writes", "broken"))
    if not writes.exists():                     # they are those of the job's first run
        return replace(result, trace=trace)
    with open(writes) as lines:
        for line in lines:
            cycle, offset, strobes, digits = line.split()
            cycles.append(int(cycle, 16))
            data = bytes.fromhex(digits)[::-1]
            for n, bit in enumerate(f"{int(strobes, 16):0{len(data)}b}"[::-1]):
                if bit == "1":
                    addresses.append(int(offset, 16) + n)
                    values.append(data[n])
    return replace(
        result, trace=trace,
        written=(np.array(addresses, np.int64), np.frombuffer(bytes(values), np.uint8)),
        write_cycles=np.array(cycles, np.int64),
        broken=broken.read_text().splitlines())


def _environment(top, module):
    """What cocotb reads, without what the user's shell may have set for other simulations."""
    import cocotb_tools.config as cocotb
    import find_libpython
    library = find_libpython.find_libpython()
    if library is None:
        raise SimulationError(
            "cocotb needs Python as a shared library; on Debian and Ubuntu: sudo apt install "
            f"libpython{sys.version_info[0]}.{sys.version_info[1]}")
    inherited = {key: value for key, value in os.environ.items()
                 if not key.startswith(("COCOTB_", "GPI_", "PYGPI_"))}
    return {
        **inherited, "COCOTB_TOPLEVEL": top, "TOPLEVEL_LANG": "verilog",
        "COCOTB_TEST_MODULES": module, "COCOTB_RESULTS_FILE": "results.xml",
        "COCOTB_LOG_LEVEL": "WARNING", "COCOTB_ANSI_OUTPUT": "0",
        "COCOTB_TRUST_INERTIAL_WRITES": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": f"{library};{cocotb.pygpi_entry_point()}"}
