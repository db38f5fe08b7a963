"""The table of processing elements as CSV, JSON, Markdown, and a chart."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from systolith.gen.kit.files import new_file, write_file
from systolith.gen.kit.tables import text_table
from systolith.gen.measure.element_area import merit

__all__ = ["markdown", "write_tables"]

CSV, JSON, PAGE, CHART = "area.csv", "area.json", "area.md", "area.png"

_SIZE = {"xc7": "LUT", "ecp5": "LUT4 + 2 CCU2C", "ice40": "LUT4", "asic": "transistors"}
_TITLE = {
    "xc7": "xc7: LUT6", "ecp5": "ECP5: LUT4, and two for each carry cell (CCU2C)",
    "ice40": "iCE40: LUT4", "asic": "ASIC: transistors"}
_NOTES = {
    "xc7": "Bare carry: carry positions whose LUT only passes a wire; LUT + bare carry bounds what "
           "a placer reaches. Slices: at least so many, by LUT / 4 and FF / 8.",
    "ecp5": "", "ice40": "", "asic": ""}


def write_tables(rows: list[dict], targets: Sequence[str], folder: Path,
                 liberty: Path | None) -> list[Path]:
    """Write area.csv, area.json, area.md and area.png; their paths. Rows are `area_table`'s."""
    return [write_file(folder / CSV, _csv(rows)),
            write_file(folder / JSON, json.dumps(rows, indent=2) + "\n"),
            write_file(folder / PAGE, markdown(rows, targets, liberty)),
            *_chart(rows, targets, folder / CHART)]


def _ratios(row):
    """Size against the references: a dict of ratio or None."""
    if not row["figures"]:
        return {}
    size, against = row["figures"][merit(row["target"])] / row["products"], row["against"]
    return {name: size / against[key] if against.get(key) else None for name, key in (
        ("plain int16", "plain int16"), ("own int16", "int16"),
        ("own 16 bits", "own 16 bits size"))}


def _csv(rows):
    figures = ("lut", "bare_carry", "slice_lut", "carry", "ff", "slices", "transistors", "um2",
               "dsp", "flow")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([
        "element", "activation", "weight", "lanes", "columns", "target", "plain", *figures,
        "per_product", *(f"dsp_{name}" for name in figures),
        "of_plain_int16", "of_own_int16", "of_own_16_bits", "own_16_bits", "error"])
    for row in rows:
        cells, with_dsp = row["figures"] or {}, row["with_dsp"] or {}
        ratios = [f"{ratio:.3f}" if ratio else "" for ratio in _ratios(row).values()] or [""] * 3
        size = cells.get(merit(row["target"]))
        writer.writerow([
            row["element"], row["activation"], row["weight"], row["lanes"], row["columns"],
            row["target"], int(row["plain"]), *(cells.get(name, "") for name in figures),
            "" if size is None else f"{size / row['products']:.3f}",
            *(with_dsp.get(name, "") for name in figures),
            *ratios, row["against"]["own 16 bits"] or "", row["error"] or ""])
    return text.getvalue()


def markdown(rows: list[dict], targets: Sequence[str], liberty: Path | None) -> str:
    """The tables as a Markdown page."""
    lines = ["# Area of processing elements", "",
             "By Yosys, one element alone: activation register, double-buffered weights, exact "
             "partial sums for 16 rows, one pipeline stage. Edge decoders are not counted. The "
             "last columns are sizes per product as parts of other elements': the plain int16, "
             "the same generator's int16, and its float of 16 bits with the same exponent bits "
             "(integers: int16), whose sums are exact as well. A lane of bipolar1 is one product, "
             "or two binary operations. Columns are elements side by side that share an activation "
             "register and, with DSP blocks, multiplications.", ""]
    for target in targets:
        lines += [f"## {_TITLE[target]}", ""]
        if _NOTES[target]:
            lines += [_NOTES[target], ""]
        if target == "asic":
            lines += [f"um2: standard cells of {liberty.name}." if liberty else
                      "um2: not measured; --liberty FILE names standard cells, and Debian's "
                      "package qflow-tech-osu018 brings some that are found by themselves.", ""]
        chosen = [row for row in rows if row["target"] == target]
        measured = [row for row in chosen if row["figures"]]
        if measured:
            lines += [_table(measured, target), ""]
        if missing := [row for row in chosen if not row["figures"]]:
            lines += ["Not measured:", "",
                      *(f"- {row['element']}: {row['error']}" for row in missing), ""]
    return "\n".join(lines)


def _table(rows, target):
    extra = {"xc7": ["bare_carry", "ff", "slices"], "ecp5": ["lut", "carry", "ff"],
             "ice40": ["ff"], "asic": ["um2", "ff"]}[target]
    names = {"bare_carry": "bare carry", "ff": "FF", "slices": "slices", "lut": "LUT4 alone",
             "carry": "CCU2C", "um2": "um2"}
    key = merit(target)
    heads = ["element", _SIZE[target], *(names[name] for name in extra), "per product"]
    if target != "asic":
        heads += ["with DSP", "FF", "DSP"]
    heads += ["of plain int16", "of int16", "of its 16 bits"]
    body = []
    for row in rows:
        cells, with_dsp = row["figures"], row["with_dsp"]
        line = [row["element"], f"{cells[key]:,}",
                *(f"{cells[name]:,}" if name in cells else "" for name in extra),
                f"{cells[key] / row['products']:,.2f}".removesuffix(".00")]
        if target != "asic":
            line += [f"{with_dsp[name]:,}" for name in (key, "ff", "dsp")] if with_dsp else [""] * 3
        line += [f"{ratio:.2f}" if ratio else "" for ratio in _ratios(row).values()]
        body.append(line)
    return text_table([heads, *body], "l" + "r" * (len(heads) - 1))


def _chart(rows, targets, path):
    """Bars of size per product, a panel for each target."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    panels = {target: sorted(
        ((row["figures"][merit(target)] / row["products"], row) for row in rows
         if row["target"] == target and row["figures"]), key=lambda pair: pair[0])
        for target in targets}
    panels = {target: bars for target, bars in panels.items() if bars}
    if not panels:
        return []
    most = max(map(len, panels.values()))
    figure = Figure(figsize=(4.6 * len(panels) + 0.5, 1.6 + 0.19 * most), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (target, bars) in zip(figure.subplots(1, len(panels), squeeze=False)[0],
                                    panels.items(), strict=True):
        sizes = [size for size, _ in bars]
        colors = ["#888888" if row["plain"] else _color(row) for _, row in bars]
        axes.barh(range(len(bars)), sizes, color=colors)
        axes.set_yticks(range(len(bars)), [row["element"] for _, row in bars], fontsize=7)
        axes.set(xscale="log", title=target, xlabel=f"{_SIZE[target]} per product")
        axes.set_ylim(-0.6, len(bars) - 0.4)
        axes.margins(x=0.12)
        for place, size in enumerate(sizes):
            axes.annotate(f"{size:,.3g}" if size < 1000 else f"{size:,.0f}", (size, place),
                          xytext=(2, 0), textcoords="offset points", va="center", fontsize=6)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.suptitle("Processing elements: size per product; blue integers, orange floats, green "
                    "others, grey the plain yardstick", fontsize=9)
    with new_file(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
    return [path]


def _color(row):
    if row["weight"].startswith(("int", "uint")):
        return "#1f77b4"
    return "#ff7f0e" if row["weight"].startswith("e") and row["activation"][0] == "e" else "#2ca02c"
