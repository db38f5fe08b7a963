"""Where a sweep stands: a file that other programs read, and a table in the terminal."""

import json
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from systolith.gen.kit.files import write_file
from systolith.gen.kit.progress import Reporter

__all__ = ["STATUS", "Status"]

STATUS = "status.json"


class Status:
    """Keeps status.json in a sweep's folder up to date, at most once a second.

    It holds `state` ("running", "done" or "failed"), `started` and `updated` in seconds since 1970,
    for each kind of measurement how many are `wanted`, `known` from earlier runs, `measured` now
    and `failed` among both, `unused`: how many results of the folder no point asked for, `points`
    and those whose constraints hold (`feasible`), and for each objective the `best` figure with its
    point.
    """

    def __init__(self, folder: Path, progress: Reporter):
        self.path, self.progress = folder / STATUS, progress
        self.data: dict[str, Any] = {
            "state": "running", "started": round(time.time(), 1), "updated": 0.0, "points": 0,
            "feasible": 0, "measurements": {}, "unused": 0, "best": {}}
        self._asked: set[str] = set()
        self._written = 0.0
        self.write()

    def wanted(self, kind: str, tasks: Iterable[str], known: dict[str, dict]) -> None:
        """Measurements of a kind are wanted, by their keys; `known` are results."""
        keys = set(tasks)
        self._asked |= keys
        there = [known[key] for key in keys if key in known]
        counts = self.data["measurements"].setdefault(
            kind, {"wanted": 0, "known": 0, "measured": 0, "failed": 0})
        counts["wanted"] += len(keys)
        counts["known"] += len(there)
        counts["failed"] += sum(item["error"] is not None for item in there)
        self.write()

    def measured(self, result: dict[str, Any]) -> None:
        """A result has come."""
        counts = Counter(self.data["measurements"][result["kind"]])
        counts["measured"] += 1
        counts["failed"] += result["error"] is not None
        self.data["measurements"][result["kind"]] = dict(counts)
        if time.monotonic() - self._written > 1:
            self.write()

    def found(self, points: int, feasible: int, best: dict[str, Any]) -> None:
        """So many points are known; `best`: objective -> {"value", "point"}."""
        self.data |= {"points": points, "feasible": feasible, "best": best}
        self.write()

    def unused(self, known: dict[str, dict]) -> int:
        """How many results nothing has asked for, those of finalists left aside."""
        self.data["unused"] = sum(key not in self._asked for key, result in known.items()
                                  if result.get("kind") != "placed")
        return self.data["unused"]

    def end(self, state: str) -> None:
        self.data["state"] = state
        self.write()

    def write(self) -> None:
        self._written = time.monotonic()
        self.data["updated"] = round(time.time(), 1)
        write_file(self.path, json.dumps(self.data, indent=1) + "\n")
        self.progress.show(self.rows())

    def rows(self) -> list[list[str]]:
        """For a table in the terminal, its heading first."""
        rows = [["", "wanted", "known", "measured", "failed"]]
        rows += [[kind, *(f"{counts[name]:,}" for name in rows[0][1:])]
                 for kind, counts in self.data["measurements"].items()]
        rows += [[f"best {name}", f"{item['value']:,.6g}", item["point"], "", ""]
                 for name, item in self.data["best"].items()]
        return rows
