"""Areas of elements and arrays, by Yosys."""

from systolith.gen.measure.array_area import array_area
from systolith.gen.measure.element import TOP, pe_verilog
from systolith.gen.measure.element_area import element_area
from systolith.hw.element.element import arithmetic
from systolith.hw.formats import parse
from systolith.hw.spec.arch import Arch

from ..catalogue import Entry, evaluate, measurements
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
    """Transistors of elements of columns of 16 rows whose weights are in blocks, each with its
    share of what multiplies sums by scales, beside the same elements without scales."""
    figures = []
    for activation, weight in _BLOCKS:
        scaled, plain = (evaluate(item)["figures"]["transistors"] for item in measurements(
            [Entry(activation, weight), Entry(activation, activation)], ["asic"]))
        more = 100 * (scaled / plain - 1)
        figures.append(Figure(f"{activation} x {weight} beside {activation}: area more, CMOS",
                              "<= 10 %", f"{more:.1f} %", more <= 10))
    return figures


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
