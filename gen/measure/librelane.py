"""A chip as the input of LibreLane, the successor of OpenLane 2: sources, clock, macros."""

import json
from collections.abc import Sequence
from typing import Any

from systolith.gen.chip.package import TOP, axi_top
from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import ASSUMED_MHZ, Arch

from .macros import Macro, black_boxes, models

__all__ = ["librelane_files"]

#: Where a table gives no path of a macro's view, what the user is to put there.
_FILL = "dir::FILL_IN/{}.{}"


def librelane_files(arch: Arch, core: str, macros: Sequence[Macro], *,
                    mhz: float | None = None) -> dict[str, str]:
    """Name -> text of the files from which LibreLane makes a layout.

    Parameters
    ----------
    core : str
        Verilog of the core with instances of `macros`, as of `macros.with_macros`.
    mhz : float or None
        The clock; None: clock.mhz of the chip.
    """
    clock = (arch.clock_mhz or ASSUMED_MHZ) if mhz is None else mhz
    if clock <= 0:
        raise UserError(f"the clock must be above 0 MHz, not {clock:g}")
    return {
        "core.v": core, f"{TOP}.v": axi_top(arch), "macros.v": black_boxes(macros),
        "models.v": models(macros), f"{TOP}.sdc": _sdc(1000 / clock),
        "config.json": json.dumps(_config(macros, 1000 / clock), indent=2) + "\n"}


def _config(macros, period):
    config: dict[str, Any] = {
        "meta": {"version": 3, "flow": "Classic"},
        "DESIGN_NAME": TOP, "VERILOG_FILES": ["dir::core.v", f"dir::{TOP}.v"],
        "CLOCK_PORT": "aclk", "CLOCK_PERIOD": round(period, 4),
        "PNR_SDC_FILE": f"dir::{TOP}.sdc", "SIGNOFF_SDC_FILE": f"dir::{TOP}.sdc",
        # processing elements and lanes are mapped once, and each stays a module
        "SYNTH_HIERARCHY_MODE": "keep",
        "FP_SIZING": "relative", "FP_CORE_UTIL": 40}
    if macros:
        config["MACROS"] = {macro.name: {
            "gds": [_view(macro, "gds", "gds")], "lef": [_view(macro, "lef", "lef")],
            "lib": {"*": [_view(macro, "liberty", "lib")]}, "vh": ["dir::macros.v"],
            "instances": {}} for macro in macros}
    return config


def _view(macro, key, ending):
    return macro.views.get(key, _FILL.format(macro.name, ending))


def _sdc(period):
    """Commands that OpenSTA and OpenROAD have; those of `package` are for Vivado, too."""
    return f"""\
# Clock and ports of {TOP} for a period of {period:.4g} ns: a tenth is uncertain, a third of it
# belongs to the other side at every port.
set period {period:.4f}
create_clock -name aclk -period $period [get_ports aclk]
set_clock_uncertainty [expr 0.1 * $period] [get_clocks aclk]
set inputs {{}}
foreach port [all_inputs] {{
  if {{ [get_property $port full_name] != "aclk" }} {{ lappend inputs $port }}
}}
set_input_delay [expr 0.33 * $period] -clock aclk $inputs
set_output_delay [expr 0.33 * $period] -clock aclk [all_outputs]
"""
