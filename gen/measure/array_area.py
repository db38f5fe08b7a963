"""Area of a whole systolic array, edges and skew included, beside its processing elements alone."""

from dataclasses import replace
from typing import Any

from systolith.gen.chip.verilog import design_verilog
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.hw.core.array import SystolicArray
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.structures import structure_of

from .area import built_for
from .element import TOP, PeConfig, pe_verilog
from .element_area import ELEMENT_TARGETS, element_area, merit

__all__ = ["array_area", "array_verilog"]

ARRAY = "systolith_array"


def array_verilog(arch: Arch) -> str:
    """Verilog of the array of a chip alone: top module `systolith_array`."""
    return design_verilog(SystolicArray(arch=arch), ARRAY, arch)


def array_area(arch: Arch, target: str, *, dsp: bool = False, flatten: bool = False,
               progress: Reporter = SILENT) -> dict[str, Any]:
    """The array of `arch` and its element, both by `element_area`.

    The element is that of the table: one pipeline stage, double-buffered weights. An array whose
    rows follow each other by one cycle has elements without the second buffer, so that it may be
    smaller than the elements of the table.

    Returns plain data: `array` and `element` (figures), `count` of elements, `ratio` of the
    array's size to count * the element's, by `merit` (None: the element is in DSP blocks alone),
    and the same of flip-flops. Raises UserError.
    """
    if target not in ELEMENT_TARGETS:
        raise UserError(f"target must be one of {', '.join(ELEMENT_TARGETS)}, not {target!r}")
    if arch.structure == "auto":
        arch = built_for(arch, target, dsp=True) if dsp else replace(
            arch, structure=structure_of(target))
    config = PeConfig(activation=arch.activation.name, weight=arch.weight.name, lanes=arch.lanes,
                      rows=arch.rows, target=target, dsp=arch.pe_dsp)
    with progress.step(f"Area of one element for {target} (Yosys)"):
        element = element_area(pe_verilog(config.arithmetic()), TOP, target, dsp=dsp)
    with progress.step(f"Area of {arch.rows} x {arch.columns} for {target} (Yosys)"):
        array = element_area(array_verilog(arch), ARRAY, target, dsp=dsp, flatten=flatten)
    number, key = arch.rows * arch.columns, merit(target)
    return {"chip": arch.to_dict(), "target": target, "dsp": dsp, "flattened": flatten,
            "array": array, "element": element, "count": number, "figure": key,
            "ratio": _ratio(array[key], number * element[key]),
            "ff_ratio": _ratio(array["ff"], number * element["ff"])}


def _ratio(whole: float, parts: float) -> float | None:
    return whole / parts if parts else None
