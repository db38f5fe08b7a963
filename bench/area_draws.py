# amaranth: UnusedElaboratable=no
"""What the analytic estimate of areas is fitted to: random chips of all families, and modules by
themselves, each as (chip, where DSP blocks may be, its module).
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from systolith.gen.measure.area import built_for
from systolith.gen.measure.ram_choice import ram_of
from systolith.hw.core.accumulator import AccumulatorColumn
from systolith.hw.core.array import SystolicArray
from systolith.hw.core.load import Load
from systolith.hw.core.operand_lane import OperandLane
from systolith.hw.core.post_lane import PostLane
from systolith.hw.core.register_windows import RegisterWindows
from systolith.hw.core.result_writer import ResultWriter
from systolith.hw.core.shared_bus import SharedBus
from systolith.hw.core.streamer import PixelStreamer
from systolith.hw.spec.arch import Arch

__all__ = ["PE", "accumulators", "elements", "lanes", "loads", "random_design", "scales", "shared",
           "streamers", "writers"]

PE = "systolith_pe"
#: Chips from this one on have options that earlier ones lack, so that those stay as they were.
_LATER = 74
_INTEGERS = ("int4", "int6", "int8", "int8", "int8", "int12", "int16")
_FLOATS = ("e2m1", "e3m2", "e2m3", "e4m3", "e5m2")
_MIXED = (("int8", "int4"), ("int8", "e3m0"), ("int8", "e2m1"), ("int4", "int2"),
          ("int16", "int8"), ("e4m3", "int4"), ("e4m3", "e2m1"), ("int8", "e3m0x2"))
_BLOCKS = (("int8", "mxint8"), ("int8", "mxfp4"), ("e2m1", "mxfp4"), ("e2m1", "nvfp4"),
           ("e2m1", "mls"), ("e3m2", "mxfp6"), ("e4m3", "mxfp8"), ("e4m3fn", "mxfp8"))
#: Formats of elements that are measured.
_PAIRS = (*((form, form) for form in (
    "int2", *dict.fromkeys(_INTEGERS), *_FLOATS, "bipolar1")), *_MIXED, *_BLOCKS)
#: Activations that windows can be of.
_BYTES = ("int8", "e4m3", "e4m3fn", "e5m2")
_SIZES = (2, 4, 4, 6, 8, 8, 12, 16)
#: Families of chips, and what is special of the array of some; "": nothing, "rows": both tap_rows
#: and plane_rows.
_FAMILIES = {
    "integer": ("", "", "depthwise", "side_taps", "packed_signs", "packed_halves", "weight_widths",
                "shared_columns", "tap_rows"),
    "other integer": ("", "", "depthwise", "depthwise", "side_taps", "tap_rows"),
    "float": ("", "", "depthwise", "side_taps", "shared_columns", "tap_rows"),
    "mixed": ("", "", "depthwise", "side_taps", "tap_rows"),
    "binary": ("", "", "tap_rows", "tap_rows", "plane_rows", "rows", "shared_columns"),
    "blocks": ("", "", "", "shared_columns"),
}


def random_design(seed: int) -> tuple[Arch, bool | str]:
    """(chip, where it may have DSP blocks: everywhere, in post-processing, nowhere), as one would
    build it; the same for the same seed."""
    draw = random.Random(f"design {seed}")
    kinds = [(family, special) for family, several in _FAMILIES.items() for special in several]
    random.Random(1).shuffle(kinds)
    family, special = kinds[seed % len(kinds)]
    while True:
        try:
            arch = Arch(**_drawn(draw, family, special))
            break
        except ValueError:
            continue                    # keys that contradict each other: others are drawn
    dsp = draw.choice((True, True, "post", False))
    if seed >= _LATER:
        arch = _with_options(arch, seed)
    return arch, dsp


def _with_options(arch, seed):
    """The chip with options that the first ones lack, as far as it can have them."""
    draw = random.Random(f"options {seed}")
    for name in draw.choice((("two_writes",), ("two_fillings",), ("two_writes", "two_fillings"))):
        try:
            arch = replace(arch, **{name: True})
        except ValueError:
            continue
    return arch


def _drawn(draw, family, special) -> dict[str, Any]:
    lanes = draw.choice((1, 1, 1, 2, 4))
    rows, columns = draw.choice(_SIZES), draw.choice(_SIZES)
    if family == "binary":
        activation = weight = "bipolar1"
        lanes = draw.choice((8, 16, 32, 64))
    elif family in ("mixed", "blocks"):
        activation, weight = draw.choice(_MIXED if family == "mixed" else _BLOCKS)
    else:
        activation = weight = draw.choice(_FLOATS if family == "float" else _INTEGERS)

    def power(first, last):
        return 1 << draw.randint(first, last)

    def one_in(number):
        return draw.random() < 1 / number
    facts: dict[str, Any] = {
        "rows": rows, "columns": columns, "lanes": lanes, "activation": activation,
        "weight": weight, "activation_depth": power(8, 13), "weight_depth": power(8, 12),
        "accumulator_depth": power(6, 11), "parameter_depth": power(6, 10),
        "largest_k": draw.choice((1152, 4608, 4608)),
        "bus_bits": draw.choice((32, 64, 64, 64, 128, 128, 256)), "burst_beats": power(4, 6),
        "queue_depth": draw.choice((2, 4, 4, 8)), "address_bits": draw.choice((32, 32, 24)),
        "token_bits": draw.choice((6, 10, 10)), "watchdog_bits": draw.choice((32, 32, 24)),
        "multiplier_bits": draw.choice((26, 26, 17)), "bias_fraction": draw.choice((16, 16, 8, 0)),
        "prefetch": not one_in(4), "diagnosis": not one_in(4), "counters": not one_in(4),
        "checksum": not one_in(4)}
    if one_in(3):
        facts["accumulator"] = draw.choice((16, 20, 24, 32))
    if family == "blocks":
        facts["scale_multiplier"] = draw.choice(("auto", "dsp", "luts"))
    if family == "binary":
        facts["bit_planes"] = not one_in(3)
        if special == "rows" or special == "plane_rows":
            facts |= {"bit_planes": True, "plane_rows": True}
    else:
        if one_in(3):
            facts["operand_depth"] = power(7, 11)
        if one_in(4):
            facts["table_depth"] = max(256, 1 << (Arch(
                rows=4, columns=4, activation=activation).activation).width)
        facts["leaky"] = one_in(3)
        if facts["leaky"]:
            facts["slope_offsets"] = one_in(2)
        if one_in(3):
            facts["load_windows"] = activation in _BYTES
    if one_in(8):
        facts["cores"] = draw.choice((2, 2, 3, 4))
    if special == "shared_columns":
        facts["shared_columns"] = 2
    elif special == "depthwise":
        facts |= {"depthwise": True, "columns": rows, "lanes": 1}
    elif special == "weight_widths":
        facts["weight_widths"] = draw.choice(((4,), (4, 2), (2,)))
    elif special == "rows":
        facts["tap_rows"] = True
    elif special:
        facts[special] = True
    group = Arch(**facts).group
    facts["post_lanes"] = draw.choice([n for n in range(1, 9) if group % n == 0])
    return facts


def elements() -> Iterator[tuple[Arch, bool | str, Any]]:
    """(chip, whether it has DSP blocks, its processing element), each of which differs."""
    draw = random.Random(7)
    for activation, weight in _PAIRS:
        seen: set[tuple] = set()
        for _ in range(200):
            if len(seen) == 8:
                break
            lanes = draw.choice((8, 16, 32, 64) if activation == "bipolar1" else (1, 1, 1, 2, 4))
            facts: dict[str, Any] = {
                "rows": draw.choice((2, 4, 6, 8, 12, 16)), "columns": 8, "lanes": lanes,
                "activation": activation, "weight": weight}
            special = draw.choice(("", "", "", "depthwise", "packed_signs", "packed_halves",
                                   "shared_columns"))
            if special:
                facts[special] = True
            if special == "shared_columns":
                facts[special] = 2
            if special == "depthwise":
                facts |= {"columns": facts["rows"], "lanes": 1}
            dsp = draw.random() < 0.5
            try:
                arch = built_for(Arch(**facts), "ecp5", dsp=dsp)
            except ValueError:
                continue
            key = facts["rows"], facts["lanes"], special, dsp and arch.pe_dsp
            if key not in seen:
                seen.add(key)
                yield arch, dsp, _of_array(arch, PE)
    for form in ("int4", "int6", "int8", "int12"):
        for rows, lanes in ((4, 1), (8, 1), (16, 1), (8, 2)):
            arch = built_for(Arch(rows=rows, columns=8, lanes=lanes, activation=form, weight=form,
                                  shared_columns=2), "ecp5", dsp=True)
            yield arch, True, _of_array(arch, PE)


def _of_array(arch, name):
    """A block of an array that is not needed for itself, of which Amaranth would warn."""
    array = SystolicArray(arch=arch)
    for unused in (array, *array.blocks.values()):
        unused._MustUse__silence = True
    return array.blocks[name]


def scales() -> Iterator[tuple[Arch, bool | str, Any]]:
    """The same of what multiplies a column's sums by scales."""
    for activation, weight in _BLOCKS:
        for rows in (2, 4, 8, 16):
            for dsp in (True, False):
                try:
                    arch = built_for(Arch(rows=rows, columns=4, lanes=2, activation=activation,
                                          weight=weight), "ecp5", dsp=dsp)
                except ValueError:
                    continue            # rows that are no part of a block
                yield arch, dsp, _of_array(arch, "systolith_scale")


