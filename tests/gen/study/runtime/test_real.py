"""Exact numbers and bounds of float32: the numbers are those of another evaluator, and ONNX
Runtime's own are within the bounds."""

from fractions import Fraction

import numpy as np
import onnx
import pytest
from systolith.gen.study.runtime.cases import CASES, drawn
from systolith.gen.study.runtime.judge import compared
from systolith.gen.study.runtime.qoperators import QOPERATORS
from systolith.gen.study.runtime.quantizers import QUANTIZERS
from systolith.gen.study.runtime.rationals import Exact, codes_of
from systolith.gen.study.runtime.real import FUNCTIONS, Real, compute, gamma, run

from ....onnx_networks import evaluate

FLOATS = [name for name in CASES if name not in {*QOPERATORS, *QUANTIZERS, "Cast", "Upsample"}]


def operands(net):
    """The model up to the judged quantizer, and the tensor that it reads."""
    model = net.model(True)
    name = model.graph.node[-2].input[0]
    if model.graph.node[-2].op_type != "QuantizeLinear":
        name = model.graph.node[-1].output[0]
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return model, name


@pytest.mark.parametrize("scales", ["any", "simple"])
@pytest.mark.parametrize("operator", FLOATS)
def test_exact_numbers_and_bounds(operator, scales):
    for seed in range(2):
        net = drawn(operator, seed, scales)
        model, name = operands(net)
        mine = net.values[name]
        found = run(model, net.feeds)[-1]
        assert found.shape == mine.error.shape
        assert (np.abs(found - mine.exact.floats()) <= mine.error).all()
        # Not so wide that they would allow everything.
        step = float(net.judged.unit)
        if operator not in FUNCTIONS:
            assert mine.error.max() < step / 20 or "Where" in operator or step == 0.5
        if len(net.feeds) == 1 and operator not in ("Split", *FUNCTIONS):
            del model.graph.output[:-1]
            x = next(iter(net.feeds.values())).astype(np.float64)
            other = evaluate(model, x)[name]
            # (A comparison may see a number on the other side in float64.)
            assert (np.abs(other - mine.exact.floats()) <= mine.error + 1e-12).all()


def test_rounding_errors_of_sums():
    assert gamma(1) >= 2.0 ** -24 and gamma(100) > 100 * gamma(1) * (1 - 1e-9)
    net = drawn("Conv", 0, "any")
    model, name = operands(net)
    net.values[name].error[:] = 0
    found = run(model, net.feeds)[-1]
    assert (np.abs(found - net.values[name].exact.floats()) > 0).any()


def test_the_square_of_a_number_that_is_off():
    """Its bound holds at the far end: (3 + 1/2)**2 - 3**2."""
    node = onnx.helper.make_node("Pow", ["x", "two"], ["y"])
    x, two = Real(Exact(np.array([3, -3])), np.array([0.5, 0.5])), np.float32(2)
    found = compute(node, [x, Real.of(two)], [None, two], 21)
    assert list(found.exact.floats()) == [9, 9]
    assert (found.error >= 3.25).all() and (found.error < 3.251).all()


def test_a_convolution_without_attributes():
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-9, 10, shape).astype(np.float32) for shape in ((1, 2, 4, 5),
                                                                          (3, 2, 2, 3)))
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
    found = compute(node, [Real.of(x), Real.of(w)], [None, w], 21).exact.floats()
    right = np.einsum("ncyxij,ocij->noyx", np.lib.stride_tricks.sliding_window_view(
        x, (2, 3), axis=(2, 3)), w)
    assert found.shape == (1, 3, 3, 3) and (found == right).all()


@pytest.mark.parametrize("signed, narrow, ends", [
    (1, 0, (-8, 7)), (1, 1, (-7, 7)), (0, 0, (0, 15)), (0, 1, (1, 15))])
def test_ends_of_the_codes_of_a_quantizer_of_four_bits(signed, narrow, ends):
    node = onnx.helper.make_node("Quant", ["x", "s", "z", "b"], ["y"], signed=signed,
                                 narrow=narrow, rounding_mode="ROUND")
    x = Exact(np.arange(-40, 41), Fraction(1, 2))
    codes, _ = codes_of(node, x, [np.float32(1), np.float32(0), np.float32(4)])
    assert (min(codes), max(codes)) == ends


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("operator", ["Sigmoid", "Log"])
def test_functions_see_every_code(operator, kind):
    net = drawn(operator, 0, "any", kind, images=1)
    codes = np.concatenate([np.asarray(feed).ravel() for feed in net.feeds.values()])
    assert len(np.unique(codes)) >= 256


def test_resizing_doubles_rows_and_columns():
    net = drawn("Resize", 0, "any")
    (node,) = [node for node in net.nodes if node.op_type == "Resize"]
    (x,) = net.feeds.values()
    assert net.values[node.output[0]].error.shape == (
        *x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_a_convolution_of_codes_is_onnx_runtimes(kind):
    found = compared("QLinearConv", 0, "any", kind)
    assert found.codes > 30 and not found.wrong
