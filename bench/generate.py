"""How long the Verilog of a chip and its hierarchical ECP5 area take.

The processing element must stand in the Verilog once, however large the array. Beside the time on
the clock stands the processor's, which says more on a machine that is busy with other things.
"""

import os
import re
import time

from common import arguments, report
from systolith.gen.chip.toml import load_chip
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.measure.area import measure


def processor_seconds():
    return sum(os.times()[:4])


def main():
    options = arguments(__doc__, chip=("big-32x32-int8", "preset or TOML file"),
                        target=("ecp5", "ecp5, xc7 or ice40"))
    arch = load_chip(options.chip)
    start, processor = time.perf_counter(), processor_seconds()
    text = core_verilog(arch)
    emitted = time.perf_counter() - start
    area = measure(text, "systolith_core", options.target)
    row = {
        "chip": arch.name, "Verilog s": emitted, "area s": area.seconds,
        "together s": time.perf_counter() - start,
        "processor s": processor_seconds() - processor, "lines": text.count("\n"),
        "PE modules": len(re.findall(r"^module systolith_pe\b", text, re.MULTILINE)),
        "PE instances": area.pe_count,
        **{key.upper(): value for key, value in area.total.to_json().items()}}
    report(f"Verilog and hierarchical area for {options.target}", [row], options.json,
           area=area.to_json())


if __name__ == "__main__":
    main()
