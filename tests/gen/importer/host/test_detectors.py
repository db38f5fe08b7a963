"""What detectors and the like have at their ends, on the host: against ONNX Runtime."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from systolith.gen.chip.toml import load_chip
from systolith.gen.flow.build import build, open_build
from systolith.gen.flow.check import check
from systolith.gen.flow.simulate import simulate
from systolith.gen.importer.reader import load
from systolith.gen.report.report import read_report

from ....onnx_exact import integer_network, qdq, weights
from ....onnx_networks import Network, run_onnx

CHIP = "sim-16x16-int8"


def finished(net, outputs):
    """The model with these outputs, whose types and shapes ONNX infers."""
    model = net.model(*outputs, shapes=[()] * len(outputs))
    for item in model.graph.output:
        item.CopyFrom(helper.make_empty_tensor_value_info(item.name))
    return onnx.shape_inference.infer_shapes(model)


def detector(rng, size=32, classes=3, bins=4, quantized=True):
    """A small YOLOv8: three scales, each with boxes as distributions and with classes, decoded as
    its export does; {output: array} -> the model's output."""
    net, x = integer_network(rng, (3, size, size), scale=1 / 32)
    net.opset = 17

    def conv(x, inputs, outputs, kernel, stride=1, scale=0.1):
        y = net.node("Conv", x, weights(net, outputs, inputs, kernel, kernel, scale=1 / 512),
                     pads=[kernel // 2] * 4, strides=[stride, stride])
        return y if scale is None else qdq(net, y, scale, 0)
    channels = 4 * bins + classes
    flat, anchors, strides = [], [], []
    for n, width in enumerate((16, 24, 24)):
        x = qdq(net, net.node("Relu", conv(x, 3 if n == 0 else (16, 24)[n - 1], width, 3, 2)),
                0.1, -128)
        parts = [conv(x, width, count, 1) for count in (4 * bins, classes)]
        side = size >> n + 1
        flat.append(net.node("Reshape", qdq(net, net.node("Concat", *parts, axis=1), 0.1, 0),
                             np.array([1, channels, side * side])))
        y, x_ = np.mgrid[0:side, 0:side].reshape(2, -1) + 0.5
        anchors.append(np.stack([x_, y]))
        strides.append(np.full(side * side, 2 << n))
    joined = net.node("Concat", *flat, axis=2)
    net.node("Split", joined, np.array([4 * bins, classes]), axis=1, name="sp", outputs=2,
             output="boxes")
    anchors, strides = np.concatenate(anchors, 1), np.concatenate(strides)
    total = len(strides)
    y = net.node("Reshape", "boxes", np.array([1, 4, bins, total]))
    y = net.node("Softmax", net.node("Transpose", y, perm=[0, 2, 1, 3]), axis=1)
    weight = np.arange(bins, dtype=np.float32).reshape(1, bins, 1, 1)
    if quantized:
        y = qdq(net, y, 1 / 256, -128)
        weight = net.node("DequantizeLinear", np.int8(np.arange(bins)).reshape(1, bins, 1, 1),
                          np.float32(1), np.int8(0))
    y = net.node("Reshape", net.node("Conv", y, weight), np.array([1, 4, total]))
    near = net.node("Slice", y, np.array([0]), np.array([2]), np.array([1]))
    far = net.node("Slice", y, np.array([2]), np.array([4]), np.array([1]))
    grid = net.constant(np.float32(anchors[None]))
    near, far = net.node("Sub", grid, near), net.node("Add", grid, far)
    middle = net.node("Div", net.node("Add", near, far), np.float32(2))
    boxes = net.node("Concat", middle, net.node("Sub", far, near), axis=1)
    boxes = net.node("Mul", boxes, np.float32(strides))
    return net, net.node("Concat", boxes, net.node("Sigmoid", "sp_out1"), axis=1), joined


def built(model, tmp_path):
    onnx.save(model, tmp_path / "net.onnx")
    return build(tmp_path / "net.onnx", load_chip(CHIP), tmp_path / "out", area=False)


def compared(model, images, tmp_path, tolerance=1e-4):
    """The build, its outputs equal to ONNX Runtime's of the same codes."""
    made = open_build(built(model, tmp_path).folder)
    found = simulate(made, images, "isa").outputs
    parts = [run_onnx(model, images[n:n + 1], optimized=False) for n in range(len(images))]
    names = list(parts[0])
    found = found if isinstance(found, dict) else {names[0]: found}
    for name in names:
        for n, theirs in enumerate(parts):
            ours, other = found[name][n], theirs[name]
            ours = ours if ours.shape == other.shape else ours[None]
            assert ours.shape == other.shape
            off = np.abs(ours.astype(np.float64) - other) > tolerance * (1 + np.abs(other))
            assert off.mean() < 0.01, (name, off.mean())
    return made


@pytest.fixture(autouse=True)
def no_verilog(monkeypatch):
    monkeypatch.setattr("systolith.gen.flow.build.core_verilog", lambda arch: "")


@pytest.mark.parametrize("quantized", [False, True])
def test_a_whole_detection_head(quantized, tmp_path):
    net, y, _ = detector(np.random.default_rng(0), quantized=quantized)
    model = finished(net, [y])
    images = np.float32(net.rng.standard_normal((2, 3, 32, 32)))
    made = compared(model, images, tmp_path, 2e-3)
    assert made.graph.tail is not None and len(made.graph.layers) >= 9
    work = read_report(made.folder).host["after"]
    assert work.operators["Softmax"] == 1 and work.gives == (y,)
    assert 0 < work.share < 0.1
    text = "\n".join(check(model, load_chip(CHIP)).nodes[-1])
    assert "host, after the output" in text


def test_boxes_are_suppressed_on_the_host(tmp_path):
    net, y, _ = detector(np.random.default_rng(1))
    boxes = net.node("Transpose", net.node("Slice", y, np.array([0]), np.array([4]), np.array([1])),
                     perm=[0, 2, 1])
    scores = net.node("Slice", y, np.array([4]), np.array([7]), np.array([1]))
    chosen = net.node("NonMaxSuppression", boxes, scores, np.array([4]), np.float32([0.5]),
                      np.float32([0.55]), center_point_box=1)
    row = net.node("Gather", chosen, np.array(2), axis=1)
    picked = net.node("Gather", boxes, row, axis=1)
    model = finished(net, [chosen, picked])
    images = np.float32(net.rng.standard_normal((3, 3, 32, 32)))
    found = simulate(built(model, tmp_path), images).outputs
    for n in range(len(images)):
        theirs = run_onnx(model, images[n:n + 1], optimized=False)
        for name in (chosen, picked):
            ours = found[name][n]
            assert ours.dtype == theirs[name].dtype
            assert len(ours.reshape(-1)) and abs(ours.size - theirs[name].size) <= 8


def classifier(rng, start, shape, element=TensorProto.FLOAT, channels=3, opset=18):
    """A convolution of what `start` makes of the input."""
    net = Network(rng, shape, opset=opset, element=element)
    x = qdq(net, start(net, "x"), 1 / 32, 3)
    x = qdq(net, net.node("Conv", x, weights(net, 5, channels, 3, 3, scale=1 / 64)), 0.25, 0)
    return finished(net, [net.node("Relu", x)])


def to_float(net, x):
    return net.node("Cast", x, to=TensorProto.FLOAT)


def resized(net, x):
    sizes = net.constant(np.array([1, 3, 12, 10]))
    return net.node("Resize", x, "", "", sizes, mode="cubic")


HEADS = {
    "normalized": (lambda net, x: net.node("Div", net.node("Sub", net.node(
        "Transpose", to_float(net, x), perm=[0, 3, 1, 2]), np.float32(127)), np.float32(64)),
        (8, 9, 3), TensorProto.UINT8),
    "integers": (lambda net, x: to_float(net, net.node("Sub", x, np.uint8(100))), (3, 7, 8),
                 TensorProto.UINT8),
    "int32": (lambda net, x: to_float(net, net.node("Div", x, np.int32(37))), (3, 7, 8),
              TensorProto.INT32),
    "resized": (resized, (3, 6, 5), TensorProto.FLOAT),
    "padded": (lambda net, x: net.node("Pad", x, np.array([0, 0, 1, 2, 0, 0, 3, 0]),
                                       mode="reflect"), (3, 6, 5), TensorProto.FLOAT),
    "sliced": (lambda net, x: net.node("Slice", x, np.array([6, 1]), np.array([0, 9]),
                                       np.array([2, 3]), np.array([-1, 2])), (3, 8, 9),
               TensorProto.FLOAT),
    "channels turned": (lambda net, x: net.node("Gather", x, np.array([2, 1, 0]), axis=1),
                        (3, 6, 6), TensorProto.FLOAT),
    "gamma": (lambda net, x: net.node("Pow", net.node("Abs", x), np.float32(0.45)), (3, 6, 6),
              TensorProto.FLOAT),
    "standardized": (lambda net, x: net.node("Div", net.node("Sub", x, net.node(
        "ReduceMean", x, np.array([1, 2, 3]))), np.float32(2)), (3, 6, 6), TensorProto.FLOAT),
    "halved": (lambda net, x: net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]),
               (3, 12, 12), TensorProto.FLOAT),
}


