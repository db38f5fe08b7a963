"""Area of single circuits: counts known by hand, flows, and what arrays take beside elements."""

import pytest
from systolith.gen.kit.errors import UserError
from systolith.gen.measure import element_area
from systolith.gen.measure.array_area import array_area
from systolith.gen.measure.element import pe_verilog
from systolith.gen.measure.element_area import LIBERTY
from systolith.gen.study.catalogue import Entry
from systolith.gen.study.element_table import plain_verilog
from systolith.hw.spec.arch import Arch

# An adder of 6 bits whose operands are registers (carry positions without a LUT function of their
# own but the sum's), 8 flip-flops and a multiplication.
DESIGN = """
module inner(input clk, input [5:0] a, input [5:0] b, output reg [5:0] s);
  always @(posedge clk) s <= a + b;
endmodule
module top(input clk, input [5:0] a, input [5:0] b, output [5:0] s, output [5:0] t);
  inner one(clk, a, b, s);
  inner two(clk, b, s, t);
endmodule
"""


@pytest.mark.parametrize("flatten", [True, False])
def test_modules_count_as_often_as_they_stand(flatten):
    found = element_area.element_area(DESIGN, "top", "ecp5", flatten=flatten)
    assert (found["ff"], found["carry"], found["lut"], found["slice_lut"]) == (12, 6, 0, 12)
    assert set(found["flows"]) == {"default", "area"} and found["flows"][found["flow"]] == 12


@pytest.mark.slow
def test_xc7_counts_slices_and_bare_carry_of_all_modules():
    found = element_area.element_area(DESIGN, "top", "xc7", flatten=False)
    assert (found["lut"], found["ff"], found["bare_carry"], found["slices"]) == (12, 12, 0, 3)


def test_bare_carry_is_what_no_lut_drives():
    carry = {"type": "CARRY4", "port_directions": dict.fromkeys("S", "input") | {
        "O": "output", "CO": "output", "CI": "input"}, "connections": {
        "S": [10, 11, 12, "0"], "O": [20, 21, 22, 23], "CO": [30, 31, 32, 33], "CI": ["0"]}}
    lut = {"type": "LUT2", "port_directions": {"O": "output", "I0": "input"},
           "connections": {"O": [10], "I0": [5]}}
    leaf = {"ports": {"q": {"direction": "output", "bits": [20, 22]}},
            "cells": {"c": carry, "l": lut}}
    top = {"ports": {}, "cells": {n: {"type": "leaf", "port_directions": {}, "connections": {}}
                                  for n in ("x", "y")}}
    assert element_area._bare_carry({"leaf": leaf, "top": top}, "leaf") == 2
    assert element_area._bare_carry({"leaf": leaf, "top": top}, "top") == 4


def test_dsp_blocks_only_where_they_are_asked_for():
    text = plain_verilog(8)
    with_dsp = element_area.element_area(text, "systolith_pe", "ice40", dsp=True)
    without = element_area.element_area(text, "systolith_pe", "ice40")
    assert (with_dsp["dsp"], without["dsp"]) == (1, 0) and with_dsp["lut"] < 40 < without["lut"]


@pytest.mark.slow
def test_two_int8_products_of_columns_side_by_side_take_one_dsp_block():
    text = pe_verilog(Entry("int8", "int8", columns=2).rules("dsp48"))
    figures = element_area.element_area(text, "systolith_pe", "xc7", dsp=True)
    # The two sums' adders, and nothing that joins the weights.
    assert figures["dsp"] == 1 and figures["lut"] <= 2 * 20


def test_asic_counts_transistors_and_cells(tmp_path):
    liberty = tmp_path / "cells.lib"
    liberty.write_text(_LIBERTY)
    found = element_area.element_area(DESIGN, "top", "asic", liberty=liberty)
    assert found["ff"] == 12 and found["transistors"] > 12 * 16
    # 12 flip-flops of 50 and some gates of 10
    assert found["um2"] >= 600 + 12 * 10 and (found["um2"] - 600) % 10 == 0
    assert "liberty" not in found["flows"]


def test_liberty_files(tmp_path, monkeypatch):
    monkeypatch.setattr(element_area, "LIBERTY", tmp_path / "absent.lib")
    assert element_area.find_liberty() is None
    with pytest.raises(UserError, match=r"absent\.lib: there is no such liberty file"):
        element_area.find_liberty(tmp_path / "absent.lib")
    (tmp_path / "absent.lib").write_text(_LIBERTY)
    assert element_area.find_liberty() == tmp_path / "absent.lib"
    assert LIBERTY.name.endswith(".lib")


def test_unknown_targets():
    with pytest.raises(UserError, match="target must be one of xc7, ecp5, ice40, asic, not 'cmos'"):
        element_area.element_area(DESIGN, "top", "cmos")


def test_an_array_beside_its_elements():
    arch = Arch(rows=2, columns=3, activation="int2", weight="int2", stages=1)
    found = array_area(arch, "ecp5")
    element, array = found["element"], found["array"]
    assert found["count"] == 6 and found["chip"]["structure"] == "lut4"
    assert found["ratio"] == array["slice_lut"] / (6 * element["slice_lut"])
    assert 0.3 < found["ratio"] < 2 and array["ff"] > element["ff"]


_LIBERTY = """
library(few) {
  cell(BUF) { area : 20; pin(A) { direction : input; }
    pin(Y) { direction : output; function : "A"; } }
  cell(NOT) { area : 10; pin(A) { direction : input; }
    pin(Y) { direction : output; function : "A'"; } }
  cell(NAND) { area : 10; pin(A) { direction : input; } pin(B) { direction : input; }
    pin(Y) { direction : output; function : "(A*B)'"; } }
  cell(NOR) { area : 10; pin(A) { direction : input; } pin(B) { direction : input; }
    pin(Y) { direction : output; function : "(A+B)'"; } }
  cell(DFF) { area : 50; ff(IQ, IQN) { clocked_on : C; next_state : D; }
    pin(C) { direction : input; clock : true; } pin(D) { direction : input; }
    pin(Q) { direction : output; function : "IQ"; } }
}
"""


def test_products_before_two_registers_are_mapped_for_ice40():
    """Yosys' pass ice40_dsp dies of them."""
    text = """
module systolith_scale(input clk, input signed [8:0] a, b, output reg signed [17:0] o);
  reg signed [17:0] product;
  always @(posedge clk) begin
    product <= a * b;
    o <= product;
  end
endmodule
"""
    found = element_area.element_area(text, "systolith_scale", "ice40", dsp=True)
    assert found["dsp"] == 1
