"""Functions of instances that differ in what they read become one; a model computes the same."""

import re

import pytest
from systolith.sim.rtl import cplusplus, verilate
from systolith.sim.rtl.core import build_core
from systolith.sim.rtl.merge import merged

FUNCTION = """\
VL_INLINE_OPT void Vtop_lane___nba__{number}(Vtop_lane* vlSelf) {{
    VL_DEBUG_IF(VL_DBG_MSGF("+  Vtop_lane___nba__{number}\\n"); );
    Vtop__Syms* const __restrict vlSymsp VL_ATTR_UNUSED = vlSelf->vlSymsp;
    auto& vlSelfRef = std::ref(*vlSelf).get();
    // Body
    vlSelfRef.sum = (0x0000ffffU & ({left}
                                    + (vlSymsp->TOP.gain * {right} * {factor})));
}}

"""


def text(*functions):
    return '#include "Vtop.h"\n\n' + "".join(
        FUNCTION.format(number=number, left=left, right=right, factor=factor)
        for number, (left, right, factor) in enumerate(functions))


def word(n, name="words"):
    return f"vlSymsp->TOP.{name}[{n}U]"


def test_functions_that_name_other_words_become_calls_of_one():
    made = merged(text((word(0), word(1), 3), (word(2), word(3), 3), (word(10), word(11), 3)))
    assert made.count("0x0000ffffU") == 1 and made.startswith('#include "Vtop.h"\n')
    body = re.search(r"static void Vtop_lane___nba__0__common\((.*?)\) \{\n(.*?)\n\}", made,
                     re.DOTALL)
    assert body[1] == "T* vlSelf, T0& given0, T1& given1"
    assert "(given0 + (vlSymsp->TOP.gain * given1 * 3))" in body[2]
    for number, (left, right) in enumerate(((0, 1), (2, 3), (10, 11))):
        assert (f"void Vtop_lane___nba__{number}(Vtop_lane* vlSelf) {{\n"
                "    Vtop__Syms* const vlSymsp VL_ATTR_UNUSED = vlSelf->vlSymsp;\n"
                f"    Vtop_lane___nba__0__common(vlSelf, {word(left)}, {word(right)});\n"
                "}\n") in made


def test_what_is_named_twice_is_given_once_where_it_is_the_same_in_all():
    made = merged(text((word(0), word(0), 3), (word(2), word(2), 3)))
    assert "T* vlSelf, T0& given0)" in made and "given0 * 3" in made
    made = merged(text((word(0), word(0), 3), (word(2), word(1), 3)))
    assert "T* vlSelf, T0& given0, T1& given1)" in made


@pytest.mark.parametrize("functions", [
    [(word(0), word(1), 3), (word(2), word(3), 4)],             # another constant
    [(word(0), "1U", 3), (word(2), word(3), 3)],                # a constant for a signal
    [(word(0), word(1), 3)]])
def test_what_differs_in_more_stays(functions):
    assert merged(text(*functions)) == text(*functions)


DESIGN = """
module lane(input clk, input [15:0] a, input [7:0] b, output reg [15:0] sum);
  reg [15:0] held = 0;
  always @(posedge clk) begin
    held <= a * 3 + b;
    sum <= held ^ {b, a[7:0]};
  end
endmodule

module top;
  reg clk = 0;
  reg [127:0] words = 128'h0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978;
  wire [95:0] sums;
  genvar n;
  generate for (n = 0; n < 6; n = n + 1)
    lane one(clk, words[16*n +: 16], words[16*n + 11 +: 8] + 8'd1, sums[16*n +: 16]);
  endgenerate
  always #5 clk = !clk;
  always @(posedge clk) words <= {words[126:0], words[127] ^ words[5]};
  initial begin
    repeat (20) begin @(negedge clk); $display("%x", sums); end
    $finish;
  end
endmodule
"""


def test_a_model_of_merged_functions_computes_the_same(tmp_path, monkeypatch):
    sources = {"top.v": DESIGN, "lanes.vlt": '`verilator_config\nno_inline -module "lane"\n'}

    def printed(change, cache):
        seen = []

        def changed(text):
            seen.append(change(merged(text)))
            return seen[-1]
        monkeypatch.setattr(cplusplus, "merged", changed)
        program = verilate.build(sources, "top", cache=tmp_path / cache)
        return "".join(seen), [line for line in verilate.run(program).split()
                               if re.fullmatch("[0-9a-f]{24}", line)]
    monkeypatch.setattr(cplusplus, "merged", lambda text: text)
    plain = verilate.run(verilate.build(sources, "top", cache=tmp_path / "plain"))
    expected = [line for line in plain.split() if re.fullmatch("[0-9a-f]{24}", line)]
    code, found = printed(lambda text: text, "merged")
    assert "__common(" in code
    assert len(set(expected)) > 10 and found == expected

    def crossed(text):
        """One instance gets the signals of another."""
        calls = re.findall(r"^    \w+__common\(vlSelf, .*?\);\n", text, re.MULTILINE)
        same = [call for call in calls[1:] if call.split("(")[0] == calls[0].split("(")[0]
                ] if calls else []
        return text.replace(same[0], calls[0]) if same else text
    assert printed(crossed, "crossed")[1] != expected


def test_the_lanes_of_a_core_are_one_code(tmp_path, monkeypatch):
    from systolith.gen.chip.toml import load_chip
    from systolith.gen.chip.verilog import core_verilog
    seen = []
    monkeypatch.setattr(cplusplus, "merged", lambda text: seen.append(merged(text)) or seen[-1])
    arch = load_chip("sim-16x16-int8", ["array.rows=4", "array.columns=4", "post.lanes=4"])
    build_core(core_verilog(arch), arch, cache=tmp_path)
    common = re.findall(r"static void (Vtop_systolith_post_lane\w*__common)\(", "".join(seen))
    assert common and "".join(seen).count(f"    {common[0]}(vlSelf") >= 4
