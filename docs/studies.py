"""Renews the tables of docs/explanation/studies.md: `python docs/studies.py [STUDY ...]`.

Each study is run as its page says, by `systolith sweep` or a command of `bench/`: `formats`,
`binary`, `shapes`, `networks` (array shapes of five networks), `squeezenet`. What is measured is
kept in build/studies, so that a stopped run goes on and one after a change of the code measures
what that can have changed. Minutes each; `squeezenet` places and routes three chips, a quarter
of an hour of CPU time and more each, and `formats` eleven.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from math import ceil
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.append(str(ROOT / "bench"))

import array_shapes  # noqa: E402
import formats  # noqa: E402
import squeezenet  # noqa: E402
from systolith.gen.kit.tables import text_table  # noqa: E402
from systolith.gen.study.sweep.run import sweep  # noqa: E402

# (bench/ has a module of that name, too)
_spec = importlib.util.spec_from_file_location("docs_generate", HERE / "generate.py")
assert _spec is not None and _spec.loader is not None
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)

PAGE = "explanation/studies.md"
SPACES = ROOT / "examples" / "sweep"
#: Of formats that are not plain, what they are.
TOLD = {"e3m0": " (powers of two)", "e3m0x2": " (sums of two)"}
#: The words of `bench/squeezenet.py` for each row, and what the array is built of.
SQUEEZENETS = (
    ("LUTs", "--shapes 12x8 --cores 1 --buses 64 --activations 2048 --weights 1024 "
             "--accumulators 512 --part LFE5U-25F --mhz 125 --place 1"),
    ("LUTs", "--shapes 16x8 --cores 1 --buses 64 --activations 2048 --weights 1024 "
             "--accumulators 512 --part LFE5U-25F --place 1"),
    ("LUTs", "--shapes 16x8 --cores 2 --buses 128 --activations 2048 --weights 1024 "
             "--accumulators 512 --part LFE5U-45F --place 1 --ask 125"))
FAST = "--shapes 32x32 --cores 6 --buses 256 --lanes 16 --part XCVU9P"
FAST_GOAL = "AGX Xavier"


def _format(result):
    activation, weight, binary = formats.kind(result)
    return ("int8, binary layers as packed signs" if binary else
            f"{activation} x {weight}{TOLD.get(weight, '')}")


def _right(result, name):
    figures = result["networks"].get(name)
    return f"{figures['figures']['accuracy']:.1%}".replace("%", " %") if figures else ""


def _placed_rate(result, name):
    """Images per second of a network at the clock after place and route; None where one of the two
    is not there."""
    figures = result["networks"].get(name)
    return figures and figures["figures"].get("placed_images_per_s")


def format_tables(equal, chosen):
    """{name of a table in the page: its text} of results as of `formats.measured`."""
    size = [["activations x weights", "LUT4", "FF", "block RAM", "LUT4 of an element", "CNN right",
             "ResNet right", "MHz after place and route", "CNN images/s there",
             "ResNet images/s there", "these per 1,000 LUT", "energy, uJ"]]
    cnn, resnet = formats.NETWORKS
    for item in equal:
        binary = formats.kind(item)[2]
        main = "digits-residual-bnn" if binary else resnet
        own = item["networks"][main]["figures"]
        rate = _placed_rate(item, main)
        rates = [f"{rate:,.0f}", f"{rate * 1000 / item['lut']:.0f}"] if rate else ["", ""]
        first = _placed_rate(item, cnn)
        size.append([_format(item), f"{item['lut']:,}", f"{item['ff']:,}", item["bram"],
                     item["processing_element"]["lut"], _right(item, cnn), _right(item, main),
                     f"{item['placed']['mhz']:.1f}" if rate else "",
                     f"{first:,.0f}" if first else "",
                     *(f"({text})" if binary and text else text for text in rates),
                     f"{own['energy_uj']:.1f}"])
    area = [["activations x weights", "array", "LUT4", "FF", "block RAM", "CNN: cycles",
             "images/s at 75 MHz", "ResNet: cycles", "images/s at 75 MHz"]]
    for item in chosen:
        per = [item["networks"][name]["figures"] for name in formats.NETWORKS]
        area.append([_format(item), f"{item['chip']['rows']} x {item['chip']['columns']}",
                     f"{item['lut']:,}", f"{item['ff']:,}", item["bram"], *(
                         text for own in per for text in (
                             f"{own['cycles']:,}", f"{own['images_per_s']:,.0f}"))])
    return {"format-size": text_table(size, "lrrrrrrrrrrr"),
            "format-area": text_table(area, "llrrrrrrr")}


def binary_tables(results):
    rows = [["elements", "LUT4", "FF", "block RAM", "cycles", "energy, uJ (estimate)"]]
    for item in results:
        chip, own = item["chip"], next(iter(item["networks"].values()))["figures"]
        lanes = f" x {chip['lanes']} lanes" if chip["lanes"] > 1 else ""
        rows.append([f"{item['group']}, {chip['rows']} x {chip['columns']}{lanes}",
                     f"{item['lut']:,}", f"{item['ff']:,}", item["bram"], f"{own['cycles']:,}",
                     f"{own['energy_uj']:.1f}"])
    return {"binary": text_table(rows, "lrrrrr")}


def shape_tables(results):
    """Cycles by rows and columns of arrays of one lane."""
    found = {(item["chip"]["rows"], item["chip"]["columns"]): item["figures"]["cycles"]
             for item in results if item["chip"]["lanes"] == 1}
    columns = sorted({shape[1] for shape in found})
    least = min(found.values())
    rows = [["rows \\ columns", *columns]]
    for height in sorted({shape[0] for shape in found}):
        rows.append([height, *(f"**{taken:,}**" if taken == least else f"{taken:,}" for taken in (
            found[height, width] for width in columns))])
    return {"shapes": text_table(rows, "r" * (1 + len(columns)))}


def network_tables(results, names):
    """Cycles and utilization of networks of these names by shape of the array."""
    rows = [["array", *names]]
    for item in results:
        chip = item["chip"]
        lanes = {1: "", 2: ", two lanes"}.get(chip["lanes"], f", {chip['lanes']} lanes")
        rows.append([f"{chip['rows']} x {chip['columns']}{lanes}", *(
            f"{own['cycles']:,}, {own['utilization']:.0%}".replace("%", " %")
            for own in (item["networks"][name] for name in names))])
    return {"networks": text_table(rows, "l" + "r" * len(names))}


def squeezenet_tables(rows, fast):
    """Of rows of `bench/squeezenet.py` for each of SQUEEZENETS, and the row for FAST."""
    goal = squeezenet.GOALS[FAST_GOAL]
    table = [["cores", "built of", "bus, bits", "LUT4", "DSP", "block RAM", "cycles on one core",
              f"MHz for {squeezenet.GOALS['Movidius']} images/s", "part",
              "MHz after place and route", "images/s there", f"parts for {goal:.0f} images/s"]]
    for (built, words), item in zip(SQUEEZENETS, rows, strict=True):
        rate = item.get("images/s there") or ""
        table.append([_cores(item), built, item["bus"], f"{item['lut']:,}", item["dsp"],
                      item["bram"], f"{item['cycles']:,}", f"{item['MHz for it']:.1f}",
                      _part(words), item.get("by seed", ""), rate and f"{rate:.1f}",
                      rate and ceil(goal / rate)])
    other = [["cores", "bus, bits", "LUT6", "DSP", "block RAM, 36 kbit", "cycles on one core",
              f"MHz for {goal:.0f} images/s"],
             [_cores(fast), fast["bus"], f"{fast['lut']:,}", fast["dsp"],
              fast["bram"], f"{fast['cycles']:,}", f"{fast['MHz for it']:.1f}"]]
    return {"squeezenet": text_table(table, "llrrrrrrlrrr"),
            "squeezenet-fast": text_table(other, "lrrrrrr")}


def _cores(item):
    return (f"{item['cores']} x " if item["cores"] > 1 else "") + item["array"]


def _part(words):
    listed = words.split()
    return listed[listed.index("--part") + 1]


def _squeezenet(folder, goal, words):
    """A row of `bench/squeezenet.py`: the chip for a goal."""
    folder.mkdir(parents=True, exist_ok=True)
    found = folder / "found.json"
    subprocess.run([sys.executable, ROOT / "bench" / "squeezenet.py", *words.split(), "--folder",
                    folder, "--json", found], check=True)
    return next(row for row in json.loads(found.read_text())["rows"] if row["goal"] == goal)


def _formats(folder, jobs):
    return format_tables(*formats.measured(folder, jobs, place=True))


def _binary(folder, jobs):
    return binary_tables(sweep(SPACES / "binary-study.toml", folder, jobs=jobs)[0])


def _shapes(folder, jobs):
    return shape_tables(sweep(SPACES / "array-shapes.toml", folder, jobs=jobs)[0])


def _networks(folder, jobs):
    names = list(array_shapes.NETWORKS)
    return network_tables(array_shapes.measured(
        folder, {name: array_shapes.NETWORKS[name](False) for name in names},
        array_shapes.SHAPES, jobs), names)


def _squeezenets(folder, jobs):
    rows = [_squeezenet(folder / str(number), "Movidius", " ".join([
        words, "--area 1", "--jobs", str(jobs), *(["--dsp", '"post"'] if built == "LUTs" else [])]))
        for number, (built, words) in enumerate(SQUEEZENETS)]
    return squeezenet_tables(rows, _squeezenet(folder / "fast", FAST_GOAL,
                                               f"{FAST} --area 1 --jobs {jobs}"))


#: Study -> what runs it; the names of its tables in the page.
STUDIES = {"formats": (_formats, ("format-size", "format-area")), "binary": (_binary, ("binary",)),
           "shapes": (_shapes, ("shapes",)), "networks": (_networks, ("networks",)),
           "squeezenet": (_squeezenets, ("squeezenet", "squeezenet-fast"))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", metavar="STUDY", nargs="*", default=list(STUDIES),
                        help=f"{', '.join(STUDIES)} (default: all)")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "studies")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    for name in options.studies:
        if name not in STUDIES:
            parser.error(f"{name!r} is none of {', '.join(STUDIES)}")
        run, _ = STUDIES[name]
        tables = run(options.folder / name, options.jobs)
        (HERE / PAGE).write_text(generate.filled(PAGE, **tables))
        print(f"docs/{PAGE}: {', '.join(tables)}", flush=True)


if __name__ == "__main__":
    main()
