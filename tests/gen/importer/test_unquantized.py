"""What a quantized network computes without rounding: its quantizers' limits stay."""

import numpy as np
import pytest
from systolith.gen.importer.unquantized import unquantized

from ...onnx_exact import qdq
from ...onnx_networks import Network, evaluate


def network():
    return Network(np.random.default_rng(1), (3, 4), opset=21)


def results(net, y):
    """(results without rounding, the input) of a network with the output `y`."""
    model = unquantized(net.model(y))
    images = np.linspace(-40, 40, 24).reshape(2, 3, 4)
    return evaluate(model, images)[y], images, model


@pytest.mark.parametrize("signed, narrow, zero, bits, codes", [
    (1, 0, 0, 4, (-8, 7)), (1, 1, 0, 4, (-7, 7)), (0, 0, 0, 4, (0, 15)), (0, 1, 0, 4, (0, 14)),
    (1, 0, 3, 4, (-11, 4)), (0, 0, 5, 3, (-5, 2))])
def test_a_quantizer_of_qonnx_leaves_its_range(signed, narrow, zero, bits, codes):
    net = network()
    found, images, _ = results(net, net.quant("x", 0.5, zero, bits, signed, narrow))
    assert (found == np.clip(images, codes[0] / 2, codes[1] / 2)).all()


@pytest.mark.parametrize("largest, top", [(None, 31), (14, 14), (100, 31)])
def test_a_quantizer_of_floats_leaves_its_range(largest, top):
    net = network()
    y = net.float_quant("x", 0.25, 3, 2, largest=largest)
    found, images, _ = results(net, y)
    top = min(top, 2.0 ** (7 - 3) * 1.75)
    assert (found == np.clip(images, -top / 4, top / 4)).all()


@pytest.mark.parametrize("kind, zero", [(np.int8, 0), (np.int8, -30), (np.uint8, 0),
                                        (np.uint8, 128), (np.int16, 5)])
def test_codes_and_back_are_their_range(kind, zero):
    net = network()
    found, images, _ = results(net, qdq(net, "x", 1 / 16, zero, kind))
    ends = (np.array([np.iinfo(kind).min, np.iinfo(kind).max]) - zero) / 16
    np.testing.assert_allclose(found, np.clip(images, *ends), rtol=1e-6)


def test_constants_are_computed_and_keep_their_rounding():
    net = network()
    steps = net.node("DequantizeLinear", np.int8([7, -8, 2, 1]), np.float32(0.5), np.int8(1))
    scaled = net.node("Mul", steps, np.float32(3))
    rounded = net.quant(scaled, 1.0)
    found, images, model = results(net, net.node("Add", "x", rounded))
    assert (found == images + np.array([9, -14, 2, 0])).all()       # 1.5 to even
    assert [node.op_type for node in model.graph.node] == ["Add"]
