"""The table of processing elements: what each pair of number formats costs on each target.

An entry is a pair of formats with a number of lanes, and of elements side by side that share an
activation register and, where two fit a DSP block, multiplications. Beside the entries stand the
plain integer element (`psum_in + a * w`, nothing helps the tool), and the entries' own references
of 16 bits: the same generator's float with the same exponent bits, or int16; both with exact sums,
as everything here. All elements have one pipeline stage, double-buffered weights, and columns of 16
rows. Where weights are in blocks, an element has a 16th of what multiplies a column's sum by the
block's scale.

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
from systolith.hw.element.arithmetic import Arithmetic
from systolith.hw.element.block_scale import (
    BlockScaleCell,
    ScaledNumber,
    ScaledSum,
    scaled_bits,
)
from systolith.hw.element.element import ProcessingElement, arithmetic
from systolith.hw.formats import catalogue, parse
from systolith.hw.spec.structures import SMALL_PRODUCT, Structure, structure_of

__all__ = ["Entry", "Measurement", "area_table", "every_entry", "parse_entries", "reference",
           "scale_area", "with_share"]

RESULTS = "results.jsonl"
_SCALE = "systolith_scale"
_SUM = "systolith_sum"
ROWS = 16
BIPOLAR_LANES = (64, 128, 256)
#: After the formats of an element that multiplies signs, too.
SIGNS = "+signs"
#: Likewise of one that multiplies halves of codes, too.
HALVES = "+halves"
#: Integers whose plain elements are the yardstick.
PLAIN = (4, 8, 16)

#: Floats of 4 to 8 bits, with 2 to 5 exponent bits.
_FLOATS = tuple(f"e{exp}m{width - 1 - exp}" for width in range(4, 9) for exp in range(2, 6)
                if width - 1 - exp >= 0)
_MIXED = (("int8", "int4"), ("int8", "int2"), ("int8", "ternary"), ("int16", "int8"),
          ("uint8", "int8"), ("uint8", "int4"), ("uint4", "int4"), ("int8", "e3m0"),
          ("int8", "e3m0r4"), ("int8", "e3m0x2"), ("e4m3", "e5m2"), ("e4m3", "e3m2"),
          ("e4m3", "e2m1"), ("e3m2", "e2m1"))
#: Activations with weights in blocks.
_BLOCKS = (("int8", "mxint8"), ("e4m3fn", "mxfp8"), ("e5m2ieee", "mxfp8_e5m2"),
           ("e3m2", "mxfp6"), ("e2m3", "mxfp6_e2m3"), ("e2m1", "mxfp4"), ("e2m1", "nvfp4"),
           ("e2m1", "mls"), ("e2m4", "mls_e2m4"), ("int8", "mxfp4"))
#: {weights in blocks: the activations beside them where nothing is said}
_ACTIVATIONS = {weight: activation for activation, weight in reversed(_BLOCKS)}
#: Pairs of columns, or of lanes, of which DSP blocks make two products.
_SHARED = (("int4", "int4"), ("int8", "int4"), ("int8", "int8"), ("e3m2", "e3m2"),
           ("e4m3", "e4m3"), ("e3m4", "e3m4"), ("bfloat16", "bfloat16"))
_LANES = ("int4", "e3m2", "e4m3")
#: Integers whose elements also multiply signs.
_SIGNS = ("int4", "int8")


@dataclass(frozen=True)
class Entry:
    """A pair of formats, by name, lanes, and elements side by side; `plain` is the yardstick,
    `signs` says that it multiplies signs, too, `halves` that it multiplies halves of codes. `rows`:
    of the column, whose sums are exact, and which share what multiplies by scales."""
    activation: str
    weight: str
    lanes: int = 1
    columns: int = 1
    plain: bool = False
    signs: bool = False
    halves: bool = False
    rows: int = ROWS

    @property
    def label(self) -> str:
        same = self.activation == self.weight
        name = self.activation if same else f"{self.activation} x {self.weight}"
        return (f"{'plain ' if self.plain else ''}{name}{' and signs' if self.signs else ''}"
                f"{' and halves' if self.halves else ''}") + (
            f", {self.lanes} lanes" if self.lanes > 1 else "") + (
            f", {self.columns} columns" if self.columns > 1 else "") + (
            f", {self.rows} rows" if self.rows != ROWS else "")

    @property
    def products(self) -> int:
        return self.lanes * self.columns

    def structure(self, target: str, dsp: bool) -> Structure:
        """What the element is built of: small products beside scales of blocks stay LUTs, where a
        DSP block multiplies by the scale."""
        forms: Any = parse(self.activation), parse(self.weight)
        small = sum(form.significand_bits for form in forms) <= SMALL_PRODUCT
        return structure_of(target, dsp and not (small and forms[1].block_scale))

    def scale(self, target: str, dsp: bool) -> BlockScaleCell | None:
        """What multiplies a column's sums by the scales of blocks; None without blocks."""
        scale = parse(self.weight).block_scale
        if scale is None:
            return None
        bits = self.rules(self.structure(target, dsp)).sum_bits
        return BlockScaleCell(ScaledNumber(scale, bits, scaled_bits(scale, bits),
                                           structure_of(target, dsp)))

    def rules(self, structure: str) -> Arithmetic:
        """The Arithmetic. Raises UserError where there is none."""
        parts = {name: True for name in ("signs", "halves") if getattr(self, name)}
        try:
            return arithmetic(parse(self.activation), parse(self.weight), self.lanes,
                              self.rows * self.lanes, structure=structure, stages=1,
                              columns=self.columns, **parts)
        except ValueError as error:
            raise UserError(f"no processing element for {self.activation} x {self.weight}: "
                            f"{error}") from None


