"""Commands about spaces of chips: measuring them, and looking at what was found."""

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any, Literal

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import Reporter

from ..command import MISMATCH, OK, Command
from ..options import add_jobs, add_output, count, names, whole, wrote

__all__ = ["Explain", "Pareto", "Sweep"]


def _setting(text: str) -> tuple[str, Any]:
    """("timeout_min", 30) from timeout_min=30."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"must be of the form NAME=VALUE, not {text!r}")
    return name, int(value) if value.isdecimal() else value


def _finalists(text: str) -> "int | Literal['all']":
    return "all" if text == "all" else count(text)


class Sweep(Command):
    name, summary = "sweep", "measure many chips"
    text = (
        "Measure area (Yosys), cycles (cycle model), accuracy and energy of the chips in a space: "
        "all of\nthem, some at random, or those that Optuna asks for. Results are written as they "
        "come; an\ninterrupted sweep goes on where it stopped. Ends with tables (CSV, JSON, "
        "Parquet), pictures, and a\npage of Pareto fronts that works offline. What failed is "
        "there with its reason and is not measured\nagain.\n\n"
        "With --storage a team shares results and search in a database. With --cluster "
        "measurements run on\na Dask cluster or as jobs of SLURM. These and Optuna need the extra "
        "`sweep`.")
    examples = (
        "  systolith sweep examples/sweep/formats.toml -o sweep --jobs 2\n"
        "  systolith sweep examples/sweep/formats.toml -o sweep --search nsga2 --evaluations 16\n"
        "  systolith sweep examples/sweep/formats.toml -o sweep --cluster tcp://127.0.0.1:8786\n"
        "  systolith sweep examples/sweep/formats.toml -o sweep --retry-failed")

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("space", metavar="SPACE.toml")
        add_output(parser, "DIR", required=True)
        add_jobs(parser, "points", os.cpu_count() or 1)
        parser.add_argument("--search", choices=("grid", "random", "nsga2", "tpe"),
                            help="which points (default: what the space says, else all)")
        parser.add_argument("--evaluations", type=count, metavar="N",
                            help="points at most, but for --search grid")
        parser.add_argument("--storage", metavar="URL",
                            help="a database for results and search, such as "
                                 "postgresql+psycopg://user@host/name (default: files in DIR)")
        parser.add_argument("--cluster", metavar="WHERE",
                            help="a Dask scheduler's address, slurm, or local-jobs (default: "
                                 "processes of this machine)")
        parser.add_argument("--cluster-set", nargs="+", type=_setting, action="extend", default=[],
                            metavar="NAME=VALUE",
                            help="submitit's parameters, such as slurm_partition=short")
        parser.add_argument("--retry-failed", action="store_true",
                            help="measure again what failed in an earlier run")
        parser.add_argument("--verify", type=count, metavar="N",
                            help="simulate the RTL of N points, drawn at random, and compare "
                                 "cycles and results (exit code 3)")
        parser.add_argument("--finalists", type=_finalists, metavar="N", default=0,
                            help="place and route N points of the front on their board, or "
                                 "all points, with three seeds each or as [finalists] of the "
                                 "space says (needs the extra `boards`)")
        parser.add_argument("--serve", type=whole, nargs="?", const=0, metavar="PORT",
                            help="show the page while the sweep runs, on this machine alone")

    def run(self, options: Namespace) -> int:
        from systolith.gen.study.sweep.run import sweep
        notes: list[str] = []
        with Reporter() as progress:
            results, files = sweep(
                options.space, options.output, jobs=options.jobs, method=options.search,
                evaluations=options.evaluations, storage=options.storage,
                cluster=options.cluster, cluster_options=dict(options.cluster_set),
                retry_failed=options.retry_failed, port=options.serve,
                finalists=options.finalists,
                show=lambda address: print(f"the page so far: {address}", flush=True),
                progress=progress, tell=notes.append)
        failed = sum(bool(result["error"]) for result in results)
        large = sum(bool(result["exceeds"]) for result in results)
        wrong = sum(bool(result["violated"]) for result in results)
        print(f"{len(results)} chips: {failed} failed, {large} do not fit their part"
              + (f", {wrong} violate a constraint" if wrong else "")
              + "; the reasons are in results.csv")
        for note in notes:
            print(note)
        _say_estimate(results)
        if options.finalists:
            from systolith.gen.study.sweep.finalists import table_of
            print(f"\nfinalists, placed and routed:\n\n{table_of(results)}\n")
        wrote(*files)
        return OK if options.verify is None else self._verify(options, results)

    @staticmethod
    def _verify(options, results):
        from systolith.gen.study.sweep.verify import table, verify
        with Reporter() as progress:
            found = verify(options.output, results, options.verify, progress=progress)
        print(f"\ncycles of {len(found)} points in RTL, an image on each core:\n\n{table(found)}")
        return OK if all(item.good for item in found) else MISMATCH


def _say_estimate(results):
    """What estimated areas among a sweep's results are worth."""
    if text := next((item["estimate"] for item in results if item.get("estimate")), ""):
        print(text)


class Pareto(Command):
    name, summary = "pareto", "the best points of a sweep, by any objectives"
    text = (
        "List the points of a sweep that no other beats in all objectives, network by network, and "
        "write its\ntables, pictures and page anew for these. Nothing is measured.")
    examples = ("  systolith pareto sweep\n"
                "  systolith pareto sweep --objectives images_per_joule,accuracy,lut")

    def arguments(self, parser: ArgumentParser) -> None:
        from systolith.gen.report.metrics import METRICS
        parser.add_argument("dir", metavar="DIR", help="of `systolith sweep`")
        parser.add_argument("--objectives", type=names, metavar="NAME,...",
                            help=f"among {', '.join(METRICS)} (default: the sweep's)")

    def run(self, options: Namespace) -> int:
        from pathlib import Path

        from systolith.gen.report.metrics import METRICS
        from systolith.gen.report.pareto import front_table, read_results, rows_of, write_results
        data = read_results(options.dir)
        objectives = options.objectives or data["objectives"]
        for name in objectives:
            if name not in METRICS:
                raise UserError(f"--objectives: {name!r} is none; objectives: "
                                f"{', '.join(METRICS)}")
        print(front_table(rows_of(data["points"], objectives), objectives))
        _say_estimate(data["points"])
        wrote(*write_results(data["points"], Path(options.dir), objectives))
        return OK


class Explain(Command):
    name, summary = "explain", "why a point of a sweep takes its cycles"
    text = (
        "Say what bounds each layer of a network on the chip of a point, how full rows and columns "
        "are, and\nwhat one more unit of each resource and twice as much would bring: cycles by "
        "the cycle model, LUTs\nby the estimate where there is one.")
    examples = "  systolith explain sweep 1f3a90c2"

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("dir", metavar="DIR", help="of `systolith sweep`")
        parser.add_argument("point", metavar="POINT", help="its name in results.csv, or how it "
                                                           "begins")
        parser.add_argument("--network", metavar="NAME",
                            help="which of its networks (default: each)")

    def run(self, options: Namespace) -> int:
        from systolith.gen.study.sweep.explain import explain
        from systolith.gen.study.sweep.found import find, find_all
        points = (find_all(options.dir, options.point) if options.network is None else
                  [find(options.dir, options.point, options.network)])
        for number, point in enumerate(points):
            found = explain(point.net.graph(point.arch), point.arch, point.result["target"],
                            dsp=point.result["dsp"])
            print(("\n" if number else "") + found.text())
        return OK
