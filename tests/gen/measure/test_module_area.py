"""Modules of a chip alone: canonical texts, what they share, and their sum against the whole."""

import re
from collections import Counter
from functools import cache

import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.chip.verilog import core_rtlil
from systolith.gen.measure import area, module_area
from systolith.gen.measure.netlist import lone_modules
from systolith.hw.core.blocks import emit
from systolith.hw.element.element import ProcessingElement, arithmetic_of
from systolith.hw.spec.arch import Arch

DESIGN = """attribute \\generator "Amaranth"
module \\inner
  wire width 4 input 0 \\in
  wire width 4 output 1 \\out
  connect \\out \\in
end
module \\whole
  attribute \\src "here"
  wire width 4 \\A
  attribute \\init 4'1010
  wire width 4 \\state$3
  memory width 4 size 8 \\words
  cell \\inner \\first
    connect \\in \\A
    connect \\out \\state$3 [3:0]
  end
  cell $add $5
    parameter \\WIDTH 4
    connect \\A \\A
    connect \\Y { \\state$3 [0] $5 }
  end
  cell $memrd_v2 $6
    parameter \\MEMID "\\\\words"
  end
end
"""


def test_names_do_not_count():
    first = lone_modules(DESIGN)["whole"]
    other = DESIGN.replace("\\state$3", "\\other$77").replace("\\words", "\\lines").replace(
        "inner", "outer").replace("$6\n", "$99\n").replace('"here"', '"there"')
    second = lone_modules(other)["whole"]
    assert first.text == second.text
    assert first.inside == {"m0": "inner"} and second.inside == {"m0": "outer"}
    assert list(first.names.values()) == ["words"] and list(second.names.values()) == ["lines"]


def test_canonical_text():
    text = lone_modules(DESIGN)["whole"].text
    assert "src" not in text and "attribute \\init 4'1010" in text
    assert "connect \\in \\n0\n" in text                    # a port keeps its name
    assert "connect \\A \\n0\n" in text and "connect \\Y { \\n1 [0] \\n4 }" in text
    assert 'parameter \\MEMID "\\\\n2"' in text and "cell \\m0 \\n3" in text
    assert text.endswith("attribute \\blackbox 1\nmodule \\m0\n  wire width 4 input 0 \\in\n"
                         "  wire width 4 output 1 \\out\nend\n")
    assert lone_modules(DESIGN, frozenset({"whole"}))["whole"].text.startswith("module \\whole\n")


@pytest.mark.parametrize("old, new", [
    ("4'1010", "4'1011"), ("width 4 input", "width 5 input"), ("$add", "$sub"),
    ("[3:0]", "[2:0]"), ("\\WIDTH 4", "\\WIDTH 5"), ("size 8", "size 9")])
def test_logic_counts(old, new):
    assert lone_modules(DESIGN)["whole"].text != lone_modules(
        DESIGN.replace(old, new, 1))["whole"].text


def test_chips_share_modules():
    """One with more columns has the same control, and other arrays."""
    def texts(**keys):
        arch = load_chip("tiny-2x4-bnn", [f"array.{key}={value}" for key, value in keys.items()])
        return {name: item.text for name, item in lone_modules(core_rtlil(arch)).items()}
    one, other = texts(), texts(columns=8)
    shared = [name for name in one if one[name] == other.get(name)]
    assert "systolith_pe" in shared and "systolith_accumulator" in shared
    assert "systolith_core.array" not in shared and len(shared) > len(one) / 3


def test_every_module_is_mapped_once(monkeypatch, tmp_path):
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path))
    seen = []

    def mapped(text, top, commands):
        seen.append((top, commands))
        inside = set(re.findall(r"cell \\(m\d+) ", text))
        return {"LUT4": 2, "TRELLIS_FF": 1} | dict.fromkeys(inside, 1), [["n0", "8 x 4"]]
    monkeypatch.setattr(module_area, "_map", mapped)
    monkeypatch.setattr(module_area, "core_rtlil", cache(core_rtlil))
    arch = load_chip("tiny-2x4-bnn")
    found = module_area.module_area(arch)
    total = found.total
    assert total.lut == 2 * total.ff > 0 and found.pe == Counter(LUT4=2, TRELLIS_FF=1)
    number = len(seen)
    assert number <= len(found.in_flipflops)        # equal modules are mapped once
    assert [top for top, _ in seen].count("systolith_pe") == 1
    assert module_area.module_area(arch).total == total and len(seen) == number
    # without DSP blocks everything is mapped otherwise, with them in POST only elements are
    module_area.module_area(arch, dsp="post")
    assert len(seen) == number + (seen[0][1] != seen[-1][1] and seen[-1][0] == "systolith_pe")
    module_area.module_area(arch, dsp=False)
    assert len(seen) >= 2 * number


def test_an_element_alone_is_what_it_is_in_the_whole(monkeypatch, tmp_path):
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path))
    arch = load_chip("tiny-2x4-int4")
    element = lone_modules(core_rtlil(arch), frozenset({"systolith_pe"}))["systolith_pe"]
    cells, _ = module_area._mapped(element, "systolith_pe", "ecp5", True, True)
    block = ProcessingElement(arithmetic_of(arch), shadow=False, from_above=arch.depthwise)
    whole = area.measure(emit(block, "systolith_pe"), "systolith_pe")
    assert area.count(cells) == area.count(whole.pe)


def test_every_module_counts_as_often_as_it_is_there(monkeypatch):
    """With one LUT in each module, elements are as many LUTs as there are elements."""
    def mapped(module, *arguments):
        inside = Counter({kind: len(re.findall(rf"cell \\{kind} ", module.text))
                          for kind in module.inside})
        return inside + Counter(LUT4=1), []
    monkeypatch.setattr(module_area, "_mapped", mapped)
    found = module_area.module_area(Arch(rows=2, columns=3))
    assert found.pe_count == 6 and found.pe == {"LUT4": 1}
    assert found.parts["processing elements"]["LUT4"] == 6 and found.parts["core top"]["LUT4"] == 1
