"""The Verilog as a text: each repeated block once, ports by their usual names."""

import re

import pytest
from systolith.gen.chip.verilog import core_verilog
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.identity import identity


@pytest.mark.parametrize("facts", [
    {"rows": 7, "columns": 5}, {"rows": 1, "columns": 1, "lanes": 9},
    {"rows": 2, "columns": 3, "activation": "e3m2", "weight": "e2m3"},
    {"rows": 3, "columns": 2, "lanes": 20, "activation": "bipolar1", "weight": "bipolar1"}])
def test_repeated_blocks_are_written_once(facts):
    arch = Arch(**facts)
    text = core_verilog(arch)
    for module, count in (("systolith_pe", arch.rows * arch.columns),
                          ("systolith_accumulator", arch.columns),
                          ("systolith_post_lane", arch.post_lanes)):
        assert len(re.findall(rf"^module {module}\(", text, re.MULTILINE)) == 1
        assert len(re.findall(rf"^  {module} +\S+ \(", text, re.MULTILINE)) == count
    # A block that waits for a change of nothing: simulators never run it.
    assert not re.search(r"always @\*\n +\S+ = \d+'\w+;", text)
    # Every module says first what it does.
    modules = re.findall(r"^(.*)\n(?:\(\*.*\n)*module ", text, re.MULTILINE)
    assert len(modules) > 20
    assert [line for line in modules if not line.startswith("// ")] == []
    assert "// Post: Executes POST instructions, one at a time.\n" in text
    # Only expressions and their ports have no name that a person would read.
    assert not re.findall(r"\\[\w.]+\$|\\\$auto", text)
    # (an assignment in a process names nothing, but what it assigns has another name, too; the
    # lower bits of an expression have a name where nothing reads the upper ones)
    assert len(re.findall(r"^  assign (?!\w+_next )\w+ += \\\$\d+ ;", text, re.MULTILINE)) < 40
    assert len(re.findall(r"\)\n +\S+ <= \\\$\d+ ;", text)) < 60 < 2 * len(
        re.findall(r"\)\n +\S+ <= \w+_next;", text))
    # What a register takes next stands in its own process.
    assert not re.findall(r"^ +\w+_next = ", text, re.MULTILINE)
    assert f"identity 0x{identity(arch):016x}" in text
    assert f"//   rows = {arch.rows}\n" in text
    header = text[text.index("module systolith_core("):]
    ports = header[:header.index(";")]
    for port in ("clk", "rst", "irq", "m_axi_araddr", "m_axi_wstrb", "s_axi_awaddr"):
        assert re.search(rf"\b{port}\b", ports)
