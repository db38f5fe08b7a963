"""Area of a post lane and what multiplies operands for it, by synthesis with Yosys.

    python bench/post_lanes.py
    python bench/post_lanes.py --part cores

One lane, with its operand lane where the chip has one, without pooling, tables and what all lanes
of a chip share. `--part cores`: all of post-processing of whole cores as `systolith area --no-dsp`
maps them, divided by their lanes; some three minutes a row.
"""

from dataclasses import replace

from common import arguments, report
from systolith.gen.chip.toml import load_chip
from systolith.gen.measure.area import built_for, count, measure
from systolith.gen.measure.chip_area import chip_area
from systolith.hw.core.blocks import emit
from systolith.hw.core.operand_lane import OperandLane
from systolith.hw.core.post_lane import PostLane

#: Name, preset, keys of it that are other ones, target, whether there are DSP blocks.
LANES = [
    ("plain", "sim-16x16-int8", dict(leaky=False, operand_depth=0), "xc7", False),
    ("operands", "ulx3s-8x8", {}, "ecp5", True),
    ("operands, slopes below zero", "sim-16x16-int8", {}, "xc7", False),
]
#: Chip, bits of multipliers; on xc7, without DSP blocks.
CORES = [("sim-16x16-int8", 26), ("sim-16x16-int8", 17), ("sim-16x16-int8", 16)]


def lane_area(arch, target, dsp):
    """Figures of a post lane and of an operand lane of the chip (None: it has none)."""
    arch = built_for(arch, target, dsp=dsp)
    blocks = [PostLane(arch=arch), *([OperandLane(arch=arch)] if arch.operand_depth else [])]
    found = [measure(emit(block, "lane"), "lane", target, dsp=dsp).total for block in blocks]
    return *found, *[None] * (2 - len(found))


def core_rows():
    for preset, bits in CORES:
        arch = load_chip(preset, [f"post.multiplier_bits={bits}"])
        area = chip_area(arch, "xc7", dsp=False)
        post = count(area.parts["post-processing"])
        yield {"chip": preset, "target": "xc7", "bits": bits, "lanes": arch.post_lanes,
               "post-processing, LUT": post.lut, "FF": post.ff,
               "LUT a lane": post.lut / arch.post_lanes, "all of the core, LUT": area.total.lut}


def lane_rows():
    for name, preset, keys, target, dsp in LANES:
        for bits in (26, 17):
            arch = replace(load_chip(preset), multiplier_bits=bits, **keys)
            figures = lane_area(arch, target, dsp)
            both = [item for item in figures if item is not None]
            yield {
                "lane": name, "chip": preset, "target": target, "bits": bits,
                "LUT": sum(item.lut for item in both), "FF": sum(item.ff for item in both),
                "DSP": sum(item.dsp for item in both),
                "of operands, LUT": figures[1].lut if figures[1] else 0}


def main():
    parts = {"lanes": ("Post lanes", lane_rows),
             "cores": ("Post-processing of cores without DSP blocks", core_rows)}
    options = arguments(__doc__, part=("lanes", f"what is measured: {' or '.join(parts)}"))
    if options.part not in parts:
        raise SystemExit(f"--part must be {' or '.join(parts)}, not {options.part!r}")
    title, rows = parts[options.part]
    report(title, [*rows()], options.json)


if __name__ == "__main__":
    main()
