"""Area: counts of designs that are known by hand, attribution to parts."""

import json
from collections import Counter

import pytest
from amaranth.back import verilog
from systolith.gen.kit.errors import UserError
from systolith.gen.measure import area
from systolith.gen.measure.yosys import run_yosys
from systolith.hw.board.pll import LOOPS, Pll, ratio
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.records import RecordError

# Two multiply-add elements in an array, a block RAM, a memory that only flip-flops can hold,
# 5 loose flip-flops, and a chain of 3 registers in the DMA.
DESIGN = """
module systolith_pe(input clk, input [7:0] a, input [7:0] w, input [19:0] p, output reg [19:0] q);
  always @(posedge clk) q <= p + a * w;
endmodule
module \\top.array.array (input clk, input [7:0] a, input [7:0] w, output [19:0] q);
  wire [19:0] x;
  reg [7:0] skew;
  always @(posedge clk) skew <= a;
  systolith_pe p0(clk, a, w, 20'd0, x);
  systolith_pe p1(clk, skew, w, x, q);
endmodule
module \\top.array (input clk, input [7:0] a, input [7:0] w, output [19:0] q);
  reg [1:0] at;
  always @(posedge clk) at <= at + a[1:0];
  \\top.array.array array(clk, a, w ^ at, q);
endmodule
module \\top.load.array (input clk, input d, output reg q);
  reg x, y;
  always @(posedge clk) begin x <= d; y <= x; q <= y; end
endmodule
module \\top.load (input clk, input d, output q);
  \\top.load.array inner(clk, d, q);
endmodule
module \\top.csr (input clk, input [9:0] a, input we, input [15:0] d, output [7:0] r);
  reg [7:0] n[7:0];
  always @(posedge clk) if (we) begin n[a] <= d; n[0] <= 1; end
  assign r = n[a[2:0]];
endmodule
module top(input clk, input [9:0] a, input we, input [15:0] d, output [19:0] s,
           output [7:0] r, output x, output reg [4:0] e, output reg [15:0] q);
  \\top.array array(clk, a[7:0], d[7:0], s);
  reg [15:0] m[1023:0];
  always @(posedge clk) begin if (we) m[a] <= d; q <= m[a]; end
  \\top.csr csr(clk, a, we, d, r);
  \\top.load load(clk, we, x);
  always @(posedge clk) e <= d[4:0];
endmodule
"""


@pytest.fixture(scope="module")
def ecp5():
    return area.measure(DESIGN, "top", "ecp5")


def test_parts_are_attributed_and_sum_to_the_whole(ecp5):
    figures = {name: area.count(cells) for name, cells in ecp5.parts.items()}
    assert list(figures) == ["processing elements", "array edges", "array control", "scratchpads",
                             "dma", "control", "core top"]
    assert figures["processing elements"] == area.Figures(40, 40, 2, 0)
    assert figures["array edges"] == area.Figures(0, 8, 0, 0)
    assert figures["array control"].ff == 2 and figures["array control"].lut >= 3
    assert figures["scratchpads"] == area.Figures(0, 0, 0, 1)
    assert figures["dma"] == area.Figures(0, 3, 0, 0)
    assert figures["control"].ff == 64 and figures["control"].lut > 8
    assert figures["core top"].ff >= 5
    for key in area.FIGURES:
        assert getattr(ecp5.total, key) == sum(getattr(item, key) for item in figures.values())


def test_one_processing_element(ecp5):
    assert (area.count(ecp5.pe), ecp5.pe_count) == (area.Figures(20, 20, 1, 0), 2)


def test_memories_in_flipflops_are_named(ecp5):
    assert ecp5.in_flipflops == ["top.csr.n: 8 x 8"]


def test_plain_data(ecp5):
    data = ecp5.to_json()
    assert {"lut", "ff", "dsp", "bram", "total", "parts"} <= set(data)
    assert data["processing_element"]["count"] == 2
    assert data["total"]["cells"]["MULT18X18D"] == 2
    again = area.Area.from_json(json.loads(json.dumps(data)), "area")
    assert again.to_json() == data
    assert (again.parts, again.pe, again.pe_count, again.in_flipflops) == (
        ecp5.parts, ecp5.pe, ecp5.pe_count, ecp5.in_flipflops)
    alone = area.Area("xc7", {"dma": Counter(LUT6=2, RAMB18E1=1)})
    assert alone.to_json()["bram"] == 0.5
    assert area.Area.from_json(alone.to_json(), "area") == alone
    del data["parts"]["dma"]["cells"]
    with pytest.raises(RecordError, match=r"^area\.parts\.dma\.cells is missing$"):
        area.Area.from_json(data, "area")


