"""A LiteX SoC of a chip for a board with SDRAM: no CPU, a core, LiteDRAM, and a link of the host to
the SoC's bus. Needs LiteX (the extra `litex`)."""

import contextlib
import importlib.util
import io
import json
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import write_file
from systolith.gen.kit.progress import SILENT, Reporter
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity
from systolith.sim.rtl.litex_link import MAP

__all__ = ["LINKS", "LITEX_BOARDS", "LiteXBoard", "board_of", "file_name", "import_litex", "quiet",
           "soc_map", "write_soc"]


@dataclass(frozen=True)
class LiteXBoard:
    """A board that LiteX brings up.

    Attributes
    ----------
    target : str
        Module of `litex_boards.targets` with its `BaseSoC`.
    part : str
        Of `systolith.hw.board.parts.PARTS`.
    options : dict
        Of that `BaseSoC`.
    mhz : float
        Clock of SoC and core, if nothing else is said.
    loader : str
        What openFPGALoader calls the board.
    link : str
        "uart": a serial line of `BAUD` bits a second; "ethernet": Etherbone over UDP.
    """
    target: str
    part: str
    options: dict
    mhz: float
    loader: str
    link: str = "uart"


#: How the host reaches the SoC.
LINKS = ("uart", "ethernet")
#: Bits a second of the serial link.
BAUD = 1_000_000
#: The address of boards with Ethernet, if nothing else is said.
ADDRESS = "192.168.1.50"

_ULX3S = {"revision": "2.0", "toolchain": "trellis", "with_led_chaser": True}

LITEX_BOARDS = {
    "ulx3s-85f": LiteXBoard("radiona_ulx3s", "LFE5U-85F", {"device": "LFE5U-85F", **_ULX3S}, 50.0,
                            "ulx3s"),
    "ulx3s-12f": LiteXBoard("radiona_ulx3s", "LFE5U-12F", {"device": "LFE5U-12F", **_ULX3S}, 50.0,
                            "ulx3s"),
    "ecpix5-85f": LiteXBoard("lambdaconcept_ecpix5", "LFE5UM5G-85F",
                             {"device": "85F", "toolchain": "trellis"}, 60.0,
                             "ecpix5_r03"),
    "arty-a7-35t": LiteXBoard("digilent_arty", "XC7A35T", {"variant": "a7-35"}, 100.0,
                              "arty_a7_35t"),
    "arty-a7-100t": LiteXBoard("digilent_arty", "XC7A100T", {"variant": "a7-100"}, 100.0,
                               "arty_a7_100t"),
}


def import_litex() -> None:
    """Raises UserError where LiteX is not installed."""
    for package in ("litex", "litedram", "liteeth", "litex_boards", "migen"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"the package {package} is missing: pip install systolith[litex]")


def board_of(name: str) -> LiteXBoard:
    """The board of a name. Raises UserError."""
    if name not in LITEX_BOARDS:
        raise UserError(f"LiteX has no board {name!r} here; boards are {', '.join(LITEX_BOARDS)}")
    return LITEX_BOARDS[name]


def board_soc(name: str, arch: Arch, mhz: float, link: str | None = None) -> Any:
    """The SoC of a board, with the core as its attribute `systolith`.

    Raises UserError where LiteX or the board's files are missing, or the board has no such link or
    no such clock.
    """
    board = board_of(name)
    import_litex()
    from .litex_core import SystolithCore
    options = {**board.options, "cpu_type": None, "l2_size": 0, "integrated_sram_size": 0,
               "ident_version": False,
               "timer_uptime": False, "with_timer": False}
    link = link or board.link
    if link == "uart":
        options |= {"uart_name": "uartbone", "uart_baudrate": BAUD}
    elif link == "ethernet":
        if board.target not in ("lambdaconcept_ecpix5", "digilent_arty"):
            raise UserError(f"the {name} has no Ethernet; give --link uart")
        options |= {"with_uart": False, "with_etherbone": True}
    else:
        raise UserError(f"{link!r} is no link of the host; links are {', '.join(LINKS)}")
    target = importlib.import_module(f"litex_boards.targets.{board.target}")
    try:
        soc = target.BaseSoC(sys_clk_freq=mhz * 1e6, **options)
    except (ValueError, AssertionError) as error:
        # of LiteX's PLLs
        raise UserError(f"the {name} cannot run at {mhz:g} MHz: "
                        f"{error or 'its PLL does not reach it'}; try another --clock") from None
    soc.systolith = SystolithCore(soc, arch)
    return soc


