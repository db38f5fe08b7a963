"""A chip as a core that other flows take: its AXI ports by their usual names, its constraints, and
the files that say so to FuseSoC, to Vivado and to others that read IP-XACT."""

import re
from importlib.metadata import version

from systolith.hw.board.boards import BOARDS, ZynqBoard
from systolith.hw.core.axi import AXI4Signature, AXILiteSignature
from systolith.hw.spec.arch import ASSUMED_MHZ, Arch
from systolith.hw.spec.identity import identity
from systolith.hw.spec.widths import register_bits

from .ip_xact import component_xml
from .zynq import vivado_tcl, vivado_xdc

__all__ = ["PACKAGED", "TOP", "axi_top", "package_files"]

#: What `package_files` writes files for.
PACKAGED = ("none", *(name for name, board in BOARDS.items() if isinstance(board, ZynqBoard)))

#: The module around the core.
TOP = "systolith"
#: Bits of an address of registers: of as many cores as a chip can have.
_REGISTER_BITS = 12
#: Outputs of AXI4 that are the same in every burst: name -> (bits, value, why).
_FIXED = {
    "lock": (1, 0, "no exclusive accesses"),
    "cache": (4, 0b0011, "normal memory, not cached: an interconnect may merge and split bursts"),
    "prot": (3, 0b000, "data, secure, unprivileged"),
    "qos": (4, 0, "no preference"),
}
#: Verilator's warnings that generated Verilog meets, and why each is none.
_WAIVED = {
    "UNUSEDSIGNAL": "fields of structures that a module does not need",
    "PROCASSINIT": "registers have initial values, as FPGAs load them",
    "WIDTHEXPAND": "operands of different widths: Verilog extends them as meant",
    "WIDTHTRUNC": "the same, where the upper bits are no part of the result",
    "CASEINCOMPLETE": "what no case names keeps the value that was assigned before",
}


def package_files(arch: Arch, core: str, board: str = "none") -> dict[str, str]:
    """Name -> text of the files of a chip for another flow.

    Parameters
    ----------
    arch : Arch
    core : str
        The text of `core_verilog`.
    board : str
        "none": Verilog with AXI ports, constraints of clock and ports (SDC), FuseSoC's and
        IP-XACT's descriptions. A board with a processor system, such as "pynq-z2": also Vivado's
        script, which makes its bitstream, and the constraints of its pins.
    """
    place = BOARDS.get(board)
    asked = arch.clock_mhz if board == arch.board else None
    mhz = place.runs_at(asked) if place else arch.clock_mhz or ASSUMED_MHZ
    files = {
        "core.v": core, f"{TOP}.v": axi_top(arch), f"{TOP}.sdc": _sdc(mhz),
        f"{TOP}.core": _fusesoc(arch), f"{TOP}.vlt": _waivers(),
        "component.xml": component_xml(arch, TOP)}
    if isinstance(place, ZynqBoard):
        files |= {f"{board}.tcl": vivado_tcl(arch, place, mhz), f"{board}.xdc": vivado_xdc(place)}
    return files


def axi_top(arch: Arch) -> str:
    """Verilog of the module `systolith`: the core with all ports of AXI4 and AXI4-Lite and a reset
    that is low when active, and Vivado's attributes of them."""
    ports = [
        _Port("aclk", "input", 1, "xilinx.com:signal:clock:1.0 aclk CLK",
              "ASSOCIATED_BUSIF m_axi:s_axi, ASSOCIATED_RESET aresetn"),
        _Port("aresetn", "input", 1, "xilinx.com:signal:reset:1.0 aresetn RST",
              "POLARITY ACTIVE_LOW"),
        _Port("irq", "output", 1, "xilinx.com:signal:interrupt:1.0 irq INTERRUPT",
              "SENSITIVITY LEVEL_HIGH"),
        *_bus("m_axi", AXI4Signature(32, arch.bus_bits), "output"),
        *_bus("s_axi", AXILiteSignature(_REGISTER_BITS), "input")]
    body, fixed = [], []
    low, cores = register_bits(arch), arch.cores
    unused = [f"s_axi_{name}addr[{_REGISTER_BITS - 1}:{low}]" for name in ("aw", "ar")
              if low < _REGISTER_BITS]
    for port in ports[3:]:
        bus, name = port.name[:5], port.name[6:]
        constant = next((key for key in _FIXED if name in (f"ar{key}", f"aw{key}")), None)
        if constant and bus == "m_axi":
            bits, value, why = _FIXED[constant]
            fixed.append(f"  assign {port.name} = {bits}'d{value};  // {why}")
        elif not constant:
            part = f"[{low - 1}:0]" if bus == "s_axi" and name.endswith("addr") else ""
            body.append(f"    .{port.name}({port.name}{part})")
    return "\n".join([
        f"// {TOP}: the core of the chip {arch.name} with AXI4 and AXI4-Lite ports, and Vivado's",
        f"// attributes of them. Written by Systolith {version('systolith')}; identity "
        f"0x{identity(arch):016x}.",
        "`default_nettype none",
        f"module {TOP} (",
        ",\n".join(str(port) for port in ports),
        ");",
        *fixed,
        "",
        "  // Results as they are written, for a listener that is not there, and address bits and",
        "  // protection of registers that nobody looks at.",
        f"  wire {_range(cores)}trace_valid, trace_raw;",
        f"  wire {_range(12 * cores)}trace_layer;",
        f"  wire {_range(arch.item_bits * cores)}trace_item;",
        "  wire unused = &{1'b0, trace_valid, trace_raw, trace_layer, trace_item,",
        f"                  {', '.join([*unused, 's_axi_awprot', 's_axi_arprot'])}}};",
        "",
        "  systolith_core core (",
        "    .clk(aclk),",
        "    .rst(~aresetn),",
        "    .irq(irq),",
        ",\n".join(body) + ",",
        "    .trace_valid(trace_valid), .trace_layer(trace_layer), .trace_raw(trace_raw),",
        "    .trace_item(trace_item)",
        "  );",
        "endmodule",
        "`default_nettype wire",
    ]) + "\n"