def test_a_board_around_the_core():
    core = DESIGN.replace("\\top", "\\b.core").replace("module top(", "module \\b.core (")
    board = """
module b(input clk, input [9:0] a, input [15:0] d, output [19:0] s, output reg o);
  always @(posedge clk) o <= !o;
  \\b.core core(clk, a, o, d, s);
endmodule
"""
    figures = area.measure(core + board, "b").to_json()["parts"]
    assert figures["board"]["ff"] == 1
    assert figures["scratchpads"]["bram"] == 1


def test_multipliers_of_luts():
    found = area.measure(DESIGN, "top", "ecp5", dsp=False)
    assert found.total.dsp == 0 and found.total.lut > 300


def test_multipliers_of_luts_in_the_processing_elements_only():
    found = area.measure(DESIGN, "top", "ecp5", pe_dsp=False)
    assert found.total.dsp == 0 and area.count(found.pe).lut > 60


@pytest.mark.parametrize("name, target, dsp, structure", [
    ("e3m2", "xc7", True, "lut6"), ("int4", "ecp5", True, "lut4"), ("int8", "xc7", True, "dsp48"),
    ("int8", "ecp5", True, "dsp"), ("int8", "xc7", False, "lut6"), ("int8", "ice40", False, "lut4"),
    ("bipolar1", "xc7", True, "lut6")])
def test_what_processing_elements_are_built_for(name, target, dsp, structure):
    arch = Arch(rows=2, columns=2, activation=name, weight=name)
    assert area.built_for(arch, target, dsp=dsp).pe_structure == structure
    chosen = Arch(rows=2, columns=2, activation=name, weight=name, structure="gates")
    assert area.built_for(chosen, target, dsp=dsp).pe_structure == "gates"


def test_ice40():
    found = area.measure(DESIGN, "top", "ice40")
    assert found.total.dsp == 2 and found.total.bram == 4 and found.total.lut > 0


def test_gowin():
    found = area.measure(DESIGN, "top", "gowin")
    assert found.total.dsp == 1, "two multipliers of 8 x 8, each half of one of 18 x 18"
    assert found.parts["scratchpads"] and found.total.bram == 1
    assert found.parts["dma"] and area.count(found.parts["dma"]).ff == 3
    assert found.total.lut > 0


def test_how_cells_are_counted():
    for cells, figures in (
            ({"LUT4": 3, "CCU2C": 2, "TRELLIS_DPR16X4": 1, "PFUMX": 9}, (13, 0, 0, 0)),
            ({"ALU": 2, "LUT3": 1, "MUX2_LUT5": 1, "DFFNRE": 1, "DFFCE": 1, "MULT36X36": 1,
              "MULT9X9": 1, "SDPX9B": 1, "SP": 1, "RAM16SDP4": 1}, (9, 2, 4.5, 2)),
            ({"RAMB18E1": 3, "FDRE": 2, "FDSE_1": 1, "LUT6": 1, "CARRY4": 4}, (1, 3, 0, 1.5))):
        assert area.count(cells) == area.Figures(*figures)


def test_unknown_target():
    with pytest.raises(UserError, match="one of xc7, ecp5, ice40, gowin, not 'cmos'"):
        area.measure(DESIGN, "top", "cmos")


@pytest.mark.parametrize("target, cell", [("ecp5", "EHXPLLL"), ("ice40", "SB_PLL40_PAD"),
                                          ("gowin", "rPLL")])
def test_a_clocks_loop_is_mapped(target, cell, tmp_path):
    """The vendor's cell goes through synthesis as it is: only the family's own cells are known."""
    pll = Pll(target=target, oscillator_mhz=25, ratio=ratio(LOOPS[target], 25, 100))
    (tmp_path / "pll.v").write_text(verilog.convert(pll, name="top"))
    result = tmp_path / "netlist.json"
    run_yosys([f'read_verilog -sv "{tmp_path / "pll.v"}"', *area.synthesis(target, "top"),
                    f'write_json "{result}"'], result)
    cells = json.loads(result.read_text())["modules"]["top"]["cells"].values()
    assert cell in {item["type"] for item in cells}
