"""Liberty files of standard cells and macros: areas, and which cells are flip-flops."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from systolith.gen.kit.errors import UserError

__all__ = ["Liberty", "read_liberty"]

_CELL = re.compile(r'^\s*cell\s*\(\s*"?([\w$.\[\]]+)"?\s*\)\s*\{', re.MULTILINE)
_AREA = re.compile(r'\barea\s*:\s*"?([\d.eE+-]+)')
_FF = re.compile(r"\bff\s*\(")
_BUFFER = re.compile(r"(?:^|_)buf(?!inv|n|z)", re.IGNORECASE)
_NAND = re.compile(r"nand_?2", re.IGNORECASE)


@dataclass(frozen=True)
class Liberty:
    """A library of cells.

    `areas`: name -> um2 (or what the library counts in); `flipflops`: names of the cells that are
    some; `nand2`: the area of its smallest NAND of two inputs, `buffer`: its smallest buffer, each
    None where no cell is called so.
    """
    name: str
    path: Path
    areas: Mapping[str, float]
    flipflops: frozenset
    nand2: float | None
    buffer: str | None


def read_liberty(path: Path | str) -> Liberty:
    """Read a liberty file. Raises UserError where it is none."""
    path = Path(path).absolute()
    try:
        return _read(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


@lru_cache(maxsize=8)
def _read(path, _):
    text = re.sub(r"/\*.*?\*/", "", path.read_text(errors="replace"), flags=re.DOTALL)
    library = re.search(r'\blibrary\s*\(\s*"?([\w.-]+)"?\s*\)', text)
    starts = list(_CELL.finditer(text))
    if library is None or not starts:
        raise UserError(f"{path}: is no liberty file: it has no library with cells")
    areas, flipflops = {}, set()
    ends = [*(found.start() for found in starts[1:]), len(text)]
    for found, end in zip(starts, ends, strict=True):
        body = text[found.end():end]
        area = _AREA.search(body)
        areas[found[1]] = float(area[1]) if area else 0.0
        if _FF.search(body):
            flipflops.add(found[1])
    nands = [area for name, area in areas.items() if _NAND.search(name) and area > 0]
    buffers = [name for name in areas if _BUFFER.search(name) and areas[name] > 0]
    return Liberty(library[1], path, areas, frozenset(flipflops), min(nands, default=None),
                   min(buffers, key=areas.__getitem__, default=None))
