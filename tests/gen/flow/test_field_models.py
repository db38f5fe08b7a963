"""Small models as exporters write them, quantized by ONNX Runtime or in QONNX's operators: each
maps on a common chip, the simulator gives the golden model's bits, and outputs are the reference's
but for ties."""

import re

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantFormat, QuantType
from onnxruntime.quantization.shape_inference import quant_pre_process
from systolith.gen.chip.toml import load_chip
from systolith.gen.compile.widen import widened
from systolith.gen.flow.compile import compile_network
from systolith.gen.importer.reader import load
from systolith.gen.importer.sizes import Part
from systolith.gen.kit.errors import UserError

from ...networks import run_program
from ...onnx_networks import QONNX, Network, evaluate, quantized, run_onnx

CHIP = load_chip("sim-16x16-int8", [])
#: Ways of quantizing: settings of quantize_static.
WAYS = {
    "qdq_uint8": dict(activation_type=QuantType.QUInt8, per_channel=True),
    "qdq_int8": dict(activation_type=QuantType.QInt8, per_channel=True,
                     extra_options={"ActivationSymmetric": True}),
    "qdq_uint8_weights": dict(activation_type=QuantType.QUInt8, weight_type=QuantType.QUInt8),
    "qoperator": dict(quant_format=QuantFormat.QOperator, activation_type=QuantType.QUInt8),
}


