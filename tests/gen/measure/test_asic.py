"""Cores in standard cells and macros, with a dozen cells and memories of OpenRAM and ASAP7."""

import json
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from amaranth.back import verilog
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.cli.main import main
from systolith.gen.compile.tokens import synchronize
from systolith.gen.kit.errors import UserError
from systolith.gen.measure import macros as macros_module
from systolith.gen.measure.asic_area import AsicArea, mapped
from systolith.gen.measure.asic_timing import read_paths, run_sta
from systolith.gen.measure.liberty import read_liberty
from systolith.gen.measure.librelane import librelane_files
from systolith.gen.measure.macros import (
    black_boxes,
    compositions,
    memories,
    models,
    read_macros,
    with_macros,
)
from systolith.gen.measure.yosys import run_yosys
from systolith.hw.core.burst_queue import BurstQueue
from systolith.sim.random.arch import random_arch
from systolith.sim.random.programs import random_program
from systolith.sim.rtl.core import Job, Run, simulate

HERE = Path(__file__).parent / "asic"
CELLS, SKY130, FAKERAM, DUAL = (HERE / name for name in (
    "cells.lib", "sky130.toml", "fakeram7.toml", "fakeram7_dp.toml"))
DESIGN = """
module stage(input clk, input [7:0] a, output reg [7:0] q);
  always @(posedge clk) q <= a * 8'd37 + q;
endmodule
module top(input clk, input [7:0] a, output [7:0] q);
  wire [7:0] w;
  stage one(.clk(clk), .a(a), .q(w));
  stage two(.clk(clk), .a(w), .q(q));
endmodule
"""
#: A core's memory, and nothing else of it.
MEMORY = """
module systolith_core(clk, we, waddr, wdata, raddr, rdata);
  input clk;
  input [1:0] we;
  input [8:0] waddr, raddr;
  input [39:0] wdata;
  output [39:0] rdata;
  (* no_rw_check = 32'd1 *)
  reg [39:0] activations [511:0];
  always @(posedge clk) begin
    if (we[0]) activations[waddr][7:0] <= wdata[7:0];
    if (we[1]) activations[waddr][39:8] <= wdata[39:8];
  end
  reg [39:0] _0_;
  always @(posedge clk) _0_ <= activations[raddr];
  assign rdata = _0_;
endmodule
"""


def test_a_liberty_file_is_read():
    found = read_liberty(CELLS)
    assert (found.name, found.nand2, found.flipflops) == ("tests", 2.0, {"DFF"})
    assert found.areas["XOR2"] == 5 and len(found.areas) == 12


def test_a_file_without_cells_is_refused(tmp_path):
    (tmp_path / "x.lib").write_text("library (x) { }")
    with pytest.raises(UserError, match="is no liberty file: it has no library with cells"):
        read_liberty(tmp_path / "x.lib")


@pytest.fixture(scope="module")
def netlist(tmp_path_factory):
    """(mapped Verilog, cells by module)."""
    path = tmp_path_factory.mktemp("netlist") / "top.v"
    modules, _ = mapped(DESIGN, [], read_liberty(CELLS), top="top", netlist=path,
                        after=["autoname"])
    return path, modules


def test_modules_are_mapped_to_cells_of_the_library(netlist):
    modules = netlist[1]
    assert modules["top"] == {"stage": 2} and modules["stage"]["DFF"] == 8
    assert set(modules["stage"]) <= set(read_liberty(CELLS).areas)


def test_figures_are_sums_over_cells():
    (macro,) = read_macros(SKY130)
    area = AsicArea({}, None, 0, [macro], read_liberty(CELLS))
    assert area.figures({"NAND2": 3, "DFF": 2, macro.name: 2}) == {
        "gates": 13, "ff": 2, "um2": 26.0, "macro_bits": 16384, "macro_um2": 381425.1}
    assert AsicArea({}, None, 0, []).figures({"$_NAND_": 3, "$_DFF_P_": 2}) == {
        "gates": 11, "ff": 2, "um2": None, "macro_bits": 0, "macro_um2": 0}


@pytest.mark.skipif(not shutil.which("sta"), reason="OpenSTA is not installed")
def test_paths_are_told_in_the_designs_names(netlist):
    paths = read_paths(run_sta(netlist[0], "top", [CELLS], paths=3))
    assert len(paths) == 3 and paths[0].ns >= paths[-1].ns > 0.5
    assert (paths[0].names[0], paths[0].names[-1]) == ("one.q", "two.q")


