"""The report of a build: cycles, throughput, area, placement; as data and as a page."""

import json
from pathlib import Path
from typing import Any

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import write_file
from systolith.gen.kit.notes import Note
from systolith.gen.kit.notes import lines as note_lines
from systolith.gen.kit.tables import text_table
from systolith.gen.measure.area import PARTS
from systolith.hw.board.boards import BOARDS
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.host import Input
from systolith.hw.spec.identity import identity
from systolith.hw.spec.program import Program
from systolith.sim.machine.cycles import cycles

from .profile import BOUNDS, profile

__all__ = ["area_rows", "assumed_clock", "host_lines", "make_report", "markdown", "read_report",
           "units_table", "write_report"]

JSON, PAGE = "report.json", "report.md"
FIGURES = ("lut", "ff", "dsp", "bram")


def assumed_clock(arch: Arch) -> tuple[float, str]:
    """(MHz, where the figure comes from)."""
    board = BOARDS.get(arch.board)
    if board is not None:
        return board.clock_mhz, f"oscillator of the {board.name}"
    return arch.clock_mhz, "assumed: clock.mhz of the chip"


def make_report(program: Program, latency: int = 32) -> dict:
    """The report of a program as plain data, without area; cycles are the cycle model's for a
    memory of this latency."""
    arch, host = program.arch, program.host
    board = BOARDS.get(arch.board)
    mhz, source = assumed_clock(arch)
    timing = cycles(program, latency)
    macs = host.batch * host.macs
    report = {
        "network": {"name": host.network, "macs": host.macs, "layers": len(host.layers),
                    "batch": host.batch,
                    "inputs": [_tensor(item) for item in host.inputs],
                    "outputs": [_tensor(item) for item in host.outputs]},
        "chip": arch.to_dict() | {"identity": f"{identity(arch):016x}",
                                  "macs_per_cycle": arch.macs_per_cycle,
                                  "accumulator_bits": arch.accumulator_bits},
        "clock": {"mhz": mhz, "source": source},
        "cycles": {
            "total": timing.cycles, "compute": timing.compute_cycles, "latency": latency,
            "utilization": macs / (timing.cycles * arch.macs_per_cycle),
            "compute_utilization": macs / (timing.compute_cycles * arch.macs_per_cycle),
            "images_per_second": host.batch * mhz * 1e6 / timing.cycles},
        "units": timing.activity,
        "layers": [layer.to_json() | cost for layer, cost in
                   zip(host.layers, profile(program, timing), strict=True)],
        "memory": {
            "window_bytes": program.window_bytes, "image_bytes": len(program.image),
            "instructions": len(program.instructions),
            "sections": [part.to_json() for part in host.memory],
            "on_chip": {name: {"used": host.peak[name], "of": host.depth[name]}
                        for name in host.peak}},
        "area": None,
    }
    if board is not None:
        report["board"] = {
            "name": board.name, "part": board.part.name, "memory_bytes": board.memory_bytes,
            "program_fits": program.window_bytes <= board.memory_bytes,
            "has": {key: getattr(board.part, key) for key in FIGURES}}
    return report


def _tensor(item):
    """Name and shape; of an input also its map in memory, where the host lays out kernel taps."""
    return {"name": item.name, "shape": list(item.shape),
            **({"laid_out_as": list(item.map)} if isinstance(item, Input) and item.taps else {})}


def write_report(report: dict, folder: Path | str) -> None:
    """Write report.json and report.md into a folder."""
    write_file(Path(folder) / JSON, json.dumps(report, indent=2) + "\n")
    write_file(Path(folder) / PAGE, markdown(report))


def read_report(folder: Path | str) -> dict:
    """The report in a build folder as data. Raises UserError where there is none."""
    path = Path(folder) / JSON
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; `systolith build` writes it") from None
    except ValueError:
        raise UserError(f"{path}: is no JSON; `systolith build` writes it anew") from None


def area_rows(area: dict, part: Any = None) -> list[list]:
    """Rows for `text_table`: each part of an area (as data), the whole, and what the FPGA has.

    `part` is a dict of `FIGURES`, or None.
    """
    rows = [["part", "LUT", "FF", "DSP", "BRAM"]]
    one = area.get("processing_element")
    if one:
        rows.append(["one processing element", *(_number(one[key]) for key in FIGURES)])
    for name in sorted(area["parts"], key=PARTS.index):
        label = f"{name} ({one['count']})" if one and name == "processing elements" else name
        rows.append([label, *(_number(area["parts"][name][key]) for key in FIGURES)])
    rows.append(["**total**", *(_number(area["total"][key]) for key in FIGURES)])
    if part:
        rows.append(["the part has", *(_number(part[key]) for key in FIGURES)])
        rows.append(["used", *(f"{100 * area['total'][key] / part[key]:.1f} %"
                               for key in FIGURES)])
    return rows


