"""What `systolith inspect` says about every node."""

from pathlib import Path

import numpy as np
import onnx
from systolith.gen.cli import main
from systolith.gen.inspection import inspect

from ..onnx_exact import bias, qdq, weights
from ..onnx_networks import Network

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"


def test_every_node_has_a_fate():
    net = Network(np.random.default_rng(1), (4, 6, 6), opset=21)
    x = qdq(net, net.node("Mul", "x", np.float32(2), name="scale"), 1 / 16, 5)
    a = net.node("Conv", x, weights(net, 3, 4, 3, 3), bias(net, 3), pads=[1] * 4, name="a")
    a = qdq(net, net.node("Relu", a, name="relu"), 8, 3)
    b = net.node("Slice", x, np.array([1]), np.array([3]), np.array([1]), name="slice")
    b = qdq(net, net.node("Conv", b, weights(net, 5, 2, 1, 1), name="b"), 8, 3)
    y = qdq(net, net.node("Concat", a, b, axis=1, name="concat"), 8, 3)
    y = net.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2], name="pool")
    y = net.node("GlobalAveragePool", y, name="mean")
    y = qdq(net, net.node("Flatten", y, name="flat"), 4, 3)
    model = net.model(net.node("Mul", y, np.float32(3), name="rescale"))
    rows, _ = inspect(model)
    assert [row[0] for row in rows] == [node.name for node in model.graph.node]
    became = {name: text for name, _, text in rows}
    assert became["scale"] == "host, in front of the input"
    assert became["a"] == became["relu"]
    assert became["a"].startswith("layer a") and "convolution 3 x 3, 4 -> 3, max pooling 2 x 2" in (
        became["a"])
    assert "convolution 1 x 1, 2 -> 5" in became["slice"] and "some channels" in became["slice"]
    assert became["concat"].count("; ") == 1 and "channels 3 on of" in became["concat"]
    assert "depthwise 1 x 1, 8 -> 8, sums of 3 x 3" in became["mean"]
    assert became["flat"] == became["mean"]
    assert became["rescale"] == "host, behind the output"
    assert became["quantizelinear1"] == "tensor quantizelinear1_out: int8, 4 x 6 x 6"
    assert all(text != "nothing to compute" for text in became.values())


def test_the_command(capsys):
    assert main(["inspect", str(DIGITS / "digits-cnn-int8.onnx")]) == 0
    out = capsys.readouterr().out
    assert all(node.name in out for node in onnx.load(DIGITS / "digits-cnn-int8.onnx").graph.node)
    assert "digits-cnn-int8: 4 layers, 402,976 multiply-accumulates" in out
