"""How long the Verilog of a chip and its hierarchical ECP5 area take.

The processing element must stand in the Verilog once, however large the array.
"""

import re
import time

from common import arguments, report
from systolith.gen.area import measure
from systolith.gen.config import load_chip
from systolith.gen.verilog import core_verilog


def main():
    options = arguments(__doc__, chip=("big-32x32-int8", "preset or TOML file"),
                        target=("ecp5", "ecp5, xc7 or ice40"))
    arch = load_chip(options.chip)
    start = time.perf_counter()
    text = core_verilog(arch)
    seconds = time.perf_counter() - start
    area = measure(text, "systolith_core", options.target)
    row = {
        "chip": arch.name, "array": f"{arch.rows}x{arch.columns}x{arch.lanes} {arch.weight}",
        "Verilog s": seconds, "area s": area.seconds, "together s": seconds + area.seconds,
        "lines": text.count("\n"),
        "PE modules": len(re.findall(r"^module systolith_pe\b", text, re.MULTILINE)),
        "PE instances": area.pe_count, **{key.upper(): value for key, value in area.total.items()},
    }
    report(f"Verilog and hierarchical area for {options.target}", [row], options.json,
           area=area.to_dict())


if __name__ == "__main__":
    main()
