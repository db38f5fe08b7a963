"""Systolith as a module of LiteX: in a SoC with LiteDRAM, the core is one line.

Needs LiteX (the extra `litex`).
"""

from pathlib import Path
from typing import Any

from systolith.gen.chip.toml import load_chip
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import write_file
from systolith.hw.core.axi import AXI4Signature, AXILiteSignature
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.widths import register_bits

try:
    from litedram.frontend.axi import LiteDRAMAXI2Native
    from litex.gen import LiteXModule
    from litex.soc.integration.soc import SoCRegion
    from litex.soc.interconnect.axi import AXIInterface, AXILiteInterface
    from litex.soc.interconnect.csr_eventmanager import EventManager, EventSourceLevel
    from migen import ClockSignal, Instance, ResetSignal, Signal
except ImportError as error:
    raise UserError(f"LiteX is missing ({error}): pip install systolith[litex]") from None

__all__ = ["SystolithCore"]

#: Bytes of the registers' region on the SoC's bus.
REGION_BYTES = 0x1000
#: Where they are in a SoC without CPU, of which LiteX would put them where its own registers go.
ORIGIN = 0x8000_0000
#: Beats that LiteDRAM's port buffers each way: the core's longest bursts have 256, and a port with
#: 16, LiteDRAM's own choice, spends its time waiting where SDRAM is narrower than the core's bus.
BUFFER_BEATS = 64


class SystolithCore(LiteXModule):
    """A core in a LiteX SoC: its memory port on LiteDRAM, its registers on the SoC's bus, its
    interrupt as the event `ev.finished`.

    Parameters
    ----------
    soc : SoCCore
        With `add_sdram` done, without an L2 cache (`l2_cache_size=0`, or the argument `l2_size=0`
        of the boards' SoCs): what waits in that cache the core would not see.
    chip : str, Path or Arch
        A chip's name or TOML file, or its description.
    name : str
        The core's name in the SoC's map of regions; assign the module to the attribute of this
        name: `soc.systolith = SystolithCore(soc, "ulx3s-8x8")`.
    origin : int or None
        Address of the registers; None: LiteX chooses, and without a CPU `ORIGIN`.

    The memory port's addresses are the SoC's: a window in the region `main_ram` begins at that
    region's origin. The core runs in the domain `sys`. Raises UserError where the SoC has no
    LiteDRAM, or an L2 cache.
    """

    def __init__(self, soc: Any, chip: Arch | Path | str, *, name: str = "systolith",
                 origin: int | None = None) -> None:
        arch = chip if isinstance(chip, Arch) else load_chip(chip)
        if not hasattr(soc, "sdram"):
            raise UserError("the SoC has no LiteDRAM for the core: call soc.add_sdram(...) first")
        if hasattr(soc, "l2_cache"):
            raise UserError("the SoC has an L2 cache before its SDRAM, whose contents the core "
                            "does not see: give add_sdram l2_cache_size=0 (the SoC l2_size=0)")
        self.arch, self.platform = arch, soc.platform
        self.memory = AXIInterface(data_width=arch.bus_bits, address_width=32, id_width=1)
        self.registers = AXILiteInterface(data_width=32, address_width=32)
        self.irq = Signal()
        self.port = soc.sdram.crossbar.get_port(data_width=arch.bus_bits)
        self.frontend = LiteDRAMAXI2Native(
            self.memory, self.port, w_buffer_depth=BUFFER_BEATS, r_buffer_depth=BUFFER_BEATS,
            base_address=soc.bus.regions["main_ram"].origin)
        if origin is None and soc.cpu_type is None:
            origin = ORIGIN
        soc.bus.add_slave(name, self.registers,
                          SoCRegion(origin=origin, size=REGION_BYTES, cached=False))

        self.ev = EventManager()
        self.ev.finished = EventSourceLevel(description="The core is done or has stopped.")
        self.ev.finalize()
        self.comb += self.ev.finished.trigger.eq(self.irq)
        if soc.irq.enabled:
            soc.irq.add(name, use_loc_if_exists=True)

        ports = {"i_clk": ClockSignal(), "i_rst": ResetSignal(), "o_irq": self.irq}
        for prefix, bus, signature in (
                ("m_axi", self.memory, AXI4Signature(32, arch.bus_bits)),
                ("s_axi", self.registers, AXILiteSignature(register_bits(arch)).flip())):
            for member, shape in signature.members.items():
                out = shape.flow.name == "Out"
                signal = _signal(bus, member)
                if signal is None and not out:
                    raise UserError(f"LiteX's AXI has no signal for {member} of the core")
                if signal is not None:
                    ports[f"{'o' if out else 'i'}_{prefix}_{member}"] = (
                        signal[:shape.shape] if len(signal) > shape.shape else signal)
        self.specials += Instance("systolith_core", **ports)

    def do_finalize(self) -> None:
        """Writes the core's Verilog where the SoC is built."""
        output = Path(getattr(self.platform, "output_dir", None) or "build")
        source = output.resolve() / "gateware" / "systolith_core.v"
        source.parent.mkdir(parents=True, exist_ok=True)
        write_file(source, core_verilog(self.arch))
        self.platform.add_source(str(source))


def _signal(bus, member):
    """LiteX's signal of an AXI signal, such as `bus.aw.addr` of "awaddr"; None where there is
    none."""
    length = 2 if member[:2] in ("aw", "ar") else 1
    channel = getattr(bus, member[:length])
    return getattr(channel, member[length:], None)