@pytest.mark.parametrize("name", HEADS)
def test_what_prepares_inputs(name, tmp_path):
    start, shape, element = HEADS[name]
    rng = np.random.default_rng(4)
    model = classifier(rng, start, shape, element)
    images = np.float32(rng.standard_normal((3, *shape)) * 4)
    if element == TensorProto.UINT8:
        images = rng.integers(0, 256, (3, *shape)).astype(np.uint8)
    if element == TensorProto.INT32:
        images = rng.integers(-2000, 2000, (3, *shape)).astype(np.int32)
    made = compared(model, images, tmp_path)
    assert len(made.graph.layers) == 1
    rows = dict((node, became) for node, _, became in check(model).nodes)
    first = model.graph.node[0].name
    assert rows[first].startswith("host") or "layer" in rows[first]
    wrong = images[..., :-1]
    with pytest.raises(Exception, match="must have the shape"):
        simulate(made, wrong)


def test_what_is_added_to_the_input_at_the_end(tmp_path):
    """As networks for super-resolution do; the input is needed on both sides."""
    rng = np.random.default_rng(5)
    net, x = integer_network(rng, (3, 6, 6))
    y = qdq(net, net.node("Conv", x, weights(net, 3, 3, 3, 3), pads=[1] * 4), 4, 0)
    model = finished(net, [net.node("Add", y, net.node("Mul", "x", np.float32(2)))])
    images = np.float32(rng.standard_normal((2, 3, 6, 6)) * 4)
    made = compared(model, images, tmp_path)
    assert made.graph.tail.given == ["x"]
    graph = load(model)
    with pytest.raises(ValueError, match="the outputs depend on x: give the inputs"):
        graph.decode_outputs(graph.run(graph.encode_inputs(images)))


def test_without_onnx_runtime(tmp_path, monkeypatch):
    net, y, _ = detector(np.random.default_rng(2), size=16, quantized=False)
    images, model = np.float32(net.rng.standard_normal((2, 3, 16, 16))), finished(net, [y])
    graph = load(model)
    theirs = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    monkeypatch.setattr("systolith.gen.importer.host.part.have_runtime", lambda: False)
    monkeypatch.setattr("systolith.gen.importer.run.have_runtime", lambda: False)
    graph = load(model)
    assert graph.tail.run.session is None
    ours = graph.decode_outputs(graph.run(graph.encode_inputs(images)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
