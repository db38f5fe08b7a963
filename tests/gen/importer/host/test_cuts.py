"""Where a network can be cut whose middle the chip cannot compute."""

import re

import numpy as np
import pytest
from systolith.gen.importer.reader import load
from systolith.gen.importer.sizes import Part
from systolith.gen.kit.errors import MiddleError

from ....onnx_exact import integer_network, qdq, weights


def network():
    """Convolution, Softmax over channels, convolution, each result quantized."""
    net, x = integer_network(np.random.default_rng(0), (3, 6, 6))
    x = qdq(net, net.node("Conv", x, weights(net, 8, 3, 3, 3)), 0.1, 0)
    x = qdq(net, net.node("Softmax", x, axis=1, name="soft"), 1 / 256, -128)
    x = net.node("Conv", x, weights(net, 8, 8, 3, 3))
    return net.model(qdq(net, x, 0.1, 0))


def test_both_parts_around_a_refused_node_are_networks_of_their_own():
    model = network()
    with pytest.raises(MiddleError, match=r"'soft'.*in the middle of the network") as refused:
        load(model)
    first, second = (re.search(f"--{option} (\\S+) keeps the part {side}", str(refused.value))[1]
                     for option, side in (("outputs", "before"), ("inputs", "after")))
    assert refused.value.second == [second] and second == "soft_out"
    assert len(load(Part(outputs=(first,)).of(model)).layers) == 1
    after = load(Part(inputs=(second,)).of(model))
    assert [item.name for item in after.encoders] == ["soft_out"] and len(after.layers) == 1
