"""Number formats at equal array size and at equal area: the digits' CNN and a residual network,
quantized to each format without training, on chips for ECP5 whose arrays are built of LUTs.

Equal size is `examples/sweep/format-study.toml`, 8 x 8 elements. Equal area: in each format the
array that takes the fewest cycles of those whose area, estimated from the elements', is at most
that of the 8 x 8 int8 chip; its own area is then measured. Images a second are at one clock; with
`--place 1` the chips of equal size are placed and routed, as `systolith sweep --finalists all`
does, and have images a second at their own clocks, too.
"""

import json
import os
from pathlib import Path

from common import arguments, report
from systolith.gen.study.sweep.run import sweep

EXAMPLES = Path(__file__).parent.parent / "examples"
SPACE = """
target = "ecp5"
dsp = "post"
area = "{area}"
objectives = ["accuracy", "images_per_s"]
"""
GROUP = """
[[group]]
name = "{name}"
chip = "ulx3s-8x8"
networks = [{networks}]
set = {{ "clock.mhz" = 75, "array.depthwise" = false, "buffers.tables" = 0, \
"array.activation" = "{activation}", "array.weight" = "{weight}" }}
together = [{{ "array.rows" = {rows}, "array.columns" = {columns} }}]
"""
NETWORKS = ("digits-cnn-float", "digits-resnet-float")
REFERENCE = "int8", "int8", False
#: Arrays to choose from, rows and columns.
SHAPES = tuple((rows, columns) for rows in (2, 4, 8, 12, 16) for columns in (4, 8, 12, 16)
               if rows <= 2 * columns and columns <= 4 * rows)
#: How many of the largest that fit are tried.
TRIED = 3


def kind(result):
    """(activation, weight, binary layers) of a point."""
    chip = result["chip"]
    return chip["activation"], chip["weight"], chip["packed_signs"]


def fitting(result, most):
    """The largest arrays in a point's format whose estimated area is at most `most` LUTs."""
    element = result["processing_element"]["lut"]
    around = result["lut"] - element * result["chip"]["rows"] * result["chip"]["columns"]
    good = [shape for shape in SHAPES if around + element * shape[0] * shape[1] <= most]
    return sorted(good or SHAPES[:1], key=lambda shape: -shape[0] * shape[1])[:TRIED]


def space(folder, name, area, shapes):
    """Writes a space of the shapes of each format; its path. `shapes`: {(activation, weight):
    [shape]}."""
    networks = ", ".join(
        f'{{ path = "{EXAMPLES}/digits/{net}.onnx", data = "{EXAMPLES}/digits/digits-test.npz" }}'
        for net in NETWORKS)
    path = folder / f"{name}.toml"
    path.write_text(SPACE.format(area=area) + "".join(
        GROUP.format(name=f"{activation} x {weight}", networks=networks, activation=activation,
                     weight=weight, rows=[shape[0] for shape in items],
                     columns=[shape[1] for shape in items])
        for (activation, weight), items in shapes.items()))
    return path


def cycles(result):
    return sum(figures["cycles"] for figures in result["networks"].values())


def row(result):
    activation, weight, binary = kind(result)
    chip, found = result["chip"], {}
    for name, figures in result["networks"].items():
        own = figures["figures"]
        found |= {f"{name}: right": f"{own['accuracy']:.1%}", f"{name}: cycles": own["cycles"],
                  f"{name}: images/s": round(own["images_per_s"]),
                  f"{name}: per 1,000 LUT": round(own["images_per_s_per_klut"], 1)}
        if own.get("placed_mhz"):
            found |= {f"{name}: placed, MHz": own["placed_mhz"],
                      f"{name}: images/s there": round(own["placed_images_per_s"])}
    return {"activations x weights": f"{activation} x {weight}" + " and signs" * binary,
            "array": f"{chip['rows']} x {chip['columns']}", "lut": result["lut"],
            "ff": result["ff"], "bram": result["bram"], **found}


def measured(folder, jobs, place=False):
    """(results of arrays of equal size, of equal area), one for each format; those of equal size
    with the clock that they reach if `place`. What is measured is kept in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    equal, _ = sweep(EXAMPLES / "sweep" / "format-study.toml", folder / "size", jobs=jobs,
                     finalists="all" if place else 0)
    most = next(item for item in equal if kind(item) == REFERENCE)["lut"]
    tried, _ = sweep(space(folder, "tried", "none", {
        kind(item)[:2]: fitting(item, most) for item in equal if not kind(item)[2]}),
        folder / "tried", jobs=jobs)
    fastest: dict = {}
    for item in tried:
        key = kind(item)[:2]
        if not item["error"] and (key not in fastest or cycles(item) < cycles(fastest[key])):
            fastest[key] = item
    chosen, _ = sweep(space(folder, "area", "modules", {
        key: [(item["chip"]["rows"], item["chip"]["columns"])] for key, item in fastest.items()}),
        folder / "area", jobs=jobs)
    return equal, chosen


def main():
    options = arguments(__doc__, folder=("build/formats", "for results, which are kept"),
                        place=(0, "1: place and route chips of equal size"),
                        jobs=(os.cpu_count() or 1, "points at the same time"))
    equal, chosen = measured(Path(options.folder), options.jobs, bool(options.place))
    rows = [[row(item) for item in items if not item["error"]]
            for items in (equal, chosen)]
    for title, part in zip(("Equal size", "Equal area"), rows, strict=True):
        for names in ("", *NETWORKS, "digits-residual-bnn"):        # what all have, then networks
            lines = [{key: value for key, value in line.items()
                      if key.startswith(f"{names}:") or key == "activations x weights"
                      or not (names or ":" in key)} for line in part]
            lines = [line for line in lines if len(line) > 1]
            if lines:
                report(f"{title}{', ' * bool(names)}{names}", lines)
    if options.json:
        Path(options.json).write_text(json.dumps(dict(zip(("size", "area"), rows, strict=True))))


if __name__ == "__main__":
    main()
