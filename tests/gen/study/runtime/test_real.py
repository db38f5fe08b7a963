"""Exact numbers and bounds of float32: the numbers are those of another evaluator, and ONNX
Runtime's own are within the bounds."""

import numpy as np
import onnx
import pytest
from systolith.gen.study.runtime.cases import CASES, drawn
from systolith.gen.study.runtime.qoperators import QOPERATORS
from systolith.gen.study.runtime.quantizers import QUANTIZERS
from systolith.gen.study.runtime.real import FUNCTIONS, gamma, run

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
