"""Netlists after synthesis, with their cells' models: they compute what was written, and a fault in
one is seen."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from amaranth.back.verilog import convert
from amaranth.hdl import Module, signed
from amaranth.lib.wiring import Component, In, Out
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.compile.compile import compile_graph
from systolith.gen.kit.errors import UserError
from systolith.gen.measure.area import built_for
from systolith.gen.measure.asic_area import mapped
from systolith.gen.measure.gate_netlist import (
    NETLISTS,
    core_netlist,
    family_netlist,
    with_models,
)
from systolith.gen.measure.liberty import read_liberty
from systolith.hw.core.products import product
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.host import pack_inputs, unpack_outputs
from systolith.sim.rtl.core import Job, Run, simulate

from ...networks import random_network

CELLS = Path(__file__).parent / "asic" / "cells.lib"
DESIGN = """module systolith_core(input clk, input rst, input we, input [3:0] waddr, raddr,
    input signed [11:0] a, b, output reg [23:0] q, output reg [11:0] m);
  reg [11:0] memory [15:0];
  always @(posedge clk) begin
    if (we) memory[waddr] <= a;
    m <= memory[raddr];
    q <= rst ? 0 : a[3:0] + b[3:0] > 9 ? a * b : q ^ 24'd5;
  end
endmodule
"""
BENCH = """module bench;
  reg clk = 0, rst = 1, we = 1; reg [3:0] w = 0, r = 8; reg signed [11:0] a = 0, b = 0;
  wire [23:0] q1, q2; wire [11:0] m1, m2; integer n, different = 0;
  gold gold(clk, rst, we, w, r, a, b, q1, m1);
  systolith_core netlist(.clk(clk), .rst(rst), .we(we), .waddr(w), .raddr(r), .a(a), .b(b),
                         .q(q2), .m(m2));
  always #5 clk = ~clk;
  initial begin
    for (n = 0; n < 600; n = n + 1) begin
      @(negedge clk);
      rst = n < 3; a = $random; b = $random; we = n < 16 || $random;
      w = n < 16 ? n : $random; r = w + 1 + ($random & 7);
      @(posedge clk); #1;
      if (n > 24 && (q1 !== q2 || m1 !== m2)) different = different + 1;
    end
    $display("%0d different", different);
    $finish;
  end
endmodule
"""
BESIDE = BENCH + DESIGN.replace("systolith_core", "gold")
#: A LUT of each family in a netlist, by its function.
LUTS = {"ecp5": r"LUT4 #\(\s*\.INIT\((16'h\w+)\)",
        "ice40": r"SB_LUT4 #\(\s*\.LUT_INIT\((16'h\w+)\)",
        "xc7": r"LUT\d #\(\s*\.INIT\((\d+'h\w+)\)"}
CHIP = Arch(name="smallest", rows=1, columns=1, activation="int4", weight="int4", bus_bits=32,
            activation_depth=256, weight_depth=64, accumulator_depth=64, parameter_depth=16,
            queue_depth=1, counters=False)


def flipped(netlist, family, place=0):
    """The netlist with the first function of a LUT from `place` on inverted."""
    found = re.compile(LUTS[family]).search(netlist, place)
    width, digits = found[1].split("'h")
    value = int(digits, 16) ^ ((1 << int(width)) - 1)
    return f"{netlist[:found.start(1)]}{width}'h{value:x}{netlist[found.end(1):]}"


def played(folder, text, bench=BESIDE):
    """What the bench prints of a netlist beside the design."""
    (folder / "bench.v").write_text(bench)
    (folder / "netlist.v").write_text(text)
    subprocess.run(["iverilog", "-g2012", "-o", "bench", "bench.v", "netlist.v"], cwd=folder,
                   check=True)
    return subprocess.run(["vvp", "-n", "bench"], cwd=folder, capture_output=True, text=True,
                          check=True).stdout.strip()


needs_icarus = pytest.mark.skipif(not shutil.which("iverilog"),
                                  reason="Icarus Verilog is not installed")
slow = pytest.mark.skipif("SYSTOLITH_NETLISTS" not in os.environ,
                          reason="takes minutes; SYSTOLITH_NETLISTS=1 runs it, as `make "
                                 "netlist-test` does")


@needs_icarus
@pytest.mark.parametrize("family", ["ecp5", pytest.param("ice40", marks=slow),
                                    pytest.param("xc7", marks=slow)])
def test_cells_of_a_family_compute_what_was_written_and_a_wrong_one_does_not(family, tmp_path):
    netlist = family_netlist(DESIGN, family)
    assert "a * b" not in netlist
    assert played(tmp_path, with_models(netlist, family)) == "0 different"
    assert played(tmp_path, with_models(flipped(netlist, family), family)) != "0 different"


class _Product(Component):
    """A sum times a multiplier and an addend, as post-processing computes it in DSP blocks."""
    sum: In(signed(21))
    multiplier: In(signed(27))
    addend: In(signed(27))
    product: Out(signed(48))

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.product.eq(product(m, self.sum, self.multiplier, self.addend, "scaled",
                                            luts=False))
        return m


@pytest.mark.slow
@needs_icarus
def test_products_in_parts_are_whole_after_synthesis(tmp_path):
    """Yosys' cascades of DSP48E1 lost the product of the upper parts (see `timing.PART_BITS`)."""
    text = convert(_Product(), name="systolith_core", emit_src=False)
    netlist = family_netlist(text, "xc7")
    assert "*" not in re.sub(r"\(\*.*?\*\)|/\*.*?\*/", "", netlist)
    bench = """module bench;
  reg clk = 0; reg [20:0] a; reg [26:0] b, c; wire [47:0] p1, p2; integer n, different = 0;
  gold gold(.clk(clk), .rst(1'b0), .sum(a), .multiplier(b), .addend(c), .product(p1));
  systolith_core netlist(.clk(clk), .rst(1'b0), .sum(a), .multiplier(b), .addend(c), .product(p2));
  always #5 clk = ~clk;
  initial begin
    for (n = 0; n < 600; n = n + 1) begin
      @(negedge clk); a = $random; b = $random; c = $random;
      @(posedge clk); #1; if (n > 9 && p1 !== p2) different = different + 1;
    end
    $display("%0d different", different);
    $finish;
  end
endmodule
"""
    gold = text.replace("module systolith_core", "module gold").replace(
        "\\systolith_core", "\\gold")
    flat = with_models(netlist, "xc7")
    assert played(tmp_path, flat, bench + gold) == "0 different"
    wrong = bench.replace(".addend(c)", ".addend(c ^ 27'd1)", 1)
    assert played(tmp_path, flat, wrong + gold) == "590 different"


