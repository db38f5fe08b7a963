"""Figures that are kept from one run to the next, and the page that shows them."""

import datetime
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import write_file
from systolith.gen.study.code import code_hash, key_of

from .part import Figure, Part, repository

__all__ = ["SHIPPED", "Kept", "key", "page", "stale", "text"]

#: What comes with Systolith.
SHIPPED = Path(__file__).with_name("figures.json")
#: {part: {"at", "version", "key", "seconds", "figures"}}
Kept = dict[str, dict[str, Any]]


def key(part: Part) -> str:
    """What a part's figures depend on: its modules, files and tools."""
    root = repository()
    files = [] if root is None else sorted({
        path for pattern in part.files for path in root.glob(pattern) if path.is_file()})
    return key_of(code_hash(part.modules, part.tools),
                  [path.read_bytes().hex() for path in files] if root else [])


def version_here() -> str:
    """Systolith's version, with the commit where it is a repository."""
    root, own = repository(), version("systolith")
    if root is None:
        return own
    made = subprocess.run(["git", "-C", str(root), "rev-parse", "--short=10", "HEAD"],
                          capture_output=True, text=True, check=False)
    return f"{own} ({made.stdout.strip()})" if made.returncode == 0 else own


def entry(part: Part, figures: Sequence[Figure], seconds: float) -> dict[str, Any]:
    """What is kept of a part that has been measured."""
    now = datetime.datetime.now(datetime.UTC)
    return {"at": now.strftime("%Y-%m-%d %H:%M"), "version": version_here(), "key": key(part),
            "seconds": round(seconds), "figures": [asdict(item) for item in figures]}


def read(path: Path) -> Kept:
    """What a file keeps; nothing where there is none. Raises UserError."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: is no file of kept figures ({error}); remove it, or name "
                        "another one (--kept)") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: is no file of kept figures; remove it, or name another one "
                        "(--kept)")
    return found


def write(path: Path, kept: Kept) -> None:
    """Keep figures. Raises UserError."""
    write_file(path, json.dumps(kept, indent=1) + "\n")


def stale(part: Part, kept: Mapping[str, Any]) -> bool:
    """Whether what is kept of a part is of other sources."""
    return part.name in kept and kept[part.name]["key"] != key(part)


def figures(kept: Mapping[str, Any], part: Part) -> list[Figure]:
    """A part's kept figures."""
    return [Figure(**item) for item in kept[part.name]["figures"]]


def heading(part: Part, kept: Mapping[str, Any]) -> str:
    """When and with what a part was measured, in words."""
    if part.name not in kept:
        return f"not measured; systolith verify --part {part.name} takes {part.takes}"
    mine = kept[part.name]
    old = "; sources have changed since" if stale(part, kept) else ""
    return f"measured {mine['at']} with {mine['version']}, in {mine['seconds']} s{old}"


def text(parts: Sequence[Part], kept: Mapping[str, Any]) -> str:
    """All figures as text."""
    lines = []
    for part in parts:
        lines += [f"{part.name}: {part.title}", f"  {heading(part, kept)}"]
        if part.name in kept:
            lines += [f"  {item.what}: {item.value}" + (
                f" (wanted: {item.wanted}; {_met(item)})" if item.wanted else "")
                for item in figures(kept, part)]
        lines.append("")
    return "\n".join(lines)


def _met(item):
    return {None: "", True: "met", False: "missed"}[item.good]


def page(parts: Sequence[Part], kept: Mapping[str, Any]) -> str:
    """All figures as a page of Markdown."""
    lines = ["# Figures of the verification", "",
             "Printed by `systolith verify --report -o docs/explanation/verification-figures.md`. "
             "Each part is measured anew by", "`systolith verify --part NAME`; "
             "[Verification](verification.md) says what is done.", ""]
    for part in parts:
        lines += [f"## {part.title}", "", f"`{part.name}`: {heading(part, kept)}.", ""]
        if part.name in kept:
            lines += ["| figure | value | wanted | |", "|---|---|---|---|"]
            lines += [f"| {_cell(item.what)} | {_cell(item.value)} | {_cell(item.wanted)} | "
                      f"{_met(item)} |" for item in figures(kept, part)]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _cell(words):
    return words.replace("|", "\\|").replace("<", "&lt;")
