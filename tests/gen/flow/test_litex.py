"""The core in LiteX's SoCs: what is written for boards, and the whole in simulation: serial bridge,
LiteDRAM's controller, a model of an SDRAM, the core, LiteX's own server and the host."""

import json
import re

import numpy as np
import pytest
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.compile.compile import compile_graph
from systolith.gen.flow.build import CORE, Build
from systolith.gen.flow.run import run
from systolith.gen.kit.errors import UserError
from systolith.hw.board.boards import PARTS
from systolith.hw.spec.arch import Arch

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


def test_a_soc_with_ddr_memory_and_ethernet(tmp_path):
    soc = litex_soc.write_soc("ecpix5-85f", ARCH, tmp_path, link="ethernet", mhz=65)
    known = json.loads((tmp_path / "csr.json").read_text())
    assert soc["csr"] == {name: csr["addr"] for name, csr in known["csr_registers"].items()
                          if name in soc["csr"]}
    assert {"ddrphy_dly_sel", "ddrphy_burstdet_seen", "sdram_dfii_pi1_rddata"} < set(soc["csr"])
    assert soc["registers"] == known["memories"]["systolith"]["base"]
    assert soc["memory"]["origin"] == known["memories"]["main_ram"]["base"]
    # a phase's register, of two words
    assert soc["sdram"]["bytes"] == 4 * known["csr_registers"]["sdram_dfii_pi0_rddata"]["size"]
    assert soc["server"] == ["litex_server", "--udp", "--udp-ip", "192.168.1.50"]
    assert '"eth_mdio"' in (tmp_path / "gateware" / "ecpix5_85f.lpf").read_text()
    assert soc["sdram"]["leveling"] and soc["clock_mhz"] == 65


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
    def report(sys, fast):
        return {"utilization": {}, "fmax": {
            "sys": {"achieved": sys, "constraint": 50.0},
            "fast": {"achieved": fast, "constraint": 100.0}}}
    timing = litex_build._slowest({1: report(55.0, 90.0), 2: report(52.0, 150.0)}, 50.0)
    assert timing.mhz == {1: 45.0, 2: 52.0} and timing.best == 2
    timing.needs_to_close("it")
    with pytest.raises(UserError, match=r"runs at 50 MHz, which timing does not close"):
        litex_build._slowest({1: report(55.0, 90.0)}, 50.0).needs_to_close("it")


def test_a_simulated_soc_computes_what_the_golden_model_does(tmp_path):
    graph, _ = random_network(2, ARCH, layers=2, size=6)
    (tmp_path / CORE).write_text(core_verilog(ARCH))
    build = Build(tmp_path, ARCH, graph, compile_graph(graph, ARCH))
    x = np.random.default_rng(1).uniform(-8, 7, (2, *graph.inputs[0].shape)).astype(np.float32)
    found = run(build, x, "sim:litex", check=True)
    assert found.images == 2 and found.comparison.bits == 0 and found.comparison.elements > 0
    assert 0 < found.compute_cycles < found.cycles < 4 * found.cycles_model
