"""Near rows and columns in RTL: random programs and networks, bits and cycles; and that passes
which overtake others, and results that are read before they are there, are noticed."""

import pytest
from systolith.gen.chip.verilog import core_verilog
from systolith.gen.study import regress as regression
from systolith.gen.study.regress import regress
from systolith.hw.core import compute, near_passes

#: Chips with 47 rows and two fillings, with 37 rows, and with 51 columns.
TALL, PLAIN, WIDE = "random-59", "random-171", "random-241"


def failures(name, seeds):
    return [case.failure for case in regress([name], seeds, show=lambda _: None)]


@pytest.fixture
def changed(monkeypatch):
    """What changes hardware here, where no file does: its Verilog is neither kept nor found."""
    monkeypatch.setattr(regression, "core_verilog", core_verilog.__wrapped__)
    return monkeypatch


@pytest.mark.parametrize("name", [TALL, WIDE])
def test_large_chips_pass(name):
    assert failures(name, 2) == [""] * 2


def test_words_that_overtake_sums_are_noticed(changed):
    changed.setattr(near_passes, "REVISIT", -20)    # of a wait of 25 cycles for 21 rows
    assert any(failures(PLAIN, 2))


def test_results_that_are_read_too_early_are_noticed(changed):
    real = compute.columns_behind
    changed.setattr(compute, "columns_behind", lambda columns, arch: real(columns, arch) + (
        4 if columns < arch.columns else 0))
    assert any(failures(WIDE, 2))
