"""The core in LiteX's SoCs: what is written for boards, and the whole in simulation: serial bridge,
LiteDRAM's controller, a model of an SDRAM, the core, LiteX's own server and the host."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from systolith.gen.chip.package import _WAIVED
from systolith.gen.chip.toml import commented_toml
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.cli.main import main
from systolith.gen.compile.compile import compile_graph
from systolith.gen.flow.build import CORE, Build
from systolith.gen.flow.run import run
from systolith.gen.kit.errors import UserError
from systolith.gen.measure.place_and_route import achieved
from systolith.hw.board.parts import PARTS
from systolith.hw.spec.arch import Arch
from systolith.sim.rtl import verilate

from ...networks import random_network

pytest.importorskip("litex_boards")
# LiteX's own
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")

from systolith.gen.flow import litex_build, litex_soc  # noqa: E402

ARCH = Arch(name="small", board="ulx3s-85f", rows=3, columns=2, activation="int4",
            weight="int4", bus_bits=32, activation_depth=256, weight_depth=64,
            accumulator_depth=64, parameter_depth=16, queue_depth=1)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("soc")
    (folder / "software").mkdir()
    return folder, litex_soc.write_soc("ulx3s-12f", ARCH, folder)


def test_the_soc_of_a_board(written):
    folder, soc = written
    verilog = (folder / "gateware" / "ulx3s_12f.v").read_text()
    assert re.search(r"^systolith_core systolith_core\(", verilog, re.MULTILINE)
    assert (folder / "gateware" / "systolith_core.v").read_text() == core_verilog(ARCH)
    lines = (folder / "gateware" / "ulx3s_12f.lpf").read_text()
    assert 'LOCATE COMP "clk25" SITE "G2";' in lines and '"sdram_dq[15]"' in lines
    assert json.loads((folder / "soc.json").read_text()) == soc
    assert (folder / "software").is_dir(), "a folder of the user's"
    assert soc["memory"] == {"origin": 0x4000_0000, "bytes": 32 << 20}
    assert soc["sdram"]["sequence"][0] == ["Bring CKE high", 0, 0, ["control", 14], 20000]


def test_boards_are_of_known_parts():
    for board in litex_soc.LITEX_BOARDS.values():
        assert board.part in PARTS


def test_what_cannot_be(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="has no Ethernet"):
        litex_soc.write_soc("ulx3s-12f", ARCH, tmp_path, link="ethernet")
    with pytest.raises(UserError, match=r"cannot run at 1000 MHz: .*; try another --clock"):
        litex_soc.write_soc("ulx3s-12f", ARCH, tmp_path, mhz=1000)
    with pytest.raises(UserError, match="no board 'none' here; boards are ulx3s-85f"):
        litex_soc.write_soc("none", ARCH, tmp_path)
    with pytest.raises(UserError, match=r"run Vivado on gateware/arty_a7_35t\.tcl"):
        litex_build.build_soc("arty-a7-35t", ARCH, tmp_path, mhz=100)
    assert main(["litex", "--chip", "tiny-2x4-bnn", "--board", "arty-a7-100t", "--build", "-o",
                 str(tmp_path)]) == 1 and not list(tmp_path.iterdir())
    monkeypatch.setattr(litex_soc.importlib.util, "find_spec",
                        lambda name: None if name == "litedram" else object())
    with pytest.raises(UserError, match=r"litedram is missing: pip install systolith\[litex\]"):
        litex_soc.write_soc("ulx3s-12f", ARCH, tmp_path)


def test_socs_that_the_core_does_not_fit_into():
    from litex_boards.targets import radiona_ulx3s
    from systolith.gen.flow.litex_core import SystolithCore
    options = {"cpu_type": None, "uart_name": "uartbone"}
    with litex_soc.quiet():
        cached = radiona_ulx3s.BaseSoC(**options, l2_size=8192)
        without = radiona_ulx3s.BaseSoC(**options, integrated_main_ram_size=4096)
    with pytest.raises(UserError, match="L2 cache"):
        SystolithCore(cached, ARCH)
    with pytest.raises(UserError, match="no LiteDRAM"):
        SystolithCore(without, ARCH)


def test_the_clock_that_counts_is_the_one_closest_to_its_limit():
    def reached(*reports):
        return achieved({seed: {"utilization": {}, "fmax": {
            "sys": {"achieved": sys, "constraint": 50.0},
            "fast": {"achieved": fast, "constraint": 100.0}}}
            for seed, (sys, fast) in enumerate(reports, 1)}, 50.0, single_clock=False)
    timing = reached((55.0, 90.0), (52.0, 150.0))
    assert timing.mhz == {1: 45.0, 2: 52.0} and timing.best == 2
    timing.needs_to_close("it")
    with pytest.raises(UserError, match=r"runs at 50 MHz, which timing does not close"):
        reached((55.0, 90.0)).needs_to_close("it")


def _check_the_map(folder):
    """What the host is told of the SoC is what LiteX says of it."""
    soc = json.loads((folder / "soc.json").read_text())
    known = json.loads((folder / "csr.json").read_text())
    assert soc["csr"] == {name: csr["addr"] for name, csr in known["csr_registers"].items()
                          if name in soc["csr"]}
    assert {"ddrphy_dly_sel", "ddrphy_burstdet_seen", "sdram_dfii_pi1_rddata"} < set(soc["csr"])
    assert soc["registers"] == known["memories"]["systolith"]["base"]
    assert soc["memory"]["origin"] == known["memories"]["main_ram"]["base"]
    # a phase's register, of two words
    assert soc["sdram"]["bytes"] == 4 * known["csr_registers"]["sdram_dfii_pi0_rddata"]["size"]
    assert soc["server"] == ["litex_server", "--udp", "--udp-ip", "192.168.1.50"]
    assert '"eth_mdio"' in (folder / "gateware" / "ecpix5_85f.lpf").read_text()
    assert soc["sdram"]["leveling"] and soc["clock_mhz"] == 65


def test_the_command_makes_a_bitstream(tools, tmp_path, monkeypatch, capsys):
    """With stand-ins for the tools: a SoC of a folder's build with DDR3 and Ethernet, of which all
    clocks must close."""
    (tmp_path / "chip.toml").write_text(commented_toml(ARCH))
    monkeypatch.setenv("FAKE_MHZ", "25")
    words = ["litex", str(tmp_path), "--board", "ecpix5-85f", "--link", "ethernet", "--clock",
             "65", "--build", "--seeds"]
    assert main([*words, "2"]) == 0
    out, soc = capsys.readouterr().out.splitlines(), tmp_path / "litex"
    assert (soc / "ecpix5_85f.bit").read_text() == "bits of seed 2"
    assert f"configure the board: openFPGALoader -b ecpix5_r03 {soc / 'ecpix5_85f.bit'}" in out
    # 26 and 27 of the 25 MHz that the constraint asks for, in parts of the core's 65
    assert "68.9 MHz, the median of 67.6, 70.2" in out
    report = json.loads((soc / "timing.json").read_text())
    assert (report["board"], report["chip"], report["closes"]) == ("ecpix5-85f", "small", True)
    placer = tools()[1]
    assert placer[:2] == ["nextpnr-ecp5", "--um5g-85k"] and "--freq" not in placer
    assert placer[placer.index("--lpf") + 1] == "ecpix5_85f.lpf"
    _check_the_map(soc)
    monkeypatch.setenv("FAKE_MHZ", "20")
    (soc / "place-and-route" / "seed-1.json").unlink()
    before = len(tools())
    assert main([*words, "1"]) == 1
    assert [command[0] for command in tools()[before:]] == ["nextpnr-ecp5"], "the same design"
    assert "the SoC on the ecpix5-85f runs at 65 MHz" in capsys.readouterr().err
    assert not (soc / "ecpix5_85f.bit").exists()


@pytest.fixture(scope="module")
def arty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arty")
    litex_soc.write_soc("arty-a7-35t", ARCH, folder)
    return folder / "gateware"


def test_vivados_script_finds_its_files_wherever_the_folder_is(arty):
    script = (arty / "arty_a7_35t.tcl").read_text()
    named = re.findall(r"^read_\w+ \{?([^\s}]+)", script, re.MULTILINE)
    assert sorted(named) == ["arty_a7_35t.v", "arty_a7_35t.xdc", "systolith_core.v"]
    assert all((arty / name).is_file() for name in named) and str(arty) not in script


def test_vivados_script_writes_no_bitstream_where_timing_is_not_met(arty):
    program = shutil.which("tclsh")
    if program is None:
        pytest.skip("tclsh is not installed")
    script = (arty / "arty_a7_35t.tcl").read_text()
    commands = set(re.findall(r"^(\w+)", script, re.MULTILINE)) - {"set", "if", "quit"}
    for slack, code in (("0.1", 0), ("-0.1", 1)):
        (arty / "stub.tcl").write_text(
            "".join(f"proc {name} args {{ puts {name} }}\n"
                    for name in {*commands, "get_files", "get_ports", "current_design"})
            + f"proc get_timing_paths args {{}}\nproc get_property args {{ return {slack} }}\n"
            "proc quit {} exit\nsource arty_a7_35t.tcl\n")
        done = subprocess.run([program, "stub.tcl"], cwd=arty, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert ("write_bitstream" in done.stdout.split()) == (code == 0)
    assert "timing is not met: slack -0.1 ns; lower --clock" in done.stderr


#: Verilator's warnings of LiteX's Verilog, beside those of the core that `systolith.vlt` waives:
#: non-blocking assignments in its combinational blocks, pins of the vendor's cells left open.
LITEXS = {"COMBDLY", "PINMISSING"}


def test_verilator_finds_nothing_in_a_soc_but_litexs_habits(arty):
    """With models of the vendor's cells, such as clock loops and delay lines of the pins."""
    pyosys = pytest.importorskip("pyosys")
    vendor = Path(pyosys.__file__).parent / "share" / "xilinx"
    words = set(re.findall(r"\b[A-Z]\w+\b", (arty / "arty_a7_35t.v").read_text()))
    cells = [text for name in ("cells_sim.v", "cells_xtra.v")
             for text, cell in re.findall(r"(^module (\w+).*?^endmodule)",
                                          (vendor / name).read_text(), re.M | re.S)
             if cell in words]
    (arty / "cells.v").write_text("\n".join(cells))
    done = subprocess.run(
        ["verilator", "--lint-only", "-Wall", "--top-module", "arty_a7_35t",
         "arty_a7_35t.v", "systolith_core.v", "cells.v"], cwd=arty, capture_output=True, text=True,
        env=verilate.environment())
    found = set(re.findall(r"^%Warning-(\w+): (?:arty_a7_35t|systolith_core)\.v", done.stderr,
                           re.MULTILINE))
    assert found - LITEXS == {"DECLFILENAME", *_WAIVED}
    assert re.findall(r"^%Error: (.*)", done.stderr, re.MULTILINE) == [
        f"Exiting due to {done.stderr.count('%Warning-')} warning(s)"]
    # of the core, outputs for a listener alone are left open
    assert set(re.findall(r"PINMISSING: \S+ .* with missing pin: '(trace_\w+|[ms]_axi_\w+|irq)'",
                          done.stderr)) <= {"trace_valid", "trace_layer", "trace_raw", "trace_item"}


def test_a_simulated_soc_computes_what_the_golden_model_does(tmp_path):
    graph, _ = random_network(2, ARCH, layers=2, size=6)
    (tmp_path / CORE).write_text(core_verilog(ARCH))
    build = Build(tmp_path, ARCH, graph, compile_graph(graph, ARCH))
    x = np.random.default_rng(1).uniform(-8, 7, (2, *graph.inputs[0].shape)).astype(np.float32)
    found = run(build, x, "sim:litex", check=True)
    assert found.images == 2 and found.comparison.bits == 0 and found.comparison.elements > 0
    assert 0 < found.compute_cycles < found.cycles < 4 * found.cycles_model