def write_soc(name: str, arch: Arch, folder: Path | str, *, mhz: float | None = None,
              link: str | None = None, progress: Reporter = SILENT) -> dict:
    """Write the SoC of a board: `gateware/` with Verilog, constraints and build script, and
    soc.json, which the host needs; returns the latter's contents. Raises UserError as `board_soc`
    does."""
    mhz = mhz or board_of(name).mhz
    import_litex()
    from litex.soc.integration.builder import Builder
    folder = Path(folder)
    # `software` are headers in C, for a firmware that there is not
    with progress.step(f"Writing the SoC of {arch.name} on the {name}"), quiet(), \
            tempfile.TemporaryDirectory(prefix="systolith-litex-") as software:
        soc = board_soc(name, arch, mhz, link)
        Builder(soc, output_dir=str(folder), software_dir=software, compile_software=False,
                compile_gateware=False).build(build_name=file_name(name))
    _mend_script(folder / "gateware" / f"{file_name(name)}.tcl")
    link = link or board_of(name).link
    found = soc_map(soc) | {"board": name, "link": link, "clock_mhz": mhz, "server": [
        "litex_server", *(("--uart", "--uart-port", "/dev/ttyUSB0", "--uart-baudrate", str(BAUD))
                          if link == "uart" else ("--udp", "--udp-ip", ADDRESS))]}
    write_file(folder / MAP, json.dumps(found, indent=2) + "\n")
    return found


#: Vivado's commands before its bitstream.
_CHECKED = """\
set slack [get_property SLACK [get_timing_paths -setup]]
if {$slack < 0} { error "timing is not met: slack $slack ns; lower --clock" }

# Bitstream generation
"""


def _mend_script(script):
    """Makes Vivado's script, which runs in its own folder, name the files there without that, and
    write no bitstream where timing is not met."""
    if script.is_file():
        here = f"{{{script.parent.resolve()}/"
        text = script.read_text().replace(here, "{")
        write_file(script, text.replace("# Bitstream generation\n", _CHECKED, 1))


def file_name(name: str) -> str:
    """What the files of a board's SoC are called, less suffix; also its top module."""
    return name.replace("-", "_")


def soc_map(soc: Any) -> dict:
    """What a host must know of a finished SoC: where the core's registers and the memory are, and
    how the SDRAM is started."""
    from litedram.init import get_sdram_phy_init_sequence
    from litex.soc.integration.export import get_csr_json
    phy = soc.sdram.controller.settings.phy
    if phy.write_leveling or phy.write_dq_dqs_training:
        raise UserError(f"the host cannot start the memory of a {phy.phytype}, which wants write "
                        "leveling; take a board whose PHY does without")
    sequence, _ = get_sdram_phy_init_sequence(phy, soc.sdram.controller.settings.timing)
    known = json.loads(get_csr_json(soc.csr_regions, soc.constants, soc.mem_regions))
    registers = {name: csr["addr"] for name, csr in known["csr_registers"].items()
                 if name.startswith(("sdram_", "ddrphy_"))}
    main = soc.bus.regions["main_ram"]
    return {
        "chip": soc.systolith.arch.name, "identity": f"{identity(soc.systolith.arch):016x}",
        "registers": soc.bus.regions["systolith"].origin,
        "memory": {"origin": main.origin, "bytes": main.size},
        "csr": registers,
        "sdram": {
            "phy": phy.phytype, "type": phy.memtype, "phases": phy.nphases,
            "modules": phy.databits // 8, "bytes": phy.dfi_databits // 8,
            "delays": phy.delays, "bitslips": phy.bitslips, "rdphase": _number(phy.rdphase),
            "wrphase": _number(phy.wrphase), "leveling": phy.read_leveling,
            "sequence": [[comment, address, bank, _code(command), delay]
                         for comment, address, bank, command, delay in sequence]},
    }


def _number(phase):
    """A phase, which some PHYs have as a register with a default."""
    return phase if isinstance(phase, int) else phase.reset.value


#: Bits of LiteDRAM's registers dfii_control and dfii_pi0_command.
_BITS = {"DFII_CONTROL_SEL": 1, "DFII_CONTROL_CKE": 2, "DFII_CONTROL_ODT": 4,
         "DFII_CONTROL_RESET_N": 8, "DFII_COMMAND_CS": 1, "DFII_COMMAND_WE": 2,
         "DFII_COMMAND_CAS": 4, "DFII_COMMAND_RAS": 8}


def _code(command: str):
    """["control" or "command", value] of a step of LiteDRAM's sequence."""
    names = command.split("|")
    return ["control" if "CONTROL" in names[0] else "command", sum(_BITS[n] for n in names)]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without LiteX's hundred lines of log."""
    level = logging.root.level
    logging.disable(logging.INFO)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
        logging.root.setLevel(level)