@needs_icarus
@pytest.mark.parametrize("liberty", [None, CELLS])
def test_gates_compute_what_was_written(liberty, tmp_path):
    path = tmp_path / "gates.v"
    design = re.sub(r"  reg \[11:0\] memory.*|    if \(we\).*|    m <= .*", "", DESIGN)
    mapped(design.replace("output reg [11:0] m", "output [11:0] m"), [],
           None if liberty is None else read_liberty(liberty), netlist=path)
    text = with_models(path.read_text(), "gates", liberty=liberty)
    bench = BENCH.replace(" || m1 !== m2", "")
    (tmp_path / "bench.v").write_text(bench + DESIGN.replace("systolith_core", "gold"))
    (tmp_path / "netlist.v").write_text(text)
    subprocess.run(["iverilog", "-g2012", "-o", "bench", "bench.v", "netlist.v"], cwd=tmp_path,
                   check=True)
    assert subprocess.run(["vvp", "-n", "bench"], cwd=tmp_path, capture_output=True, text=True,
                          check=True).stdout.strip() == "0 different"


def test_a_cell_without_model_is_refused():
    text = "module systolith_core(input a, output q); FOO x(.A(a), .Q(q)); endmodule"
    with pytest.raises(UserError, match="FOO"):
        with_models(text, "ecp5")


@pytest.mark.parametrize("options, message", [
    ({"kind": "asic"}, "a netlist is one of gates, ecp5, ice40, xc7, not 'asic'"),
    ({"kind": "ecp5", "liberty": CELLS}, "go with a netlist of gates only"),
])
def test_what_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        core_netlist(CHIP, **options)


def layers():
    """(job, whether a run's results are the golden model's) of a network of two layers."""
    graph, _ = random_network(1, CHIP, layers=2, size=4)
    program = compile_graph(graph, CHIP)
    codes = np.random.default_rng(0).integers(0, 16, (1, *graph.inputs[0].shape))
    host, golden = program.host, graph.run(codes, CHIP)

    def good(run):
        stored = unpack_outputs(program, run.outputs[0])
        return run.status.error is None and all(np.array_equal(values, golden[name][0])
                                            for name, values in stored.items())
    return Job(program, [Run(
        writes=[(host.input_offset, pack_inputs(program, codes[0]))],
        reads=[(host.output_offset, host.output_bytes)])], limit=100_000), good


@slow
@pytest.mark.parametrize("kind", NETLISTS)
def test_a_core_after_synthesis_replays_a_network(kind):
    """Every result of every layer, in as many cycles as the core that was written."""
    job, good = layers()
    (written,) = simulate(core_verilog(CHIP), [job]).runs[0]
    (run,) = simulate(core_netlist(CHIP, kind), [job]).runs[0]
    assert good(run) and run.trace == written.trace and run.cycles == written.cycles


@slow
def test_a_wrong_cell_in_an_element_is_seen():
    job, good = layers()
    netlist = family_netlist(core_verilog(built_for(CHIP, "ecp5")), "ecp5")
    wrong = flipped(netlist, "ecp5", netlist.index("\nmodule systolith_pe("))
    (run,) = simulate(with_models(wrong, "ecp5"), [job]).runs[0]
    assert not good(run)
