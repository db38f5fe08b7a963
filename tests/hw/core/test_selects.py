"""No part of a core writes to a word or bit that a number of no bits selects: Amaranth drops such
an assignment in the Verilog that it writes, and executes it in its own simulator."""

import json
from pathlib import Path

import pytest
from amaranth.hdl import Fragment, Module, Signal
from amaranth.hdl import _ast as ast
from systolith.gen.chip.presets import preset_names
from systolith.gen.chip.toml import load_chip
from systolith.gen.chip.verilog import core_rtlil
from systolith.hw.spec.arch import Arch
from systolith.sim.random.arch import random_arch

CHIPS = json.loads((Path(__file__).parents[2] / "unchanged_chips.json").read_text())


def parts(value):
    """A value that is written, and what it is made of."""
    yield value
    for name in ("value", "operand"):
        inner = getattr(value, name, None)
        if isinstance(inner, ast.Value):
            yield from parts(inner)
    for name in ("parts", "elems"):
        for inner in getattr(value, name, ()) or ():
            if isinstance(inner, ast.Value):
                yield from parts(inner)


def selected_by_nothing(value):
    """Whether something that is written is selected by a number of no bits."""
    for part in parts(value):
        by = getattr(part, "offset", getattr(part, "index", getattr(part, "test", None)))
        if isinstance(by, ast.Value) and len(by) == 0:
            return True
    return False


@pytest.fixture
def writes(monkeypatch):
    """What is written so by the statements that are made."""
    found, make = [], ast.Assign.__init__

    def made(self, lhs, rhs, **more):
        make(self, lhs, rhs, **more)
        if selected_by_nothing(self.lhs):
            found.append(f"{self.src_loc}: {self.lhs!r}")
    monkeypatch.setattr(ast.Assign, "__init__", made)
    return found


def test_a_write_to_a_word_selected_by_nothing_is_found(writes):
    m, target, nothing = Module(), Signal(8), Signal(0)
    m.d.comb += target.word_select(Signal(1), 4).eq(1)
    assert not writes
    m.d.comb += target.word_select(nothing, 8).eq(1)
    m.d.comb += target.bit_select(nothing, 2).eq(1)
    m.d.comb += ast.Array([Signal(2)])[nothing].eq(1)
    assert len(writes) == 3
    Fragment.get(m, None)               # Amaranth warns of modules that nothing uses


@pytest.mark.parametrize("name", [*sorted(CHIPS)[:4], "sim-16x16-int8", "icebreaker-bnn"])
def test_no_core_has_one(name, writes):
    assert "sim-16x16-int8" in preset_names()
    core_rtlil(Arch(**CHIPS[name]) if name in CHIPS else load_chip(name))
    assert not writes


@pytest.mark.parametrize("seed", range(300, 303))
def test_no_random_core_has_one(seed, writes):
    core_rtlil(random_arch(seed))
    assert not writes