class Float(Network):
    """A float network in the idioms of PyTorch's exporter; values are names, channels are given."""

    def weights(self, *shape):
        return np.float32(self.rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:])))

    def conv(self, x, inputs, outputs, kernel=3, stride=1, groups=1, act="Relu", norm=True,
             dilation=1, axes=2):
        """Convolution with "same" padding, batch norm, function."""
        pad = dilation * (kernel - 1) // 2
        bias = [] if norm else [np.float32(self.rng.standard_normal(outputs) / 10)]
        y = self.node("Conv", x, self.weights(outputs, inputs // groups, *[kernel] * axes), *bias,
                      strides=[stride] * axes, pads=[pad] * 2 * axes, group=groups,
                      dilations=[dilation] * axes)
        return self.function(self.norm(y, outputs) if norm else y, act)

    def norm(self, x, channels):
        numbers = [np.float32(self.rng.uniform(low, high, channels)) for low, high in
                   ((0.5, 1.5), (-0.3, 0.3), (-0.3, 0.3), (0.5, 1.5))]
        return self.node("BatchNormalization", x, *numbers)

    def function(self, x, kind):
        if kind is None:
            return x
        if kind == "SiLU":
            return self.node("Mul", x, self.node("Sigmoid", x))
        if kind == "Clip":
            return self.node("Clip", x, np.float32(0), np.float32(6))
        return self.node(kind, x)

    def dense(self, x, inputs, outputs):
        return self.node("Gemm", x, self.weights(outputs, inputs),
                         np.float32(self.rng.standard_normal(outputs) / 10), transB=1)

    def classify(self, x, channels, classes=7):
        x = self.node("Flatten", self.node("GlobalAveragePool", x))
        return self.dense(x, channels, classes)

    def pool(self, x, window=2, stride=2):
        pad = (window - 1) // 2
        return self.node("MaxPool", x, kernel_shape=[window] * 2, strides=[stride] * 2,
                         pads=[pad] * 4)

    def double(self, x):
        return self.node("Resize", x, "", np.float32([1, 1, 2, 2]), mode="nearest",
                         coordinate_transformation_mode="asymmetric", nearest_mode="floor")

    def halves(self, x, half):
        name = self.node("Split", x, np.int64([half, half]), axis=1, outputs=2)
        return name, f"{name}1"


# Float networks: functions of a `Float` that return outputs.

def mobilenet(net):
    x = net.conv("x", 3, 8, stride=2, act="Clip")
    y = net.conv(net.conv(x, 8, 24, 1, act="Clip"), 24, 24, groups=24, act="Clip")
    x = net.node("Add", x, net.conv(y, 24, 8, 1, act=None))
    return net.classify(net.conv(x, 8, 12, 1, act="Clip"), 12)


def resnet(net):
    x = net.pool(net.conv("x", 3, 8), 3)
    y = net.conv(net.conv(x, 8, 12, stride=2), 12, 12, act=None)
    x = net.node("Relu", net.node("Add", y, net.conv(x, 8, 12, 1, stride=2, act=None)))
    return net.classify(x, 12)


def bottleneck(net):
    x = net.conv("x", 3, 16)
    y = net.conv(net.conv(net.conv(x, 16, 4, 1), 4, 4), 4, 16, 1, act=None)
    return net.node("Relu", net.node("Add", y, x))


def preactivation(net):
    x = net.conv("x", 3, 8, norm=False, act=None)
    y = net.conv(net.node("Relu", net.norm(x, 8)), 8, 8, norm=False)
    x = net.node("Add", x, net.conv(y, 8, 8, norm=False, act=None))
    return net.classify(net.node("Relu", net.norm(x, 8)), 8)


def c2f(net):
    a, b = net.halves(net.conv("x", 3, 16, 1, act="SiLU"), 8)
    y = net.conv(net.conv(b, 8, 8, act="SiLU"), 8, 8, act="SiLU")
    x = net.node("Concat", a, b, net.node("Add", b, y), axis=1)
    return net.conv(x, 24, 6, 1, norm=False, act=None)


def sppf(net):
    parts = [net.conv("x", 3, 8, 1, act="SiLU")]
    for _ in range(3):
        parts.append(net.pool(parts[-1], 5, 1))
    return net.conv(net.node("Concat", *parts, axis=1), 32, 8, 1, act="SiLU")


def pyramid(net):
    fine = net.conv("x", 3, 8, stride=2)
    coarse = net.conv(fine, 8, 16, stride=2)
    top = net.conv(coarse, 16, 8, 1, norm=False, act=None)
    sums = net.node("Add", net.conv(fine, 8, 8, 1, norm=False, act=None), net.double(top))
    return net.conv(sums, 8, 8, norm=False, act=None), top


def unet(net):
    fine = net.conv("x", 3, 8)
    x = net.conv(net.pool(fine), 8, 16)
    x = net.node("ConvTranspose", x, net.weights(16, 8, 2, 2), strides=[2, 2])
    return net.conv(net.conv(net.node("Concat", x, fine, axis=1), 16, 8), 8, 1, 1, act="Sigmoid")


def unet_bilinear(net):
    fine = net.conv("x", 3, 6)
    x = net.node("Resize", net.conv(net.pool(fine), 6, 6), "", np.float32([1, 1, 2, 2]),
                 mode="linear", coordinate_transformation_mode="align_corners")
    return net.conv(net.node("Concat", x, fine, axis=1), 12, 2, 1, norm=False, act=None)


def squeeze_excite(net):
    x = net.conv("x", 3, 8, act="HardSwish")
    gate = net.conv(net.node("GlobalAveragePool", x), 8, 4, 1, norm=False)
    gate = net.conv(gate, 4, 8, 1, norm=False, act="HardSigmoid")
    return net.conv(net.node("Mul", x, gate), 8, 6, 1)


def channel_attention(net):
    """ECA: a convolution along the channels' means."""
    x = net.conv("x", 3, 16)
    y = net.node("Squeeze", net.node("GlobalAveragePool", x), np.int64([-1]))
    y = net.conv(net.node("Transpose", y, perm=[0, 2, 1]), 1, 1, 3, norm=False, act=None, axes=1)
    y = net.node("Unsqueeze", net.node("Transpose", y, perm=[0, 2, 1]), np.int64([-1]))
    return net.conv(net.node("Mul", x, net.node("Sigmoid", y)), 16, 6, 1)


def spatial_attention(net):
    x = net.conv("x", 3, 8)
    both = [net.node(kind, x, axes=[1], keepdims=1) for kind in ("ReduceMean", "ReduceMax")]
    gate = net.conv(net.node("Concat", *both, axis=1), 2, 1, 7, norm=False, act="Sigmoid")
    return net.conv(net.node("Mul", x, gate), 8, 4)


def ghost(net):
    """GhostNet: a shortcut is added to what is joined of parts of 4 channels."""
    x = net.conv("x", 3, 8)
    y = net.conv(x, 8, 6, 1)
    y = net.node("Concat", y, net.conv(y, 6, 6, groups=6), axis=1)
    y = net.conv(y, 12, 4, 1, act=None)
    y = net.node("Concat", y, net.conv(y, 4, 4, groups=4, act=None), axis=1)
    return net.conv(net.node("Add", x, y), 8, 5, 1)


def shuffle(net):
    a, b = net.halves(net.conv("x", 3, 16), 8)
    b = net.conv(net.conv(b, 8, 8, groups=8, act=None), 8, 8, 1)
    x = net.node("Reshape", net.node("Concat", a, b, axis=1), np.int64([-1, 2, 8, 12, 12]))
    x = net.node("Transpose", x, perm=[0, 2, 1, 3, 4])
    a, b = net.halves(net.node("Reshape", x, np.int64([-1, 16, 12, 12])), 8)
    return net.node("Concat", a, net.conv(b, 8, 8, 1), axis=1)


def point_segmentation(net):
    """PointNet: the maximum of all points beside each of them."""
    x = net.conv("x", 3, 8, 1, norm=False, axes=1)
    top = net.node("ReduceMax", net.conv(x, 8, 12, 1, axes=1), axes=[2], keepdims=1)
    x = net.node("Concat", x, net.node("Expand", top, np.int64([1, 12, 20])), axis=1)
    return net.conv(x, 20, 4, 1, norm=False, act=None, axes=1)


def image_pooling(net):
    """DeepLab: the mean of all pixels beside each of them, and dilated convolutions."""
    x = net.conv("x", 3, 8)
    mean = net.conv(net.node("GlobalAveragePool", x), 8, 4, 1, norm=False)
    parts = [net.conv(x, 8, 4, dilation=3), net.node("Tile", mean, np.int64([1, 1, 12, 12]))]
    return net.conv(net.node("Concat", *parts, axis=1), 8, 5, 1)


def keywords(net):
    x = net.conv(net.node("Transpose", "x", perm=[0, 3, 1, 2]), 1, 8, stride=2)
    x = net.conv(net.conv(x, 8, 8, groups=8), 8, 8, 1)
    return net.node("Softmax", net.classify(x, 8), axis=-1)


def waveform(net):
    x, skip = net.conv("x", 2, 8, 1, norm=False, act=None, axes=1), None
    for dilation in (1, 2):
        halves = [net.conv(x, 8, 8, 3, norm=False, act=kind, dilation=dilation, axes=1)
                  for kind in ("Tanh", "Sigmoid")]
        y = net.conv(net.node("Mul", *halves), 8, 8, 1, norm=False, act=None, axes=1)
        skip = y if skip is None else net.node("Add", skip, y)
        x = net.node("Add", x, y)
    return net.conv(net.node("Relu", skip), 8, 5, 1, norm=False, act=None, axes=1)


def superresolution(net):
    x = net.conv(net.conv("x", 3, 8, 5, norm=False, act="Tanh"), 8, 12, norm=False, act=None)
    return net.node("DepthToSpace", x, blocksize=2, mode="CRD")


def generator(net):
    x = net.node("Reshape", net.node("Relu", net.dense("x", 12, 32)), np.int64([-1, 8, 2, 2]))
    x = net.node("ConvTranspose", x, net.weights(8, 6, 4, 4), strides=[2, 2], pads=[1] * 4)
    return net.conv(net.node("Relu", net.norm(x, 6)), 6, 3, norm=False, act="Tanh")


def heads(net):
    """YOLOX: three branches joined, cells of two maps in one list."""
    x, outputs = net.conv("x", 3, 8, stride=2, act="SiLU"), []
    for size in (6, 3):
        parts = [net.conv(x, 8, count, 1, norm=False, act=kind)
                 for count, kind in ((4, None), (1, "Sigmoid"), (3, "Sigmoid"))]
        outputs.append(net.node("Reshape", net.node("Concat", *parts, axis=1),
                                np.int64([-1, 8, size * size])))
        x = net.conv(x, 8, 8, stride=2, act="SiLU")
    return net.node("Transpose", net.node("Concat", *outputs, axis=2), perm=[0, 2, 1])


def jets(net):
    x = "x"
    for inputs, outputs in ((16, 64), (64, 32), (32, 32)):
        x = net.node("Relu", net.dense(x, inputs, outputs))
    return net.node("Softmax", net.dense(x, 32, 5), axis=-1)


IMAGE = (3, 12, 12)
#: function: (shape of the input, ways, share of outputs that ties may move)
FLOAT = {
    mobilenet: (IMAGE, "qdq_uint8 qdq_uint8_weights qoperator", 0),
    resnet: (IMAGE, "qdq_uint8 qdq_int8", 0.05),
    bottleneck: (IMAGE, "qdq_uint8_weights qoperator", 0),
    preactivation: (IMAGE, "qdq_int8", 0.15),
    c2f: (IMAGE, "qdq_uint8 qoperator", 0.02),
    sppf: (IMAGE, "qdq_uint8", 0),
    pyramid: (IMAGE, "qdq_uint8 qdq_int8", 0.02),
    unet: (IMAGE, "qdq_uint8", 0.02),
    unet_bilinear: ((3, 8, 8), "qdq_uint8", 0.05),
    squeeze_excite: (IMAGE, "qdq_uint8 qoperator", 0.02),
    channel_attention: (IMAGE, "qdq_uint8", 0.02),
    spatial_attention: (IMAGE, "qdq_uint8", 0.1),
    ghost: (IMAGE, "qdq_uint8 qdq_int8 qoperator", 0.02),
    shuffle: (IMAGE, "qdq_uint8", 0),
    point_segmentation: ((3, 20), "qdq_uint8 qdq_uint8_weights", 0),
    image_pooling: (IMAGE, "qdq_uint8", 0.02),
    keywords: ((25, 10, 1), "qdq_int8", 0.15),
    waveform: ((2, 30), "qdq_uint8", 0.02),
    superresolution: ((3, 8, 8), "qdq_uint8 qoperator", 0),
    generator: ((12,), "qdq_uint8", 0),
    heads: (IMAGE, "qdq_uint8", 0),
    jets: ((16,), "qdq_uint8 qdq_uint8_weights", 0),
}


@pytest.mark.parametrize("build, way", [
    (build, way) for build, (_, ways, _) in FLOAT.items() for way in ways.split()],
    ids=lambda item: getattr(item, "__name__", item))
def test_networks_quantized_by_onnx_runtime(build, way, tmp_path):
    shape, _, ties = FLOAT[build]
    net = Float(np.random.default_rng(len(build.__name__)), shape, opset=17)
    outputs = build(net)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    model = net.model(*outputs)
    batches = np.float32(net.rng.standard_normal((4, 1, *shape)))
    onnx.save(model, tmp_path / "float.onnx")
    quant_pre_process(tmp_path / "float.onnx", tmp_path / "plain.onnx", skip_symbolic_shape=True)
    path = quantized(onnx.load(tmp_path / "plain.onnx"), batches, tmp_path / "quantized.onnx",
                     **WAYS[way])
    images = np.float32(net.rng.standard_normal((3, *shape)))
    expected = [run_onnx(path, image[None], optimized=False) for image in images]
    check(path, images, {name: np.concatenate([item[name] for item in expected])
                         for name in outputs}, ties)


def check(path, images, expected, ties):
    """Outputs must be those of the reference, but for so many that ties move a little, and
    the simulator's bits those of the golden model."""
    graph, program = compile_network(path, CHIP)
    codes = graph.encode_inputs(images)
    tensors = graph.run(codes, CHIP)
    found = graph.decode_outputs(tensors)
    found = found if isinstance(found, dict) else {next(iter(expected)): found}
    for name, exact in expected.items():
        assert found[name].shape == exact.shape
        differ = np.abs(found[name] - exact) / np.abs(exact).max()
        assert differ.max() < 0.1 and (differ > 1e-4).mean() <= ties, name
        assert len(np.unique(exact)) > 4
    codes = codes if isinstance(codes, dict) else {graph.inputs[0].name: codes}
    outputs, _, _ = run_program(program, {key: item[0] for key, item in codes.items()}, 0)
    for name, array in outputs.items():
        assert (array == tensors[name][0]).all(), name


# QONNX.

class Quantized(Network):
    """A network of QONNX's quantizers; scales and widths may be arrays."""

    def quantize(self, x, scale, bits=8, signed=1, narrow=0, rounding="ROUND", zero=0):
        return self.node("Quant", x, np.float32(scale), np.float32(zero), np.float32(bits),
                         domain=QONNX, signed=signed, narrow=narrow, rounding_mode=rounding)

    def normal(self, *shape):
        return np.float32(self.rng.standard_normal(shape))

    def conv(self, x, weights):
        pad = [weights.shape[-1] // 2] * 4
        return self.node("Conv", x, self.bipolar_quant(weights), pads=pad)


def widths_of_channels(net, rounding):
    """HGQ: activations with a bit width for each channel."""
    x = net.quantize("x", 1 / 8, 6)
    x = net.node("MatMul", x, net.quantize(net.normal(16, 12), 1 / 4, 4, rounding=rounding))
    x = net.node("Add", x, np.float32(np.rint(net.normal(12) * 8) / 8 + 1 / 64))
    x = net.quantize(net.node("Relu", x), 1 / 4, net.rng.integers(2, 7, (1, 12)), 0,
                     rounding=rounding)
    return net.node("MatMul", x, net.quantize(net.normal(12, 5), 1 / 4, 4))


def widths_of_weights(net):
    """HGQ: a bit width and a scale for each weight."""
    bits = net.rng.integers(2, 6, (16, 12))
    x = net.node("MatMul", net.quantize("x", 1 / 8, 6),
                 net.quantize(net.normal(16, 12), 2.0 ** (2 - bits), bits))
    x = net.quantize(net.node("Relu", x), 1 / 4, 6, 0)
    return net.node("MatMul", x, net.quantize(net.normal(12, 5), 1 / 4, 4))


def xnor(net):
    """XNOR-Net: plain weights that are a sign times a number for each output channel."""
    x = net.quantize("x", 1 / 32)
    for _ in range(2):
        weights = np.sign(net.normal(8, 8, 3, 3)) * np.abs(net.normal(8, 1, 1, 1))
        x = net.node("Conv", net.bipolar_quant(x), np.float32(weights), pads=[1] * 4)
        x = net.quantize(x, 1 / 2)
    return x


def ternary(net):
    """Plain weights of -a, 0 and a."""
    weights = np.float32(np.sign(np.rint(net.normal(6, 8, 3, 3))) * 0.07)
    x = net.quantize(net.node("Conv", net.quantize("x", 1 / 32), weights), 1 / 16)
    return net.node("MatMul", net.node("Flatten", x),
                    np.float32(np.sign(np.rint(net.normal(96, 4))) * 0.5))


def rounded_down(net, rounding):
    """One rounding throughout, of constants, too."""
    x = "x"
    for inputs, outputs in ((16, 12), (12, 5)):
        x = net.quantize(x, 1 / 8, 6, rounding=rounding)
        x = net.node("MatMul", x, net.quantize(net.normal(inputs, outputs), 1 / 4, 4,
                                               rounding=rounding))
    return x


def asymmetric(net):
    """Brevitas: unsigned codes with zero points, of weights, too."""
    x = net.quantize("x", 1 / 32, 8, 0, zero=120)
    x = net.node("Conv", x, net.quantize(net.normal(6, 8, 3, 3) / 3, 1 / 128, 8, 0, zero=117))
    x = net.quantize(net.node("Relu", x), 1 / 16, 8, 0)
    weights = net.quantize(net.normal(96, 5) / 3, 1 / 128, 8, 0, zero=140)
    return net.quantize(net.node("MatMul", net.node("Flatten", x), weights), 1 / 8, 8, 0, zero=133)


BINARY = (8, 6, 6)
QUANTIZED = {
    "widths_of_channels": (widths_of_channels, (16,), ["ROUND"]),
    "widths_of_channels_floor": (widths_of_channels, (16,), ["FLOOR"]),
    "widths_of_channels_ceil": (widths_of_channels, (16,), ["CEIL"]),
    "widths_of_weights": (widths_of_weights, (16,), []),
    "asymmetric": (asymmetric, BINARY, []),
    "xnor": (xnor, BINARY, []),
    "ternary": (ternary, BINARY, []),
    "floor": (rounded_down, (16,), ["FLOOR"]),
    "ceil": (rounded_down, (16,), ["CEIL"]),
}


@pytest.mark.parametrize("name", QUANTIZED)
def test_networks_of_qonnx(name):
    build, shape, settings = QUANTIZED[name]
    net = Quantized(np.random.default_rng(len(name)), shape)
    output = build(net, *settings)
    model = net.model(output)
    images = np.float32(np.rint(net.rng.standard_normal((8, *shape)) * 32) / 32 + 1 / 128)
    check(model, images, {output: evaluate(model, images)[output]}, 0)


def test_a_copy_without_holes_is_only_made_where_one_is_needed():
    net = Float(np.random.default_rng(0), IMAGE, opset=17)
    x = net.quant("x", 1 / 32)

    def conv(x, inputs, outputs):
        weights = net.quant(net.weights(outputs, inputs, 1, 1), 1 / 64)
        return net.quant(net.node("Conv", x, weights), 1 / 16)
    for parts, copies in (((16, 5), 0), ((5, 16), 1)):
        joined = net.node("Concat", *[conv(x, 3, count) for count in parts], axis=1)
        model = net.model(net.quant(net.node("Add", conv(x, 3, 21), joined), 1 / 8))
        names = [layer.output for layer in widened(load(model), CHIP).layers]
        assert sum(item.endswith("_whole") for item in names) == copies


def test_attention_at_the_end_is_refused_with_the_part_that_maps(tmp_path):
    net = Float(np.random.default_rng(0), (6, 12), opset=17)
    x = net.quant("x", 1 / 32)
    query, key, value = (
        net.quant(net.node("MatMul", x, net.quant(net.weights(12, 12), 1 / 64)), 1 / 16)
        for _ in range(3))
    key = net.node("Transpose", key, perm=[0, 2, 1])
    weights = net.node("Softmax", net.node("MatMul", query, key), axis=-1)
    model = net.model(net.node("MatMul", weights, value))
    with pytest.raises(UserError, match=r"products of two activations.* keeps the part") as error:
        load(model)
    cut = re.search(r"--outputs (\S+) keeps", str(error.value)).group(1).split(",")
    assert cut == [query, key, value]
    graph, _ = compile_network(Part(outputs=tuple(cut)).of(model), CHIP)
    assert [item.name for item in graph.decoders] == cut


def test_attention_in_the_middle_is_refused_with_the_two_parts_that_map():
    """The part after it begins after both products of activations, not between them."""
    net = Float(np.random.default_rng(0), (6, 12), opset=17)

    def dense(x, inputs, outputs):
        return net.quant(net.node("MatMul", x, net.quant(net.weights(inputs, outputs), 1 / 64)),
                         1 / 16)
    x = net.quant("x", 1 / 32)
    query, key, value = (dense(x, 12, 12) for _ in range(3))
    key = net.node("Transpose", key, perm=[0, 2, 1])
    share = net.quant(net.node("Softmax", net.node("MatMul", query, key), axis=-1), 1 / 128)
    mixed = net.node("MatMul", share, value)
    model = net.model(dense(dense(net.quant(mixed, 1 / 16), 12, 48), 48, 12))
    with pytest.raises(UserError, match="in the middle of the network") as error:
        load(model)
    first, second = (item.split(",") for item in re.search(
        r"--outputs (\S+) keeps .* --inputs (\S+) keeps", str(error.value)).groups())
    assert second == [mixed]
    for part in Part(outputs=tuple(first)), Part(inputs=tuple(second)):
        compile_network(part.of(model), CHIP)
