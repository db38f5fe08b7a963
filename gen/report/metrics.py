"""What a point is judged by: figures of a chip with a network, by name, each with its better
side."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from systolith.gen.measure.area import FIGURES
from systolith.hw.board.parts import PARTS
from systolith.hw.spec.arch import Arch

from .energy import EnergyTable, energy_pj
from .report import assumed_clock

__all__ = ["ESTIMATES", "METRICS", "PLACED", "Metric", "exceeds", "figures_of", "joined"]


@dataclass(frozen=True)
class Metric:
    """A figure.

    Attributes
    ----------
    text : str
        What it is, for headings.
    better : int
        1: more is better; -1: less.
    join : function
        Of the figures of several networks on one chip: that of all.
    unit : str
    """
    text: str
    better: int
    join: Callable[..., Any]
    unit: str = ""


def _first(figures):
    return next(iter(figures))


METRICS = {
    "cycles": Metric("cycles per image", -1, sum),
    "images_per_s": Metric("images per second", 1, lambda all: 1 / sum(1 / one for one in all)),
    "images_per_s_per_klut": Metric("images per second and 1,000 LUT", 1,
                                    lambda all: 1 / sum(1 / one for one in all)),
    "images_per_joule": Metric("images per joule (estimate)", 1,
                               lambda all: 1 / sum(1 / one for one in all)),
    "utilization": Metric("utilization of the array", 1, min),
    "lut": Metric("LUT", -1, _first),
    "ff": Metric("flip-flops", -1, _first),
    "dsp": Metric("DSP blocks", -1, _first),
    "bram": Metric("block RAM", -1, _first),
    "estimated_lut": Metric("LUT, estimated", -1, _first),
    "estimated_ff": Metric("flip-flops, estimated", -1, _first),
    "estimated_dsp": Metric("DSP blocks, estimated", -1, _first),
    "estimated_bram": Metric("block RAM, estimated", -1, _first),
    "fill": Metric("largest share of the part", -1, _first),
    "gates": Metric("NAND2 equivalents", -1, _first),
    "um2": Metric("area of cells", -1, _first, "um2"),
    "macro_bits": Metric("bits of SRAM macros", -1, _first),
    "clock_mhz": Metric("clock", 1, _first, "MHz"),
    "placed_mhz": Metric("clock after place and route, median of seeds", 1, _first, "MHz"),
    "placed_images_per_s": Metric("images per second at the clock after place and route", 1,
                                  lambda all: 1 / sum(1 / one for one in all)),
    "accuracy": Metric("accuracy on held-out data", 1, min),
    "energy_uj": Metric("energy per image (estimate)", -1, sum, "uJ"),
    "external_bytes": Metric("bytes over the bus per image", -1, sum, "bytes"),
    "weight_bytes": Metric("bytes of weights", -1, sum, "bytes"),
    "ace": Metric("arithmetic computation effort", -1, sum),
    "bops": Metric("bit operations", -1, sum)}


#: Those of chips that are not synthesized, see `gen/measure/estimate.py`.
ESTIMATES = tuple(f"estimated_{name}" for name in FIGURES)
#: Those that are known of finalists alone (`systolith sweep --finalists`).
PLACED = ("placed_mhz", "placed_images_per_s")


def exceeds(area: dict[str, Any], part: str | None) -> list[str]:
    """What a part has too little of, as texts such as "398 BRAM of 208"; nothing where no part is
    named. Of an estimated area what is estimated says so."""
    if part is None:
        return []
    has, found = PARTS[part], []
    for name in FIGURES:
        for own, text in ((name, ""), (f"estimated_{name}", ", estimated")):
            if area.get(own, 0) > getattr(has, name):
                found.append(f"{area[own]:,} {name.upper()} of {getattr(has, name):,}{text}")
    return found


def _interval(arch: Arch, counted: Mapping[str, Any]) -> float:
    """Cycles from one image to the next, of the counts of `CyclesOf`: of several cores those of an
    image on each at the same time, divided by the cores."""
    return counted["cycles_together"] / arch.cores


def figures_of(point: Any, area: dict[str, Any] | None, counted: dict[str, Any] | None,
               accuracy: dict[str, Any] | None, table: EnergyTable,
               placed: dict[str, Any] | None = None) -> dict[str, Any]:
    """{metric: figure} of a `Point` whose chip exists, None for what is not known. The others are
    results of its measurements for one network, None where there is none."""
    arch = point.arch
    mhz, _ = assumed_clock(arch)
    found: dict[str, Any] = dict.fromkeys(METRICS) | {"clock_mhz": mhz}
    if area is not None:
        found |= {name: area[name] for name in METRICS if name in area}
        if point.part is not None and "lut" in area:
            has = PARTS[point.part]
            found["fill"] = max(area[name] / getattr(has, name) for name in FIGURES
                                if getattr(has, name))
    if accuracy is not None:
        found["accuracy"] = accuracy["accuracy"]
    if placed is not None:
        found["placed_mhz"] = placed["mhz"]
        if counted is not None:
            found["placed_images_per_s"] = placed["mhz"] * 1e6 / _interval(arch, counted)
    if counted is None:
        return found
    rate = mhz * 1e6 / _interval(arch, counted)
    energy = sum(energy_pj(arch, counted, table).values()) / 1e6
    found |= {
        "cycles": counted["cycles"], "images_per_s": rate,
        "utilization": arch.utilization(counted["macs"], counted["cycles"]),
        "external_bytes": sum(counted[name] for name in (
            "loaded_bytes", "stored_bytes", "instruction_bytes")),
        "energy_uj": energy, "images_per_joule": 1e6 / energy if energy else None,
        **{name: counted[name] for name in ("weight_bytes", "ace", "bops")}}
    if found["lut"]:
        found["images_per_s_per_klut"] = 1000 * rate / found["lut"]
    return found


def joined(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """{metric: figure} of a chip with several networks, from those of each; None where one is not
    known. Cycles, energy and bytes are sums, rates those of one image of each, accuracy and
    utilization the lowest."""
    return {name: None if any(row[name] is None for row in rows) else
            metric.join([row[name] for row in rows]) for name, metric in METRICS.items()}
