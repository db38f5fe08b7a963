"""What a regression covers: values of fields, figures, and reasons, held to both sides."""

import json
import re

import pytest
from systolith.gen.cli.main import main
from systolith.gen.study import coverage as module
from systolith.gen.study import regress as regression
from systolith.gen.study.coverage import REASONS, Covered, Reason, wrong_reasons
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.instruction import Instruction
from systolith.hw.spec.isa import Opcode
from systolith.sim.rtl.coverage import Coverage, Line

ARCH = Arch(rows=4, columns=4, activation_depth=512, accumulator_depth=64, weight_depth=64)


@pytest.fixture
def covered():
    found = Covered({"a": Coverage(
        {1: Line("systolith_core.load", "always @* begin", False, 7),
         2: Line("systolith_core.load", "if (x): y = 1;", True, 0),
         3: Line("systolith_core.load", "if (x): y = 1;", True, 2)},
        {("systolith_core.load", "x"): (1, 1), ("systolith_core.load", "y"): (1, 0)})})
    found.run([Instruction(Opcode.STORE, {"raw": 1}), Instruction(Opcode.STORE, {"rows": 3})], ARCH)
    return found


def test_figures(covered):
    figures = covered.figures()
    assert figures["lines"] == (2, 3) and figures["lines under a condition"] == (1, 2)
    assert figures["bits that have toggled"] == (1, 2)
    assert covered.still() == {"load": 1}
    assert ("STORE", "raw", "0") in covered.met and ("STORE", "rows", "most") not in covered.met
    rest = {(where, what): count for where, what, count, _ in covered.uncovered()}
    assert rest["load", "if (x): y = 1;"] == 1 and rest["STORE", "rows most"] == 1
    assert ("STORE", "raw 1") not in rest and ("load", "always @* begin") not in rest
    text = covered.text()
    assert "| lines                   |   3 | 66.7% |" in text and "rows most" in text
    assert json.loads(json.dumps(covered.plain()))["figures"]["lines"] == [2, 3]


def test_chips_are_added_up(covered):
    other = Covered({"a": Coverage({2: Line("systolith_core.load", "if (x): y = 1;", True, 1)}),
                     "b": Coverage({1: Line("systolith_core.post", "z", False, 0)})})
    covered.add(other)
    assert covered.figures()["lines"] == (3, 4)


def test_a_reason_is_given_for_what_was_not_covered(covered):
    reason = Reason("STORE", "rows most", "too long")
    assert not wrong_reasons(covered, [reason])
    assert ("STORE", "rows most", 1, "too long") in covered.uncovered([reason])
    assert "too long" in covered.text([reason])


@pytest.mark.parametrize("reason, text", [
    (Reason("load", r"if \(x\): .*", "never"), "was covered 1 times"),
    (Reason("STORE", "raw 1", "never"), "was covered 1 times"),
    (Reason("load", "if (z): .*", "gone"), "no chip has"),
    (Reason("store", r"if \(x\): .*", "gone"), "no chip has")])
def test_a_reason_of_what_was_covered_or_is_gone_is_wrong(covered, reason, text):
    wrong, = wrong_reasons(covered, [reason])
    assert text in wrong
    gone = text.startswith("no chip has")
    assert bool(wrong_reasons(covered, [reason], every=False)) != gone


def test_a_reason_may_be_of_some_chips_alone(covered):
    """Of those that it is of it must hold, and there must be one."""
    other = Coverage({1: Line("systolith_core.load", "if (x): y = 1;", True, 0)})
    covered.add(Covered({"b": other}, arches={"a": ARCH, "b": Arch(rows=2, columns=2)}))
    line = "load", re.escape("if (x): y = 1;")
    for rows, wrong in ((2, ""), (4, "was covered 1 times on a"), (8, "no chip has")):
        reason = Reason(*line, "too small", lambda arch, rows=rows: arch.rows == rows)
        assert wrong in "".join(wrong_reasons(covered, [reason]))
        assert bool(wrong_reasons(covered, [reason])) == bool(wrong)
        rest = [(count, why) for where, _, count, why in covered.uncovered([reason])
                if where == "load"]
        chance = "not drawn; executed on a"
        assert rest == ([(2, chance)] if rows == 8 else [(1, chance), (1, "too small")])


def test_lines_that_were_executed_elsewhere_are_told_from_others(covered):
    """One that no chip has executed has no reason."""
    met, missed = (Coverage({1: Line("systolith_core.csr", "y = 2;", False, count)})
                   for count in (1, 0))
    for names, why in ((("b",), ""), (("b", "c"), "not drawn; executed on c"),
                       (("b", "c", "d", "e"), "not drawn; executed on c, d and 1 more")):
        found = Covered()
        found.add(covered)
        found.add(Covered({name: missed if name == "b" else met for name in names}))
        assert ("csr", "y = 2;", 1, why) in found.uncovered()


def test_every_reason_says_why():
    assert all(len(item.why) > 10 for item in REASONS)
    assert len({(item.where, item.what) for item in REASONS}) == len(REASONS)


def test_the_command(tmp_path, monkeypatch, capsys, covered):
    """Figures are printed and written; a wrong reason is a failure."""
    monkeypatch.setattr(regression, "regress", lambda *arguments, coverage, **options:
                        coverage.add(covered) or [regression.Case("a", 0)])
    file = tmp_path / "coverage.json"
    assert main(["regress", "--chips", "random-1", "--coverage", str(file)]) == 0
    assert "lines under a condition" in capsys.readouterr().out
    assert json.loads(file.read_text())["chips"] == ["a"]
    wrong = (Reason("load", r"if \(x\): .*", "never"),)
    monkeypatch.setattr(module.wrong_reasons, "__defaults__", (wrong, True))
    assert main(["regress", "--chips", "random-1", "--coverage"]) == 3
    assert "WRONG: load: 'if (x): y = 1;' was covered 1 times" in capsys.readouterr().out
