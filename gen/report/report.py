"""The report of a build: cycles, throughput, area, placement; as records and as a page."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from pathlib import Path

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import read_json, write_file
from systolith.gen.kit.notes import lines as note_lines
from systolith.gen.kit.tables import text_table
from systolith.gen.measure.area import FIGURES, Area, Figures, count
from systolith.gen.measure.hierarchy import PARTS
from systolith.hw.board.boards import BOARDS
from systolith.hw.spec.arch import ASSUMED_MHZ, Arch
from systolith.hw.spec.host import Input, Output
from systolith.hw.spec.identity import identity
from systolith.hw.spec.program import Program
from systolith.hw.spec.records import RecordError
from systolith.sim.machine.cycles import Timing, cycles
from systolith.sim.model.effort import LayerEffort, total
from systolith.sim.model.host_work import HostWork

from .contents import (
    BoardFit,
    Chip,
    Clock,
    Cycles,
    Memory,
    Network,
    Report,
    ReportedLayer,
    Tensor,
    Used,
)
from .profile import BOUNDS, profile

__all__ = ["area_rows", "assumed_clock", "effort_line", "host_lines", "make_report", "markdown",
           "read_report", "units_table", "write_report"]

JSON, PAGE = "report.json", "report.md"


def assumed_clock(arch: Arch) -> tuple[float, str]:
    """(MHz, where the figure comes from)."""
    board = BOARDS.get(arch.board)
    if board is not None:
        mhz = board.runs_at(arch.clock_mhz)
        own = "oscillator" if mhz == board.clock_mhz else "PLL"
        return mhz, f"{own if board.top else 'clock'} of the {board.name}"
    return arch.clock_mhz or ASSUMED_MHZ, "assumed: clock.mhz of the chip"


def make_report(program: Program, latency: int = 32, timing: Timing | None = None) -> Report:
    """The report of a program, without area; cycles are the cycle model's for a memory of this
    latency. `timing` is the model's result, where it is known."""
    arch, host = program.arch, program.host
    board = BOARDS.get(arch.board)
    timing = cycles(program, latency) if timing is None else timing
    clock, macs = Clock(*assumed_clock(arch)), host.batch * host.macs
    return Report(
        network=Network(host.network, host.macs, len(host.layers), host.batch,
                        tuple(map(_tensor, host.inputs)), tuple(map(_tensor, host.outputs))),
        chip=Chip(arch), clock=clock,
        cycles=Cycles(
            total=timing.cycles, compute=timing.compute_cycles, latency=latency,
            utilization=arch.utilization(macs, timing.cycles),
            compute_utilization=arch.utilization(macs, timing.compute_cycles),
            images_per_second=clock.images_per_second(host.batch, timing.cycles)),
        units=timing.activity,
        layers=tuple(map(ReportedLayer, host.layers, profile(program, timing))),
        memory=Memory(
            window_bytes=program.window_bytes, image_bytes=len(program.image),
            instructions=len(program.instructions), sections=host.memory,
            on_chip={name: Used(host.peak[name], host.depth[name]) for name in host.peak}),
        area=None,
        board=None if board is None else BoardFit(
            board.name, board.part.name, board.memory_bytes,
            program.window_bytes <= board.memory_bytes, Figures.of(board.part)))


def _tensor(item: Input | Output) -> Tensor:
    return Tensor(item.name, item.shape,
                  item.map if isinstance(item, Input) and item.taps is not None else None)


def write_report(report: Report, folder: Path | str) -> None:
    """Write report.json and report.md into a folder."""
    write_file(Path(folder) / JSON, json.dumps(report.to_json(), indent=2) + "\n")
    write_file(Path(folder) / PAGE, markdown(report))


def read_report(folder: Path | str) -> Report:
    """The report in a build folder. Raises UserError where there is none."""
    path = Path(folder) / JSON
    try:
        return Report.from_json(read_json(path))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; `systolith build` writes it") from None
    except RecordError as error:
        raise UserError(f"{path}: {error}; `systolith build` writes it anew") from None
    except ValueError:
        raise UserError(f"{path}: is no JSON; `systolith build` writes it anew") from None


def area_rows(area: Area, part: Figures | None = None) -> list[list]:
    """Rows for `text_table`: each part of an area, the whole, and what the FPGA has (`part`)."""
    rows = [["part", *(name.upper() for name in FIGURES)]]
    if area.pe:
        rows.append(["one processing element", *_numbers(count(area.pe))])
    for name in sorted(area.parts, key=PARTS.index):
        label = f"{name} ({area.pe_count})" if area.pe and name == "processing elements" else name
        rows.append([label, *_numbers(count(area.parts[name]))])
    rows.append(["**total**", *_numbers(area.total)])
    if part:
        rows.append(["the part has", *_numbers(part)])
        rows.append(["used", *(f"{100 * used / there:.1f} %" for used, there in
                               zip(astuple(area.total), astuple(part), strict=True))])
    return rows


