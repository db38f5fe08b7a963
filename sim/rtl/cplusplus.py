"""What Verilator writes, compiled and linked: its model of a design, and its own library.

The library is the same for all models, and most of a small one's compilation. Files are compiled a
few at once, each of several that include each other's neighbours: Verilator's headers take longer
than much of the code.
"""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .merge import merged

__all__ = ["ARITHMETIC", "Compiler", "new_in", "processors"]

#: A header that each file of a model includes.
ARITHMETIC = (Path(__file__).parent / "arithmetic.h").read_text()
_DEFINED = "COVERAGE", "SC", "TIMING", "TRACE", "TRACE_FST", "TRACE_VCD", "TRACE_SAIF"


def processors() -> int:
    """How many processes may work at the same time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Compiler:
    """The C++ compiler on one model.

    Parameters
    ----------
    command : str
    root : path
        Verilator's own folder, without spaces.
    folder : path
        Of the sources, with what Verilator writes in `obj`.
    options : sequence of str
        Of the language, and definitions.
    on : sequence of str
        Which of Verilator's switches are on: "COVERAGE", "TIMING", "TRACE", "TRACE_FST".
    execute : function
        Of a command and a folder; it raises an error where the command fails.
    """

    def __init__(self, command: str, root: Path, folder: Path, options: Sequence[str],
                 on: Sequence[str], execute: Callable[[Sequence[str], Path], object]):
        self._root, self._folder, self._execute = root, folder, execute
        self._compile = [
            command, "-c", "-I.", f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}",
            f"-I{folder}", "-DVERILATOR=1",
            *(f"-DVM_{name}={int(name in on)}" for name in _DEFINED), "-faligned-new", "-w",
            *options]
        self._command = command

    def _object(self, name, included, optimize):
        """Compile a file that includes others, in `obj`; returns the name of the object."""
        place = self._folder / "obj"
        (place / f"{name}.cpp").write_text("".join(f'#include "{one}"\n' for one in included))
        self._execute([*self._compile, optimize, f"{name}.cpp", "-o", f"{name}.o"], place)
        return f"{name}.o"

    def library(self, parts: Sequence[str], optimize: str, kept: Path) -> None:
        """Compile these files of Verilator's library into `kept`, unless it is there. One process
        does, others that need the same at that time wait."""
        if kept.exists():
            os.utime(kept)          # of what was not used for longest some is removed
            return
        with _alone(kept.parent / f".{kept.name}.lock"):
            if kept.exists():
                return
            name = self._object("library", [self._root / "include" / f"{part}.cpp"
                                            for part in parts], optimize)
            with new_in(kept.parent) as new:
                shutil.copy(self._folder / "obj" / name, new / kept.name)
                os.rename(new / kept.name, kept)

    def model(self, own: Sequence[str], known: Sequence[str], optimize: str) -> list[str]:
        """Compile the model and the user's `own` C++ files; returns the names of objects in `obj`,
        with what the model needs of the library beyond the files that are `known`."""
        text = (self._folder / "obj" / "Vtop_classes.mk").read_text()
        files = {kind: [name for found in re.findall(
            rf"VM_{kind} \+=((?:.*\\\n)*)", text) for name in re.findall(r"\w+", found)]
            for kind in ("CLASSES_FAST", "SUPPORT_FAST", "CLASSES_SLOW", "SUPPORT_SLOW",
                         "GLOBAL_FAST", "GLOBAL_SLOW")}
        fast = files["CLASSES_FAST"] + files["SUPPORT_FAST"]
        slow = files["CLASSES_SLOW"] + files["SUPPORT_SLOW"]
        more = [self._root / "include" / f"{name}.cpp"
                for name in files["GLOBAL_FAST"] + files["GLOBAL_SLOW"] if name not in known]
        mine = [f"../{name}" for name in own]
        for name in files["CLASSES_FAST"] + files["CLASSES_SLOW"]:
            place = self._folder / "obj" / f"{name}.cpp"
            place.write_text(merged(place.read_text()))
        (self._folder / "obj" / "arithmetic.h").write_text(ARITHMETIC)
        # what runs once is compiled without optimization
        kinds = [(fast, optimize), (slow, "-O0")]
        if optimize == "-O0":
            kinds = [(fast + slow, optimize)]
        tasks: list[tuple[str, list, str]] = []
        for number, (names, how) in enumerate(kinds):
            for part, group in enumerate(self._shares(names)):
                tasks.append((f"part_{number}_{part}", ["arithmetic.h", *group], how))
        tasks[0][1].extend(mine)
        if more:
            tasks.append(("more", more, "-O0"))
        with ThreadPoolExecutor(processors()) as pool:
            return list(pool.map(lambda task: self._object(*task), tasks))

    def _shares(self, names):
        """File names in as many groups as there are processors, of about the same size each."""
        sizes = {f"{name}.cpp": (self._folder / "obj" / f"{name}.cpp").stat().st_size
                 for name in names}
        groups: list[list[str]] = [[] for _ in range(min(4, processors()))]
        for name in sorted(sizes, key=lambda name: -sizes[name]):
            min(groups, key=lambda group: sum(sizes[one] for one in group)).append(name)
        return [group for group in groups if group]

    def link(self, objects: Sequence[str], libraries: Sequence[str], target: str) -> Path:
        """An executable in `obj` from objects and libraries; returns its path."""
        place = self._folder / "obj"
        self._execute([self._command, *objects, "-o", target, *libraries], place)
        return place / target


@contextlib.contextmanager
def _alone(path):
    """Holds a lock that one process has at a time, at `path`."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def new_in(cache: Path) -> Iterator[Path]:
    """A folder in the cache where something becomes complete before it gets its name: a rename is
    atomic, whoever else makes the same."""
    with tempfile.TemporaryDirectory(dir=cache, prefix=".") as name:
        yield Path(name)
