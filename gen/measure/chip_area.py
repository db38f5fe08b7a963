"""The area of a chip's core, as an FPGA's cells or as an ASIC."""

from typing import Any

from systolith.gen.chip.verilog import core_verilog
from systolith.hw.spec.arch import Arch

from .area import built_for, check_target, measure
from .asic_area import asic_area

__all__ = ["chip_area"]


def chip_area(arch: Arch, target: str = "ecp5", *, dsp: bool | str = True,
              **options: Any) -> Any:
    """The area of the core of `arch`, built for `target`: an `Area`.

    `dsp` says where DSP blocks may be: True (anywhere but for small products), "post" (in
    post-processing only) or False; other options are `measure`'s. For "asic" it is an
    `asic_area.AsicArea`, `dsp` means nothing, and the options are those of `asic_area.asic_area`.
    """
    if target == "asic":
        return asic_area(arch, **options)
    check_target(target)
    arch = built_for(arch, target, dsp=dsp)
    return measure(core_verilog(arch), "systolith_core", target, dsp=bool(dsp),
                   pe_dsp=dsp is True and arch.pe_dsp, **options)
