"""Sweeps: what is wanted of the points of a space is measured, kept as it comes, and judged."""

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from systolith.gen.chip.keys import KEYS
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.faults import Fault
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.gen.kit.resume import open_folder
from systolith.gen.report.energy import EnergyTable, read_energy
from systolith.gen.report.metrics import METRICS, exceeds, figures_of, joined
from systolith.gen.report.pareto import rows_of, write_results
from systolith.gen.report.pareto_page import page

from .execute import Executor, open_executor
from .finalists import finalists as choose_finalists
from .point import Point, Task, evaluate, lost
from .search import Outcome, open_chooser
from .serve import serving
from .space import METHODS, Space
from .space_file import read_space
from .status import Status
from .store import RESULTS, Store, open_store

__all__ = ["result_of", "sweep"]


def sweep(space: Path | str | Space, folder: Path | str, *, jobs: int = 1,
          retry_failed: bool = False, method: str | None = None, evaluations: int | None = None,
          storage: str | None = None, cluster: str | None = None,
          cluster_options: dict[str, Any] | None = None, port: int | None = None,
          show: Callable[[str], object] | None = None, finalists: int | Literal["all"] = 0,
          progress: Reporter = SILENT, tell: Callable[[str], object] | None = None,
          evaluate: Callable[[Any], dict[str, Any]] = evaluate
          ) -> tuple[list[dict[str, Any]], list[Path]]:
    """Measure what is not known yet of a space's points, and write tables and plots.

    Parameters
    ----------
    space : path or Space
        The TOML file.
    folder : path
        For results.jsonl, status.json, results.csv and the rest; made if it does not exist.
    jobs : int
        Measured at the same time, each in a process of its own.
    retry_failed : bool
        Measure again what failed.
    method, evaluations
        In place of the space's own search.
    storage : str or None
        The SQLAlchemy URL of a database for results and search, which a team shares.
    cluster, cluster_options
        Where measurements run, as of `execute.open_executor`.
    port : int or None
        Where the page is served while the sweep runs; 0: any free port, None: not at all.
    show : function or None
        Told the address.
    finalists : int or "all"
        How many points of the front are placed and routed in the end (`PlacedOf`), or all points
        that count.
    tell : function or None
        Told what a user should know of results that were there before.
    evaluate : function of a measurement
        What measures; must be importable where it runs in other processes.

    Returns (results, paths of the files): results one for each point, as in `result_of`. Raises
    UserError for a bad space, and where no point could be measured, Fault where Systolith failed at
    one, when the files are written.
    """
    space = space if isinstance(space, Space) else read_space(space)
    if method is not None and method not in METHODS:
        raise UserError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    search = space.search
    space = replace(space, search=replace(search, method=method or search.method,
                                          evaluations=evaluations or search.evaluations))
    folder, table = open_folder(folder), read_energy(space.energy)
    with (open_store(folder, storage, failures=not retry_failed) as store,
          open_chooser(space, folder, storage) as chooser,
          open_executor(jobs, cluster, folder / "jobs", cluster_options) as executor):
        status = Status(folder, progress)
        try:
            run = _Run(store, executor, evaluate, status, progress)
            with nullcontext("") if port is None else serving(
                    lambda: _page(run, space, table, folder), lambda: status.data, port) as address:
                if address and show is not None:
                    show(address)
                results = _searched(space, run, table, chooser)
                if finalists:
                    results = _placed(results, space, run, table, finalists)
        except BaseException:
            status.end("failed")
            raise
        unused = status.unused(store.known)
        status.end("done")
        if unused and tell is not None:
            tell(f"{unused:,} results of earlier runs were not used: {folder / RESULTS} keeps them "
                 "with all that they depend on, which is other chips, networks or searches, or "
                 "another version of the code or of Yosys")
    return _written(results, space, folder, storage)


def _written(results, space, folder, storage):
    """(results, files) once the files are written; raises what `sweep` does."""
    fault = next((result["fault"] for result in results if result["fault"]), None)
    if not results:
        raise UserError(f"{space.path}: no combination meets the conditions of `when`")
    if all(result["error"] for result in results):
        if fault:
            raise Fault(fault)
        raise UserError(f"no point could be measured; the first one: {results[0]['error']}; "
                        "--retry-failed measures again what failed")
    files = [*([] if storage else [folder / RESULTS]),
             *write_results(results, folder, space.objectives)]
    if fault:
        raise Fault(fault)
    return results, files


