"""A sweep's results: what no other point beats, the table of all, and its files."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from systolith.gen.chip.keys import KEYS
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import new_file, read_json, write_file
from systolith.gen.kit.tables import text_table

from .metrics import METRICS
from .pareto_page import write_page
from .pareto_picture import write_pictures

__all__ = ["front_table", "pareto_front", "read_results", "rows_of", "write_results"]

TABLE, DATA, PARQUET = "results.csv", "results.json", "results.parquet"


def pareto_front(costs: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the rows that no other row beats in one cost and equals or beats in all others,
    in the order of the first cost; of equal rows the first one."""
    array = np.asarray(costs, float)
    if not len(array):
        return []
    order = np.lexsort([np.arange(len(array)), *array.T[::-1]])
    front: list[int] = []
    for n in order:
        # Whatever dominates it comes before it in this order, and is or is dominated by one there.
        if not any((array[m] <= array[n]).all() for m in front):
            front.append(int(n))
    return front


def rows_of(results: Sequence[dict[str, Any]], objectives: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each point and network: a flat dict. `pareto` is 1 on the network's front of all
    objectives, among the points that fit their part and whose constraints hold; `estimate` says how
    good figures are that were not synthesized."""
    rows = []
    for result in results:
        chip = result.get("chip", {})
        row = {"point": result["id"], "group": result["group"],
               **{key.path: chip.get(key.field, result["settings"].get(key.path, ""))
                  for key in KEYS.values() if key.path != "name"},
               "products_per_cycle": result.get("macs_per_cycle", ""),
               "target": result.get("target", ""), "part": result.get("part") or "",
               "does_not_fit": "; ".join(result.get("exceeds", [])),
               "violated": "; ".join(result.get("violated", []))}
        networks = result.get("networks") or {"": {"figures": result.get("figures", {})}}
        for network, figures in networks.items():
            own = figures.get("figures") or {}
            rows.append(row | {
                "network": network,
                **{name: figures.get(name, "") for name in ("macs", "compute_cycles")},
                **{name: "" if (value := own.get(name, result.get(name))) is None else value
                   for name in METRICS},
                "estimate": result.get("estimate", ""), "pareto": 0,
                "error": result["error"] or figures.get("error") or ""})
    curves: dict[str, list] = {}
    for row in rows:
        if not row["does_not_fit"] and not row["violated"] and not row["error"] and all(
                row[name] != "" for name in objectives):
            curves.setdefault(row["network"], []).append(row)
    for curve in curves.values():
        for n in pareto_front([[-METRICS[name].better * row[name] for name in objectives]
                               for row in curve]):
            curve[n]["pareto"] = 1
    return rows


def write_results(results: list[dict], folder: Path, objectives: Sequence[str]) -> list[Path]:
    """Write results.csv, results.json, pareto.html, pareto.png and pareto.svg, and results.parquet
    where PyArrow is installed; their paths."""
    rows = rows_of(results, objectives)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    data = {"about": "a sweep of systolith", "objectives": list(objectives), "points": results}
    files = [write_file(folder / TABLE, text.getvalue()),
             write_file(folder / DATA, json.dumps(data) + "\n")]
    return [*files, *_parquet(rows, folder / PARQUET), write_page(rows, objectives, folder),
            *write_pictures(rows, objectives, folder)]


def front_table(rows: Sequence[dict[str, Any]], objectives: Sequence[str]) -> str:
    """The rows on the fronts, as text, by network and the first objective."""
    front = [row for row in rows if row["pareto"]]
    better = METRICS[objectives[0]].better
    front.sort(key=lambda row: (row["network"], -better * row[objectives[0]]))
    return text_table([
        ["point", "group", "network", "array", "formats", *objectives],
        *([row["point"], row["group"], row["network"],
           f"{row['array.rows']} x {row['array.columns']} x {row['array.lanes']}",
           f"{row['array.activation']} x {row['array.weight']}",
           *(f"{row[name]:,}" if isinstance(row[name], int) else f"{row[name]:,.5g}"
             for name in objectives)] for row in front)], "lllll" + "r" * len(objectives))


def _parquet(rows, path):
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return []
    columns = {}
    for name in rows[0]:
        values = [None if row[name] == "" else row[name] for row in rows]
        if len({type(value) for value in values if value is not None} - {int, float}) or any(
                isinstance(value, bool) for value in values):
            values = [None if value is None else str(value) for value in values]
        columns[name] = values
    with new_file(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(columns), temporary)
    return [path]


def read_results(folder: Path | str) -> dict[str, Any]:
    """What results.json of a sweep's folder holds. Raises UserError."""
    path = Path(folder) / DATA
    try:
        data = read_json(path)
        if not isinstance(data, dict) or not isinstance(data.get("points"), list):
            raise ValueError
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; `systolith sweep` writes it") from None
    except ValueError:
        raise UserError(f"{path}: is no result of a sweep; `systolith sweep` writes it anew"
                        ) from None
    return data
