"""A LiteX SoC of a chip in Verilator: the core, LiteDRAM's controller with its model of an SDRAM,
and LiteX's serial bridge from the pins on. Needs LiteX (the extra `litex`)."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from socket import create_connection, create_server
from typing import Any, ClassVar

from systolith.gen.kit.errors import UserError
from systolith.hw.spec.arch import Arch
from systolith.sim.rtl.board import DIVISOR, SimulatedBoard
from systolith.sim.rtl.verilate import SimulationError

from .litex_soc import import_litex, quiet, soc_map

__all__ = ["simulated_soc", "simulation_soc"]

#: The simulated SoC's clock; SDRAM's timings in cycles depend on it.
CLOCK_HZ = 50_000_000


class _Pins:
    """As a board's top level: names of the pins that the host's line has."""
    CLOCK, RX, TX = "sys_clk", "serial_rx", "serial_tx"
    IDLE: ClassVar[dict] = {}


class _Board:
    top, module = _Pins, "litex_soc"


def simulation_soc(arch: Arch, core: str | None = None) -> tuple[str, dict[str, Any]]:
    """Verilog of a SoC with 32 MiB of SDRAM like the ULX3S's (16 bits at the core's clock), top
    module `litex_soc`, and its description for the host.

    `core` is the text of `core_verilog`, where it exists already. Raises UserError where LiteX is
    missing.
    """
    import_litex()
    from litedram.modules import MT48LC16M16
    from litedram.phy.model import SDRAMPHYModel
    from litex.build.generic_platform import GenericPlatform, Pins, Subsignal
    from litex.soc.integration.soc_core import SoCCore
    from migen import ClockDomain, If, Module, Signal
    from systolith.gen.chip.verilog import core_verilog

    from .litex_core import SystolithCore

    class Clock(Module):
        """In reset for some cycles: a board's PLL has no clock at first."""
        def __init__(self, platform):
            self.clock_domains.cd_sys = ClockDomain("sys")
            self.clock_domains.cd_por = ClockDomain("por", reset_less=True)
            clock, left = platform.request("sys_clk"), Signal(4, reset=15)
            self.sync.por += If(left != 0, left.eq(left - 1))
            self.comb += [self.cd_sys.clk.eq(clock), self.cd_por.clk.eq(clock),
                          self.cd_sys.rst.eq(left != 0)]

    with quiet(), tempfile.TemporaryDirectory(prefix="systolith-litex-") as folder:
        platform = GenericPlatform("SIM", [
            ("sys_clk", 0, Pins(1)),
            ("serial", 0, Subsignal("tx", Pins(1)), Subsignal("rx", Pins(1)))], name="litex_soc")
        platform.output_dir = folder
        soc = SoCCore(platform, CLOCK_HZ, cpu_type=None, uart_name="uartbone",
                      uart_baudrate=CLOCK_HZ // DIVISOR, integrated_sram_size=0, with_timer=False)
        soc.submodules.crg = Clock(platform)
        module = MT48LC16M16(CLOCK_HZ, "1:1")
        soc.submodules.sdrphy = SDRAMPHYModel(module, data_width=16, clk_freq=CLOCK_HZ)
        soc.add_sdram("sdram", phy=soc.sdrphy, module=module, l2_cache_size=0)
        soc.systolith = SystolithCore(soc, arch)
        soc.finalize()
        written = platform.get_verilog(soc, name="litex_soc")
        if written.data_files:
            raise UserError("LiteX's memories begin with contents, which the simulation leaves out:"
                            f" {', '.join(written.data_files)}")
        # LiteX's comments have the date, and what is compiled is known by its text
        verilog = re.sub(r"^//.*\n", "", written.main_source, flags=re.MULTILINE)
    return f"{verilog}\n{core or core_verilog(arch)}", soc_map(soc)


@contextmanager
def simulated_soc(arch: Arch, core: str | None = None
                  ) -> Iterator[tuple[int, dict[str, Any]]]:
    """A SoC that runs, with LiteX's own server at its serial line: the server's port on localhost,
    and the SoC's description.

    Raises UserError and SimulationError where something is missing or does not start.
    """
    verilog, described = simulation_soc(arch, core)
    with SimulatedBoard(_Board, verilog) as board, _server(board.path) as port:
        yield port, described


@contextmanager
def _server(terminal):
    """LiteX's server at a terminal; its port."""
    with create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "litex.tools.litex_server", "--uart",
             "--uart-port", terminal, "--uart-baudrate", "1000000", "--bind-port", str(port)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            end = time.monotonic() + 30
            while True:
                try:
                    create_connection(("localhost", port), 1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > end:
                        log.seek(0)
                        last = log.read().decode(errors="replace").strip().splitlines()[-1:]
                        raise SimulationError("litex_server has not started: "
                                              f"{''.join(last)}") from None
                    time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait()
