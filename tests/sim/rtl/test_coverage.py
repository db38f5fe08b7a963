"""What Verilator counted, by lines and bits: from its own file, and from a design that it ran."""

import pytest
from systolith.sim.rtl import coverage, verilate
from systolith.sim.rtl.coverage import Coverage, Line, read

DESIGN = """\
module gate(clk);
  input clk;
  reg [1:0] count = 0;
  reg seen = 0;
  reg never;
  wire at_start = 0;
  always @* begin
    if (at_start ) begin end
    never = 1'h0;
    if (\\$4 ) begin
      never = 1'h1;
    end
  end
  wire \\$4  = seen && !clk && count == 0;
  always @(posedge clk) begin
    if (count != 2) count <= count + 1;
    if (count == 1) begin
      seen <= 1'h1;
    end
  end
endmodule

module top;
  reg clk = 0;
  always #5 clk = ~clk;
  gate gate(.clk(clk));
  initial #60 $finish;
endmodule
"""


def point(page, line, what, count, lines="", file="core.v"):
    facts = {"f": file, "l": str(line), "page": page, "o": what} | ({"S": lines} if lines else {})
    return "C '" + "".join(f"\x01{name}\x02{value}" for name, value in facts.items()) + f"' {count}"


def test_verilators_own_counts():
    executable = verilate.build({"core.v": DESIGN}, "top", coverage=True)
    folder = executable.parent / f"{executable.name}-run"
    folder.mkdir(exist_ok=True)
    verilate.run(executable, folder=folder)
    found = read((folder / "coverage.dat").read_text(), DESIGN)
    mine = {line.text: line.count > 0 for line in found.lines.values() if line.module == "gate"}
    assert mine["if ($) begin: never = 1'h1;"] is False
    assert mine["if (count == 1) begin: seen <= 1'h1;"] is True
    assert not [text for text in mine if "at_start" in text or text.startswith("reg")]
    ways = {name: way for (module, name), way in found.bits.items() if module == "gate"}
    assert ways["count[1]"][0] and not ways["count[1]"][1]              # up, and never down
    assert not any(ways["never"]) and ways["seen"][0]


def test_a_line_is_alike_on_chips_of_other_widths():
    alike = [coverage._alike(f"end else begin: low <= {bits}'h0; \\$7 [{bits}:0] $8[{bits}]")
             for bits in (1, 12)]
    assert alike[0] == alike[1] == "end else begin: low <= 0; $[] $[]"
    assert coverage._alike("low <= 4'h1;") != coverage._alike("low <= 5'h1;")


def test_points_of_a_file():
    verilog = "module \\a.b (x);\n  always @* begin\n    if (at_start ) begin end\n" \
              "    if (\\$12 ) begin\n      x = 1;\n    end else begin\n      x = 2;\n" \
              "    end\n  end\n  reg y = 0;\nendmodule\n"
    data = "\n".join([
        "# SystemC::Coverage-3", point("v_line/a.b", 2, "block", 9, "2-4"),
        point("v_line/a.b", 10, "block", 1, "10"), point("v_branch/a.b", 4, "if", 0, "5"),
        point("v_branch/a.b", 4, "else", 3, "6,7"), point("v_branch/a.b", 4, "cond_then", 0, "2"),
        point("v_toggle/a.b", 1, "x[0]:0->1", 2), point("v_toggle/a.b", 1, "x[0]:1->0", 0),
        point("v_line/other", 1, "block", 1, "1", "memory.sv")])
    found = read(data, verilog)
    assert found.lines == {
        2: Line("a.b", "always @* begin", False, 9), 4: Line("a.b", "if ($) begin", False, 9),
        5: Line("a.b", "if ($) begin: x = 1;", True, 0),
        6: Line("a.b", "always @* begin: end else begin", True, 3),
        7: Line("a.b", "end else begin: x = 2;", True, 3)}
    assert found.bits == {("a.b", "x[0]"): (2, 0)}


@pytest.mark.parametrize("counts", [(0, 0), (0, 5)])
def test_runs_on_the_same_verilog_are_added(counts):
    total = Coverage()
    for count in counts:
        total.add(Coverage({3: Line("m", "x", True, count)}, {("m", "x"): (count, 1)}))
    assert total.lines[3].count == sum(counts) and total.bits["m", "x"] == (sum(counts), 2)