@pytest.mark.parametrize("library", ["", "sky130_fd_sc_hd__"])
def test_paths_of_a_report(library):
    report = """Startpoint: one/q_DFF_Q (rising edge-triggered flip-flop clocked by clk)
   0.0000    0.0000 ^ one/q_DFF_Q/CK (DFF)
   0.2500    0.2500 v one/q_DFF_Q/Q (DFF)
   0.1000    0.3500 ^ two/q_DFF_Q_D_NAND2_Y/Y (NAND2)
   0.0000    0.3500 ^ two/q_DFF_Q/D (DFF)
             0.3500   data arrival time
  -0.1500    0.8500   library setup time
"""
    for cell in ("DFF", "NAND2"):
        report = report.replace(cell, f"{library}{cell.lower()}_1" if library else cell)
    (path,) = read_paths(report)
    assert (path.ns, path.levels, path.names) == (0.5, 1, ("one.q", "two.q"))


def test_a_memory_is_tiled_in_words_and_bits():
    text, used = with_macros(MEMORY, random_arch(1), read_macros(SKY130))
    assert memories(MEMORY) == {("systolith_core", "activations"): (512, 40)}
    # two side by side, twice; words of the memory share none of a macro's
    assert text.count("sky130_sram_1kbyte_1rw1r_32x256_8 ") == 4
    assert [macro.name for macro in used] == ["sky130_sram_1kbyte_1rw1r_32x256_8"]


def test_each_memory_is_of_the_macros_that_take_least_area():
    large, = read_macros(SKY130)
    small = macros_module.Macro("small", 64, 40, 8, large.pins, area=20_000)
    for words, name in ((60, "small"), (512, "small"), (512, large.name)):
        table = [large, small if name == "small" else replace(small, area=100_000)]
        made = compositions(MEMORY.replace("511", str(words - 1)), random_arch(1), table)
        assert made["systolith_core", "activations"].macro.name == name
    # areas that are not all known are not compared
    made = compositions(MEMORY, random_arch(1), [large, replace(small, area=None)])
    assert made["systolith_core", "activations"].macro.name == "small"


def test_the_macros_behave_as_the_memory_does(tmp_path):
    """Proven for six cycles of any inputs, but for a read of what is being written."""
    small = MEMORY.replace("511", "7").replace("[8:0]", "[2:0]").replace("39", "15")
    macro = read_macros(SKY130)[0]
    tiny = macros_module.Macro(macro.name, 4, 16, 8, macro.pins)
    text, used = with_macros(small, random_arch(1), [tiny])
    for name, content in {"gold.v": small, "gate.v": text, "models.v": models(used)}.items():
        (tmp_path / name).write_text(content)
    top = """module top(input clk, input [1:0] we, input [2:0] waddr, raddr, input [15:0] wdata,
      output reg ok);
      wire [15:0] one, two; reg [7:0] known = 0; reg valid = 0;
      gold a(clk, we, waddr, wdata, raddr, one); gate b(clk, we, waddr, wdata, raddr, two);
      always @(posedge clk) begin
        if (&we) known[waddr] <= 1;
        valid <= known[raddr] & ~(|we & waddr == raddr);
      end
      always @* ok = ~valid | one == two;
    endmodule"""
    (tmp_path / "top.v").write_text(top)
    done = tmp_path / "done.v"
    run_yosys([f'read_verilog "{tmp_path}/gold.v"', "rename systolith_core gold",
               f'read_verilog "{tmp_path}/models.v"', f'read_verilog "{tmp_path}/gate.v"',
               "rename systolith_core gate", f'read_verilog -sv "{tmp_path}/top.v"',
               "hierarchy -check -top top", "proc", "flatten", "opt", "memory", "opt",
               "sat -seq 6 -set-at 1 valid 0 -set-at 1 known 0 -prove ok 1 -verify",
               f'write_verilog "{done}"'], done)


