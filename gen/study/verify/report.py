"""`systolith verify`: parts are measured, kept, and shown."""

import time
from collections.abc import Sequence
from pathlib import Path

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import write_file
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.gen.kit.tables import text_table

from . import kept as keeping
from .part import Figure, Part, Settings, repository
from .parts import PARTS

__all__ = ["listed", "measured", "report"]


def _place(given: str | Path | None) -> Path:
    """Where figures are kept."""
    if given is not None:
        return Path(given)
    return keeping.SHIPPED if repository() is not None else Path("verify.json")


def _known(given: str | Path | None) -> keeping.Kept:
    """What is kept: what comes with Systolith, and over it what the file has."""
    return keeping.read(keeping.SHIPPED) | keeping.read(_place(given))


def listed() -> str:
    """The parts, as a table."""
    return text_table([["part", "what", "takes", "needs"], *(
        [part.name, part.title, part.takes, "the repository" if part.repository else ""]
        for part in PARTS.values())], "llll")


def _chosen(names: Sequence[str], known: keeping.Kept) -> list[Part]:
    unknown = [name for name in names if name not in {*PARTS, "all", "stale"}]
    if unknown:
        raise UserError(f"--part {unknown[0]}: there is no such part; parts are "
                        f"{', '.join(PARTS)}, all and stale")
    return [part for part in PARTS.values() if part.name in names or "all" in names or (
        "stale" in names and (part.name not in known or keeping.stale(part, known)))]


def measured(names: Sequence[str], place: str | Path | None = None, quick: bool = False,
             pythons: Sequence[str] = (), jobs: int = 1, progress: Reporter = SILENT) -> bool:
    """Measure parts, keep their figures (not with `quick`) and print them; whether all targets are
    met. Raises UserError."""
    good = True
    for part in _chosen(names, _known(place)):
        if part.repository and repository() is None:
            print(f"{part.name}: needs the repository (tests/, bench/), not an installed package")
            continue
        with progress.step(f"{part.name}: {part.title}"):
            start = time.monotonic()
            figures = part.run(Settings(quick, pythons, jobs, show=lambda line: None))
        mine = {part.name: keeping.entry(part, figures, time.monotonic() - start)}
        if not quick:
            # Read anew, as other parts may have been measured meanwhile.
            keeping.write(_place(place), keeping.read(_place(place)) | mine)
        print(keeping.text([part], mine))
        good &= _all_met(figures)
    return good


def _all_met(figures: Sequence[Figure]) -> bool:
    return all(item.good is not False for item in figures)


def report(place: str | Path | None = None, page: str | Path | None = None) -> str:
    """All figures that are kept, as text; also as a page."""
    known, parts = _known(place), list(PARTS.values())
    if page is not None:
        write_file(page, keeping.page(parts, known))
    return keeping.text(parts, known)
