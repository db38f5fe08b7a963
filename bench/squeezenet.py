"""SqueezeNet 1.1: the smallest design and the cheapest part for 24.2 images a second (a Movidius
stick) and for 864 (a Jetson AGX Xavier).

A sweep of int8 chips on ECP5 with random weights, one core and several that share the bus. All are
compared at one clock, `--mhz`. With `--place N` the smallest chip that reaches a rate and fits its
part is placed and routed with N seeds, as `systolith sweep --finalists 1` does, as the top level of
a ULX3S-85F, beside the 64 blocks of RAM of that board's memory; its rate is told at the median of
these clocks, too. The rate of several cores is that of an image on each at the same time, waits for
each other on the bus included. With `--area 1` Yosys says what the chips take, with `--area 2` the
estimate for ECP5 does, else only products a cycle are known. Multipliers of 17 bits in
post-processing leave the DSP blocks to the array.
"""

import os
from math import gcd
from pathlib import Path

import onnx
from common import arguments, report
from systolith.gen.study.sweep.run import sweep
from systolith.hw.board.parts import PARTS
from vision_networks import squeezenet

#: Images per second, by what reaches them.
GOALS = {"Movidius": 24.2, "AGX Xavier": 864.0}
#: On which chips for its family are placed.
BOARD = "ulx3s-85f"
#: By `--area`.
AREAS = ("none", "whole", "estimate")
SPACE = """
part = "{part}"
dsp = {dsp}
area = "{area}"
objectives = ["images_per_s", "{objective}"]
[finalists]
seeds = {place}
mhz = {ask}
[[group]]
chip = {{ board = "{board}", array = {{ rows = 8, columns = 8 }} }}
networks = ["squeezenet.onnx"]
set = {{ "clock.mhz" = {mhz}, "post.multiplier_bits" = 17, "buffers.parameters" = 256, \
"buffers.activations" = {activations}, "buffers.weights" = {weights}, \
"buffers.accumulators" = {accumulators} }}
vary = {{ "bus.data_bits" = [{buses}], cores = [{cores}] }}
together = [{{ "array.rows" = {rows}, "array.columns" = {columns}, "post.lanes" = {post} }}]
"""


def chosen(results, goal, size):
    """The smallest chip that reaches a rate and fits its part; the fastest one where none does."""
    known = [item for item in results if item["figures"]]
    good = [item for item in known if item["figures"]["images_per_s"] >= goal]
    fitting = [item for item in good if not item["exceeds"]]
    if fitting or good:
        return min(fitting or good, key=lambda item: item["figures"][size])
    return max(known, key=lambda item: item["figures"]["images_per_s"])


def _area(figures):
    """LUTs, DSP blocks and block RAM, measured or estimated."""
    kind = "estimated_" if figures["lut"] is None else ""
    return {kind.replace("_", " ") + name: figures[kind + name] for name in ("lut", "dsp", "bram")}


def row(name, goal, item):
    chip, figures = item["chip"], item["figures"]
    reached = figures["images_per_s"]
    return {"goal": name, "images/s": goal, "reached": reached,
            "MHz for it": goal and figures["clock_mhz"] * goal / reached,
            "array": f"{chip['rows']} x {chip['columns']}", "cores": chip["cores"],
            "bus": chip["bus_bits"], "cycles": figures["cycles"],
            "used": figures["utilization"],
            **_area(figures), "does not fit": "; ".join(item["exceeds"])}


def space(folder, options, shapes, **others):
    """Writes a space of these shapes, (rows, columns); its path."""
    path = folder / "space.toml"
    size = (None, "lut", "estimated_lut")[options.area]
    path.write_text(SPACE.format(**vars(options) | {
        "place": max(1, options.place), "area": AREAS[options.area], "objective": size or "cycles",
        "board": BOARD if PARTS[options.part].target == PARTS["LFE5U-85F"].target else "none",
        "rows": [rows for rows, _ in shapes], "columns": [columns for _, columns in shapes],
        "post": [min(gcd(*shape), options.lanes) for shape in shapes]} | others))
    return path


def at_its_own_clock(folder, options, item, goal):
    """What a row of a chip has besides: the clock that it closes on a board, and its rate there;
    nothing where it misses its goal or its part."""
    chip, figures = item["chip"], item["figures"]
    if item["exceeds"] or figures["images_per_s"] < goal:
        return dict.fromkeys(("placed, MHz", "by seed", "images/s there"), "")
    (only,), _ = sweep(space(folder, options, [(chip["rows"], chip["columns"])],
                             cores=chip["cores"], buses=chip["bus_bits"]),
                       folder, jobs=options.jobs, finalists=1)
    placed, figures = only["placed"], only["figures"]
    if placed["error"] is not None:
        return {"placed, MHz": placed["error"], "by seed": "", "images/s there": ""}
    return {"placed, MHz": placed["mhz"],
            "by seed": ", ".join(f"{mhz:.1f}" for mhz in placed["by_seed"].values()),
            "images/s there": figures["placed_images_per_s"]}


def main():
    options = arguments(__doc__, area=(0, "1: by Yosys, 2: the estimate"),
                        place=(0, "seeds of place and route"),
                        mhz=("100", "the clock at which chips are compared"),
                        ask=("130", "MHz that are asked of place and route"),
                        shapes=("8x8,8x16,16x8,12x12,12x16,16x16,32x32", "rows x columns"),
                        size=(224, "pixels of an image's side"),
                        cores=("1,2,4,6,8,16", "side by side"), buses=("64,128,256,512", "bits"),
                        lanes=(4, "of post-processing, at most"),
                        part=("LFE5U-85F", "which the chips must fit"),
                        dsp=("true", 'or \'"post"\': DSP blocks in post-processing alone'),
                        activations=(8192, "words"), weights=(2048, "words"),
                        accumulators=(1024, "words"),
                        jobs=(os.cpu_count() or 1, "points at the same time"),
                        folder=("build/squeezenet", "for results, which are kept"))
    shapes = [tuple(map(int, text.split("x"))) for text in options.shapes.split(",")]
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    net, output = squeezenet(options.size, window=3)
    onnx.save_model(net.model(output), folder / "squeezenet.onnx")
    size = (None, "lut", "estimated_lut")[options.area]
    results, _ = sweep(space(folder, options, shapes), folder, jobs=options.jobs)
    if single := [row("", "", item) for item in results
                  if item["figures"] and item["chip"]["cores"] == 1]:
        report("One core", single)
        print()
    key = (lambda item: item["figures"][size]) if size else (
        lambda item: item["macs_per_cycle"] * item["chip"]["cores"])
    for item in results:
        if item["figures"]:
            item["figures"]["size"] = key(item)
    rows = []
    for name, goal in GOALS.items():
        item = chosen(results, goal, "size")
        rows.append(row(name, goal, item) | (
            at_its_own_clock(folder, options, item, goal) if options.place else {}))
    report("Smallest that reach a rate", rows, options.json)


if __name__ == "__main__":
    main()
