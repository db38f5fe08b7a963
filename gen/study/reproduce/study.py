"""The studies by name, and the table of their figures."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.tables import text_table

from . import (
    areas,
    arithmetic,
    blocks,
    pools,
    requantization,
    resnet,
    ships,
    squeezenet,
    sums,
    weights,
)
from .figure import Figure

__all__ = ["STUDIES", "Study", "reproduce", "table"]


@dataclass(frozen=True)
class Study:
    """Figures of one publication.

    Attributes
    ----------
    name : str
        By which the command line knows it.
    source : str
        The publication.
    run : function that returns a list of Figure
    needs : str
        What must be installed besides Systolith; "": nothing.
    """
    name: str
    source: str
    run: Callable[[], list[Figure]]
    needs: str = ""


STUDIES = {item.name: item for item in (
    Study("omse", "Choukroun et al., Low-bit quantization of neural networks, 1902.06822",
          weights.omse),
    Study("sawb", "Choi et al., Accurate and efficient 2-bit quantized neural networks, 2019",
          weights.sawb),
    Study("shift", "Long et al., Low-bit shift networks, 2020", weights.shift),
    Study("mx", "OCP Microscaling formats 1.0; Zhong et al., MLS, 2006.02804", blocks.blocks),
    Study("settle", "Settle et al., Quantizing CNNs for integer arithmetic, 1805.07941",
          requantization.settle),
    Study("chunks", "Wang et al., Training with 8-bit floating point numbers, 1812.08011",
          sums.chunks),
    Study("pokebnn", "Zhang, Zhang and Lew, PokeBNN, CVPR 2022, 2112.00133", arithmetic.pokebnns),
    Study("resnet", "Nagel et al., A white paper on neural network quantization, 2106.08295; "
          "a ResNet of eight layers on 1,000 held-out digits", resnet.resnet),
    Study("pools", "Li and Gupta, Bit-serial weight pools, MLSys 2022, 2201.11651, who lose less "
          "than a point; here pools of single weights, without training", pools.pools),
    Study("ships", "Gernigon et al., Low-precision floating-point for on-board ship detection, "
          "2311.11172; synthetic images", ships.unet),
    Study("squeezenet", "Ferraz et al., Benchmarking CNN inference at the edge, ICASSP 2023",
          squeezenet.squeezenet),
    Study("short-float", "Kang, Short floating-point representation for CNN inference, 2019",
          areas.short_float, "Yosys"),
    Study("mx-area", "OCP Microscaling formats 1.0: elements of blocks on a chip",
          areas.block_elements, "Yosys"),
    Study("shift-area", "Long et al., Low-bit shift networks, 2020", areas.shift_area, "Yosys"),
)}


def reproduce(names: Iterable[str] | None = None,
              show: Callable[[str], AbstractContextManager[Any]] = nullcontext
              ) -> dict[str, list[Figure]]:
    """{study: its figures} for some names of STUDIES; None: all. `show` gives for each name a
    context in which its study runs. Raises UserError for a name that does not exist."""
    chosen = list(STUDIES) if names is None else list(names)
    for name in chosen:
        if name not in STUDIES:
            near = get_close_matches(name, STUDIES, 1, 0)[0]
            raise UserError(f"there is no study {name!r}; did you mean {near!r}? All: "
                            f"{', '.join(STUDIES)}")
    found = {}
    for name in chosen:
        with show(name):
            found[name] = STUDIES[name].run()
    return found


def table(found: dict[str, list[Figure]]) -> str:
    """The figures of `reproduce` as a table."""
    lines = [["study", "figure", "published", "here", ""]]
    for name, figures in found.items():
        lines += [[name, item.what, item.published, item.found, "ok" if item.good else "short"]
                  for item in figures]
    return text_table(lines, "lllll")
