"""The fit of the analytic estimate of areas (gen/measure/estimate.py), anew.

Random chips of all families (`area_draws.py`) are mapped module by module for a target, and
processing elements, post lanes and other modules by themselves: each is kept in a file
(`--samples`) as it comes, with the netlist that it was mapped from, so that a stopped run goes on
where it was, and a run after a change of the hardware maps what has changed. Then costs are fitted,
and the data file of the package is written. Its error is that of chips to which nothing was fitted:
all chips are dealt out to ten lots, and each lot is estimated by a fit to the other nine. A chip
takes 10 to 20 CPU seconds, an element 0.4, a post lane 0.6.
"""

import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from amaranth.back import rtlil
from amaranth.hdl import Fragment, Value
from area_draws import (
    PE,
    accumulators,
    elements,
    lanes,
    loads,
    random_design,
    scales,
    shared,
    streamers,
    writers,
)
from common import arguments, report
from scipy.optimize import nnls
from systolith.gen.chip.verilog import core_rtlil
from systolith.gen.measure import estimate
from systolith.gen.measure.area import built_for, count, synthesis
from systolith.gen.measure.estimate import OPTIONS, figures_by, knows
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
from systolith.hw.core.blocks import emit_rtlil
from systolith.hw.core.cores import ONE
from systolith.hw.core.load import Load
from systolith.hw.core.register_windows import RegisterWindows
from systolith.hw.core.result_writer import ResultWriter
from systolith.hw.core.shared_bus import SharedBus
from systolith.hw.core.streamer import PixelStreamer
from systolith.hw.spec.arch import Arch

DATA = Path(estimate.__file__).parent
#: Kinds of modules with others inside that are kinds, too.
_OWN = ("load", "pixels", "writer")
#: Chips that are dealt out for the error.
_LOTS = 10
#: Terms of a module's cost at most, and by how much one more must lessen the error of chips that
#: it was not fitted to.
_TERMS, _BETTER = 12, 0.99


def _text(block: Any, name: str) -> str:
    """RTLIL of a block: of one that stands in a core as it is there, else of one with a clock of
    its own."""
    if isinstance(block, Load | PixelStreamer | ResultWriter | SharedBus | RegisterWindows):
        ports = {"_".join(map(str, path)): (Value.cast(value), None)
                 for path, _, value in block.signature.flatten(block)}
        return rtlil.convert(Fragment.get(block, None), name=name, ports=ports, emit_src=False)
    return emit_rtlil(block, name)