def _numbers(figures):
    return map(_number, astuple(figures))


def _number(value):
    return f"{value:,}"


def host_lines(work: Mapping[str, HostWork]) -> list[str]:
    """What the host computes, in words; `work` as of `Graph.host_work`."""
    lines = []
    for where, part in work.items():
        operators = ", ".join(f"{count} {name}" if count > 1 else name
                              for name, count in part.operators.items())
        lines.append(
            f"{where.capitalize()} the chip the host computes {part.nodes} "
            f"node{'s' * (part.nodes > 1)} ({operators}), {part.macs:,} "
            f"multiply-accumulates, {100 * part.share:.2g} % of the network's: from "
            f"{', '.join(part.reads)} to {', '.join(part.gives)}"
            + (f". The first reason: {part.why}" if part.why else ""))
    return lines


def markdown(report: Report) -> str:
    """The report as a Markdown page."""
    network, chip, clock = report.network, report.chip.arch, report.clock
    size = f"{chip.rows} x {chip.columns}"
    size += f" x {chip.lanes} lanes" if chip.lanes > 1 else ""
    lines = [f"# {network.name} on {chip.name}", ""]
    facts = [
        ["network", f"{network.name}: {network.layers} layers, "
                    f"{network.macs:,} multiply-accumulates per image"],
        ["chip", f"{chip.name}: {size}, activations {chip.activation}, weights "
                 f"{chip.weight}, accumulators of {chip.accumulator_bits} bits"],
        ["identity", f"{identity(chip):016x}"]]
    if chip.cores > 1:
        facts.append(["cores", f"{chip.cores} on one port to memory, an image each; figures here "
                               "are those of one that works alone"])
    board = report.board
    if board is not None:
        facts.append(["board", f"{board.name} ({board.part})"])
    taken = report.cycles
    facts += [
        [f"cycles for a batch of {network.batch} images" if network.batch > 1
         else "cycles per image", f"{taken.total:,} (cycle model, memory latency "
                             f"{taken.latency} cycles)"],
        ["of these computing", f"{taken.compute:,}, from the first array pass to the last "
                               "result"],
        ["array utilization", f"{100 * taken.utilization:.1f} % of {chip.macs_per_cycle:,} "
                              "per cycle, all traffic included; "
                              f"{100 * taken.compute_utilization:.1f} % while computing"],
        ["throughput", f"{taken.images_per_second:,.1f} images/s at {clock.mhz:g} MHz "
                       f"({clock.source})"]]
    lines += [text_table([["", ""], *facts]), ""]

    area = report.area
    if area is not None:
        what = f"whole top level on the {board.part}" if board else f"core alone, {area.target}"
        lines += ["## Area", "", f"By Yosys, hierarchy kept: {what}. Placement and routing may "
                  "change LUT counts.", "",
                  text_table(area_rows(area, None if board is None else board.has), "lrrrr"), ""]
        if area.in_flipflops:
            lines += [f"Memories that became flip-flops: {', '.join(area.in_flipflops)}.", ""]

    lines += ["## Layers", "", text_table(
        [["layer", "kind", "input", "output", "kernel", "MACs", "passes", "array cycles", "ideal",
          "tiles", "bits of sums", "slack", "at work"],
         *([layer.name, _kind(layer),
            *map(_shape, (layer.input_shape, layer.output_shape, layer.kernel)),
            *map(_number, (layer.macs, layer.passes, layer.array_cycles, layer.ideal_cycles,
                           layer.tiles, layer.accumulator_bits)),
            chip.accumulator_bits - layer.accumulator_bits,
            f"{item.cost.first_cycle:,} - {item.cost.last_cycle:,}"]
           for item in report.layers for layer in [item.layer])], "lllllrrrrrrrr"), "",
        "A pass is one filling of the array with weights. *Array cycles* are those of all passes, "
        "*ideal* is MACs divided by the array's size; several tiles mean that the layer did not "
        "fit on the chip at once. *Bits of sums* hold every sum that the layer's actual weights "
        "can make, *slack* is what accumulators have beyond that. *At work* are the cycles from "
        "its first load to its last result; layers overlap.", "", *_costs(report), *_units(report),
        *_arithmetic(report)]
    if report.host:
        lines += ["## Host", "", *host_lines(report.host), ""]
    if report.notes:
        lines += ["## Notes", "", *(f"- {line}." for line in note_lines(report.notes)), ""]
    for tensor in network.inputs:
        if tensor.laid_out_as is not None:
            lines += [f"The host writes the input {tensor.name} as {_shape(tensor.laid_out_as)} "
                      f"instead of {_shape(tensor.shape)}: neighbouring kernel taps of the first "
                      "layer stand side by side as channels, so that few channels fill the array's "
                      "rows.", ""]

    memory = report.memory
    lines += ["## Memory", "", text_table(
        [["on the chip", "words used", "of"],
         *([name.replace("_", " "), f"{words.used:,}", f"{words.of:,}"]
           for name, words in memory.on_chip.items())], "lrr"), "",
        text_table([["external section", "offset", "bytes"],
                    *([part.section, f"{part.offset:#x}", f"{part.bytes:,}"]
                      for part in memory.sections)], "lrr"), "",
        "Checked on the program itself: whatever an instruction reads is what was put there for "
        "it.", "",
        f"{memory.window_bytes:,} bytes in all, {memory.instructions:,} instructions."]
    if board is not None:
        lines.append(f"The board's memory has {board.memory_bytes:,} bytes: the program "
                     + ("fits." if board.program_fits else "**does not fit**."))
    return "\n".join([*lines, ""])


