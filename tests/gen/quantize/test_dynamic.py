"""Networks whose scales are computed from each input: calibration data fix them."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic
from systolith.gen.chip.toml import load_chip
from systolith.gen.flow.build import build
from systolith.gen.flow.check import check
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.gen.quantize.dynamic import with_fixed_ranges
from systolith.gen.quantize.quantize import quantize
from systolith.gen.quantize.recipe import Recipe

from ...onnx_networks import Network, run_onnx


def decibels(exact, found):
    return 10 * np.log10(np.square(exact).sum() / np.square(exact - found).sum())


def golden(model, images):
    graph = load(model)
    return graph.decode_outputs(graph.run(graph.encode_inputs(images)))


def float_network(seed):
    rng = np.random.default_rng(seed)
    net = Network(rng, (3, 8, 7), opset=17)
    x = net.node("Conv", "x", np.float32(rng.standard_normal((6, 3, 3, 3)) / 4),
                 np.float32(rng.standard_normal(6)), strides=[2, 1], pads=[1, 0, 1, 2])
    x = net.node("Flatten", net.node("Relu", x))
    x = net.node("MatMul", x, np.float32(rng.standard_normal((6 * 4 * 7, 12)) / 9))
    x = net.node("Relu", net.node("Add", x, np.float32(rng.standard_normal(12))))
    x = net.node("Gemm", x, np.float32(rng.standard_normal((5, 12))),
                 np.float32(rng.standard_normal(5)), transB=1)
    return net.model(x), np.float32(rng.standard_normal((48, 3, 8, 7)) + 0.3)


@pytest.fixture(params=["uint8", "int8, per channel", "fused"])
def dynamic(request, tmp_path):
    """(a network as quantize_dynamic writes it, its float twin, images); "fused" is what ONNX
    Runtime's optimizer leaves, with DynamicQuantizeMatMul."""
    model, images = float_network(3)
    onnx.save(model, tmp_path / "float.onnx")
    path = tmp_path / "dynamic.onnx"
    kind = QuantType.QInt8 if "int8," in request.param else QuantType.QUInt8
    quantize_dynamic(tmp_path / "float.onnx", path, weight_type=kind,
                     per_channel="channel" in request.param)
    if request.param == "fused":
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(tmp_path / "fused.onnx")
        onnxruntime.InferenceSession(str(path), options)
        path = tmp_path / "fused.onnx"
        assert any(node.op_type == "DynamicQuantizeMatMul" for node in onnx.load(path).graph.node)
    return path, model, images


def test_fixed_ranges(dynamic):
    path, twin, images = dynamic
    fixed = with_fixed_ranges(onnx.load(path), images, Recipe(range="min-max"))
    found = golden(fixed, images)
    expected, = run_onnx(fixed, images, optimized=False).values()
    # One tie before the last layer moves all five outputs of an image.
    assert (np.abs(found - expected) > 1e-4).mean() < 0.25 and decibels(expected, found) > 40
    exact, = run_onnx(twin, images, optimized=False).values()
    assert decibels(exact, found) > 25
    assert decibels(exact, golden(with_fixed_ranges(onnx.load(path), images, Recipe()),
                                  images)) > 25


def test_build_and_check_with_calibration(dynamic, tmp_path, monkeypatch):
    path, _, images = dynamic
    monkeypatch.setattr("systolith.gen.flow.build.core_verilog", lambda arch: "")
    arch = load_chip("sim-16x16-int8", ["array.weight=int9", "array.rows=2", "array.columns=2",
                                        "post.lanes=2"])
    with pytest.raises(UserError, match="--calibration") as caught:
        build(path, arch, tmp_path / "out", area=False)
    assert "computed from each input" in str(caught.value)
    assert len(check(path, arch).problems) == 3
    assert check(path, arch, calibration=images).maps
    made = build(path, arch, tmp_path / "out", area=False, calibration=images)
    assert made.quantized is None and len(made.graph.layers) == 3


def test_only_dynamic_networks_are_fixed(dynamic):
    path, _, images = dynamic
    with pytest.raises(UserError, match="quantized already"):
        quantize(onnx.load(path), images)
    images[3, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match="must be finite"):
        with_fixed_ranges(onnx.load(path), images, Recipe())


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("zeros, bias, per_channel", [
    (0, False, False), (1, True, False), (2, False, True), (2, True, True), (2, True, False)])
@pytest.mark.parametrize("last", [True, False])
def test_products_of_codes_as_real_numbers(kind, zeros, bias, per_channel, last):
    """`zeros`: of how many operands zero points are given."""
    rng = np.random.default_rng(zeros)
    net = Network(rng, (30,), opset=17)
    scale, zero = net.constant(np.float32(0.02)), net.constant(kind(7 if zeros else 0))
    x = net.node("QuantizeLinear", "x", scale, zero)
    size = (9,) if per_channel else ()
    codes = rng.integers(*np.iinfo(kind).min + np.array([0, 256]), (30, 9)).astype(kind)
    zero_b = np.full(size, 128 if kind == np.uint8 else 0) + rng.integers(-3, 4, size)
    read = [x, net.constant(codes), scale,
            net.constant(np.float32(rng.uniform(0.01, 0.02, size))), zero if zeros else "",
            net.constant(zero_b.astype(kind)) if zeros == 2 else "",
            net.constant(np.float32(rng.standard_normal(9))) if bias else ""]
    while not read[-1]:
        del read[-1]
    x = net.node("MatMulIntegerToFloat", *read, domain="com.microsoft")
    if not last:
        x = net.node("QuantizeLinear", net.node("Relu", x), np.float32(0.1), np.uint8(0))
        x = net.node("DequantizeLinear", x, np.float32(0.1), np.uint8(0))
    model = net.model(x, shapes=[(9,)])
    images = np.float32(rng.standard_normal((20, 30)))
    expected, = run_onnx(model, images, optimized=False).values()
    off = np.abs(golden(model, images) - expected)
    assert off.max() <= (1e-4 if last else 0.1001) and (off > 1e-4).mean() < 0.02