class _Samples:
    """What has been mapped, kept in a file of a JSON object a line.

    Lines have a `kind`: "cells" those of a netlist, by its `key`; others the `seed`, `dsp`,
    `arch` and `hardware` (what its code is known by) of a chip, with the cells and modules inside
    of its `modules`, or of an element or a module by itself, with its `cells`. Netlists that are
    known are not mapped again, so that after a change of the hardware those are that it changed.
    """

    def __init__(self, path: Path, target: str) -> None:
        self.path, self.target = path, target
        self.known: dict[str, dict] = {}
        self.lines: dict[tuple, dict] = {}
        content = path.read_text() if path.exists() else ""
        whole = content[:content.rfind("\n") + 1]
        if whole != content:            # cut when a run was killed
            path.write_text(whole)
        for line in map(json.loads, whole.splitlines()):
            if line["kind"] == "cells":
                self.known[line["key"]] = line["cells"]
            else:
                self.lines[line["kind"], line["seed"]] = line

    def is_new(self, kind: str, seed: int, arch: Arch) -> bool:
        """Whether there is no line of this chip and of the present hardware."""
        line = self.lines.get((kind, seed))
        return (line is None or line["hardware"] != hardware_hash()
                or Arch(**line["arch"]) != arch)

    def keep(self, kind: str, seed: int, dsp: bool | str, arch: Arch, **found: dict) -> None:
        line = {"kind": kind, "seed": seed, "dsp": dsp, "arch": arch.to_dict(),
                "hardware": hardware_hash(), **found}
        self.lines[kind, seed] = line
        self._write(line)

    def _write(self, line):
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def mapped(self, texts: list[tuple[str, bool]], dsp: bool | str) -> list[dict[str, dict]]:
        """{"" and modules inside: cells and modules inside} of each RTLIL text, of modules named
        `own` or with names that begin so; what is not known is mapped in one run. The other of a
        pair is whether there is to be no DSP block although there are some."""
        keys = [hashlib.sha256(json.dumps([text, self.target, bool(dsp), by_hand]).encode())
                .hexdigest() for text, by_hand in texts]
        new = {key: item for key, item in zip(keys, texts, strict=True) if key not in self.known}
        if new:
            for key, found in zip(new, self._map(list(new.values()), bool(dsp)), strict=True):
                self.known[key] = found
                self._write({"kind": "cells", "key": key, "cells": found})
        return [self.known[key] for key in keys]

    def _map(self, texts, dsp):
        names = [f"t{number}" for number in range(len(texts))]
        text = "".join(re.sub(r"\\own(?![A-Za-z0-9])", rf"\\{name}", text)
                       for name, (text, _) in zip(names, texts, strict=True))
        text += "module \\all\n" + "".join(
            f"  attribute \\keep 1\n  cell \\{name} \\c_{name}\n  end\n" for name in names
        ) + "end\n"
        commands = synthesis(self.target, "all", dsp=dsp)
        for name, (_, by_hand) in zip(names, texts, strict=True):
            if by_hand:
                commands[1:1] = [line.replace(PE, name) for line in synthesis(
                    self.target, "all", dsp=dsp, pe_dsp=False) if PE in line]
        with tempfile.TemporaryDirectory(prefix="systolith-fit-") as folder:
            rtlil, verilog, boxes, stat = (Path(folder) / name for name in (
                "in.il", "in.v", "boxes.v", "stat.json"))
            rtlil.write_text(text)
            run_yosys([*(line.format(rtlil, verilog, boxes) for line in VERILOG), *commands,
                       f'tee -q -o "{stat}" stat -json'], stat)
            modules = {name.removeprefix("\\"): content["num_cells_by_type"] for name, content in
                       json.loads(stat.read_text())["modules"].items()}

        def inside(name, kind):
            """A module's name without that of the one around it."""
            return kind.removeprefix(name) if re.match(rf"{name}(?![A-Za-z0-9])", kind) else kind
        return [{inside(name, module): {inside(name, kind): number
                                        for kind, number in cells.items()}
                 for module, cells in modules.items() if inside(name, module) != module}
                for name in names]


def _by_hand(arch, dsp):
    """Whether elements have no DSP blocks although there are some."""
    return bool(dsp) and not (dsp is True and arch.pe_dsp)


def _chip(samples: _Samples, arch: Arch, dsp: bool | str) -> dict[str, dict]:
    """{module: cells and modules inside} of a core."""
    modules = lone_modules(core_rtlil(arch), frozenset({PE}))
    texts = [(re.sub(r"(?<!\S)\\m(\d+)(?!\S)", r"\\own_m\1", module.text).replace(
        f"module \\{PE if name == PE else 'top'}\n", "module \\own\n", 1),
        name == PE and _by_hand(arch, dsp)) for name, module in modules.items()]
    found = samples.mapped(texts, dsp)
    return {name: {module.inside.get(kind.removeprefix("_"), kind): number
                   for kind, number in cells[""].items()}
            for (name, module), cells in zip(modules.items(), found, strict=True)}


def _sample_chips(samples: _Samples, seeds: Iterable[int]) -> Iterator[tuple[str, int]]:
    """Map what the samples lack of the chips of these seeds; their names in `_Samples.lines`."""
    for seed in seeds:
        arch, dsp = random_design(seed)
        arch = built_for(arch, samples.target, dsp=dsp)
        if samples.is_new("chip", seed, arch):
            samples.keep("chip", seed, dsp, arch, modules=_chip(samples, arch, dsp))
        yield "chip", seed


