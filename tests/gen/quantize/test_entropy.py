"""The cross entropy of results, against formulas written out."""

import numpy as np
import pytest
from systolith.gen.quantize.calibrate import Quantizer
from systolith.gen.quantize.entropy import CrossEntropy
from systolith.gen.quantize.network import read_float
from systolith.hw.formats import parse

from ...onnx_networks import Network


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("softmax", [False, True])
def test_cross_entropy_of_dense_layers(outputs, softmax):
    """Of one class and of several, with and without a Softmax at the end."""
    net = Network(np.random.default_rng(1), (4,))
    weight = np.float32(net.rng.standard_normal((4, outputs)))
    x = net.node("MatMul", net.node("Relu", "x"), weight)
    if softmax:
        x = net.node("Softmax", x, axis=1)
    data = np.float32(net.rng.standard_normal((50, 4)))
    entropy = CrossEntropy(read_float(net.model(x)), {"x": data})

    def shares(inputs):
        sums = np.maximum(inputs, 0).astype(np.float64) @ weight
        if outputs == 1 and not softmax:
            sums = np.concatenate([sums, 0 * sums], axis=1)
        return np.exp(sums) / np.exp(sums).sum(axis=1, keepdims=True)
    found = []
    for scale in (1.0, 0.5, 0.01):
        quantizer = Quantizer(parse("int16"), scale)
        wanted = -(shares(data) * np.log(shares(quantizer(data)))).sum(axis=1).mean()
        found.append(entropy.of(["x"], quantizer))
        assert found[-1] == pytest.approx(wanted, abs=1e-5)
    assert found[-1] == min(found)
    # What nobody rounds changes nothing, and what comes later is rounded there.
    assert entropy.of([], quantizer) == 0
    later = entropy.of(["relu0_out"], Quantizer(parse("int16"), 1.0))
    assert later == pytest.approx(found[0], abs=1e-5)
