"""Formal equivalence: what is right is proven, what is wrong is found with its operands."""

import pytest
from systolith.gen.kit.errors import UserError
from systolith.gen.study.formal import prove_formally, prove_step
from systolith.hw.element.element import arithmetic
from systolith.hw.element.ints import IntArithmetic
from systolith.hw.element.logs import LnsArithmetic
from systolith.hw.element.one_kind import OneKind
from systolith.hw.formats import parse


def test_small_elements_are_their_specification():
    table, wrong = prove_formally([("int4", "uint3", 1), ("bipolar1", "bipolar1", 5)], ["lut6"],
                                  signs=[("int3", 2)], halves=[("int4", 1)])
    assert wrong == 0
    assert [row[:5] for row in table[1:]] == [
        ["int4", "uint3", "1", "lut6", "proven"], ["bipolar1", "bipolar1", "5", "lut6", "proven"],
        ["int3 (numbers)", "int3", "2", "lut6", "proven"],
        ["int3 (signs)", "int3", "2", "lut6", "proven"],
        ["int4 (whole)", "int4", "1", "lut6", "proven"],
        ["int4 (halves)", "int4", "1", "lut6", "proven"]]


@pytest.mark.parametrize("structure", ["lut4", "gates", "dsp"])
def test_signs_are_what_they_are_in_every_structure(structure):
    rules = arithmetic(parse("int3"), parse("int3"), 1, 16, structure=structure, stages=1,
                       signs=True)
    assert prove_step(OneKind(rules, True)).proven


class Flawed(IntArithmetic):
    """Wrong for one pair of operands and one partial sum."""

    def accumulate(self, m, operands, psum):
        wrong = (operands.a(0) == 5) & (operands.w(0) == 3) & (psum == 77)
        return super().accumulate(m, operands, psum) ^ wrong


@pytest.mark.parametrize("split", [False, True])
def test_one_wrong_sum_among_all_is_found(split):
    rules = Flawed(parse("int3"), parse("int2"), 1, 16, structure="dsp", stages=1)
    rules.psum_bits = 8
    found = prove_step(rules, split=split)
    assert found.proven is False
    assert found.counterexample["a"] == 5 and found.counterexample["psum"] == 77


class FlawedLogarithms(LnsArithmetic):
    """Wrong for one pair of operands."""

    def accumulate(self, m, operands, psum):
        return super().accumulate(m, operands, psum) + (
            (operands.a(0)[:5] == 13) & (operands.w(0)[:4] == 9))


@pytest.mark.parametrize("kind, proven", [(LnsArithmetic, True), (FlawedLogarithms, False)])
def test_logarithms_are_proven_by_their_definition(kind, proven):
    rules = kind(parse("lns5r2t4"), parse("lns4r2t4"), 1, 4, structure="lut6", stages=1)
    found = prove_step(rules)
    assert found.proven is proven
    assert proven or (found.counterexample["a"], found.counterexample["w"]) == (13, 9)


def test_no_answer_in_time_is_no_proof():
    rules = arithmetic(parse("int8"), parse("int8"), 1, 16, structure="gates", stages=1)
    assert prove_step(rules, timeout=0.01).proven is None


def test_formats_without_a_specification_are_refused():
    rules = IntArithmetic(parse("ternary"), parse("int2"), 1, 16, structure="dsp", stages=1)
    with pytest.raises(UserError, match="no formal specification of ternary"):
        prove_step(rules)
