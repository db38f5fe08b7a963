"""The Verilog of whole small cores is proven to be the logic of Yosys' own text, module by module:
each output, each register's next value and each port of a memory."""

import json
import re
import subprocess
import sys

import pytest
from systolith.gen.chip import verilog
from systolith.hw.core import verilog_text
from systolith.hw.spec.arch import Arch

#: Compares the modules of a.v and b.v that are named, and writes which are not equal. Of the
#: modules in them the ports are known alone (ports.v): what comes out of these may be anything.
PROOF = """
import json
import sys
from pyosys import libyosys as ys
design, unequal = ys.Design(), []
for name in "ab":
    for command in (f"read_verilog {name}.v", "proc -norom", "memory -nomap", "opt_clean",
                    f"design -stash {name}"):
        ys.run_pass(command, design)
for module in sys.argv[1:]:
    for command in ("design -reset", "read_verilog -lib ports.v",
                    f"design -copy-from a -as gold {module}",
                    f"design -copy-from b -as gate {module}", "equiv_make gold gate equal",
                    "cd equal", "equiv_struct", "equiv_simple", "tee -q -o status equiv_status",
                    "cd"):
        ys.run_pass(command, design)
    if "Equivalence successfully proven" not in open("status").read():
        unequal.append(module)
open("unequal.json", "w").write(json.dumps(unequal))
"""
SMALL = dict(activation="int4", weight="int4", structure="gates", bus_bits=32, accumulator_depth=8,
             activation_depth=16, weight_depth=16, parameter_depth=8, post_multiplier="luts")
#: With most parts that a core can have, but without products of wide signals, which solvers cannot
#: compare.
CHIPS = {
    "many parts": Arch(rows=3, columns=3, depthwise=True, operand_depth=8, table_depth=256,
                       leaky=True, post_lanes=1, multiplier_bits=15, load_windows=True,
                       two_writes=True, two_fillings=True,
                       **SMALL | dict(activation="int8")),
    "taps in rows": Arch(**SMALL | dict(
        rows=16, columns=2, lanes=2, activation="bipolar1", weight="bipolar1", tap_rows=True,
        bit_planes=True, weight_depth=64)),
}
#: Changes that the proof must refuse.
FAULTS = {
    "systolith_core.csr.counters": (" & {4{", " | {4{"),
    "systolith_core.load.bursts": ("taken = o__valid & o__ready", "taken = o__valid | o__ready"),
    "systolith_core.post": ("running <= 1'h0;", "running <= 1'h1;"),
    "systolith_core.post.writer.queue": ("if (fetch) begin", "if (1'h1) begin"),
    "systolith_core.sequencer.queues": ("    if (write__en)\n", "    if (1'h1)\n"),
    "systolith_core.tokens": ("$signed(count_load_array) + ", "$signed(count_load_array) - "),
}


def modules(text):
    """{name: its text} of a file of Verilog."""
    return {found[1]: found[0] for found in re.finditer(
        r"^module \\?([^\s(]+).*?^endmodule\n", text, re.MULTILINE | re.DOTALL)}


def unequal(yosys, mine, names, folder):
    """The modules whose logic is not the same in both texts."""
    (folder / "a.v").write_text(yosys)
    (folder / "b.v").write_text(mine)
    (folder / "ports.v").write_text("".join(
        "\n".join([text[:text.index(";") + 1], *re.findall(
            r"^  (?:input|output)\b.*;$", text, re.MULTILINE), "endmodule\n"])
        for text in modules(yosys).values()))
    subprocess.run([sys.executable, "-c", PROOF, *names], cwd=folder, check=True,
                   capture_output=True, text=True)
    return json.loads((folder / "unequal.json").read_text())


def both(arch, monkeypatch):
    """(Yosys' own text, Systolith's) of a core."""
    mine = verilog.core_verilog(arch)
    verilog.core_verilog.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(verilog_text, "concise", lambda text: text)
        yosys = verilog.core_verilog(arch)
    verilog.core_verilog.cache_clear()
    return yosys, mine


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow) if name == "many parts" else name for name in CHIPS])
def test_every_module_of_a_core_is_the_logic_of_yosys_own_text(name, monkeypatch, tmp_path):
    yosys, mine = both(CHIPS[name], monkeypatch)
    names = list(modules(mine))
    assert names == list(modules(yosys)) and len(names) > 20
    assert len(mine) < len(yosys) and mine.count("always @*") < yosys.count("always @*")
    assert unequal(yosys, mine, names, tmp_path) == []


def test_a_changed_module_is_found(monkeypatch, tmp_path):
    """Operators, a register's value and when it keeps it, and the enable of a memory's port, each
    in a module of its own; others stay equal."""
    yosys, mine = both(CHIPS["taps in rows"], monkeypatch)
    before, parts = modules(mine), {}
    for module, (old, new) in FAULTS.items():
        assert old in before[module], f"{module} has no {old!r}"
        parts[module] = before[module].replace(old, new, 1)
    changed = mine
    for module, text in parts.items():
        changed = changed.replace(before[module], text)
    equal = ["systolith_core.sequencer.check", "systolith_core.store.outstanding"]
    assert unequal(yosys, changed, [*parts, *equal], tmp_path) == list(parts)