#: A memory of some shape, written in parts, with and without enable; how it is compared.
SHAPE = """module systolith_core(input clk, input re, input [{parts}-1:0] we,
    input [{abits}-1:0] waddr, raddr, input [{bits}-1:0] wdata, output [{bits}-1:0] rdata);
  (* no_rw_check = 1 *)
  reg [{top}:0] activations [{last}:0];
  reg [{bits}-1:0] word;
  assign rdata = word;
  always @(posedge clk) begin
{writes}
    {enable}word <= activations[raddr];
  end
endmodule
"""
SHAPE_BENCH = """module bench;
  reg clk = 0, re = 1; reg [{parts}-1:0] we = 0; reg [{abits}-1:0] w = 0, r = 0;
  reg [{bits}-1:0] data; wire [{bits}-1:0] one, other;
  integer n, k, different = 0;
  systolith_core plain(clk, re, we, w, r, data, one);
  composed of_macros(.clk(clk), .re(re), .we(we), .waddr(w), .raddr(r), .wdata(data),
                     .rdata(other));
  always #5 clk = ~clk;
  initial begin
    for (n = 0; n < {words} + 2000; n = n + 1) begin
      @(negedge clk);
      for (k = 0; k < {bits}; k = k + 1) data[k] = $random;
      w = n < {words} ? n : $urandom % {words};
      we = n < {words} ? ~0 : $random;
      r = n < 2 ? {words} - 1 : $urandom % (n < {words} ? n : {words});
      if (r == w) r = r == 0 ? {words} - 1 : r - 1;  // reading what is written is undefined
      re = n < 4 ? 1 : $random;
      @(posedge clk); #1;
      if (n > {words} + 2 && one !== other) different = different + 1;
    end
    $display("%0d different", different);
    $finish;
  end
endmodule
"""


@pytest.mark.skipif(not shutil.which("iverilog"), reason="Icarus Verilog is not installed")
@pytest.mark.parametrize("seed, table", [(1, SKY130), (2, DUAL), (3, SKY130)])
def test_memories_of_any_shape_are_composed_of_macros(seed, table, tmp_path):
    """Deeper than a macro and shallower, wider and narrower, parts that are no bytes."""
    rng = random.Random(seed)
    words, parts = rng.choice((100, 300, 513, 700)), rng.choice((1, 2, 3))
    part = rng.randrange(3, 30)
    enabled = rng.random() < 0.6
    shape = {"words": words, "parts": parts, "bits": parts * part,
             "top": parts * part - 1, "last": words - 1,
             "abits": (words - 1).bit_length(), "enable": "if (re) " if enabled else "",
             "writes": "\n".join(
                 f"    if (we[{n}]) activations[waddr]{some} <= wdata{some};"
                 for n in range(parts) for some in [f"[{n * part + part - 1}:{n * part}]"])}
    memory = SHAPE.format(**shape)
    text, used = with_macros(memory, random_arch(1), read_macros(table))
    made = compositions(memory, random_arch(1), read_macros(table))["systolith_core", "activations"]
    assert made.part == part and text.count(f"  {used[0].name} ") == made.count
    (tmp_path / "all.v").write_text(
        memory + text.replace("module systolith_core", "module composed") + models(used)
        + SHAPE_BENCH.format(**shape))
    subprocess.run(["iverilog", "-g2012", "-o", "bench", "all.v"], cwd=tmp_path, check=True)
    said = subprocess.run(["vvp", "-n", "bench"], cwd=tmp_path, capture_output=True, text=True,
                          check=True).stdout.strip()
    assert said == "0 different"


@pytest.mark.parametrize("old, new, message", [
    ("words = 256", "words = 200", "words must be a power of two, not 200"),
    ("write_bits = 8", "write_bits = 5", "write_bits must divide bits = 32"),
    ("write_bits = 8", "", "write_bits and a pin that is write_mask go together"),
    ('dout1 = "read_data"', "", "no pin is read_data"),
    ('din0 = "write_data"', 'din0 = "data"', "pin din0 must be one of"),
    ("area = 190712.55", "area = 0", "area must be a number of um2 above 0"),
    ("area = 190712.55", "size = 2", "unknown key size"),
    ("[[macro]]", "[[macro", "not valid TOML"),
])
def test_tables_that_are_refused(old, new, message, tmp_path):
    assert old in SKY130.read_text()
    (tmp_path / "t.toml").write_text(SKY130.read_text().replace(old, new))
    with pytest.raises(UserError, match=message) as error:
        read_macros(tmp_path / "t.toml")
    assert "\n" not in str(error.value)


