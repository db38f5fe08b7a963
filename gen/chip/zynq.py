"""A chip beside the processors of a Zynq: the script from which Vivado makes the bitstream."""

from importlib.metadata import version

from systolith.hw.board.boards import ZynqBoard
from systolith.hw.spec.arch import Arch

from .ip_xact import REGISTER_BYTES, VLNV

__all__ = ["vivado_tcl", "vivado_xdc"]


def vivado_tcl(arch: Arch, board: ZynqBoard, mhz: float) -> str:
    """The script, to be run in the folder of the package's files, for a core at `mhz`."""
    vlnv = ":".join([*VLNV, ".".join(version("systolith").split(".")[:2])])
    return f"""\
# Bitstream of {arch.name} on the {board.name}: run in this folder
#     vivado -mode batch -source {board.name}.tcl
# for {mhz:g} MHz, or with "-tclargs MHZ". It ends with systolith.bit and systolith.hwh,
# or with an error where timing is not met.
set mhz [expr {{[info exists argv] && [llength $argv] ? [lindex $argv 0] : {mhz:g}}}]
set here [file dirname [file normalize [info script]]]
create_project -force systolith [file join $here vivado] -part {board.device}
# Without the board's files the processors' memory is set up by the boot image alone, as PYNQ does.
if {{[llength [get_board_parts -quiet {board.board_part}]]}} {{
  set_property board_part {board.board_part} [current_project]
  set preset 1
}} else {{
  set preset 0
}}
set_property ip_repo_paths $here [current_project]
update_ip_catalog

create_bd_design system
set ps [create_bd_cell -type ip -vlnv xilinx.com:ip:processing_system7 ps]
apply_bd_automation -rule xilinx.com:bd_rule:processing_system7 -config [list \\
  make_external "FIXED_IO, DDR" apply_board_preset $preset Master Disable Slave Disable] $ps
# GP0: the processors reach the registers. HP0: the core reaches the memory.
set_property -dict [list \\
  CONFIG.PCW_USE_M_AXI_GP0 1 CONFIG.PCW_USE_S_AXI_HP0 1 \\
  CONFIG.PCW_S_AXI_HP0_DATA_WIDTH {32 if arch.bus_bits == 32 else 64} \\
  CONFIG.PCW_USE_FABRIC_INTERRUPT 1 CONFIG.PCW_IRQ_F2P_INTR 1 \\
  CONFIG.PCW_EN_CLK0_PORT 1 CONFIG.PCW_EN_RST0_PORT 1 \\
  CONFIG.PCW_FPGA0_PERIPHERAL_FREQMHZ $mhz] $ps

set core [create_bd_cell -type ip -vlnv {vlnv} core]
set reset [create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset reset]
set registers [create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect registers]
set memory [create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect memory]
set_property -dict [list CONFIG.NUM_SI 1 CONFIG.NUM_MI 1] $registers
set_property -dict [list CONFIG.NUM_SI 1 CONFIG.NUM_MI 1] $memory

connect_bd_intf_net [get_bd_intf_pins ps/M_AXI_GP0] [get_bd_intf_pins registers/S00_AXI]
connect_bd_intf_net [get_bd_intf_pins registers/M00_AXI] [get_bd_intf_pins core/s_axi]
connect_bd_intf_net [get_bd_intf_pins core/m_axi] [get_bd_intf_pins memory/S00_AXI]
connect_bd_intf_net [get_bd_intf_pins memory/M00_AXI] [get_bd_intf_pins ps/S_AXI_HP0]
foreach pin {{ps/M_AXI_GP0_ACLK ps/S_AXI_HP0_ACLK core/aclk reset/slowest_sync_clk
             registers/aclk memory/aclk}} {{
  connect_bd_net [get_bd_pins ps/FCLK_CLK0] [get_bd_pins $pin]
}}
connect_bd_net [get_bd_pins ps/FCLK_RESET0_N] [get_bd_pins reset/ext_reset_in]
foreach pin {{core/aresetn registers/aresetn memory/aresetn}} {{
  connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins $pin]
}}
# The core is done: to the processors, and to a light.
create_bd_port -dir O finished
connect_bd_net [get_bd_pins core/irq] [get_bd_pins ps/IRQ_F2P]
connect_bd_net [get_bd_pins core/irq] [get_bd_ports finished]

create_bd_addr_seg -offset 0x{board.register_base:08X} -range 0x{REGISTER_BYTES:X} \\
  [get_bd_addr_spaces ps/Data] [get_bd_addr_segs core/s_axi/reg0] registers
create_bd_addr_seg -offset 0x0 -range 0x{board.memory_range:X} \\
  [get_bd_addr_spaces core/m_axi] [get_bd_addr_segs ps/S_AXI_HP0/HP0_DDR_LOWOCM] memory
validate_bd_design
save_bd_design

add_files -norecurse [make_wrapper -files [get_files system.bd] -top]
add_files -fileset constrs_1 -norecurse [file join $here {board.name}.xdc]
set_property top system_wrapper [current_fileset]
launch_runs impl_1 -to_step write_bitstream -jobs 4
wait_on_run impl_1
open_run impl_1
report_utilization -hierarchical -file [file join $here utilization.rpt]
report_timing_summary -file [file join $here timing.rpt]
set slack [get_property SLACK [get_timing_paths -setup]]
if {{$slack < 0}} {{
  error "timing is not met at $mhz MHz: slack $slack ns; give a lower clock with -tclargs"
}}
file copy -force [file join $here vivado systolith.runs impl_1 system_wrapper.bit] \\
  [file join $here systolith.bit]
foreach folder {{systolith.gen systolith.srcs}} {{
  set found [glob -nocomplain \\
    [file join $here vivado $folder sources_1 bd system hw_handoff system.hwh]]
  if {{[llength $found]}} {{ file copy -force [lindex $found 0] [file join $here systolith.hwh] }}
}}
puts "wrote systolith.bit and systolith.hwh: $mhz MHz, slack $slack ns"
"""


def vivado_xdc(board: ZynqBoard) -> str:
    """The constraints of the pins; the processors' own are fixed, and they give the clock."""
    lines = [f"# Pins of the {board.name}; clocks come from the processor system."]
    for port, pin in board.pins.items():
        lines.append(f"set_property -dict {{PACKAGE_PIN {pin} IOSTANDARD LVCMOS33}} "
                     f"[get_ports {port}]")
        lines.append(f"set_false_path -to [get_ports {port}]")
    return "\n".join(lines) + "\n"
