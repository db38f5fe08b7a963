"""The fit of the analytic estimate of areas (gen/measure/estimate.py), anew.

Random chips of all families are mapped module by module for a target, and processing elements and
post lanes by themselves: each is kept in a file (`--samples`) as it comes, so that a stopped run
goes on where it was. Then costs are fitted, and the data file of the package is written. Its error
is that of chips to which nothing was fitted: all chips are dealt out to ten lots, and each lot is
estimated by a fit to the other nine. `--parts 1` adds to the fit that is there what is mapped by
itself and new: elements, windows of LOAD, what several cores share; chips then only say how far it
is off. A chip takes 10 to 20 CPU seconds, an element 0.4, a post lane 0.6.
"""

import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from amaranth.back import rtlil
from amaranth.hdl import Fragment, Value
from common import arguments, report
from scipy.optimize import nnls
from systolith.gen.chip.verilog import core_rtlil
from systolith.gen.measure import estimate
from systolith.gen.measure.area import built_for, count, synthesis
from systolith.gen.measure.estimate import figures_by, knows, priced
from systolith.gen.measure.hierarchy import PARTS, attribute, leaves
from systolith.gen.measure.module_area import VERILOG
from systolith.gen.measure.module_terms import (
    ESTIMATED,
    KINDS,
    element_base,
    element_key,
    element_terms,
    terms_of,
)
from systolith.gen.measure.netlist import lone_modules
from systolith.gen.measure.yosys import run_yosys
from systolith.gen.study.sweep.point import hardware_hash
from systolith.hw.core.array import SystolicArray
from systolith.hw.core.blocks import emit_rtlil
from systolith.hw.core.cores import ONE
from systolith.hw.core.load import Load
from systolith.hw.core.operand_lane import OperandLane
from systolith.hw.core.post_lane import PostLane
from systolith.hw.core.register_windows import RegisterWindows
from systolith.hw.core.shared_bus import SharedBus
from systolith.hw.spec.arch import Arch

DATA = Path(estimate.__file__).parent
_PE = "systolith_pe"
_INTEGERS = ("int4", "int6", "int8", "int8", "int8", "int12", "int16")
_FLOATS = ("e2m1", "e3m2", "e2m3", "e4m3", "e5m2")
_MIXED = (("int8", "int4"), ("int8", "e3m0"), ("int8", "e2m1"), ("int4", "int2"),
          ("int16", "int8"), ("e4m3", "int4"), ("e4m3", "e2m1"), ("int8", "e3m0x2"))
_BLOCKS = (("int8", "mxint8"), ("int8", "mxfp4"), ("e2m1", "mxfp4"), ("e2m1", "nvfp4"),
           ("e2m1", "mls"), ("e3m2", "mxfp6"), ("e4m3", "mxfp8"), ("e4m3fn", "mxfp8"))
#: Formats of elements that are measured.
_PAIRS = (*((form, form) for form in (
    "int2", *dict.fromkeys(_INTEGERS), *_FLOATS, "bipolar1")), *_MIXED, *_BLOCKS)
#: Activations that windows can be of.
_BYTES = ("int8", "e4m3", "e4m3fn", "e5m2")
_SIZES = (2, 4, 4, 6, 8, 8, 12, 16)
#: Chips that are dealt out for the error.
_LOTS = 10
#: Terms of a module's cost at most, and by how much one more must lessen the error of chips that
#: it was not fitted to.
_TERMS, _BETTER = 9, 0.98


def random_design(seed: int) -> tuple[Arch, bool]:
    """(chip, whether it has DSP blocks), as one would build it; the same for the same seed."""
    draw = random.Random(f"design {seed}")
    while True:
        try:
            return Arch(**_drawn(draw)), draw.random() < 0.7
        except ValueError:
            continue                    # keys that contradict each other: others are drawn