@dataclass(frozen=True)
class Measurement:
    """An entry on a target, with or without DSP blocks; `key` is a hash of all it depends on."""
    entry: Entry
    target: str
    dsp: bool
    liberty: Path | None
    key: str
    problem: str | None = None


def every_entry() -> list[Entry]:
    """The entries of the whole table."""
    names = [f"int{bits}" for bits in range(2, 17)] + list(_FLOATS)
    names += [name for name, fmt in catalogue().items() if name not in names
              and not fmt.binary and fmt.signed and fmt.block_scale is None]
    return ([Entry(name, name) for name in names] + [Entry(*pair) for pair in _MIXED + _BLOCKS]
            + [Entry("bipolar1", "bipolar1", lanes) for lanes in BIPOLAR_LANES]
            + [Entry(*pair, columns=2) for pair in _SHARED]
            + [Entry(name, name, 2) for name in _LANES]
            + [Entry(name, name, signs=True) for name in _SIGNS]
            + [Entry(name, name, halves=True) for name in _SIGNS])


def parse_entries(texts: Iterable[str]) -> list[Entry]:
    """Entries from names such as `e3m2`, `int8:e3m0`, `mxfp4` (beside activations like its
    elements), `bipolar1:bipolar1:64`, `int8+signs`; `all`: the table's.

    `bipolar1` alone stands for several lanes, `+signs` for elements that multiply signs, too,
    `+halves` for those that multiply halves of codes. Raises UserError.
    """
    found = []
    for text in texts:
        if text == "all":
            found += every_entry()
            continue
        signs, halves = text.endswith(SIGNS), text.endswith(HALVES)
        activation, *rest = text.removesuffix(SIGNS).removesuffix(HALVES).split(":")
        weight = rest[0] if rest else activation
        activation = activation if rest else _ACTIVATIONS.get(activation, activation)
        numbers = rest[1:]
        if len(numbers) > 2 or not all(
                number.isdecimal() and 1 <= int(number) <= most
                for number, most in zip(numbers, (1024, 64), strict=False)):
            raise UserError(f"{text!r}: must be a format, ACTIVATION:WEIGHT, "
                            "ACTIVATION:WEIGHT:LANES with 1 to 1024 lanes, or "
                            "ACTIVATION:WEIGHT:LANES:COLUMNS with 1 to 64 columns; with +signs "
                            "after it, an element that multiplies signs, too, with +halves one "
                            "that multiplies halves of codes")
        for name in (activation, weight):
            try:
                parse(name)
            except ValueError as error:
                raise UserError(f"{text!r}: {error}") from None
        form: Any = parse(activation)
        if form.block_scale:
            raise UserError(f"{text!r}: the activation {form.activation_fault()}")
        if signs and (activation != weight or form.family != "integer" or not form.complete
                      or not form.signed or form.width < 3):
            raise UserError(f"{text!r}: signs go with activations and weights that are integers of "
                            "the same 3 or more bits, such as int8")
        if halves and (activation != weight or form.family != "integer" or not form.complete
                       or not form.signed or form.width % 4 or numbers):
            raise UserError(f"{text!r}: halves go with activations and weights that are integers "
                            "of the same 4, 8, 12 or 16 bits, and one lane and column, such as "
                            "int8")
        if text == "bipolar1":
            found += [Entry("bipolar1", "bipolar1", number) for number in BIPOLAR_LANES]
        else:
            lanes, columns = [*map(int, numbers), *(1, 1)[len(numbers):]]
            found.append(Entry(activation, weight, lanes, columns, signs=signs, halves=halves))
    return list(dict.fromkeys(found))


def reference(entry: Entry) -> Entry | None:
    """The entry's own element of 16 bits; None where there is none."""
    def wide(name):
        fmt: Any = parse(name)
        if fmt.family == "float":
            return f"e{fmt.exp}m{15 - fmt.exp}"
        return "int16" if fmt.uniform else None
    wide_names = wide(entry.activation), wide(entry.weight)
    return None if entry.plain or None in wide_names else Entry(*wide_names)


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