def _costs(report):
    """What each layer takes, and what bounds it."""
    units = ("array", "post", "load", "store")
    rows = [["layer", "MACs", "weight bits", "cycles", "utilization", "bytes loaded", "stored",
             "bound by", "array", "POST", "loads", "stores"]]
    for item in report.layers:
        layer, cost = item.layer, item.cost
        share = 100 * cost.charged[cost.bound] / max(1, cost.cycles)
        rows.append([layer.name, _number(layer.macs), _number(layer.weight_bits),
                     _number(cost.cycles), f"{100 * cost.utilization:.1f} %",
                     _number(sum(cost.loaded_bytes.values())), _number(cost.stored_bytes),
                     f"{BOUNDS[cost.bound]} ({share:.0f} %)",
                     *(_number(cost.at_work[name]) for name in units)])
    layers, costs = ([getattr(item, name) for item in report.layers] for name in ("layer", "cost"))
    rows.append(["**sum**", _number(sum(layer.macs for layer in layers)),
                 _number(sum(layer.weight_bits for layer in layers)), _number(report.cycles.total),
                 f"{100 * report.cycles.utilization:.1f} %",
                 _number(sum(sum(cost.loaded_bytes.values()) for cost in costs)),
                 _number(sum(cost.stored_bytes for cost in costs)), "",
                 *(_number(sum(cost.at_work[name] for cost in costs)) for name in units)])
    return ["## Cost of each layer", "", text_table(rows, "lrrrrrrlrrrr"), "",
            "Each cycle counts for the layer that the array works on, or that it waits for. "
            "*array*, *POST*, *loads* and *stores* are those cycles in which the array was sent "
            "pixels or weights, sums were read, and beats went over the bus, for whatever layer. "
            "*Bound by* is the busiest of these, or latency where they all stand still for "
            "longer, with its share of the layer's cycles.", ""]


def units_table(activity: Mapping[str, Mapping[str, int]], cycles: int) -> str:
    """What each unit did in a run of so many cycles; `activity` is that of `Counts`."""
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
    return ["## Units", "", units_table(report.units, report.cycles.total), "",
            "Cycles, by the cycle model; the core's counters say the same. A unit waits for tokens "
            "with nothing in work, LOAD and STORE for external memory, LOAD for POST's writes, "
            "POST for room in STORE's queue, and STORE for POST's results. A unit is idle that "
            "has no instruction.", ""]


def _arithmetic(report):
    """What the network is, whatever chip computes it."""
    if not report.arithmetic:
        return []
    def row(name, formats, effort):
        return [name, *formats, *map(_number, astuple(effort))]
    return ["## Arithmetic", "", text_table(
        [["layer", "activations", "weights", "MACs", "ACE", "BOPs", "weight bytes"],
         *(row(item.name, (item.activation, item.weight), item.effort)
           for item in report.arithmetic),
         row("**sum**", ("", ""), total(report.arithmetic))], "lllrrrr"), "",
        "Of one image, in the network's own formats, whatever the chip's are. ACE: each product "
        "counts the bits of one factor times those of the other; BOPs: and its addition the bits "
        "of an exact sum.", ""]


def effort_line(layers: Iterable[LayerEffort]) -> str:
    """The sum over the layers in one line."""
    whole = total(layers)
    return (f"{whole.macs:,} multiply-accumulates per image, {whole.bops:,} BOPs, {whole.ace:,} "
            f"ACE, {whole.weight_bytes:,} bytes of weights")


def _kind(layer):
    """What a layer is, and what its results are combined with."""
    kind = "average" if layer.pool_sum else layer.kind
    if layer.operand is not None:
        kind += f" + {layer.operand.operation} with {layer.operand.tensor}"
    return kind


def _shape(shape):
    return " x ".join(map(str, shape))