def _drawn(draw) -> dict[str, Any]:
    family = draw.choice(("integer", "integer", "float", "mixed", "binary", "blocks"))
    lanes = draw.choice((1, 1, 1, 2, 4))
    rows, columns = draw.choice(_SIZES), draw.choice(_SIZES)
    if family == "binary":
        activation = weight = "bipolar1"
        lanes = draw.choice((8, 16, 32, 64))
    elif family in ("mixed", "blocks"):
        activation, weight = draw.choice(_MIXED if family == "mixed" else _BLOCKS)
    else:
        activation = weight = draw.choice(_FLOATS if family == "float" else _INTEGERS)

    def power(first, last):
        return 1 << draw.randint(first, last)

    def one_in(number):
        return draw.random() < 1 / number
    facts: dict[str, Any] = {
        "rows": rows, "columns": columns, "lanes": lanes, "activation": activation,
        "weight": weight, "activation_depth": power(8, 13), "weight_depth": power(8, 12),
        "accumulator_depth": power(6, 11), "parameter_depth": power(6, 10),
        "bus_bits": draw.choice((32, 64, 64, 128)), "burst_beats": power(4, 6),
        "queue_depth": draw.choice((2, 4, 4, 8)), "address_bits": draw.choice((32, 32, 24)),
        "token_bits": draw.choice((6, 10, 10)), "multiplier_bits": draw.choice((26, 26, 17)),
        "prefetch": not one_in(4), "diagnosis": not one_in(4), "counters": not one_in(4)}
    if one_in(3):
        facts["accumulator"] = draw.choice((16, 20, 24, 32))
    if family == "binary":
        facts["bit_planes"] = one_in(2)
    else:
        if one_in(3):
            facts["operand_depth"] = power(7, 11)
        if one_in(4):
            facts["table_depth"] = 256
        facts["leaky"] = one_in(4)
        if facts["leaky"]:
            facts["slope_offsets"] = one_in(4)
        if one_in(3):
            facts["load_windows"] = activation in _BYTES
    if one_in(8):
        facts["cores"] = draw.choice((2, 2, 3, 4))
    special = draw.choice((*["none"] * 5, "depthwise", "depthwise", "side_taps", "packed_signs",
                           "packed_halves", "weight_widths", "shared_columns"))
    if special == "shared_columns":
        facts["shared_columns"] = 2
    elif special == "depthwise":
        facts |= {"depthwise": True, "columns": rows, "lanes": 1}
    elif special == "weight_widths":
        facts["weight_widths"] = draw.choice(((4,), (4, 2), (2,)))
    elif special != "none":
        facts[special] = True
    group = Arch(**facts).group
    facts["post_lanes"] = draw.choice([n for n in range(1, 9) if group % n == 0])
    return facts


def _elements() -> Iterator[tuple[Arch, bool, Any]]:
    """(chip, whether it has DSP blocks, its processing element), each of which differs."""
    draw = random.Random(7)
    for activation, weight in _PAIRS:
        seen: set[tuple] = set()
        for _ in range(200):
            if len(seen) == 8:
                break
            lanes = draw.choice((8, 16, 32, 64) if activation == "bipolar1" else (1, 1, 1, 2, 4))
            facts: dict[str, Any] = {
                "rows": draw.choice((2, 4, 6, 8, 12, 16)), "columns": 8, "lanes": lanes,
                "activation": activation, "weight": weight}
            special = draw.choice(("", "", "", "depthwise", "packed_signs", "packed_halves",
                                   "shared_columns"))
            if special:
                facts[special] = True
            if special == "shared_columns":
                facts[special] = 2
            if special == "depthwise":
                facts |= {"columns": facts["rows"], "lanes": 1}
            dsp = draw.random() < 0.5
            try:
                arch = built_for(Arch(**facts), "ecp5", dsp=dsp)
            except ValueError:
                continue
            key = facts["rows"], facts["lanes"], special, dsp and arch.pe_dsp
            if key not in seen:
                seen.add(key)
                yield arch, dsp, SystolicArray(arch=arch).blocks[_PE]
    for form in ("int4", "int6", "int8", "int12"):
        for rows, lanes in ((4, 1), (8, 1), (16, 1), (8, 2)):
            arch = built_for(Arch(rows=rows, columns=8, lanes=lanes, activation=form, weight=form,
                                  shared_columns=2), "ecp5", dsp=True)
            yield arch, True, SystolicArray(arch=arch).blocks[_PE]


