"""Names of generated Verilog: those that there are are used, and nothing else changes."""

import ast
from pathlib import Path

import pytest
from amaranth.hdl import Elaboratable, Fragment, Module, Signal
from systolith import hw
from systolith.hw.core.blocks import rtlil_of, verilog_of
from systolith.hw.core.names import readable


class Inner(Elaboratable):
    """Counts up while `go` is high."""

    def __init__(self):
        self.go, self.count = Signal(name="go"), Signal(4, name="count")

    def elaborate(self, platform):
        m = Module()
        with m.If(self.go):
            m.d.sync += self.count.eq(self.count + 1)
        return m


class Outer(Elaboratable):
    """Two counters, each with a signal `full` of its own."""

    def __init__(self):
        self.a, self.b, self.both = Signal(), Signal(), Signal()

    def elaborate(self, platform):
        m = Module()
        m.submodules.one, m.submodules.two = one, two = Inner(), Inner()
        ends = []
        for counter, go in ((one, self.a & ~self.b), (two, self.b)):
            full = Signal(name="full")
            m.d.comb += [counter.go.eq(go), full.eq(counter.count == 15)]
            ends.append(full)
        m.d.comb += self.both.eq(ends[0] & ends[1])
        sum_ = Signal(5)
        m.d.comb += sum_.eq(one.count + two.count)
        nothing = Signal(0)
        m.d.comb += nothing.eq(self.a)
        registered = Signal(5)
        m.d.sync += registered.eq(sum_)
        return m


def made(how):
    outer = Outer()
    return how(Fragment.get(outer, None), "outer", {
        name: (getattr(outer, name), None) for name in ("a", "b", "both")})


def text():
    return made(verilog_of)


def test_an_expression_has_the_name_of_the_signal_that_it_is():
    lines = text().splitlines()
    assert "  assign go = a & \\$1 ;" in lines or "  assign go = a & \\$2 ;" in lines
    assert "  assign both = full & full_2;" in lines
    assert not any("assign go = \\$" in line for line in lines)


def test_names_that_were_taken_have_numbers_and_those_of_instances():
    found = text()
    assert "$2 (" not in found and "\\full$" not in found and "\\count$" not in found
    assert "    .count(two_count)," in found.splitlines()
    assert "    .count(count)," in found.splitlines()


def test_what_a_register_takes_is_called_after_it():
    assert "    connect \\D \\count_next " in made(rtlil_of)
    assert "      count <= " in text() and "count_next" not in text()


def test_nothing_of_no_bits_and_nothing_of_yosys_is_left():
    assert "nothing" not in text() and "$auto" not in text()


def named_together(source):
    """Lines that assign several things at once of which Amaranth finds one's name in the bytecode:
    whether it does depends on the version of Python. It can be the one made last."""
    for item in ast.walk(ast.parse(source)):
        if (isinstance(item, ast.Assign) and isinstance(item.value, ast.Tuple)
                and isinstance(item.targets[0], ast.Tuple)):
            made = [value for value in item.value.elts
                    if not isinstance(value, ast.Name | ast.Attribute | ast.Constant)]
            if made and _takes_its_name(made[-1]):
                yield item.lineno


def _takes_its_name(value):
    """Whether a value is hardware that is called as the variable that it is assigned to."""
    if not isinstance(value, ast.Call) or any(word.arg == "name" for word in value.keywords):
        return False
    called = ast.unparse(value.func)
    last = called.rpartition(".")[2]
    return called == "Signal.like" or last.endswith("_port") or (
        last[0].isupper() and last not in ("Const", "Cat", "Mux", "View", "Fraction"))


@pytest.mark.parametrize("line, found", [
    ("a, b = memory.read_port(), memory.write_port()", True),
    ("a, b = Signal(), 1", True), ("a, b = Signal(), Signal(name='b')", False),
    ("a, b = Load(arch=arch), Store(arch=arch)", True),
    ("a, b = 1, Signal.like(c)", True), ("a, b = Signal(name='x'), Signal(name='y')", False),
    ("a, b = Mux(c, d, e), Const(0)", False), ("a = b = Signal()", False), ("a = Signal()", False)])
def test_lines_of_several_names_are_seen(line, found):
    assert bool(list(named_together(line))) == found


def test_every_name_is_the_same_in_all_versions_of_python():
    root = Path(hw.__path__[0])
    files = sorted(root.rglob("*.py"))
    assert len(files) > 50
    assert not [f"{file.relative_to(root)}:{line}" for file in files
                for line in named_together(file.read_text())]


def test_a_port_is_called_after_the_new_name_of_its_wire():
    """The wire outside has no name of its own, but is nothing but one that has."""
    text = """module \\top
  wire width 4 \\speed
  wire width 4 $7
connect \\speed $7
  cell \\top.inner \\inner
    connect $3 $7
  end
end
module \\top.inner
  wire width 4 input 0 $3
  wire width 4 \\kept
end
"""
    found = readable(text)
    assert "wire width 4 input 0 \\speed" in found and "connect \\speed \\speed" in found
