"""Names of generated Verilog: those that there are are used, and nothing else changes."""

from amaranth.hdl import Elaboratable, Fragment, Module, Signal
from systolith.hw.core.blocks import verilog_of


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


def text():
    outer = Outer()
    return verilog_of(Fragment.get(outer, None), "outer", {
        name: (getattr(outer, name), None) for name in ("a", "b", "both")})


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
    assert "    count_next = count;" in text() and "    count <= count_next;" in text()


def test_nothing_of_no_bits_and_nothing_of_yosys_is_left():
    assert "nothing" not in text() and "$auto" not in text()
    assert "if (at_start ) begin end" in text()
