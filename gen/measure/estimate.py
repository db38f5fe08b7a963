"""An estimate of the area of a chip from its keys alone, in milliseconds, for exploring.

A core is the sum of its modules, and several cores are as many of one and what they share. What a
module costs grows with numbers that follow from the keys (`module_terms.py`). How much each of them
costs has been fitted, without negative costs, to the modules of random chips that Yosys has mapped
(`bench/area_estimate.py`); the data file has these costs, and how far estimates of chips that the
fit had not seen were off. Processing elements have costs of their own for each pair of formats: an
element whose formats were not measured is refused, not guessed. Block RAM follows Yosys' own
choice between RAM of blocks and of LUTs.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import KEYS, Arch
from systolith.hw.spec.isa import INSTRUCTION_BYTES, Unit
from systolith.hw.spec.timing import (
    CUT_BEATS,
    FETCHES,
    ITEMS,
    STORE_BURSTS,
    lane_factor_bits,
    lane_number_bits,
    operand_image_bits,
    product_parts,
)

from .area import FIGURES, Figures, built_for
from .hierarchy import PARTS
from .module_terms import (
    ESTIMATED,
    KINDS,
    bits_of,
    element_base,
    element_key,
    element_terms,
    read_entry,
    store_entry,
    terms_of,
    window_beat,
)
from .ram_choice import ram_of, scratchpads

__all__ = ["OPTIONS", "Estimate", "estimate", "figures_by", "fit_content", "knows",
           "measured_targets", "priced", "warning"]


#: Fields of a chip that a fit covers where chips that it was fitted to have them, as it says.
OPTIONS = ("two_writes", "two_fillings")


def _memories(arch: Arch) -> dict[str, tuple[int, int]]:
    """{part of the chip: (blocks, cells of RAM of LUTs)} of a core on ECP5."""
    found = {"scratchpads": [ram_of(*memory) for memory in scratchpads(arch)]}
    found["accumulators"] = arch.columns * [ram_of(
        arch.accumulator_depth, arch.accumulator_bits, reads=2)]
    beats = max(arch.instruction_bytes, INSTRUCTION_BYTES) // arch.beat_bytes
    waiting = 1 << bits_of(arch.queue_depth + FETCHES)
    found["control"] = [ram_of(len(Unit) * waiting << bits_of(beats), arch.bus_bits)]
    found["dma"] = [ram_of(STORE_BURSTS, store_entry(arch), block=True),
                    ram_of(STORE_BURSTS, read_entry(arch), block=True)]
    if arch.load_windows:
        found["dma"].append(ram_of(CUT_BEATS, window_beat(arch), block=True))
    queue = ram_of(ITEMS, arch.item_bits)
    found["post-processing"] = [queue, *(arch.post_lanes * [
        ram_of(arch.table_depth, arch.table_bits)] if arch.table_depth else [])]
    return {part: (sum(one for one, _ in items), sum(other for _, other in items))
            for part, items in found.items()}


def _blocks(arch: Arch) -> dict[str, int]:
    """{part of the chip: DSP blocks} of a core on ECP5, but for its processing elements."""
    if arch.post_luts or arch.activation.binary:
        return {}

    def products(one, other):
        return len(product_parts(one)) * len(product_parts(other))
    lane = products(lane_number_bits(arch), lane_factor_bits(arch))
    if arch.operand_depth:
        first, other = operand_image_bits(arch)
        lane += products(other, max(arch.gain_bits, first))
    return {"post-processing": arch.post_lanes * lane}


@dataclass(frozen=True)
class Estimate:
    """The estimated area of a core.

    Attributes
    ----------
    target : str
    parts : dict of str to Figures
        By part of the chip, as of `area.PARTS`.
    error : dict
        How far estimates of `designs` chips that were not fitted to were off, as shares, for
        "lut" and "ff": their `median` and `worst`.
    hardware : str
        What the code of the hardware that it was fitted to is known by.
    """
    target: str
    parts: dict[str, Figures]
    error: dict[str, Any]
    hardware: str

    @property
    def total(self) -> Figures:
        return Figures(*(sum(getattr(part, name) for part in self.parts.values())
                         for name in FIGURES))


def warning(error: Mapping[str, Any], stale: bool = False) -> str:
    """What is to be said wherever an estimate is shown: how far those of a fit with such an error
    are off; `stale`: the hardware has changed since."""
    text = ", ".join(f"{name.upper()} {100 * error[name]['median']:.1f} % off (median; at worst "
                     f"{100 * error[name]['worst']:.1f} %)" for name in ESTIMATED)
    return (f"areas are estimated, not synthesized: of {error['designs']} random chips {text}"
            + ("; fitted to an earlier version of the hardware, python bench/area_estimate.py "
               "renews it" if stale else ""))


def measured_targets() -> list[str]:
    """Targets for which there is a fit."""
    return sorted(item.name.removeprefix("area_").removesuffix(".json")
                  for item in files(__package__).iterdir() if item.name.startswith("area_")
                  and item.name.endswith(".json"))


@cache
def fit_content(target: str) -> str | None:
    """The text of the fit for a target, on which its estimates depend; None where there is none."""
    if target not in measured_targets():
        return None
    return (files(__package__) / f"area_{target}.json").read_text()


@cache
def _fit(target):
    text = fit_content(target)
    if text is None:
        raise UserError(f"there is no estimate of areas for {target!r}, only for "
                        f"{', '.join(measured_targets())}; use area = \"modules\", which "
                        "synthesizes each module once")
    return json.loads(text)


def estimate(arch: Arch, target: str = "ecp5", *, dsp: bool | str = True) -> Estimate:
    """The estimated area of the core of `arch`, built for `target`; `dsp` as of `area.chip_area`.

    Raises UserError for a target without a fit, and for processing elements that were not measured.
    """
    fit = _fit(target)
    arch = built_for(arch, target, dsp=dsp)
    why = None
    if arch.weight_pools:
        why = "buffers.weight_pools"
    elif arch.wide_weights:
        why = "array.wide_weights"
    elif arch.float_sums:
        why = "array.sums"
    elif missing := [name for name in OPTIONS
                     if getattr(arch, name) and name not in fit.get("options", ())]:
        why = KEYS[missing[0]].path
    elif arch.stages is not None:
        why = "array.stages other than \"auto\""
    elif arch.post_stages != "auto":
        why = "post.stages other than \"auto\""
    elif not knows(fit, arch):
        why = f"elements of {element_key(arch)} with {arch.lanes} lanes"
    elif missing := [kind for kind in terms_of(arch) if kind not in fit["kinds"]]:
        why = f"the module {missing[0]}"
    if why:
        raise UserError(f"{arch.name}: there is no estimate for {why}, of which none was measured; "
                        "use area = \"modules\"")
    return Estimate(target, figures_by(fit, arch), fit["error"], fit["hardware"])


def knows(fit: Mapping[str, Any], arch: Arch) -> bool:
    """Whether a fit has costs of a chip's elements: of its formats, and of as many lanes as were
    measured, or, where several numbers were, up to twice as many."""
    found = fit["elements"].get(element_key(arch))
    if found is None:
        return False
    least, most = found["lanes"]
    return arch.lanes == most or (least < most and arch.lanes <= 2 * most)


def figures_by(fit: Mapping[str, Any], arch: Arch) -> dict[str, Figures]:
    """{part: figures} of a chip by the costs of a fit; `arch` as it is built for the target."""
    found: dict[str, Counter] = {}

    def add(part, name, number):
        found.setdefault(part, Counter())[name] += number
    cores = arch.cores
    elements = cores * arch.rows * arch.columns // arch.shared_columns
    base = element_base(arch)
    for name, costs in fit["elements"][element_key(arch)]["costs"].items():
        add("processing elements", name, elements * (
            base[name] + round(priced(costs, element_terms(arch)))))
    for kind, (count, terms) in terms_of(arch).items():
        for name, costs in fit["kinds"][kind].items():
            add(KINDS[kind].part, name, count * round(priced(costs, terms)))
    for part, (blocks, cells) in _memories(arch).items():
        add(part, "bram", cores * blocks)
        add(part, "lut", cores * 6 * cells)
    for part, blocks in _blocks(arch).items():
        add(part, "dsp", cores * blocks)
    return {part: Figures(*(int(found[part][name]) for name in FIGURES)) for part in PARTS
            if part in found}


def priced(costs: Mapping[str, float], terms: Mapping[str, float]) -> float:
    """What terms cost."""
    return sum(cost * terms.get(name, 0) for name, cost in costs.items())
