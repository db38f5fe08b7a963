"""The table of processing elements: what each pair of number formats costs on each target.

The entries are those of `catalogue.py`. Where weights are in blocks, an element has a 16th of what
multiplies a column's sum by the block's scale.

Entries that make the same circuit are measured once. Results are kept as they come, and found again
when the table is asked for anew; what a change of the code has changed is measured again.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.gen.kit.resume import in_processes, open_folder, open_results
from systolith.gen.measure.element import TOP, pe_verilog
from systolith.gen.measure.element_area import ELEMENT_TARGETS, element_area, merit
from systolith.gen.measure.yosys import AreaError
from systolith.gen.report.elements import write_tables
from systolith.hw.core.blocks import emit
from systolith.hw.element.block_scale import BlockScaleCell, ScaledSum
from systolith.hw.element.element import ProcessingElement
from systolith.hw.formats import parse

from .catalogue import PLAIN, ROWS, Entry, parse_entries, reference

__all__ = ["Measurement", "area_table", "plain_verilog", "scale_area", "with_share"]

RESULTS = "results.jsonl"
_SCALE = "systolith_scale"
_SUM = "systolith_sum"


@dataclass(frozen=True)
class Measurement:
    """An entry on a target, with or without DSP blocks; `key` is a hash of all it depends on."""
    entry: Entry
    target: str
    dsp: bool
    liberty: Path | None
    key: str
    problem: str | None = None


def plain_verilog(bits: int, rows: int = ROWS) -> str:
    """The plain element: registers as everywhere, and `psum_in + a_out * w_active`."""
    width = 2 * bits + (rows - 1).bit_length()
    return f"""
module {TOP}(input clk, input signed [{bits - 1}:0] a_in, input swap_in, input load_in,
             input [{bits - 1}:0] w_in, input signed [{width - 1}:0] psum_in,
             output reg signed [{bits - 1}:0] a_out, output reg swap_out, output reg load_out,
             output reg signed [{width - 1}:0] psum_out);
  reg [{bits - 1}:0] w_shadow;
  reg signed [{bits - 1}:0] w_active;
  always @(posedge clk) begin
    a_out <= a_in;
    swap_out <= swap_in;
    load_out <= load_in;
    if (load_in) w_shadow <= w_in;
    if (swap_in) w_active <= w_shadow;
    psum_out <= psum_in + a_out * w_active;
  end
endmodule
"""


def _circuit(entry, target, dsp):
    """A text that identifies a circuit: equal texts mean equal circuits."""
    if entry.plain:
        return plain_verilog(parse(entry.activation).width)
    text, scale = _element_text(entry, entry.structure(target, dsp)), entry.scale(target, dsp)
    if scale is None:
        return text
    parts: dict[str, Any] = {_SCALE: scale}
    if scale.out.late:
        parts[_SUM] = ScaledSum(scale.out, scale.out.bits)
    return text + "".join(rtlil.convert(part, name=name, emit_src=False)
                          for name, part in parts.items())


@cache
def _element_text(entry, structure):
    return rtlil.convert(ProcessingElement(entry.rules(structure)), name=TOP, emit_src=False)


def measurements(entries: Iterable[Entry], targets: Sequence[str],
                 liberty: Path | None = None) -> list[Measurement]:
    """What must be measured: every entry on every target, and with DSP blocks where its circuit
    for them has products."""
    found = []
    for entry in entries:
        for target in targets:
            for dsp in (False, True):
                if dsp and target == "asic":
                    continue
                try:
                    text = _circuit(entry, target, dsp)
                except UserError as error:
                    if not dsp:
                        found.append(Measurement(entry, target, dsp, None, "", str(error)))
                    continue
                if dsp and not entry.plain and "$mul" not in text:
                    continue
                cells = liberty if target == "asic" else None
                facts = [version("systolith"), version("pyosys"), text, target, dsp,
                         cells and hashlib.sha256(cells.read_bytes()).hexdigest()]
                key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
                found.append(Measurement(entry, target, dsp, cells, key))
    return found


def evaluate(measurement: Measurement) -> dict[str, Any]:
    """Measure: plain data, one line of results.jsonl."""
    entry = measurement.entry
    result = {"key": measurement.key, "label": entry.label, "target": measurement.target,
              "dsp": measurement.dsp, "error": None}
    try:
        built = measurement.target, measurement.dsp
        text = plain_verilog(parse(entry.activation).width) if entry.plain else pe_verilog(
            entry.rules(entry.structure(*built)))

        def area(text, top):
            return element_area(text, top, measurement.target, dsp=measurement.dsp,
                                liberty=measurement.liberty)
        figures, scale = area(text, TOP), entry.scale(*built)
        if scale is not None:
            figures = with_share(figures, scale_area(scale, area), entry.rows)
        return result | {"figures": figures}
    except AreaError as error:
        return result | {"error": str(error)}


def scale_area(cell: BlockScaleCell, area: Callable[[str, str], dict[str, Any]]) -> dict[str, Any]:
    """The figures of what multiplies a column's sums by scales, which `area` finds for a text and
    its module, with what the adder of the column's accumulator is larger by."""
    figures = area(emit(cell, _SCALE), _SCALE)
    if not cell.out.late:
        return figures
    more, less = (area(emit(ScaledSum(one, cell.out.bits), _SUM), _SUM)
                  for one in (cell.out, None))
    return figures | {key: number + more[key] - less[key] for key, number in figures.items()
                      if isinstance(number, (int, float)) and not isinstance(number, bool)}


