"""Areas of elements and arrays, by Yosys."""

from functools import cache
from typing import Any

from systolith.gen.measure.array_area import array_area
from systolith.gen.measure.element import TOP, pe_verilog
from systolith.gen.measure.element_area import element_area, merit
from systolith.hw.element.element import arithmetic
from systolith.hw.formats import parse
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.structures import structure_of

from ..catalogue import Entry
from ..element_table import scale_area
from .figure import Figure

__all__ = ["block_elements", "shift_area", "short_float"]

_BLOCKS = (("int8", "mxint8"), ("e4m3fn", "mxfp8"), ("e3m2", "mxfp6"), ("e2m1", "mxfp4"),
           ("e2m1", "nvfp4"), ("e2m1", "mls"))


def short_float() -> list[Figure]:
    """Transistors of a whole 8 x 8 array of short floats beside one of int16."""
    area = {}
    for name in ("int16", "e3m4", "e4m3"):
        arch = Arch(rows=8, columns=8, activation=parse(name), weight=parse(name), largest_k=1024)
        area[name] = array_area(arch, "asic")["array"]["transistors"]
    return [Figure(f"8 x 8 {name} beside int16: area saved, CMOS", "> 60 %",
                   f"{100 * (1 - area[name] / area['int16']):.1f} %",
                   area[name] < 0.4 * area["int16"]) for name in ("e3m4", "e4m3")]


def block_elements() -> list[Figure]:
    """Elements whose weights are in blocks, each with its share of what multiplies a column's sums
    by scales, and of what that adds to the accumulator's adder, beside the same elements without
    scales: transistors and LUTs of columns of 16 rows, with a DSP block a column where scales have
    a mantissa, and with 32 rows where blocks have as many weights."""
    figures = []
    for activation, weight in _BLOCKS:
        scale: Any = parse(weight).block_scale
        ways = [("CMOS", "asic", False, 16), ("LUT6", "xc7", False, 16)]
        ways += [("LUT6 beside a DSP block a column", "xc7", True, 16)] if scale.man else []
        ways += [("LUT6, 32 rows", "xc7", False, 32)] if scale.size >= 32 else []
        for text, target, dsp, rows in ways:
            more = 100 * _share(activation, weight, target, dsp, rows)
            figures.append(Figure(f"{activation} x {weight} beside {activation}: area more, {text}",
                                  "<= 10 %", f"{more:.1f} %", more <= 10))
    return figures


def _share(activation, weight, target, dsp, rows):
    """How much larger an element is with its share of the scale, as a part of it."""
    entry = Entry(activation, weight, rows=rows)
    scale = entry.scale(target, dsp)
    assert scale is not None
    key = merit(target)
    own = scale_area(scale, lambda text, top: element_area(text, top, target, dsp=dsp))[key]
    return own / rows / _plain_area(activation, target, rows)[key]


@cache
def _plain_area(form, target, rows):
    rules = Entry(form, form, rows=rows).rules(structure_of(target))
    return element_area(pe_verilog(rules), TOP, target)


def shift_area() -> list[Figure]:
    """Transistors of an element whose weights are powers of two beside one of int8."""
    area = {}
    for weight in ("int8", "e3m0"):
        rules = arithmetic(parse("int8"), parse(weight), 1, 16, structure="gates", stages=1,
                           columns=1)
        area[weight] = element_area(pe_verilog(rules), TOP, "asic")["transistors"]
    share = area["e3m0"] / area["int8"]
    return [Figure("int8 x e3m0 beside int8: area, CMOS", "0.45 (<= 0.5)", f"{share:.2f}",
                   share <= 0.5)]