def _number(value):
    return f"{value:,}"


def host_lines(work: dict[str, dict]) -> list[str]:
    """What the host computes, in words; `work` as of `Graph.host_work`."""
    lines = []
    for where, part in work.items():
        operators = ", ".join(f"{count} {name}" if count > 1 else name
                              for name, count in part["operators"].items())
        lines.append(
            f"{where.capitalize()} the chip the host computes {part['nodes']} "
            f"node{'s' * (part['nodes'] > 1)} ({operators}), {part['macs']:,} "
            f"multiply-accumulates, {100 * part['share']:.2g} % of the network's: from "
            f"{', '.join(part['reads'])} to {', '.join(part['gives'])}"
            + (f". The first reason: {part['why']}" if part["why"] else ""))
    return lines


def markdown(report: dict) -> str:
    """The report as a Markdown page."""
    network, chip, clock = report["network"], report["chip"], report["clock"]
    size = f"{chip['rows']} x {chip['columns']}"
    size += f" x {chip['lanes']} lanes" if chip["lanes"] > 1 else ""
    lines = [f"# {network['name']} on {chip['name']}", ""]
    facts = [
        ["network", f"{network['name']}: {network['layers']} layers, "
                    f"{network['macs']:,} multiply-accumulates per image"],
        ["chip", f"{chip['name']}: {size}, activations {chip['activation']}, weights "
                 f"{chip['weight']}, accumulators of {chip['accumulator_bits']} bits"],
        ["identity", chip["identity"]]]
    if report.get("board"):
        board = report["board"]
        facts.append(["board", f"{board['name']} ({board['part']})"])
    taken = report["cycles"]
    facts += [
        [f"cycles for a batch of {network['batch']} images" if network["batch"] > 1
         else "cycles per image", f"{taken['total']:,} (cycle model, memory latency "
                             f"{taken['latency']} cycles)"],
        ["of these computing", f"{taken['compute']:,}, from the first array pass to the last "
                               "result"],
        ["array utilization", f"{100 * taken['utilization']:.1f} % of {chip['macs_per_cycle']:,} "
                              "per cycle, all traffic included; "
                              f"{100 * taken['compute_utilization']:.1f} % while computing"],
        ["throughput", f"{taken['images_per_second']:,.1f} images/s at {clock['mhz']:g} MHz "
                       f"({clock['source']})"]]
    lines += [text_table([["", ""], *facts]), ""]

    area = report["area"]
    if area:
        board = report.get("board")
        what = f"whole top level on the {board['part']}" if board else (
            f"core alone, {area['target']}")
        lines += ["## Area", "", f"By Yosys, hierarchy kept: {what}. Placement and routing may "
                  "change LUT counts.", "",
                  text_table(area_rows(area, board and board["has"]), "lrrrr"), ""]
        if area["memories_in_flipflops"]:
            lines += ["Memories that became flip-flops: "
                      + ", ".join(area["memories_in_flipflops"]) + ".", ""]

    lines += ["## Layers", "", text_table(
        [["layer", "kind", "input", "output", "kernel", "MACs", "passes", "array cycles", "ideal",
          "tiles", "bits of sums", "slack", "at work"],
         *([item["name"], _kind(item), *map(_shape, (item["input_shape"], item["output_shape"],
                                                      item["kernel"])),
            *(f"{item[key]:,}" for key in ("macs", "passes", "array_cycles", "ideal_cycles",
                                           "tiles", "accumulator_bits")),
            chip["accumulator_bits"] - item["accumulator_bits"],
            f"{item['first_cycle']:,} - {item['last_cycle']:,}"]
           for item in report["layers"])], "lllllrrrrrrrr"), "",
        "A pass is one filling of the array with weights. *Array cycles* are those of all passes, "
        "*ideal* is MACs divided by the array's size; several tiles mean that the layer did not "
        "fit on the chip at once. *Bits of sums* hold every sum that the layer's actual weights "
        "can make, *slack* is what accumulators have beyond that. *At work* are the cycles from "
        "its first load to its last result; layers overlap.", "", *_costs(report), *_units(report)]
    if report.get("host"):
        lines += ["## Host", "", *host_lines(report["host"]), ""]
    if report.get("notes"):
        lines += ["## Notes", "", *(
            f"- {line}." for line in note_lines(map(Note.of, report["notes"]))), ""]
    for item in network["inputs"]:
        if "laid_out_as" in item:
            lines += [f"The host writes the input {item['name']} as {_shape(item['laid_out_as'])} "
                      f"instead of {_shape(item['shape'])}: neighbouring kernel taps of the first "
                      "layer stand side by side as channels, so that few channels fill the array's "
                      "rows.", ""]

    memory = report["memory"]
    lines += ["## Memory", "", text_table(
        [["on the chip", "words used", "of"],
         *([name.replace("_", " "), f"{item['used']:,}", f"{item['of']:,}"]
           for name, item in memory["on_chip"].items())], "lrr"), "",
        text_table([["external section", "offset", "bytes"],
                    *([item["section"], f"{item['offset']:#x}", f"{item['bytes']:,}"]
                      for item in memory["sections"])], "lrr"), "",
        "Checked on the program itself: whatever an instruction reads is what was put there for "
        "it.", "",
        f"{memory['window_bytes']:,} bytes in all, {memory['instructions']:,} instructions."]
    if report.get("board"):
        board = report["board"]
        lines.append(f"The board's memory has {board['memory_bytes']:,} bytes: the program "
                     + ("fits." if board["program_fits"] else "**does not fit**."))
    return "\n".join([*lines, ""])