def with_share(figures: Mapping[str, Any], shared: Mapping[str, Any],
               elements: int) -> dict[str, Any]:
    """The figures of an element with its share of a circuit that so many elements have, rounded up
    to whole cells, but for DSP blocks; texts stay."""
    found = dict(figures)
    for key, number in shared.items():
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            own = found.get(key) or 0
            whole = isinstance(number, int) and key != "dsp"
            share = -(-number // elements) if whole else number / elements
            found[key] = own + share if share else own
    return found


def area_table(texts: Iterable[str], targets: Sequence[str], folder: Path | str, *,
               liberty: Path | None = None, jobs: int = 1, progress: Reporter = SILENT,
               show: Callable[[str], object] | None = None,
               evaluate: Callable[[Measurement], dict[str, Any]] = evaluate
               ) -> tuple[list[dict[str, Any]], list[Path]]:
    """Measure what is not known yet, and write the tables.

    Parameters
    ----------
    texts : list of str
        See `parse_entries`.
    targets : list of str
    folder : path
        For results.jsonl, area.csv, area.json, area.md and area.png; made if it does not exist.
    liberty : path or None
        Standard cells for `asic`; see `element_area.find_liberty`.
    jobs : int
        Measured at the same time, each in a process of its own.
    show : function of a text, or None
        Is told each result as it comes.
    evaluate : function of a Measurement
        What measures; must be importable where jobs is over 1.

    Returns (rows as in area.json, paths of the files). Raises UserError.
    """
    for target in targets:
        if target not in ELEMENT_TARGETS:
            raise UserError(f"targets must be among {', '.join(ELEMENT_TARGETS)}, not {target!r}")
    entries = parse_entries(texts)
    if not entries:
        raise UserError("there are no formats to measure")
    folder = open_folder(folder)
    yardsticks = [Entry(f"int{bits}", f"int{bits}", plain=True) for bits in PLAIN]
    own = [wide for entry in entries if (wide := reference(entry)) is not None]
    everything = list(dict.fromkeys([*yardsticks, Entry("int16", "int16"), *entries, *own]))
    with progress.step(f"Circuits of {len(everything)} elements"):
        wanted = measurements(everything, targets, liberty)
    file = folder / RESULTS
    with open_results(file) as kept:
        missing: dict = {}
        for item in wanted:
            if not item.problem and item.key not in kept.known:
                missing.setdefault(item.key, item)
        with progress.step(f"Area of {len(wanted)} elements, {len(wanted) - len(missing)} known",
                           max(1, len(missing))) as done:
            found = in_processes(evaluate, missing.values(), jobs)
            for number, result in enumerate(found, 1):
                kept.add(result)
                if show:
                    show(_line(result))
                done(number)
    known = kept.known
    rows = _rows(everything, entries, targets, wanted, known)
    return rows, [file, *write_tables(rows, targets, folder, liberty)]


def _line(result):
    figures = result.get("figures", {})
    shown = ", ".join(f"{figures[key]} {key}" for key in (
        "lut", "slice_lut", "bare_carry", "transistors", "um2", "ff", "dsp") if figures.get(key))
    return (f"{result['label']}, {result['target']}{', DSP' if result['dsp'] else ''}: "
            f"{result['error'] or shown}")


def _rows(everything, entries, targets, wanted, known):
    """One plain dict for each entry and target."""
    found = {(item.entry, item.target, item.dsp): item for item in wanted}

    def figures(entry, target, dsp):
        item = found.get((entry, target, dsp))
        if item is None:
            return None, None
        if item.problem:
            return None, item.problem
        return known[item.key].get("figures"), known[item.key]["error"]

    rows = []
    for entry in everything:
        own = reference(entry)
        for target in targets:
            cells, error = figures(entry, target, False)
            with_dsp, _ = figures(entry, target, True)
            rows.append({
                "element": entry.label, "activation": entry.activation, "weight": entry.weight,
                "lanes": entry.lanes, "columns": entry.columns, "products": entry.products,
                "plain": entry.plain, "asked": entry in entries,
                "target": target, "error": error, "figures": cells,
                "with_dsp": with_dsp if with_dsp and with_dsp.get("dsp") else None,
                "against": {
                    "plain int16": _size(figures(Entry("int16", "int16", plain=True), target,
                                                 False)[0], target),
                    "int16": _size(figures(Entry("int16", "int16"), target, False)[0], target),
                    "own 16 bits": own and own.label,
                    "own 16 bits size": own and _size(figures(own, target, False)[0], target)}})
    return rows


def _size(figures, target):
    """The figure (`merit`) by which elements of a target are compared; None where there are
    none."""
    if not figures:
        return None
    return figures[merit(target)]