class _Port:
    """A port with Vivado's attributes."""

    def __init__(self, name, direction, bits, info, parameter=None):
        self.name, self.direction, self.bits = name, direction, bits
        self.info, self.parameter = info, parameter

    def __str__(self):
        attributes = f'X_INTERFACE_INFO = "{self.info}"'
        if self.parameter:
            interface = self.info.split()[1]
            attributes += (f', X_INTERFACE_PARAMETER = "XIL_INTERFACENAME {interface}, '
                           f'{self.parameter}"')
        return f"  (* {attributes} *)\n  {self.direction} wire {_range(self.bits)}{self.name}"


def _range(bits):
    return f"[{bits - 1}:0] " if bits > 1 else ""


def _bus(bus, signature, from_master):
    """The ports of an AXI bus: those of its signature, and those that are fixed."""
    master, lite = from_master == "output", isinstance(signature, AXILiteSignature)
    widths = {name: (member.shape, member.flow.name == "Out")
              for name, member in signature.members.items()}
    fixed = {f"{channel}{name}": (bits, True) for channel in ("aw", "ar")
             for name, (bits, _, _) in _FIXED.items() if not lite or name == "prot"}
    protocol = "AXI4LITE" if lite else "AXI4"
    parameter = f"PROTOCOL {protocol}, DATA_WIDTH {widths['wdata'][0]}, ADDR_WIDTH "\
                f"{widths['awaddr'][0]}"
    if not lite:
        parameter += (", ID_WIDTH 1, HAS_BURST 1, MAX_BURST_LENGTH 256, SUPPORTS_NARROW_BURST 0, "
                      "NUM_READ_OUTSTANDING 16, NUM_WRITE_OUTSTANDING 16")
    for number, (name, (bits, out)) in enumerate((widths | fixed).items()):
        yield _Port(f"{bus}_{name}", "output" if out == master else "input", bits,
                    f"xilinx.com:interface:aximm:1.0 {bus} {name.upper()}",
                    None if number else parameter)


def _sdc(mhz):
    period = 1000 / mhz
    return f"""\
# Clock and ports of {TOP}, for a clock of {mhz:g} MHz. A tenth of the period is uncertain; half of
# what is left is the core's, half the other side's, at every port but the clock.
set period {period:.3f}
create_clock -name aclk -period $period [get_ports aclk]
set_clock_uncertainty [expr 0.1 * $period] [get_clocks aclk]
set inputs [list aresetn]
foreach bus {{m_axi s_axi}} {{ lappend inputs ${{bus}}_* }}
set_input_delay -clock aclk [expr 0.45 * $period] [get_ports $inputs -filter {{direction == in}}]
set_output_delay -clock aclk [expr 0.45 * $period] [all_outputs]
"""


def _fusesoc(arch):
    name = re.sub(r"[^\w-]", "-", arch.name)
    return f"""\
CAPI=2:
name: systolith:core:{name}:{version('systolith').split('.dev')[0]}
description: Systolic-array accelerator, chip {name}, AXI4 master with AXI4-Lite registers

filesets:
  rtl:
    files:
      - core.v
      - {TOP}.v
    file_type: verilogSource
  constraints:
    files:
      - {TOP}.sdc: {{file_type: SDC}}
  waivers:
    files:
      - {TOP}.vlt: {{file_type: vlt}}

targets:
  default: &default
    filesets: [rtl]
    toplevel: {TOP}
  synth:
    <<: *default
    filesets: [rtl, constraints]
  lint:
    <<: *default
    filesets: [waivers, rtl]
    default_tool: verilator
    tools:
      verilator:
        mode: lint-only
        verilator_options: [-Wall]
"""


def _waivers():
    return "\n".join([
        "// Warnings of -Wall that the generated core meets, and why each is none. They are waived",
        f"// for core.v alone: {TOP}.v is clean.",
        "`verilator_config",
        "// several modules in one file",
        'lint_off -rule DECLFILENAME -file "*core.v"',
        *(line for rule, why in _WAIVED.items()
          for line in (f"// {why}", f'lint_off -rule {rule} -file "*core.v"')),
    ]) + "\n"
