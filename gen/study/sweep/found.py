"""Points of a sweep that has run: their chips and networks, by the name that its tables give
them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from systolith.gen.importer.file import read
from systolith.gen.kit.errors import UserError
from systolith.gen.measure.area import TARGETS, built_for
from systolith.gen.quantize.recipe import Recipe
from systolith.gen.report.pareto import read_results
from systolith.hw.spec.arch import Arch

from .net import Net, input_shape

__all__ = ["Found", "find", "find_all", "find_chip"]


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
    def measured(self) -> dict[str, Any]:
        """How the sweep measured its area, as arguments of `build`; of an ASIC as `build` does."""
        return _measured(self.result)

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
    result = _result(folder, point)
    names = list(result["networks"])
    if network is None and len(names) == 1:
        network = names[0]
    if network is None or network not in names:
        raise UserError(f"{folder}: the point {point} has "
                        + (f"the networks {', '.join(names)}; name one by --network" if names else
                           "no network; `systolith build MODEL.onnx --from-sweep DIR POINT` builds "
                           "one for its chip"))
    return _found(result, network)


def find_all(folder: Path | str, point: str) -> list[Found]:
    """The point as of `find` with each of its networks that its chip computes, or with its only
    one. Raises UserError."""
    result = _result(folder, point)
    good = [name for name, item in result["networks"].items() if item["error"] is None]
    if len(result["networks"]) < 2 or not good:
        return [find(folder, point, next(iter(result["networks"]), None))]
    return [_found(result, name) for name in good]


def find_chip(folder: Path | str, point: str) -> tuple[Arch, dict[str, Any]]:
    """The chip of a point as of `find`, as it was measured, and `Found.measured`. Raises
    UserError."""
    result = _result(folder, point)
    return _arch(result), _measured(result)


def _result(folder, point):
    results = [item for item in read_results(folder)["points"] if item["id"].startswith(point)]
    names = {item["id"] for item in results}
    if len(names) != 1 or not point:
        raise UserError(f"{folder}: {len(names) or 'no'} points are called {point!r}; names are in "
                        "the column `point` of results.csv")
    result = results[0]
    if "chip" not in result:
        raise UserError(f"{folder}: the point {point} is no chip: {result['error']}")
    return result


def _measured(result):
    target, dsp = result["target"], result["dsp"]
    return {"target": target, "dsp": dsp} if target in TARGETS else {}


def _arch(result):
    return built_for(replace(Arch(**result["chip"]), name=result["id"]), result["target"],
                     dsp=result["dsp"])


def _found(result, network):
    facts = result["networks"][network]
    recipe, data = facts["recipe"], facts["data"]
    path = Path(facts["path"])
    if not path.is_file():
        raise UserError(f"network {path} is where the sweep read it no more; `systolith build "
                        "MODEL.onnx --from-sweep DIR POINT` takes it from elsewhere")
    net = Net(network, path, facts["content"], None if recipe is None else Recipe(**recipe),
              None if data is None else Path(data), facts["data_content"])
    return Found(_arch(result), net, result)
