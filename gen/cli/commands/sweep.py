"""Commands about spaces of chips: measuring them, and looking at what was found."""

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any

from systolith.gen.kit.progress import Reporter

from ..command import OK, Command
from ..options import add_jobs, add_output, count, wrote

__all__ = ["Sweep"]


def _setting(text: str) -> tuple[str, Any]:
    """("timeout_min", 30) from timeout_min=30."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"must be of the form NAME=VALUE, not {text!r}")
    return name, int(value) if value.isdecimal() else value


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

    def run(self, options: Namespace) -> int:
        from systolith.gen.study.sweep.run import sweep
        with Reporter() as progress:
            results, files = sweep(
                options.space, options.output, jobs=options.jobs, method=options.search,
                evaluations=options.evaluations, storage=options.storage,
                cluster=options.cluster, cluster_options=dict(options.cluster_set),
                retry_failed=options.retry_failed, progress=progress)
        failed = sum(bool(result["error"]) for result in results)
        large = sum(bool(result["exceeds"]) for result in results)
        wrong = sum(bool(result["violated"]) for result in results)
        print(f"{len(results)} chips: {failed} failed, {large} do not fit their part"
              + (f", {wrong} violate a constraint" if wrong else "")
              + "; the reasons are in results.csv")
        wrote(*files)
        return OK
