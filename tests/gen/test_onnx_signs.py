"""Binary networks whose signs are comparisons: 0 goes where the model says."""

import numpy as np
import pytest
from onnx import TensorProto
from systolith.gen.errors import UserError
from systolith.gen.onnx_in import load

from ..onnx_networks import Network, evaluate

#: sign of x: (how the model says it, what it makes of 0)
RULES = {
    "greater": lambda net, x: net.node("Where", net.node("Greater", x, np.float32(0)),
                                       np.float32(1), np.float32(-1)),
    "at least": lambda net, x: net.node("Where", net.node("GreaterOrEqual", x, np.float32(0)),
                                        np.float32(0.5), np.float32(-0.5)),
    "not less": lambda net, x: net.node("Where", net.node("Not", net.node(
        "Less", x, np.float32(0))), np.float32(1), np.float32(-1)),
    "turned": lambda net, x: net.node("Where", net.node("LessOrEqual", np.float32(0), x),
                                      np.float32(-1), np.float32(1)),
    "less": lambda net, x: net.node("Where", net.node("Less", x, np.float32(0)), np.float32(2),
                                    np.float32(-2)),
    "cast": lambda net, x: net.node("Sub", net.node("Mul", net.node(
        "Cast", net.node("Greater", x, np.float32(0)), to=TensorProto.FLOAT), np.float32(2)),
        np.float32(1)),
}


@pytest.mark.parametrize("rule", RULES)
def test_zero_goes_where_the_model_says(rule):
    """Sums of six signs meet their thresholds often; batch norms of both directions."""
    rng = np.random.default_rng(5)
    net = Network(rng, (6,), opset=17)
    x = RULES[rule](net, net.node("Sub", "x", np.float32(0.5)))
    for size, width in ((6, 8), (8, 5)):
        weight = net.bipolar_quant(np.float32(rng.choice([-1, 1], (size, width))))
        x = net.node("MatMul", x, weight)
        if width == 8:
            gamma = np.float32(rng.choice([-2, 1, 3], width))
            mean = np.float32(rng.choice([-2, 0, 2], width))
            x = net.node("BatchNormalization", x, gamma, np.zeros(width, np.float32), mean,
                         np.ones(width, np.float32), epsilon=0.0)
            x = RULES[rule](net, x)
    model = net.model(x)
    images = np.float32(rng.choice([0, 0.5, 1], (60, 6)))
    graph = load(model)
    found = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    assert np.allclose(found, evaluate(model, images)[x])
    assert len(graph.layers) == 2


@pytest.mark.parametrize("made, message", [
    (lambda net, x: net.node("Where", net.node("Greater", x, np.float32(0)), np.float32(1),
                             np.float32(1)), "chooses between two equal numbers"),
    (lambda net, x: net.node("Where", net.node("Greater", x, np.float32(0)), np.float32(1),
                             np.float32([1, 2, 3])), "must choose between two numbers"),
    (lambda net, x: net.node("Where", net.node("Greater", net.node("Relu", x), np.float32(0)),
                             np.float32(1), np.float32(0)), "compares what is clipped"),
])
def test_refused(made, message):
    net = Network(np.random.default_rng(1), (4,), opset=17)
    x = net.node("MatMul", net.bipolar_quant("x"), net.bipolar_quant(np.ones((4, 3), np.float32)))
    with pytest.raises(UserError, match=message):
        load(net.model(made(net, x)))
