"""Every operator that the importer reads against ONNX Runtime: equal to the bit where scales are
powers of two; with others, what differs is a tie, by exact fractions. The judge refuses faults."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from systolith.gen.importer.checks import supported_operators
from systolith.gen.importer.rows import ROWS
from systolith.gen.study.runtime import judge as judging
from systolith.gen.study.runtime.cases import ABSENT, CASES, drawn, missing
from systolith.gen.study.runtime.judge import Verdict, compared, judge
from systolith.gen.study.runtime.real import FUNCTIONS, run

KINDS = {"int8": np.int8, "uint8": np.uint8}


def verdict(operator, seeds, scales):
    found = Verdict()
    for seed in range(seeds):
        for kind in KINDS.values():
            found.add(compared(operator, seed, scales, kind))
    return found


def test_every_operator_of_the_importer_has_a_case(monkeypatch):
    assert not missing()
    assert not set(CASES) & set(ABSENT)
    assert set(CASES) | set(ABSENT) == set(supported_operators())
    monkeypatch.setitem(ROWS, "Hardmax", ROWS["Relu"])
    assert missing() == ["Hardmax"]


def test_what_is_said_to_be_absent():
    assert set(ABSENT) == {"QLinearReduceMean", "QLinearSoftmax"}
    assert "Softmax" not in ROWS                # so that the host computes it
    kinds = {"x": 3, "s": 1, "z": 3, "t": 1, "u": 3}
    graph = helper.make_graph(
        [helper.make_node("QLinearReduceMean", list(kinds), ["y"], domain="com.microsoft",
                          axes=[2], keepdims=1)], "g",
        [helper.make_tensor_value_info(name, kind, [2, 3, 4] if name == "x" else [])
         for name, kind in kinds.items()], [helper.make_tensor_value_info("y", 3, None)])
    model = helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)])
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        run(model, {})


@pytest.mark.parametrize("operator", CASES)
def test_powers_of_two_give_the_same_bits(operator):
    found = verdict(operator, 3, "two")
    assert not found.wrong and not found.differ
    assert found.networks == 6 and found.codes > 30


@pytest.mark.parametrize("operator", CASES)
def test_other_scales_differ_in_ties_alone(operator):
    found = verdict(operator, 2, "any")
    assert not found.wrong and found.networks == 4
    # The golden model gives the nearest code, always, where scales are no simple multiples.
    assert not found.golden or operator.removeprefix("QLinear") in FUNCTIONS


@pytest.mark.parametrize("operator", CASES)
def test_simple_scales_differ_in_ties_alone(operator):
    found = verdict(operator, 2, "simple")
    assert not found.wrong and found.networks == 4


@settings(max_examples=12, deadline=None)
@given(operator=st.sampled_from(sorted(CASES)), seed=st.integers(100, 10**6),
       scales=st.sampled_from(["two", "any", "simple"]), kind=st.sampled_from(sorted(KINDS)))
def test_networks_that_no_run_has_seen(operator, seed, scales, kind):
    found = compared(operator, seed, scales, KINDS[kind])
    assert not found.wrong


def test_ties_occur():
    found = verdict("Identity", 8, "simple")
    found.add(verdict("GlobalAveragePool", 8, "simple"))
    assert found.exact_ties and found.ties and found.near and not found.wrong
    assert 0 < found.farthest < 1


# The judge notices.

def changed(**fields):
    """A golden model whose last layer has other fields; functions of the old ones."""
    def change(graph):
        *others, last = graph.layers
        new = {name: function(getattr(last, name)) for name, function in fields.items()}
        return replace(graph, layers=[*others, replace(last, **new)])
    return change


BIAS = changed(bias=lambda bias: bias + 1)
HALF_UP = changed(requantization=lambda item: replace(item, ties=0 * item.ties))
WIDER = changed(requantization=lambda item: replace(
    item, multiplier=item.multiplier + (item.multiplier >> 10)))
LOWER = changed(requantization=lambda item: replace(item, high=item.high - 1))


@pytest.mark.parametrize("scales", ["two", "any", "simple"])
@pytest.mark.parametrize(("operator", "fault"), [
    ("Conv", BIAS), ("Gemm", BIAS), ("Conv", WIDER), ("MatMul", WIDER), ("QLinearConv", BIAS),
    ("Conv", LOWER), ("AveragePool", BIAS)], ids=["bias", "dense-bias", "factor", "dense-factor",
                                                 "qlinear-bias", "limit", "mean-bias"])
def test_a_fault_of_the_golden_model_is_refused(operator, fault, scales):
    wrong = []
    for seed in range(4):
        assert not compared(operator, seed, scales, images=12).wrong
        wrong += compared(operator, seed, scales, changed=fault, images=12).wrong
    assert wrong and "the golden model gives" in " ".join(wrong)


def test_rounding_half_up_is_refused():
    for operator, scales in (("Conv", "two"), ("AveragePool", "two"), ("AveragePool", "simple")):
        found = [compared(operator, seed, scales, changed=HALF_UP, images=8) for seed in range(8)]
        assert any(item.exact_ties for item in found)
        assert any(item.wrong for item in found), (operator, scales)


@pytest.mark.parametrize("scales", ["two", "any"])
def test_a_fault_of_onnx_runtime_is_refused(scales):
    net = drawn("Conv", 0, scales)
    right, = run(net.model(True), net.feeds)
    assert not judge(net, right, right).wrong
    moved = right.copy()
    moved.flat[7] += np.float32(net.judged.unit) * (-1 if moved.flat[7] > 0 else 1)
    found = judge(net, right, moved)
    assert "ONNX Runtime gives" in found.wrong[-1] and "1 such of" in found.wrong[-1]
    assert judge(net, right[:1], right).wrong
    with pytest.raises(ValueError, match="does not have"):
        judge(net, right + net.judged.unit / 2, right)


def test_what_is_counted_is_added_up():
    one, two = Verdict(1, 10, 2, 3, 1, 0, 4, 0.5, ["a"]), Verdict(1, 5, 0, 1, 0, 1, 0, 0.25, ["b"])
    one.add(two)
    assert one == Verdict(2, 15, 2, 4, 1, 1, 4, 0.5, ["a", "b"]) and one.differ == 6


def test_a_refused_network_is_no_success(monkeypatch):
    def refuse(model):
        raise judging.UserError("no")
    monkeypatch.setattr(judging, "load", refuse)
    assert compared("Conv", 0, "two").wrong and compared("Conv", 0, "any").refused == 1
