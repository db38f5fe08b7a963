"""A user's own LiteX SoC with a core: LiteX's own one of the ULX3S, without a CPU, and one line
more. Any board of litex-boards with SDRAM goes the same way. `python examples/litex_soc.py` writes
the Verilog to build/."""

from typing import Any

from litex.soc.integration.builder import Builder
from litex_boards.targets.radiona_ulx3s import BaseSoC
from systolith.gen.flow.litex_core import SystolithCore


def main(folder: str = "build/litex-soc", chip: Any = "ulx3s-8x8") -> BaseSoC:
    """Write the SoC to a folder; the SoC."""
    soc = BaseSoC(device="LFE5U-85F", cpu_type=None, uart_name="uartbone", l2_size=0)
    soc.systolith = SystolithCore(soc, chip)
    Builder(soc, output_dir=folder, compile_software=False, compile_gateware=False).build()
    return soc


if __name__ == "__main__":
    main()