#: Seconds between two looks at what other runs have claimed.
_POLL = 1.0


class _Run:
    """Measures what is wanted and not known."""

    def __init__(self, store: Store, executor: Executor, evaluate: Callable, status: Status,
                 progress: Reporter):
        self.store, self.executor, self.evaluate = store, executor, evaluate
        self.status, self.progress = status, progress
        self.chosen: list[Point] = []

    def measure(self, tasks: Iterable[Task], what: str,
                together: Callable[[Any], Any] | None = None) -> None:
        """Measure tasks; `what` is said of them, with {} for their number; `together` as of
        `Executor.run`."""
        by_key = {task.key: task for task in tasks}
        if not by_key:
            return
        self.store.refresh(list(by_key))
        missing = [task for key, task in by_key.items() if key not in self.store.known]
        self.status.wanted(next(iter(by_key.values())).kind, by_key, self.store.known)
        with self.progress.step(f"{what.format(len(by_key))}, {len(by_key) - len(missing)} known",
                                max(1, len(missing))) as done:
            number = 0
            while missing:
                others: list[Task] = []
                found = self.executor.run(self.evaluate, self._claimed(missing, others), lost,
                                          together)
                for result in found:
                    self.store.add(result)
                    self.status.measured(result)
                    number += 1
                    done(number)
                left = set(self.store.unsettled([task.key for task in others]))
                missing = [task for task in others if task.key in left]
                number += len(others) - len(missing)
                done(number)
                if missing and len(missing) == len(others):
                    time.sleep(_POLL)

    def _claimed(self, tasks, others):
        """The tasks that no other run works on; the rest is added to `others`."""
        for task in tasks:
            if self.store.claim(task.key):
                yield task
            else:
                others.append(task)

    def points(self, points: list[Point]) -> None:
        """Measure points: first what is cheap, then the area of chips for which it went well."""
        known = self.store.known
        self.chosen = [*self.chosen, *points]
        counted = [task for point in points for task in point.cycles.values()]
        # those that share a program follow each other
        counted.sort(key=attrgetter("order"))
        self.measure(counted, "Cycles of {} programs", attrgetter("family"))
        self.measure([task for point in points for name, task in point.accuracy.items()
                      if known[point.cycles[name].key]["error"] is None],
                     "Accuracy of {} networks")
        # A chip on which no network runs needs no synthesis.
        self.measure([point.area for point in points if point.area and (
            not point.cycles or any(known[task.key]["error"] is None
                                    for task in point.cycles.values()))], "Area of {} chips")


def _searched(space: Space, run: _Run, table: EnergyTable, choose) -> list[dict[str, Any]]:
    """The results of all points that a search chooses, in the order in which it did; of one that
    goes on, those of earlier runs are among them where it asks for them again."""
    results: dict[str, dict[str, Any]] = {}
    for lot in choose.lots():
        run.points(lot)
        for point in lot:
            result = result_of(point, space, run.store.known, table)
            results[f"{point.id}-{len(results)}" if point.id in results else point.id] = result
            choose.tell(point, _outcome(result, space))
        feasible = [result for result in results.values() if result["feasible"]]
        run.status.found(len(results), len(feasible), _best(feasible, space.objectives))
    return list(results.values())


def _placed(results, space, run, table, number):
    """The results, those of finalists with the clock that they reach."""
    ids = {result["id"] for result in choose_finalists(results, space.objectives, number)}
    points = {point.id: point for point in run.chosen if point.id in ids}
    run.measure([point.placed for point in points.values() if point.placed],
                "Place and route of {} finalists")
    return [result_of(points[result["id"]], space, run.store.known, table)
            if result["id"] in points else result for result in results]


def _page(run, space, table, folder):
    """The page of what is known of the points that have been chosen so far."""
    known = run.store.known
    # of a chip on which nothing runs, the area is not asked for
    done = [point for point in run.chosen if all(
        task.key in known for task in point.cycles.values()) and (
            not point.area or point.area.key in known or (point.cycles and all(
                known[task.key]["error"] for task in point.cycles.values())))]
    return page(rows_of([result_of(point, space, known, table) for point in done],
                        space.objectives), space.objectives, folder)


