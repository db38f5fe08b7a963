"""Points of a sweep that has run: their chips and networks, by the name that its tables give
them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from systolith.gen.importer.file import read
from systolith.gen.kit.errors import UserError
from systolith.gen.measure.area import built_for
from systolith.gen.quantize.recipe import Recipe
from systolith.gen.report.pareto import read_results
from systolith.hw.spec.arch import Arch

from .net import Net, input_shape

__all__ = ["Found", "find"]


@dataclass(frozen=True)
class Found:
    """A point with one of its networks.

    Attributes
    ----------
    arch : Arch
        As it was measured, `array.structure` resolved, named after the point.
    net : Net
    result : dict
        As of `run.result_of`.
    """
    arch: Arch
    net: Net
    result: dict[str, Any]

    @property
    def calibration(self) -> np.ndarray | None:
        """With what its float network is quantized; None for a quantized one."""
        if self.net.recipe is None:
            return None
        return self.net.array("calibration").reshape(-1, *input_shape(read(self.net.path)))

    @property
    def recipe(self) -> Recipe | None:
        return None if self.net.recipe is None else self.net.recipe_for(self.arch)


def find(folder: Path | str, point: str, network: str | None = None) -> Found:
    """The point of a sweep's folder whose name is, or begins with, `point`, with its network of
    this name; None: its only one. Raises UserError."""
    results = [item for item in read_results(folder)["points"] if item["id"].startswith(point)]
    names = {item["id"] for item in results}
    if len(names) != 1 or not point:
        raise UserError(f"{folder}: {len(names) or 'no'} points are called {point!r}; names are in "
                        "the column `point` of results.csv")
    result = results[0]
    if "chip" not in result:
        raise UserError(f"{folder}: the point {point} is no chip: {result['error']}")
    networks = result["networks"]
    if network is None and len(networks) == 1:
        network = next(iter(networks))
    if network is None or network not in networks:
        raise UserError(f"{folder}: the point {point} has "
                        + (f"the networks {', '.join(networks)}; name one by --network"
                           if networks else "no network"))
    facts = networks[network]
    recipe, data = facts["recipe"], facts["data"]
    path = Path(facts["path"])
    if not path.is_file():
        raise UserError(f"network {path} does not exist any more, or the sweep was started in "
                        "another folder")
    arch = built_for(replace(Arch(**result["chip"]), name=result["id"]), result["target"],
                     dsp=result["dsp"])
    net = Net(network, path, facts["content"], None if recipe is None else Recipe(**recipe),
              None if data is None else Path(data), facts["data_content"])
    return Found(arch, net, result)