def _scales() -> Iterator[tuple[Arch, bool, Any]]:
    """The same of what multiplies a column's sums by scales."""
    for activation, weight in _BLOCKS:
        for rows in (2, 4, 8, 16):
            try:
                arch = Arch(rows=rows, columns=4, lanes=2, activation=activation, weight=weight)
            except ValueError:
                continue                # rows that are no part of a block
            yield arch, True, SystolicArray(arch=arch).scale


def _loads(number: int) -> Iterator[tuple[Arch, bool, Any]]:
    """The same of so many units that cut windows."""
    seed = 7000
    while number:
        arch, dsp = random_design(seed)
        seed += 1
        if arch.load_windows:
            number -= 1
            yield arch, dsp, Load(arch=arch)


def _shared(kind: str) -> Iterator[tuple[Arch, bool, Any]]:
    """The same of what several cores share."""
    for cores in (2, 3, 4, 8, 16):
        for bus in (32, 128) if kind == "shared bus" else (64,):
            arch = Arch(rows=4, columns=4, cores=cores, bus_bits=bus)
            yield arch, True, (SharedBus(cores=cores, data_bits=bus) if kind == "shared bus"
                               else RegisterWindows(cores=cores))


def _lanes(kind: str, number: int) -> Iterator[tuple[Arch, bool, Any]]:
    """The same of so many post or operand lanes."""
    seed = 5000
    while number:
        arch, dsp = random_design(seed)
        seed += 1
        if kind == "operand lane" and not arch.operand_depth:
            continue
        if kind == "post lane" and arch.activation.binary and seed % 3 != 1:
            continue                    # they are all alike
        arch = built_for(arch, "ecp5", dsp=dsp)
        number -= 1
        yield arch, dsp, (OperandLane if kind == "operand lane" else PostLane)(arch=arch)


def _text(block: Any, name: str) -> str:
    """RTLIL of a block: of one that stands in a core as it is there, else of one with a clock of
    its own."""
    if isinstance(block, Load | SharedBus | RegisterWindows):
        ports = {"_".join(map(str, path)): (Value.cast(value), None)
                 for path, _, value in block.signature.flatten(block)}
        return rtlil.convert(Fragment.get(block, None), name=name, ports=ports, emit_src=False)
    return emit_rtlil(block, name)


def _map(text: str, names: list[str], target: str, dsp: bool, by_hand: list[str]) -> dict:
    """{module: cells and modules inside} of the modules `names` of an RTLIL text, mapped at once;
    those `by_hand` as elements without DSP blocks."""
    text += "module \\all\n" + "".join(
        f"  attribute \\keep 1\n  cell \\{name} \\c_{name}\n  end\n" for name in names) + "end\n"
    commands = synthesis(target, "all", dsp=dsp)
    for name in by_hand:
        commands[1:1] = [line.replace(_PE, name) for line in synthesis(
            target, "all", dsp=dsp, pe_dsp=False) if _PE in line]
    with tempfile.TemporaryDirectory(prefix="systolith-fit-") as folder:
        rtlil, verilog, boxes, stat = (Path(folder) / name for name in (
            "in.il", "in.v", "boxes.v", "stat.json"))
        rtlil.write_text(text)
        run_yosys([*(line.format(rtlil, verilog, boxes) for line in VERILOG), *commands,
                   f'tee -q -o "{stat}" stat -json'], stat)
        return {name.removeprefix("\\"): content["num_cells_by_type"] for name, content in
                json.loads(stat.read_text())["modules"].items()}


def _chip(arch: Arch, dsp: bool, target: str, known: dict[str, dict]) -> dict[str, dict]:
    """{module: cells and modules inside} of a core; what is not `known`, by its text, is mapped."""
    modules = lone_modules(core_rtlil(arch), frozenset({_PE}))
    by_hand = dsp and not arch.pe_dsp
    keys = {name: json.dumps([module.text, target, dsp, name == _PE and by_hand])
            for name, module in modules.items()}
    new = {key: name for name, key in keys.items() if key not in known}
    if new:
        text, names = "", {}
        for number, (key, name) in enumerate(new.items()):
            names[key] = own = f"t{number}"
            text += re.sub(r"(?<!\S)\\m(\d+)(?!\S)", rf"\\{own}_m\1", modules[name].text).replace(
                f"module \\{_PE if name == _PE else 'top'}\n", f"module \\{own}\n", 1)
        found = _map(text, list(names.values()), target, dsp, [
            names[key] for key, name in new.items() if name == _PE and by_hand])
        for key, own in names.items():
            known[key] = {kind.removeprefix(f"{own}_"): number
                          for kind, number in found[own].items()}
    return {name: {module.inside.get(kind, kind): number
                   for kind, number in known[keys[name]].items()}
            for name, module in modules.items()}


