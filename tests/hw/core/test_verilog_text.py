"""Verilog out of RTLIL: a process for each register, repeated bits, and the same logic."""

import subprocess
import sys

import pytest
from amaranth.hdl import Fragment, Value
from systolith.hw.core import verilog_text
from systolith.hw.core.blocks import rtlil_of, without_collection
from systolith.hw.core.tokens import TokenCounters
from systolith.hw.core.verilog_text import concise, from_rtlil

MODULE = """module counter(go, twice, count, seen, clk);
  reg at_start  = 0;
  wire [3:0] \\$1 ;
  input clk;
  wire clk;
  output [3:0] count;
  reg [3:0] count = 4'h0;
  (* some_attribute = "of the next" *)
  reg [3:0] count_next;
  output seen;
  reg seen = 1'h0;
  reg seen_next;
  input go;
  wire go;
  reg [3:0] \\a.b  = 4'h0;
  reg [3:0] \\a.b_next ;
  always @(posedge clk)
    count <= count_next;
  always @(posedge clk)
    seen <= seen_next;
  always @(posedge clk)
    \\a.b  <= \\a.b_next ;
  always @* begin
    if (at_start ) begin end
    count_next = count;
    if (go) begin
      count_next = \\$1 ;
      casez (twice)
        1'h?:
          count_next[3:2] = 2'h3;
      endcase
    end
  end
  always @* begin
    if (at_start ) begin end
    (* full_case = 32'd1 *)
    if (twice) begin
      seen_next = 1'h0;
    end else begin
      seen_next = go;
    end
  end
  always @* begin
    if (at_start ) begin end
    \\a.b_next  = \\a.b ;
    if (go) begin
      \\a.b_next [1:0] = count[1:0];
    end
  end
endmodule
"""


def test_a_register_and_what_it_takes_are_one_process():
    text = concise(MODULE)
    assert """  always @(posedge clk) begin
    if (go) begin
      count <= \\$1 ;
      casez (twice)
        1'h?:
          count[3:2] <= 2'h3;
      endcase
    end
  end
""" in text
    assert "    if (twice) begin\n      seen <= 1'h0;\n    end else begin\n" in text
    assert "      \\a.b [1:0] <= count[1:0];\n" in text
    assert "_next" not in text and "always @*" not in text and "some_attribute" not in text


@pytest.mark.parametrize("reader", [
    "  assign seen_next_too = count_next;\n", "  other other (.count(count_next));\n"])
def test_what_something_else_reads_stays(reader):
    text = concise(MODULE.replace("endmodule", reader + "endmodule"))
    assert "    count <= count_next;\n" in text and "    count_next = count;\n" in text
    assert "some_attribute" in text and "seen_next =" not in text


def test_each_module_by_itself():
    text = concise(MODULE + MODULE.replace("counter", "other").replace(
        "endmodule", "  assign x = count_next;\nendmodule"))
    first, second, _ = text.split("endmodule\n")
    assert "count_next" not in first and "count_next" in second


def test_repeated_bits():
    def line(text):
        return concise(f"  assign x = {text};\n").strip().removeprefix("assign x = ")
    assert line("{ a, a, a }") == "{3{a}};"
    assert line("{ a, a }") == "{ a, a };"
    assert line("{ \\$1 [5], \\$1 [5], \\$1 [5], b[3:0], c, c, 2'h0 }") == (
        "{ {3{\\$1 [5]}}, b[3:0], c, c, 2'h0 };")
    assert line("{ b, a, a, a, a } + { c, c, c }") == "{ b, {4{a}} } + {3{c}};"


WIDE = """module sums(a, b, x, y, z);
  wire [8:0] \\$1 ;
  wire [8:0] \\$2 ;
  wire [8:0] \\$3 ;
  wire [8:0] \\$4 ;
  assign \\$1  = $signed(a) + $signed(b);
  assign \\$2  = a >> b;
  assign \\$3  = a ? a : b;
  assign \\$4  = a - b;
  assign x = { \\$1 [7:0], \\$1 [2:1], \\$3 [0] };
  assign y = \\$2 [3:0];
  assign z = \\$4 ;
  assign u = \\$4 [3:0];
endmodule
"""


def test_expressions_are_as_wide_as_they_are_read():
    """A sum and a choice; a shift to the right needs its upper bits, and the difference is read as
    a whole."""
    text = concise(WIDE)
    assert text == WIDE.replace("wire [8:0] \\$1", "wire [7:0] \\$1").replace(
        "wire [8:0] \\$3", "wire \\$3").replace("\\$1 [7:0]", "\\$1 ").replace(
        "\\$3 [0]", "\\$3 ")


def test_what_yosys_refuses_is_said():
    with pytest.raises(RuntimeError, match="not written the Verilog"):
        from_rtlil(["nonsense\n"])


#: Proves two modules equal, register by register: each output and each register's next value.
PROOF = """
from pyosys import libyosys as ys
design = ys.Design()
for name in "ab":
    for command in (f"read_verilog {name}.v", "hierarchy -top unit", "proc", "flatten", "memory",
                    "opt_clean", f"design -stash {name}"):
        ys.run_pass(command, design)
for command in ("design -copy-from a -as gold unit", "design -copy-from b -as gate unit",
                "equiv_make gold gate equal", "cd equal", "equiv_struct", "equiv_simple",
                "equiv_induct", "equiv_status -assert"):
    ys.run_pass(command, design)
"""


def test_the_logic_is_that_of_yosys_own_text(tmp_path, monkeypatch):
    """Of the token counters; and a changed number is noticed."""
    with without_collection():
        unit = TokenCounters(3)
        ports = {"_".join(map(str, path)): (Value.cast(value), None)
                 for path, _, value in unit.signature.flatten(unit)}
        text = rtlil_of(Fragment.get(unit, None), "unit", ports)
    mine, = from_rtlil([text])
    monkeypatch.setattr(verilog_text, "concise", lambda text: text)
    yosys, = from_rtlil([text])
    assert len(mine) < 0.9 * len(yosys) and mine.count("always @*") < yosys.count("always @*")

    def equal(other):
        (tmp_path / "a.v").write_text(yosys)
        (tmp_path / "b.v").write_text(other)
        done = subprocess.run([sys.executable, "-c", PROOF], cwd=tmp_path, capture_output=True,
                              text=True)
        assert not done.returncode or "Found a total of" in done.stdout + done.stderr
        return not done.returncode
    assert equal(mine)
    assert "<= 1'h0;\n" in mine
    assert not equal(mine.replace("<= 1'h0;\n", "<= 1'h1;\n", 1))
