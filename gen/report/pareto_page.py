"""A sweep's results as one page that works without a network: plots, filters, table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from systolith.gen.chip.keys import KEYS
from systolith.gen.kit.files import write_file

from .metrics import METRICS
from .pages import filled

__all__ = ["page", "write_page"]

PAGE = "pareto.html"


def page(rows: Sequence[dict[str, Any]], objectives: Sequence[str], folder: Path | str) -> str:
    """The page of rows as of `pareto.rows_of`; `folder` is that of the sweep, for commands."""
    data = {
        "objectives": list(objectives), "folder": str(folder),
        "metrics": {name: {"text": item.text, "better": item.better, "unit": item.unit}
                    for name, item in METRICS.items()},
        "keys": [key.path for key in KEYS.values()],
        "note": next((row["estimate"] for row in rows if row["estimate"]), ""),
        "rows": [{name: None if name in METRICS and value == "" else value
                  for name, value in row.items() if name != "estimate"} for row in rows]}
    return filled("pareto", f"Sweep {Path(folder).name}", data)


def write_page(rows: Sequence[dict[str, Any]], objectives: Sequence[str], folder: Path) -> Path:
    """Write pareto.html into a sweep's folder; its path."""
    return write_file(folder / PAGE, page(rows, objectives, folder))
