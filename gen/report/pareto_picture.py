"""The first two objectives of a sweep against each other, as PNG and SVG."""

import math
from collections.abc import Sequence
from pathlib import Path

from systolith.gen.kit.files import new_file

from .metrics import METRICS

__all__ = ["write_pictures"]

PICTURES = ("pareto.png", "pareto.svg")


def write_pictures(rows: Sequence[dict], objectives: Sequence[str], folder: Path) -> list[Path]:
    """Write pareto.png and pareto.svg where there are two objectives and two points with both;
    their paths. `rows` as of `pareto.rows_of`."""
    if len(objectives) < 2:
        return []
    down, across = objectives[:2]
    curves: dict[str, list] = {}
    for row in rows:
        if not row["error"] and all(_positive(row[name]) for name in (across, down)):
            curves.setdefault(row["network"], []).append(row)
    points = {row["point"] for curve in curves.values() for row in curve}
    return [] if len(points) < 2 else _drawn(curves, across, down, folder)


def _positive(value):
    return value != "" and value > 0


def _shape(row):
    lanes = f" x {row['array.lanes']}" if row["array.lanes"] != 1 else ""
    return f"{row['array.rows']} x {row['array.columns']}{lanes}"


def _formats(row):
    return " x ".join(dict.fromkeys((row["array.activation"], row["array.weight"])))


def _labeller(rows):
    """(function from a row to the label of its point, what labels say): the formats of activations
    and weights where those of the rows differ, and shapes of the array where they do, or where
    nothing does."""
    parts = [(part, words) for part, words in (
        (_formats, "activations x weights"), (_shape, "rows x columns x lanes"))
        if len({part(row) for row in rows}) > 1]
    parts = parts or [(_shape, "rows x columns x lanes")]
    return (lambda row: ", ".join(part(row) for part, _ in parts),
            ", ".join(words for _, words in parts))


def _name(network, groups):
    """A curve's name, with the groups of its points where there is room for them."""
    told = ", ".join(groups)
    told = told if len(told) <= 40 else f"{len(groups)} groups"
    return f"{network} ({told})" if network else told


def _front(rows, across, down):
    """The rows that no other beats in the two, from the smallest of the first on."""
    signs = [-METRICS[name].better for name in (across, down)]
    front: list[dict] = []
    for row in sorted(rows, key=lambda row: (signs[0] * row[across], signs[1] * row[down])):
        if not front or signs[1] * row[down] < signs[1] * front[-1][down]:
            front.append(row)
    return front


def _apart(front, across, down):
    """The points of a front that are far enough from each other for a label."""
    kept: list[dict] = []
    for row in front:
        if all(abs(math.log(row[across] / other[across])) > 0.03
               or abs(math.log(row[down] / other[down])) > 0.08 for other in kept):
            kept.append(row)
    return kept


def _drawn(curves, across, down, folder):
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    label, labels = _labeller([row for curve in curves.values() for row in curve])
    for number, (network, curve) in enumerate(curves.items()):
        color = f"C{number}"
        fitting = [row for row in curve if not row["does_not_fit"] and not row["violated"]]
        others = [row for row in curve if row["does_not_fit"] or row["violated"]]
        front = _front(fitting, across, down)
        axes.scatter([row[across] for row in fitting], [row[down] for row in fitting], s=24,
                     color=color, alpha=0.45, linewidths=0)
        if others:
            axes.scatter([row[across] for row in others], [row[down] for row in others], s=24,
                         color=color, alpha=0.45, marker="x",
                         label=f"{network}: does not fit, or violates a constraint")
        groups = list(dict.fromkeys(row["group"] for row in curve))
        axes.plot([row[across] for row in front], [row[down] for row in front], color=color,
                  marker="o", markersize=6, linewidth=1.4,
                  label=_name(network, groups))
        left, low = ("left", "bottom") if number % 2 else ("right", "top")
        shift = 5 if number % 2 else -5
        for row in _apart(front, across, down):
            axes.annotate(label(row), (row[across], row[down]), xytext=(shift, shift),
                          textcoords="offset points", fontsize=8, color=color, ha=left, va=low,
                          bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none",
                                "pad": 0.5})
    target = next(iter(curves.values()))[0]["target"]
    axes.set(xscale="log", yscale="log", xlabel=f"{_text(across)} ({target})", ylabel=_text(down),
             title=f"Lines join the Pareto-optimal chips ({labels})")
    axes.margins(0.12)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(lambda value, _: f"{value:,.4g}" if value < 1000
                                 else f"{value:,.0f}")
        axis.set_minor_formatter(NullFormatter())
    axes.grid(which="both", alpha=0.25)
    axes.legend(frameon=False)
    paths = []
    for name in PICTURES:
        path, kind = folder / name, name.rpartition(".")[2]
        with new_file(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "systolith"}):
            figure.savefig(temporary, dpi=150, format=kind,
                           metadata={"Date": None} if kind == "svg" else None)
        paths.append(path)
    return paths


def _text(name):
    metric = METRICS[name]
    return f"{metric.text}, {metric.unit}" if metric.unit else metric.text