def loads(number: int) -> Iterator[tuple[Arch, bool | str, Any]]:
    """The same of so many units that cut windows."""
    for arch, dsp in _designs(7000, number, lambda arch: arch.load_windows):
        yield arch, dsp, Load(arch=arch)


def accumulators(number: int) -> Iterator[tuple[Arch, bool | str, Any]]:
    """The same of so many whose memory is of LUTs."""
    for arch, dsp in _designs(6000, number, lambda arch: ram_of(
            arch.accumulator_depth, arch.accumulator_bits, reads=2)[1] > 0):
        yield arch, dsp, AccumulatorColumn(arch=arch)


def streamers(number: int) -> Iterator[tuple[Arch, bool | str, Any]]:
    """The same of so many that address banks of their own."""
    for arch, dsp in _designs(8000, number, lambda arch: arch.tap_rows):
        yield arch, dsp, PixelStreamer(arch=arch)


def writers(number: int) -> Iterator[tuple[Arch, bool | str, Any]]:
    """The same of so many that write copies of results, or parts of codes."""
    for arch, dsp in _designs(9000, number, lambda arch: arch.tap_rows or arch.parts):
        yield arch, dsp, ResultWriter(arch=arch)


def _designs(seed, number, wanted):
    """So many random designs, from a seed on, of which `wanted` says yes."""
    while number:
        arch, dsp = random_design(seed)
        seed += 1
        if wanted(arch):
            number -= 1
            # with and without DSP blocks in turns
            dsp = (dsp or True) if number % 2 else False
            yield built_for(arch, "ecp5", dsp=dsp), dsp


def shared(kind: str) -> Iterator[tuple[Arch, bool | str, Any]]:
    """The same of what several cores share."""
    for cores in (2, 3, 4, 8, 16):
        for bus in (32, 128) if kind == "shared bus" else (64,):
            arch = Arch(rows=4, columns=4, cores=cores, bus_bits=bus)
            yield arch, True, (SharedBus(cores=cores, data_bits=bus) if kind == "shared bus"
                               else RegisterWindows(cores=cores))


def lanes(kind: str, number: int) -> Iterator[tuple[Arch, bool | str, Any]]:
    """The same of so many post or operand lanes."""
    # those of signs are all alike
    for arch, dsp in _designs(5000, number, lambda arch: arch.operand_depth > 0 if
                              kind == "operand lane" else not arch.activation.binary):
        yield arch, dsp, (OperandLane if kind == "operand lane" else PostLane)(arch=arch)