def _sample_modules(samples: _Samples, number: int) -> Iterator[tuple[str, int]]:
    """The same of elements, so many post lanes, and other modules by themselves."""
    parts = {"post lane": lanes("post lane", number),
             "operand lane": lanes("operand lane", number // 2), "load": loads(number // 4),
             "accumulator": accumulators(number // 4),
             "pixels": streamers(number // 4), "writer": writers(number // 4), "scale": scales(),
             "element": elements(),
             **{kind: shared(kind) for kind in KINDS if KINDS[kind].shared}}
    for kind, items in parts.items():
        lots: dict[bool | str, list] = {}
        for seed, (arch, dsp, block) in enumerate(items):
            yield kind, seed
            if samples.is_new(kind, seed, arch):
                lots.setdefault(dsp, []).append((seed, arch, block))
        for dsp, lot in lots.items():
            for first in range(0, len(lot), 12):
                some = lot[first:first + 12]
                found = samples.mapped([
                    (_text(block, "own"), kind == "element" and _by_hand(arch, dsp))
                    for _, arch, block in some], dsp)
                for (seed, arch, _), cells in zip(some, found, strict=True):
                    # of some their own: modules inside are kinds of their own
                    samples.keep(kind, seed, dsp, arch, cells=dict(
                        cells[""] if kind in _OWN else leaves(cells, "")))


def _figures(cells):
    """LUTs but for those of RAM, flip-flops and DSP blocks of a count of cells."""
    found = count({name: number for name, number in cells.items() if "DPR16" not in name})
    return {"lut": found.lut, "ff": found.ff, "dsp": found.dsp}


def fitted(rows: list[tuple[dict[str, float], float]],
           always: tuple[str, ...] = ("1",)) -> dict[str, float]:
    """{term: cost}, none of them negative, of (terms, figure) of some modules: those of `always`,
    and others one by one as long as figures of modules that costs were not fitted to come closer.
    """
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
    chosen = [names.index(name) for name in always if name in names]
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


def _fit(samples: list[dict]) -> dict[str, Any]:
    """Costs of all modules and elements."""
    modules: dict[str, list] = {}
    found: dict[str, list] = {}

    def element(arch, cells):
        base = element_base(arch)
        found.setdefault(element_key(arch), []).append((element_terms(arch), {
            name: figure - base[name] for name, figure in _figures(cells).items()}))
    for line in samples:
        arch = Arch(**line["arch"])
        if line["kind"] == "element":
            element(arch, line["cells"])
        elif line["kind"] != "chip":
            modules.setdefault(line["kind"], []).append(
                (KINDS[line["kind"]].terms(arch), _figures(line["cells"])))
        else:
            for kind, (_, terms) in terms_of(arch).items():
                modules.setdefault(kind, []).append((terms, _figures(_own(line, kind))))
            element(arch, line["modules"][PE])

    def costs(rows, names, always=("1",)):
        return {name: fitted([(terms, found[name]) for terms, found in rows], always)
                for name in names}
    return {"kinds": {kind: costs(modules[kind],
                                  ESTIMATED + ("dsp",) * (
                                      kind in ("edges", "scale", "array")))
                      for kind in KINDS if kind in modules},
            "elements": {key: {
                "lanes": [choose(terms["lanes"] for terms, _ in rows) for choose in (min, max)],
                # of several lanes there are few samples of a format
                "costs": costs(rows, (*ESTIMATED, "dsp"), ("1", "more lanes"))}
                for key, rows in sorted(found.items())}}


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
    options = arguments(__doc__, chips=(86, "random ones"), lanes=(72, "post lanes"),
                        without=("", "FIRST-LAST of the chips that are left out, to save time"),
                        target=("ecp5", "for which everything is mapped"),
                        samples=("build/area_samples.jsonl", "what has been mapped"))
    path = Path(options.samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = _Samples(path, options.target)
    first, _, last = options.without.partition("-")
    left_out = range(int(first), int(last) + 1) if first else ()
    seeds = [seed for seed in range(options.chips) if seed not in left_out]
    wanted = [*_sample_chips(kept, seeds), *_sample_modules(kept, options.lanes)]
    samples = [kept.lines[name] for name in wanted]
    errors = _errors(samples)
    off = {name: sorted(abs(error[name]) for error in errors.values()) for name in ESTIMATED}
    error = {"designs": len(errors), **{name: {
        "median": round(median(some), 4), "worst": round(some[-1], 4)}
        for name, some in off.items()}}
    chips = [Arch(**line["arch"]) for line in samples if line["kind"] == "chip"]
    fit = {"target": options.target, "hardware": hardware_hash(), "error": error,
           "options": [name for name in OPTIONS if any(getattr(arch, name) for arch in chips)],
           **_fit(samples)}
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