def _costs(report):
    """What each layer takes, and what bounds it."""
    rows = [["layer", "MACs", "weight bits", "cycles", "utilization", "bytes loaded", "stored",
             "bound by", "array", "POST", "loads", "stores"]]
    for item in report["layers"]:
        share = 100 * item["charged"][item["bound"]] / max(1, item["cycles"])
        rows.append([item["name"], _number(item["macs"]), _number(item["weight_bits"]),
                     _number(item["cycles"]), f"{100 * item['utilization']:.1f} %",
                     _number(sum(item["loaded_bytes"].values())), _number(item["stored_bytes"]),
                     f"{BOUNDS[item['bound']]} ({share:.0f} %)",
                     *(_number(item["at_work"][name])
                       for name in ("array", "post", "load", "store"))])
    taken, layers = report["cycles"], report["layers"]
    rows.append(["**sum**", _number(sum(item["macs"] for item in layers)),
                 _number(sum(item["weight_bits"] for item in layers)), _number(taken["total"]),
                 f"{100 * taken['utilization']:.1f} %",
                 _number(sum(sum(item["loaded_bytes"].values()) for item in layers)),
                 _number(sum(item["stored_bytes"] for item in layers)), "",
                 *(_number(sum(item["at_work"][name] for item in layers))
                   for name in ("array", "post", "load", "store"))])
    return ["## Cost of each layer", "", text_table(rows, "lrrrrrrlrrrr"), "",
            "Each cycle counts for the layer that the array works on, or that it waits for. "
            "*array*, *POST*, *loads* and *stores* are those cycles in which the array was sent "
            "pixels or weights, sums were read, and beats went over the bus, for whatever layer. "
            "*Bound by* is the busiest of these, or latency where they all stand still for "
            "longer, with its share of the layer's cycles.", ""]


def units_table(activity: dict, cycles: int) -> str:
    """What each unit did in a run of so many cycles; `activity` is that of `Timing`."""
    states = {"running": "busy", "tokens": "waits for tokens", "memory": "waits for memory",
              "unit": "waits for its neighbour"}
    rows = [["unit", *states.values(), "idle"]]
    for unit, counts in activity.items():
        rest = cycles - sum(counts.values())
        rows.append([unit.upper(), *(
            f"{count:,} ({100 * count / cycles:.1f} %)" if count is not None else ""
            for count in (*map(counts.get, states), rest))])
    return text_table(rows, "lrrrrr")


def _units(report):
    return ["## Units", "", units_table(report["units"], report["cycles"]["total"]), "",
            "Cycles, by the cycle model; the core's counters say the same. A unit waits for tokens "
            "with nothing in work, LOAD and STORE for external memory, LOAD for POST's writes, "
            "POST for room in STORE's queue, and STORE for POST's results. A unit is idle that "
            "has no instruction.", ""]


def _kind(layer):
    """What a layer is, and what its results are combined with."""
    kind = "average" if layer["pool_sum"] else layer["kind"]
    if layer["operand"]:
        kind += f" + {layer['operand']['operation']} with {layer['operand']['tensor']}"
    return kind


def _shape(shape):
    return " x ".join(map(str, shape))
