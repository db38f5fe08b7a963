"""A sweep's results as a table and as Pareto plots."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from systolith.gen.chip.keys import KEYS
from systolith.gen.kit.files import new_file, write_file
from systolith.gen.measure.area import FIGURES

__all__ = ["pareto_front", "write_results"]

TABLE, PICTURE, PAGE = "results.csv", "pareto.png", "pareto.html"


def pareto_front(pairs: Sequence[tuple]) -> list[int]:
    """Indices of the (cost, time) pairs that no other pair beats in one and equals or beats in
    the other, from the cheapest to the fastest."""
    order = sorted(range(len(pairs)), key=lambda n: (pairs[n], n))
    front, best = [], float("inf")
    for n in order:
        if pairs[n][1] < best:
            front.append(n)
            best = pairs[n][1]
    return front


def _rows(results):
    """One row for each point and network: a flat dict."""
    rows = []
    for result in results:
        chip = result.get("chip", {})
        row = {"group": result["group"],
               **{key.path: chip.get(key.field, result["settings"].get(key.path, ""))
                  for key in KEYS.values() if key.section},
               "products_per_cycle": result.get("macs_per_cycle", ""),
               "target": result.get("target", ""), "part": result.get("part") or "",
               "does_not_fit": "; ".join(result.get("exceeds", [])),
               **{key: result.get(key, "") for key in FIGURES}}
        networks = result.get("networks") or {"": {}}
        for network, figures in networks.items():
            rows.append(row | {
                "network": network,
                **{key: figures.get(key, "") for key in ("macs", "cycles", "compute_cycles",
                                                         "utilization")},
                "pareto": 0, "error": result["error"] or figures.get("error") or ""})
    for curve in _curves(rows).values():
        for row in _front(curve):
            row["pareto"] = 1
    return rows


def _curves(rows):
    """Rows with cycles, by network."""
    curves: dict[str, list] = {}
    for row in rows:
        if row["cycles"] != "" and row["lut"] != "":
            curves.setdefault(row["network"], []).append(row)
    return curves


def write_results(results: list[dict], folder: Path) -> list[Path]:
    """Write results.csv, and where cycles were counted pareto.png and pareto.html; their paths."""
    rows = _rows(results)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files = [write_file(folder / TABLE, text.getvalue())]
    curves = _curves(rows)
    if curves:
        files.append(_picture(curves, folder / PICTURE))
        files.append(_page(curves, folder / PAGE))
    return files


def _label(row):
    lanes = f" x {row['array.lanes']}" if row["array.lanes"] != 1 else ""
    return f"{row['array.rows']} x {row['array.columns']}{lanes}"


def _front(curve):
    """The rows that no other beats, of those that fit their part, from the cheapest on."""
    fitting, _ = _by_fit(curve)
    return [fitting[n] for n in pareto_front([(row["lut"], row["cycles"]) for row in fitting])]


def _by_fit(curve):
    """(rows that fit their part or have none, rows that do not)."""
    return ([row for row in curve if not row["does_not_fit"]],
            [row for row in curve if row["does_not_fit"]])


def _apart(front):
    """The points of a front that are far enough from each other for a label."""
    kept: list[dict] = []
    for row in front:
        if all(abs(math.log(row["lut"] / other["lut"])) > 0.03
               or abs(math.log(row["cycles"] / other["cycles"])) > 0.08 for other in kept):
            kept.append(row)
    return kept


def _target(curves):
    return next(iter(curves.values()))[0]["target"]


def _picture(curves, path):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, (network, curve) in enumerate(curves.items()):
        color, front = f"C{number}", _front(curve)
        fitting, others = _by_fit(curve)
        axes.scatter([row["lut"] for row in fitting], [row["cycles"] for row in fitting], s=24,
                     color=color, alpha=0.45, linewidths=0)
        if others:
            axes.scatter([row["lut"] for row in others], [row["cycles"] for row in others], s=24,
                         color=color, alpha=0.45, marker="x",
                         label=f"{network}: does not fit the {others[0]['part']}")
        axes.plot([row["lut"] for row in front], [row["cycles"] for row in front], color=color,
                  marker="o", markersize=6, linewidth=1.4,
                  label=f"{network} ({', '.join(dict.fromkeys(row['group'] for row in curve))})")
        across, down = ("left", "bottom") if number % 2 else ("right", "top")
        shift = 5 if number % 2 else -5
        for row in _apart(front):
            axes.annotate(_label(row), (row["lut"], row["cycles"]), xytext=(shift, shift),
                          textcoords="offset points", fontsize=8, color=color, ha=across, va=down)
    axes.set(xscale="log", yscale="log", xlabel=f"LUTs of the core ({_target(curves)})",
             ylabel="cycles per image", title="Area against time; lines join the Pareto-optimal "
                                              "chips (rows x columns x lanes)")
    axes.margins(0.12)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:,.0f}")
        axis.set_minor_formatter(NullFormatter())
    axes.grid(which="both", alpha=0.25)
    axes.legend(frameon=False)
    with new_file(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    return path


def _hover(row):
    lines = [f"{row['group']}: {_label(row)}", f"{row['array.activation']} x {row['array.weight']}",
             *(f"{row[key]:,} {key.upper()}" for key in FIGURES),
             f"{row['cycles']:,} cycles, {100 * row['utilization']:.1f} % of the array"]
    if row["does_not_fit"]:
        lines.append(f"does not fit the {row['part']}: {row['does_not_fit']}")
    return "<br>".join(lines)


def _page(curves, path):
    import plotly.graph_objects as go
    figure = go.Figure()
    colors = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2")
    for number, (network, curve) in enumerate(curves.items()):
        color, front = colors[number % len(colors)], _front(curve)
        figure.add_scatter(
            x=[row["lut"] for row in front], y=[row["cycles"] for row in front], mode="lines",
            line={"color": color}, name=f"{network}: Pareto front", hoverinfo="skip")
        for rows, name, symbol in zip(_by_fit(curve), (network, f"{network}: does not fit"),
                                      ("circle", "x"), strict=True):
            if rows:
                figure.add_scatter(
                    x=[row["lut"] for row in rows], y=[row["cycles"] for row in rows],
                    mode="markers", marker={"color": color, "size": 9, "symbol": symbol},
                    name=name, hoverinfo="text", hovertext=[_hover(row) for row in rows])
    figure.update_xaxes(type="log", title=f"LUTs of the core ({_target(curves)})")
    figure.update_yaxes(type="log", title="cycles per image")
    figure.update_layout(title="Area against time", template="plotly_white")
    return write_file(path, figure.to_html(include_plotlyjs=True, full_html=True))
