"""The cycles of a sweep against the RTL's: points drawn at random are built and simulated."""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from systolith.gen.flow.build import build
from systolith.gen.flow.simulate import simulate
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.gen.kit.tables import text_table

from .found import Found, find

__all__ = ["Verified", "table", "verify"]


@dataclass(frozen=True)
class Verified:
    """One point with a network: cycles in the sweep's table and in the simulated RTL, of several
    cores until each has an image's result, and how many bits of all results differ from the golden
    model."""
    point: str
    network: str
    cycles: int
    rtl_cycles: int
    bits: int

    @property
    def good(self) -> bool:
        return self.cycles == self.rtl_cycles and not self.bits


def verify(folder: Path | str, results: Sequence[dict[str, Any]], number: int, seed: int = 1,
           progress: Reporter = SILENT) -> list[Verified]:
    """Simulate `number` pairs of a point and a network, drawn at random from those whose cycles
    are known, each with an image of random numbers for each core. `folder` is the sweep's."""
    pairs = sorted({(result["id"], name) for result in results
                    for name, figures in result["networks"].items() if figures["error"] is None})
    drawn = random.Random(seed).sample(pairs, min(number, len(pairs)))
    found = []
    with progress.step(f"RTL of {len(drawn)} points", max(1, len(drawn))) as done:
        for count, (point, name) in enumerate(drawn, 1):
            found.append(_verified(find(folder, point, name), seed))
            done(count)
    return found


def _verified(found: Found, seed):
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="systolith-verify-") as folder:
        made = build(found.net.path, found.arch, Path(folder) / "build", area=False,
                     calibration=found.calibration, recipe=found.recipe,
                     source=str(found.net.data))
        inputs = {name: rng.random((found.arch.cores, *shape), np.float32)
                  for name, shape in made.graph.input_shapes.items()}
        result = simulate(made, inputs if len(inputs) > 1 else next(iter(inputs.values())), "rtl")
    assert result.run is not None and result.comparison is not None     # RTL has both
    taken = result.run.cycles if result.together is None else result.together[0]
    return Verified(found.result["id"], found.net.name,
                    found.result["networks"][found.net.name]["cycles_together"], taken,
                    result.comparison.bits)


def table(found: Sequence[Verified]) -> str:
    """What was found, as text."""
    return text_table([["point", "network", "cycles", "in RTL", "mismatching bits"],
                       *([item.point, item.network, f"{item.cycles:,}", f"{item.rtl_cycles:,}",
                          item.bits] for item in found)], "llrrr")
