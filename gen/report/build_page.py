"""The report of a build as one page that works without a network: the units' timeline, what each
layer takes and what bounds it, traffic, area as a treemap, memory map, errors of quantization, and
how far results are from those of the models."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from systolith.gen.kit.files import write_file
from systolith.gen.measure.area import count
from systolith.hw.spec.program import Program
from systolith.hw.spec.registers import UnitState
from systolith.sim.machine.cycles import Timing

from .contents import Report
from .pages import content, filled
from .profile import BOUNDS, layer_windows
from .report import effort_line
from .trace import tracks

__all__ = ["add_comparison", "build_page", "write_build_page"]

PAGE = "report.html"
#: Of its body, style and script.
_NAME = "build"
#: Ranges of a track that lie nearer than this share of a run are drawn as one.
_STEPS = 3000


def write_build_page(report: Report, program: Program, timing: Timing, folder: Path,
                     errors: Sequence[dict[str, Any]] = ()) -> Path:
    """Write report.html into a build's folder; its path."""
    return write_file(folder / PAGE, build_page(report, program, timing, errors))


def build_page(report: Report, program: Program, timing: Timing,
               errors: Sequence[dict[str, Any]] = ()) -> str:
    """The page. `errors` are the rows of `RoundedNetwork.measure`, of a network that the build has
    quantized."""
    apart = max(1, timing.cycles // _STEPS)
    units = {}
    for unit, track in tracks(program, timing).items():
        units[unit.name] = {
            "work": _joined(((begin, end, program.instructions[number].layer)
                             for begin, end, number in track.slices), apart),
            "waits": {state.name.lower(): _joined(
                ((begin, end, 0) for begin, end, kind, _ in track.waits if kind == state), apart)
                for state in UnitState if any(kind == state for _, _, kind, _ in track.waits)}}
    area = report.area
    network, chip = report.network, report.chip.arch
    data = {
        "network": network.name, "chip": chip.name,
        "facts": [
            ["network", f"{network.name}: {network.layers} layers, {network.macs:,} "
                        "multiply-accumulates an image"],
            ["chip", f"{chip.name}: {chip.rows} x {chip.columns} x {chip.lanes} elements, "
                     f"{chip.activation} x {chip.weight}"],
            ["cycles", f"{timing.cycles:,} for {network.batch} image"
                       + "s" * (network.batch > 1)],
            ["utilization", f"{100 * report.cycles.utilization:.1f} %, all traffic included"],
            ["throughput", f"{report.cycles.images_per_second:,.1f} images/s at "
                           f"{report.clock.mhz:g} MHz ({report.clock.source})"],
            *([["arithmetic", effort_line(report.arithmetic)]] if report.arithmetic else [])],
        "cycles": timing.cycles, "units": units,
        "windows": _joined(layer_windows(program, timing), apart),
        "bounds": BOUNDS,
        "layers": [{
            "name": item.layer.name, "kind": item.layer.kind, "macs": item.layer.macs,
            "output": " x ".join(map(str, item.layer.output_shape)), "cycles": item.cost.cycles,
            "utilization": item.cost.utilization, "charged": item.cost.charged,
            "loaded": item.cost.loaded_bytes, "stored": item.cost.stored_bytes}
            for item in report.layers],
        "area": None if area is None else {
            name: count(cells).to_json() for name, cells in area.parts.items()},
        "target": None if area is None else area.target,
        "part": None if report.board is None else report.board.part,
        "on_chip": [[name.replace("_", " "), words.used, words.of]
                    for name, words in report.memory.on_chip.items()],
        "sections": [[item.section, item.offset, item.bytes] for item in report.memory.sections],
        "errors": [[row["layer"], row["format"], row["sqnr"]] for row in errors],
        "comparison": None}
    return filled(_NAME, f"{network.name} on {chip.name}", data)


def add_comparison(folder: Path, facts: str, rows: Sequence[dict[str, Any]]) -> list[Path]:
    """Add a layer-by-layer comparison to the page in a build's folder, in place of an earlier one:
    `facts`, a line of what was compared, and the rows of `LayerComparison`. Returns the page's
    path; nothing where there is no page."""
    path = folder / PAGE
    made = content(path.read_text()) if path.is_file() else None
    if made is None:
        return []
    title, data = made
    data["comparison"] = {"facts": facts, "rows": [[
        row["layer"], row["format"], row["elements"], row["codes_differing"], row["largest_steps"],
        row["quantized_tensor"] is not None, row["golden_to_quantized_db"],
        row["float_tensor"] is not None, row["golden_to_float_db"]] for row in rows]}
    return [write_file(path, filled(_NAME, title, data))]


def _joined(ranges: Iterable[tuple[int, int, int]], apart: int) -> list[list[int]]:
    """[begin, end, mark] ranges; those of one mark that lie nearer than `apart` are one, and a
    shorter one is drawn over by what follows it."""
    found: list[list[int]] = []
    for begin, end, mark in ranges:
        if found and found[-1][2] == mark and begin - found[-1][1] < apart:
            found[-1][1] = max(end, found[-1][1])
        elif found and end - found[-1][0] < apart:
            found[-1][1] = max(end, found[-1][1])
        else:
            found.append([begin, end, mark])
    return found