def test_a_macro_with_one_port_is_refused():
    with pytest.raises(UserError, match="macro fakeram7_256x32: one address for reading and"):
        read_macros(FAKERAM)


def test_librelane_is_told_of_sources_clock_and_macros():
    arch, used = random_arch(1), read_macros(SKY130)
    files = librelane_files(arch, "module systolith_core; endmodule\n", used, mhz=125)
    config = json.loads(files["config.json"])
    assert config["CLOCK_PERIOD"] == 8 and config["DESIGN_NAME"] == "systolith"
    assert set(config["MACROS"]) == {used[0].name}
    named = {name.removeprefix("dir::") for name in config["VERILOG_FILES"]}
    assert named | {config["PNR_SDC_FILE"].removeprefix("dir::")} <= set(files)
    assert files["macros.v"] == black_boxes(used) and "-period $period" in files["systolith.sdc"]


@pytest.mark.parametrize("arguments, message", [
    (["timing", "--chip", "tiny-2x4-int4", "--target", "asic"], "--target asic needs --liberty"),
    (["timing", "--array", "int4", "--target", "asic", "--liberty", "x"], "goes with --chip only"),
    (["timing", "--chip", "tiny-2x4-int4", "--liberty", "x"], "go with --target asic only"),
    (["asic", "-o", "x"], "asic needs either DIR"),
    (["asic", "absent", "-o", "x"], "absent: is no build"),
    (["asic", "--chip", "tiny-2x4-int4", "--macros", "absent.toml", "-o", "x"], "No such file"),
])
def test_what_the_commands_refuse(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_core_of_macros_runs_as_the_core_does():
    """Every result and every byte, in the same cycles."""
    arch = random_arch(1)
    program = random_program(arch, 11, synchronize)
    text, used = with_macros(core_verilog(arch), arch, read_macros(SKY130))
    job = Job(program, [Run(reads=[(0, program.window_bytes)])])
    (one,), (other,) = (simulate(verilog, [job]).runs[0] for verilog in (
        core_verilog(arch), text + models(used)))
    assert one.trace and one.trace == other.trace
    assert one.cycles == other.cycles
    for mine, theirs in zip(one.written, other.written, strict=True):
        assert mine.size and np.array_equal(mine, theirs)


FANOUT = """module systolith_core(input clk, input d, input [63:0] x, output reg [63:0] q);
reg s; always @(posedge clk) begin s <= d; q <= x ^ {64{s}}; end
endmodule
"""


def test_mapping_for_speed_buffers_what_drives_many_cells():
    library = read_liberty(CELLS)
    slow, fast = (mapped(FANOUT, (), library, fast=fast)[0]["systolith_core"]
                  for fast in (False, True))
    assert "BUF" not in slow and fast["BUF"] > 1


def test_timing_refuses_a_library_without_buffer(tmp_path):
    text = CELLS.read_text().replace("cell (BUF)", "cell (REPEATER)")
    (tmp_path / "cells.lib").write_text(text)
    with pytest.raises(UserError, match="has no buffer; timing needs a library with one"):
        mapped(FANOUT, (), read_liberty(tmp_path / "cells.lib"), fast=True)


@pytest.mark.parametrize("library", [None, CELLS], ids=["gates", "cells"])
def test_a_register_after_a_memory_begins_as_nothing(library):
    """Yosys makes such a register a part of the memory, and with it the value it begins with."""
    text = verilog.convert(BurstQueue(width=3, depth=16, later=1), name="systolith_core")
    cells = mapped(text, (), library and read_liberty(library))[0]["systolith_core"]
    assert sum(number for cell, number in cells.items() if "DFF" in cell) > 3 * 16


def test_what_fpgas_are_told_of_memories_is_not_told_here(monkeypatch):
    """A core's own memories are macros, whatever they are in FPGAs; queues may be flip-flops."""
    asked = []

    def noted(commands, result, *_):
        asked.extend(commands)
        result.write_text("")
    monkeypatch.setattr(macros_module, "run_yosys", noted)
    queue = MEMORY.replace("systolith_core", "systolith_fifo").replace("activations", "entries")
    with_macros(MEMORY + queue, random_arch(1), read_macros(SKY130))
    told = [line for line in asked if "ram_style" in line]
    assert told == ['setattr -set ram_style "block" systolith_core/activations',
                    "setattr -unset ram_style systolith_fifo/entries"]
