"""Models of opsets 7 to 10: onnx's converter brings them to 11, and they mean the same."""

import numpy as np
import onnx
import pytest
from onnx import helper
from systolith.gen.importer.file import read
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.gen.quantize.quantize import quantize

from ...onnx_networks import QONNX, Network, run_onnx


def old(net, output, opset, shape):
    """The network, without what only later opsets allow."""
    net.opset = opset
    model = net.model(output, shapes=[shape])
    model.ir_version = 4
    return model


def golden(model, images):
    graph = load(model)
    return graph.decode_outputs(graph.run(graph.encode_inputs(images)))


def test_qdq_of_opset_10():
    """Attributes that became inputs later: Clip, Pad (by the host), Slice's stay inputs."""
    rng = np.random.default_rng(0)
    net = Network(rng, (4, 8, 8))
    scale, zero = net.constant(np.float32(1 / 16)), net.constant(np.int8(3))

    def qdq(x):
        return net.node("DequantizeLinear", net.node("QuantizeLinear", x, scale, zero), scale, zero)
    x = qdq("x")
    w = net.node("DequantizeLinear", rng.integers(-99, 99, (6, 4, 3, 3)).astype(np.int8),
                 np.float32(1 / 128), np.int8(0))
    x = net.node("Pad", x, pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="constant", value=0.0)
    x = net.node("Clip", net.node("Conv", x, w), min=0.0, max=6.0)
    x = net.node("MaxPool", qdq(net.node("Dropout", x, ratio=0.4)), kernel_shape=[2, 2],
                 strides=[2, 2])
    x = net.node("Upsample" if net.opset < 10 else "Resize", x, np.float32([1, 1, 2, 2]),
                 mode="nearest")
    model = old(net, qdq(x), 10, (6, 8, 8))
    images = np.float32(rng.standard_normal((4, 4, 8, 8)))
    expected, = run_onnx(model, images, optimized=False).values()
    found = golden(model, images)
    assert (np.abs(found - expected) > 1e-5).mean() < 0.002 and len(np.unique(found)) > 20


@pytest.mark.parametrize("opset", [7, 8, 9, 10])
def test_qonnx_of_old_opsets(opset):
    """The same network with what later opsets write in its place."""
    models = []
    for version in (opset, 13):
        new = version == 13
        net = Network(np.random.default_rng(1), (3, 6, 6))
        x = net.quant("x", 0.25)
        x = net.node("Conv", x, net.quant(np.float32(net.rng.standard_normal((5, 3, 3, 3))), 0.125,
                                          bits=4), name="conv", pads=[1] * 4)
        x = net.node("BatchNormalization", x, *(np.float32(net.rng.uniform(1, 2, 5))
                                                for _ in range(4)))
        x = net.node("Clip", x, np.float32(0), np.float32(4)) if new else net.node(
            "Clip", x, min=0.0, max=4.0)
        x = net.quant(x, 0.25, name="middle")
        x = net.node("Slice", x, np.array([1]), np.array([4]), np.array([1])) if (
            version > 9) else net.node("Slice", x, starts=[1], ends=[4], axes=[1])
        x = net.node("GlobalAveragePool", x)
        x = net.node("Squeeze", x, np.array([2, 3])) if new else net.node("Squeeze", x, axes=[2, 3])
        models.append(old(net, net.quant(x, 0.125), version, (3,)))
    images = np.float32(np.random.default_rng(2).standard_normal((4, 3, 6, 6)))
    found, expected = (golden(model, images) for model in models)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 3
    assert models[0].opset_import[0].version == opset
    assert any(item.domain == QONNX for item in read(models[0]).opset_import)


@pytest.mark.parametrize("opset, operator, mode, scales", [
    (opset, operator, mode, scales)
    for opset, operator in ((7, "Upsample"), (8, "Upsample"), (9, "Upsample"), (10, "Resize"))
    for mode in ("nearest", "linear") for scales in ((2, 2), (3, 2), (2.5, 1.5), (0.5, 0.5))
    if operator == "Resize" or min(scales) >= 1])
def test_coordinates_of_older_operators_stay(opset, operator, mode, scales):
    """In ONNX Runtime, the converted model gives what the old one does."""
    net = Network(np.random.default_rng(3), (2, 4, 6))
    numbers = [1.0, 1.0, *map(float, scales)]
    if opset < 9:
        net.node(operator, "x", mode=mode, scales=numbers, output="y")
    else:
        net.node(operator, "x", np.float32(numbers), mode=mode, output="y")
    sizes = [int(size * scale) for size, scale in zip((4, 6), scales, strict=True)]
    model = old(net, "y", opset, (2, *sizes))
    images = np.float32(net.rng.standard_normal((1, 2, 4, 6)))
    one, = run_onnx(model, images, optimized=False).values()
    other, = run_onnx(read(model), images, optimized=False).values()
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_float_networks():
    rng = np.random.default_rng(4)
    net = Network(rng, (3, 6, 6))
    x = net.node("Conv", "x", np.float32(rng.standard_normal((4, 3, 3, 3))), pads=[1] * 4)
    x = net.node("Clip", x, min=0.0, max=6.0)
    x = net.node("Reshape", x, np.array([0, -1]))
    x = net.node("Gemm", x, np.float32(rng.standard_normal((144, 5))), np.float32(np.zeros(5)))
    model = old(net, x, 7, (5,))
    images = np.float32(rng.standard_normal((8, 3, 6, 6)))
    made = quantize(model, images).model
    exact = run_onnx(model, images)[x]
    noise = np.square(golden(made, images) - exact).sum()
    assert noise < np.square(exact).sum() / 300


def refusal(model):
    with pytest.raises(UserError) as caught:
        load(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_converted_is_refused():
    net = Network(np.random.default_rng(5), (3, 6, 6))
    x = net.node("BatchNormalization", "x", *[np.ones((3, 6, 6), np.float32)] * 4, spatial=0)
    text = refusal(old(net, net.quant(x, 0.5), 8, (3, 6, 6)))
    assert "uses opset 8, which onnx.version_converter cannot bring to 11" in text
    assert "Attribute spatial must have value 1; export it with opset 11 or later" in text
    net = Network(np.random.default_rng(5), (3, 6, 6))
    x = net.quant(net.node("Relu", "x"), 0.5)
    assert "uses opset 6, and must use 7 or later" in refusal(old(net, x, 6, (3, 6, 6)))
    model = old(net, x, 9, (3, 6, 6))
    model.graph.node.append(helper.make_node("Nonsense", ["x"], ["z"], name="odd"))
    assert "not valid ONNX" in refusal(model) and "Nonsense" in refusal(model)
    assert "reads 'w'" in refusal(_dangling(model)) or "not valid" in refusal(_dangling(model))


def _dangling(model):
    model = onnx.ModelProto.FromString(model.SerializeToString())
    model.graph.node[-1].op_type = "Relu"
    model.graph.node[-1].input[0] = "w"
    return model
