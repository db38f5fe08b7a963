"""A layer-by-layer comparison as a table on the screen, as CSV, and as a chart."""

from pathlib import Path
from typing import Any

from systolith.gen.kit.files import new_file, write_file
from systolith.gen.kit.tables import text_table

from .quantization import decibels, rows_csv
from .report import effort_line

__all__ = ["comparison_facts", "comparison_table", "write_comparison"]

TABLE, PICTURE = "compare.csv", "compare.png"
#: What is drawn for "no difference", in dB, and the most that is drawn.
_TOP = 120


def _steps(number):
    return f"{number:.0f}" if number == int(number) else f"{number:.1f}"


def comparison_facts(found: Any) -> str:
    """What a `LayerComparison` has compared, two lines."""
    return (f"{found.images:,} images; golden: the exact model of the chip; quantized: the "
            f"quantized model by {found.quantized_by};\nfloat: {found.float_source} by "
            f"{found.float_by}; dB: signal to noise, larger is nearer, exact: no difference")


def comparison_table(found: Any) -> str:
    """A `LayerComparison` as text."""
    lines = [["layer", "format", "results", "codes that differ", "largest, steps",
              "golden to quantized dB", "golden to float dB", "quantized to float dB"]]
    for row in found.rows:
        known, real = row["quantized_tensor"] is not None, row["float_tensor"] is not None
        count = row["codes_differing"]
        lines.append([
            row["layer"], row["format"], f"{row['elements']:,}",
            f"{count:,} ({100 * count / max(row['elements'], 1):.3f} %)" if known else "-",
            _steps(row["largest_steps"]) if known else "-",
            decibels(row["golden_to_quantized_db"]) if known else "-",
            decibels(row["golden_to_float_db"]) if real else "-",
            decibels(row["quantized_to_float_db"]) if known and real else "-"])
    text = [*comparison_facts(found).split("\n"), "", text_table(lines, "llrrrrrr")]
    if any(row["quantized_tensor"] is None for row in found.rows):
        text += ["", "-: what the chip has there stands nowhere in the model"]
    if found.arithmetic:
        text += ["", effort_line(found.arithmetic)]
    if found.answers:
        text += ["", *(line for _, line in found.answers)]
    return "\n".join(text)


def write_comparison(found: Any, folder: Path) -> list[Path]:
    """Write compare.csv and compare.png into a folder; their paths."""
    folder = Path(folder)
    return [write_file(folder / TABLE, rows_csv(found.rows)), _picture(found, folder / PICTURE)]


def _short(name):
    """A layer's name, its end if it is long."""
    return name if len(name) <= 28 else f"...{name[-25:]}"


def _picture(found, path):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    rows = [row for row in found.rows if row["quantized_tensor"] is not None]
    places = range(len(rows))
    figure = Figure(figsize=(max(7.0, 0.32 * len(rows) + 3), 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    lines = (("golden_to_float_db", "golden model to float", "C0", "o", "-"),
             ("quantized_to_float_db", "quantized model to float", "C1", "x", "--"))
    for key, label, color, marker, style in lines:
        drawn = [(n, min(row[key] if row[key] is not None else _TOP, _TOP))
                 for n, row in zip(places, rows, strict=True) if row["float_tensor"] is not None]
        upper.plot(*zip(*drawn, strict=True) if drawn else ([], []), color=color, marker=marker,
                   linestyle=style, label=label)
    upper.set(ylabel="signal to noise, dB", title="Where accuracy goes: each layer's results "
                                                  "against the float network")
    upper.legend(frameon=False)
    upper.grid(alpha=0.25)
    lower.bar(places, [100 * row["codes_differing"] / max(row["elements"], 1) for row in rows],
              color="C3")
    lower.set(ylabel="codes that differ\nfrom quantized, %", xticks=list(places))
    lower.set_xticklabels([_short(row["layer"]) for row in rows], rotation=60, ha="right",
                          fontsize=8)
    lower.set_ylim(bottom=0)
    lower.grid(axis="y", alpha=0.25)
    with new_file(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
    return path
