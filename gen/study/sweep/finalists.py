"""Finalists of a sweep: a few points of its front, which are placed and routed."""

from collections.abc import Sequence
from typing import Any, Literal

from systolith.gen.kit.tables import text_table
from systolith.gen.report.metrics import METRICS
from systolith.gen.report.pareto import pareto_front

__all__ = ["finalists", "table_of"]


def finalists(results: Sequence[dict[str, Any]], objectives: Sequence[str],
              number: int | Literal["all"]) -> list[dict[str, Any]]:
    """At most `number` of a sweep's results (as of `run.result_of`): of those that count and that
    no other beats in all objectives, the best in each, then others spread evenly over the front.
    "all": all that count and whose objectives are known, beaten ones, too."""
    known = [result for result in {item["id"]: item for item in results}.values()
             if result["feasible"] and all(
                 result["figures"].get(name) is not None for name in objectives)]
    if number == "all":
        return known
    costs = [[-METRICS[name].better * result["figures"][name] for name in objectives]
             for result in known]
    front = pareto_front(costs)
    best = [min(front, key=[cost[column] for cost in costs].__getitem__)
            for column in range(len(objectives)) if front]
    chosen = list(dict.fromkeys(best))[:number]
    rest = [n for n in front if n not in chosen]
    left = min(number - len(chosen), len(rest))
    chosen += [rest[(2 * n + 1) * len(rest) // (2 * left)] for n in range(left)]
    return [known[n] for n in sorted(chosen, key=front.index)]


def table_of(results: Sequence[dict[str, Any]]) -> str:
    """The finalists among results, as text: the clock of each seed, images per second at the
    median, and what path bounds the clock; of those that failed the reason."""
    placed = {result["id"]: result for result in results if result.get("placed")}.values()
    rows = [["point", "MHz by seed", "median", "images/s"]]
    for result in placed:
        found = result["placed"]
        if found["error"] is not None:
            rows.append([result["id"], found["error"], "", ""])
            continue
        rate = result["figures"].get("placed_images_per_s")
        rows.append([result["id"], ", ".join(f"{mhz:.1f}" for mhz in found["by_seed"].values()),
                     f"{found['mhz']:.1f}", "" if rate is None else f"{rate:,.5g}"])
    paths = [f"slowest path of {result['id']}: {path}" for result in placed
             if (path := result["placed"].get("slowest"))]
    return "\n".join([text_table(rows, "llrr"), *([""] if paths else []), *paths])
