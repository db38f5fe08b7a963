"""Which tensor of the model a tensor of the chip is compared with."""

import numpy as np
import pytest
from systolith.gen.flow.compare_onnx import compare_with_onnx
from systolith.gen.importer.reader import load

from ...onnx_exact import qdq
from ...onnx_networks import Network


@pytest.mark.parametrize("kind", ["relu first", "pool first"])
def test_a_tensor_that_is_pooled_and_clipped_is_that_after_both(kind):
    rng = np.random.default_rng(1)
    net = Network(rng, (2, 6, 6))
    weight = qdq(net, np.float32(rng.integers(-100, 101, (3, 2, 3, 3))) / 128, 1 / 128, 0)
    x = qdq(net, net.node("Conv", qdq(net, "x", 0.05, 0), weight), 0.1, 0)
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    if kind == "pool first":
        x = net.node("Relu", net.node("MaxPool", x, **pool), name="last")
    else:
        x = net.node("MaxPool", net.node("Relu", x), name="last", **pool)
    model = net.model(qdq(net, x, 0.1, 0))
    graph = load(model)
    data = np.float32(rng.normal(0, 1, (4, 2, 6, 6)))
    rows = compare_with_onnx(graph, None, model, data).rows
    assert rows[-1]["quantized_tensor"] == "last_out"
    assert [row["codes_differing"] for row in rows] == [0] * len(rows)