def _outcome(result, space):
    values = [result["figures"].get(name) for name in space.objectives]
    if any(value is None for value in values):
        return Outcome(None)
    return Outcome(values, len(result["violated"]))


def _best(results, objectives):
    """{objective: {"value", "point"}} of the best ones."""
    best = {}
    for name in objectives:
        known = [result for result in results if result["figures"].get(name) is not None]
        if known:
            first = max(known, key=lambda item: METRICS[name].better * item["figures"][name])
            best[name] = {"value": first["figures"][name], "point": first["id"]}
    return best


def result_of(point: Point, space: Space, known: dict[str, dict[str, Any]],
              table: EnergyTable) -> dict[str, Any]:
    """What is known of a point, as plain data.

    With `networks` (name to figures, or to their `error`), the figures of the area, `exceeds`: what
    the part has too little of ("398 BRAM of 208"), empty where the chip fits or no part is named,
    `figures`: those of `METRICS`, of all networks together, `violated`: the constraints that do not
    hold, and `feasible`: whether it counts. `error` is the reason where the area is missing, or
    all networks.
    """
    result: dict[str, Any] = {
        "id": point.id, "group": point.group, "settings": point.settings,
        "error": point.problem or None, "fault": None, "target": point.target, "dsp": point.dsp,
        "part": point.part, "exceeds": [], "networks": {}, "figures": {},
        "violated": [], "feasible": False}
    arch = point.arch
    if arch is None:
        return result
    result |= {"chip": arch.to_dict(), "macs_per_cycle": arch.macs_per_cycle}
    area = None if point.area is None else known.get(point.area.key)
    placed = None if point.placed is None else known.get(point.placed.key)
    if placed is not None:
        result |= {"placed": {name: placed.get(name) for name in (
            "mhz", "by_seed", "cells", "slowest", "error")}, "fault": placed.get("fault")}
        placed = placed if placed["error"] is None else None
    good = area if area is not None and area["error"] is None else None
    nets = {net.name: net for net in point.networks}
    rows = []
    for name, task in point.cycles.items():
        counted = known[task.key]
        figures = counted | _network(nets[name])
        result["fault"] = result["fault"] or counted.get("fault")
        if counted["error"] is None:
            accuracy = known.get(point.accuracy[name].key) if name in point.accuracy else None
            if accuracy is not None and accuracy["error"] is not None:
                figures["error"] = accuracy["error"]
                result["fault"] = result["fault"] or accuracy.get("fault")
                accuracy = None
            own = figures_of(point, good, counted, accuracy, table, placed)
            figures |= {"utilization": own["utilization"], "figures": own}
            rows.append(own)
        result["networks"][name] = figures
    errors = [figures["error"] for figures in result["networks"].values()]
    if errors and all(errors):
        return result | {"error": errors[0]}
    if area is not None and area["error"] is not None:
        return result | {"error": area["error"], "fault": result["fault"] or area.get("fault")}
    if area is not None:
        result |= {name: value for name, value in area.items()
                   if name not in ("key", "kind", "error", "seconds")}
        result["exceeds"] = exceeds(area, point.part)
    if any(errors):
        return result               # the chip does not do all that is wanted of it
    result["figures"] = joined(rows) if rows else figures_of(point, good, None, None, table, placed)
    result["violated"] = _violated(result, space)
    result["feasible"] = not result["exceeds"] and not result["violated"]
    return result


def _network(net):
    """What names a network and how it was quantized."""
    return {"path": str(net.path.resolve()), "content": net.content,
            "data": None if net.data is None else str(net.data.resolve()),
            "data_content": net.data_content,
            "recipe": None if net.recipe is None else asdict(net.recipe)}


def _violated(result, space):
    """Constraints that do not hold, or that ask for a figure that is not known."""
    values = result["figures"] | {"fits": not result["exceeds"]}
    values |= {key.path: value for key, value in _keys(result["chip"])}
    return [item.text for item in space.constraints
            if any(values[name] is None for name in item.names & METRICS.keys())
            or not item(values)]


def _keys(chip):
    return [(key, chip.get(key.field)) for key in KEYS.values()]