def _sample(path: Path, target: str, chips: int, lanes: int) -> None:
    """Map what the file of samples lacks: lines of `kind`, `seed`, `dsp`, `arch`, `hardware` (what
    its code is known by), and `modules` of a chip or `cells` of an element or a lane."""
    done = Counter((line["kind"], line["seed"]) for line in _read(path))

    def keep(kind, seed, dsp, arch, **found):
        with path.open("a") as file:
            file.write(json.dumps({"kind": kind, "seed": seed, "dsp": dsp, "arch": arch.to_dict(),
                                   "hardware": hardware_hash(), **found}) + "\n")
    parts = {"element": _elements(), "post lane": _lanes("post lane", lanes),
             "operand lane": _lanes("operand lane", lanes // 3), "load": _loads(lanes // 4),
             "scale": _scales(),
             **{kind: _shared(kind) for kind in KINDS if KINDS[kind].shared}}
    for kind, items in parts.items():
        lots: dict[bool, list] = {True: [], False: []}
        for seed, (arch, dsp, block) in enumerate(items):
            if (kind, seed) not in done:
                lots[dsp].append((seed, arch, block))
        for dsp, lot in lots.items():
            for first in range(0, len(lot), 12):
                some = lot[first:first + 12]
                found = _map("".join(_text(block, f"p{seed}") for seed, _, block in some),
                             [f"p{seed}" for seed, _, _ in some], target, dsp,
                             [f"p{seed}" for seed, arch, _ in some
                              if kind == "element" and dsp and not arch.pe_dsp])
                for seed, arch, _ in some:
                    # of LOAD its own: its bursts are a kind of their own
                    keep(kind, seed, dsp, arch, cells=dict(
                        found[f"p{seed}"] if kind == "load" else leaves(found, f"p{seed}")))
    known: dict[str, dict] = {}
    for seed in range(chips):
        if ("chip", seed) not in done:
            arch, dsp = random_design(seed)
            arch = built_for(arch, target, dsp=dsp)
            keep("chip", seed, dsp, arch, modules=_chip(arch, dsp, target, known))


def _read(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _figures(cells):
    """LUTs but for those of RAM, flip-flops and DSP blocks of a count of cells."""
    found = count({name: number for name, number in cells.items() if "DPR16" not in name})
    return {"lut": found.lut, "ff": found.ff, "dsp": found.dsp}


def fitted(rows: list[tuple[dict[str, float], float]]) -> dict[str, float]:
    """{term: cost}, none of them negative, of (terms, figure) of some modules: chosen one by one as
    long as figures of modules that costs were not fitted to come closer."""
    names = sorted({name for terms, _ in rows for name in terms})
    terms = np.array([[float(row.get(name, 0)) for name in names] for row, _ in rows])
    figures = np.array([float(figure) for _, figure in rows])
    weights = 1 / (figures + 10)
    lots = np.arange(len(rows)) % min(8, len(rows))

    def costs(chosen, some):
        scaled = terms[some][:, chosen] * weights[some][:, None]
        norms = np.maximum(np.linalg.norm(scaled, axis=0), 1e-12)
        return nnls(scaled / norms, figures[some] * weights[some])[0] / norms

    def error(chosen):
        wrong = [weights[lot] * (terms[lot][:, chosen] @ costs(chosen, ~lot) - figures[lot])
                 for lot in (lots == number for number in range(lots[-1] + 1 if len(
                     rows) < 8 else 8))]
        return sum(float(some @ some) for some in wrong)
    chosen: list[int] = [names.index("1")] if "1" in names else []
    best = error(chosen) if chosen else np.inf
    while len(chosen) < _TERMS:
        tries = [(error([*chosen, n]), n) for n in range(len(names))
                 if n not in chosen and terms[:, n].any()]
        if not tries or min(tries)[0] > _BETTER * best - 1e-9:
            break
        best, found = min(tries)
        chosen.append(found)
    every = costs(chosen, np.full(len(rows), True))
    return {names[n]: round(float(cost), 4) for n, cost in zip(chosen, every, strict=True)
            if cost > 1e-6}


def _own(line, kind):
    """The cells of a kind of module in a chip that was mapped."""
    name, found = KINDS[kind].module, line["modules"]
    if KINDS[kind].shared:
        return leaves(found, name)
    return found[name if ONE not in found else name.replace("systolith_core", ONE)]


def _fit(samples: list[dict], before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Costs of all modules and elements.

    `before` is a fit to which only what is new is added, from samples of modules and elements by
    themselves: kinds and elements that it lacks, and windows of LOAD.
    """
    modules: dict[str, list] = {}
    elements: dict[str, list] = {}

    def element(arch, cells):
        base = element_base(arch)
        elements.setdefault(element_key(arch), []).append((element_terms(arch), {
            name: figure - base[name] for name, figure in _figures(cells).items()}))
    for line in samples:
        arch = Arch(**line["arch"])
        if line["kind"] == "element":
            element(arch, line["cells"])
        elif line["kind"] != "chip":
            modules.setdefault(line["kind"], []).append(
                (KINDS[line["kind"]].terms(arch), _figures(line["cells"])))
        elif before is None:
            for kind, (_, terms) in terms_of(arch).items():
                modules.setdefault(kind, []).append((terms, _figures(_own(line, kind))))
            element(arch, line["modules"][_PE])

    def costs(rows, names):
        return {name: fitted([(terms, found[name]) for terms, found in rows]) for name in names}
    if before is not None:
        load = {name: {term: cost for term, cost in known.items() if term not in _of_windows(known)}
                for name, known in before["kinds"]["load"].items()}
        windows = costs([(_of_windows(terms), {
            name: max(0.0, found[name] - priced(load[name], terms)) for name in ESTIMATED})
            for terms, found in modules.pop("load", [])], ESTIMATED)
        modules = {kind: rows for kind, rows in modules.items()
                   if kind not in before["kinds"] or kind == "scale" or KINDS[kind].shared}
        elements = {key: rows for key, rows in elements.items() if key not in before["elements"]}
    found = {"kinds": {kind: costs(modules[kind], ESTIMATED + ("dsp",) * (kind == "edges"))
                      for kind in KINDS if kind in modules},
            "elements": {key: {
                "lanes": [choose(terms["lanes"] for terms, _ in rows) for choose in (min, max)],
                "costs": costs(rows, (*ESTIMATED, "dsp"))}
                for key, rows in sorted(elements.items())}}
    if before is None:
        return found
    found["kinds"]["load"] = {name: load[name] | windows[name] for name in load}
    return {name: dict(sorted((before[name] | found[name]).items())) if name == "elements"
            else before[name] | found[name] for name in found}


def _of_windows(terms):
    """The terms of LOAD that only chips with windows have."""
    return {name: value for name, value in terms.items() if name.startswith("window")}


def _parts_errors(samples, before):
    """{kind: [(figure of a module, how far its estimate is off, as a share)]} of kinds that a fit
    gets anew, by fits to the other samples; modules of a kind are dealt out to lots."""
    found: dict[str, list] = {}
    mine = [line for line in samples if line["kind"] in ("load", "scale")
            or (line["kind"] in KINDS and KINDS[line["kind"]].shared)]
    for lot in range(_LOTS):
        fit = _fit([line for number, line in enumerate(mine) if number % _LOTS != lot],
                   json.loads(json.dumps(before)))
        for line in mine[lot::_LOTS]:
            terms, truth = KINDS[line["kind"]].terms(Arch(**line["arch"])), _figures(line["cells"])
            for name in ESTIMATED:
                found.setdefault(f"{line['kind']}, {name}", []).append(
                    priced(fit["kinds"][line["kind"]][name], terms) / truth[name] - 1)
    return found


def _add_parts(samples, target):
    """Add what is new to the fit of a target, and say how far it is off."""
    path = DATA / f"area_{target}.json"
    before = json.loads(path.read_text())
    errors = _parts_errors(samples, before)
    path.write_text(json.dumps(before | _fit(samples, before), indent=1) + "\n")
    fit = json.loads(path.read_text())
    report("Estimated modules that were not fitted to", [
        {"module and figure": name, "modules": len(some),
         "median, %": 100 * median(map(abs, some)), "worst, %": 100 * max(map(abs, some))}
        for name, some in errors.items()])
    print()
    rows = []
    for line in samples:
        arch = Arch(**line["arch"])
        if line["kind"] == "chip" and knows(fit, arch):
            made, truth = figures_by(fit, arch), _mapped(line)
            rows.append({"chip": line["seed"], "cores": arch.cores, "array": "x".join(map(str, (
                arch.rows, arch.columns, arch.lanes))), "element": element_key(arch),
                         "windows": arch.load_windows, **{
                f"{name}, % off": 100 * (_total(made, name) / _total(truth, name) - 1)
                for name in ESTIMATED}})
    report("Estimated chips, of which none was fitted to", rows)


def _mapped(line):
    """{part: figures} of a chip that was mapped."""
    parts: dict[str, Counter] = {name: Counter() for name in PARTS}
    attribute(line["modules"], "systolith_core", "core top", 1, parts)
    return {name: count(cells) for name, cells in parts.items() if cells}


def _total(parts, name):
    return sum(getattr(figures, name) for figures in parts.values())


def _errors(samples: list[dict]) -> dict[int, dict[str, float]]:
    """{chip's seed: {figure: how far its estimate is off, as a share}} by fits that have not seen
    it; "bram" and "dsp": by how many blocks."""
    chips = [line for line in samples if line["kind"] == "chip"]
    found = {}
    for lot in range(_LOTS):
        mine = chips[lot::_LOTS]
        fit = _fit([line for line in samples if line not in mine])
        for line in mine:
            # of elements of its formats none may have been measured but in this chip
            arch = Arch(**line["arch"])
            if not knows(fit, arch):
                continue
            made, truth = figures_by(fit, arch), _mapped(line)
            found[line["seed"]] = {
                **{name: _total(made, name) / _total(truth, name) - 1 for name in ESTIMATED},
                **{name: _total(made, name) - _total(truth, name) for name in ("dsp", "bram")}}
    return found


def main() -> None:
    options = arguments(__doc__, chips=(90, "random ones"), lanes=(72, "post lanes"),
                        target=("ecp5", "for which everything is mapped"),
                        samples=("build/area_samples.jsonl", "what has been mapped"),
                        parts=(0, "1: add to the fit that there is what is mapped by itself"))
    path = Path(options.samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sample(path, options.target, options.chips, options.lanes)
    samples = _read(path)
    if options.parts:
        _add_parts(samples, options.target)
        return
    errors = _errors(samples)
    off = {name: sorted(abs(error[name]) for error in errors.values()) for name in ESTIMATED}
    error = {"designs": len(errors), **{name: {
        "median": round(median(some), 4), "worst": round(some[-1], 4)}
        for name, some in off.items()}}
    codes = {line["hardware"] for line in samples}
    fit = {"target": options.target, "hardware": codes.pop() if len(codes) == 1 else "several",
           "error": error, **_fit(samples)}
    (DATA / f"area_{options.target}.json").write_text(json.dumps(fit, indent=1) + "\n")
    report("Estimated areas of chips that were not fitted to", [
        {"figure": name, "chips": len(some), "median, %": 100 * median(some),
         "9 of 10 below, %": 100 * some[int(0.9 * len(some))], "worst, %": 100 * some[-1]}
        for name, some in off.items()] + [
        {"figure": f"{name} (blocks)", "chips": len(errors), "median, %": 0.0,
         "9 of 10 below, %": 0.0, "worst, %": float(max(abs(e[name]) for e in errors.values()))}
        for name in ("dsp", "bram")], options.json, by_seed=errors)


if __name__ == "__main__":
    main()
