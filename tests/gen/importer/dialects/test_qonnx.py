"""Networks in QONNX's quantizers against their definition in float64."""

from fractions import Fraction

import numpy as np
import pytest
from onnx import helper
from systolith.gen.importer.reader import load, required_formats
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Bipolar, Float, Int

from ....onnx_networks import Network, evaluate


def compare(model, images, allowed=0.0):
    """Every tensor of the golden model against `evaluate`; returns the graph.

    At most the share `allowed` of codes may differ, by one step; no output beyond that.
    """
    graph = load(model)
    codes = graph.run(graph.encode_inputs(images))
    expected = evaluate(model, images)
    differ = 0
    for name, tensor in graph.tensors.items():
        if name not in expected or tensor.format is None:
            continue
        real = expected[name].reshape(codes[name].shape) / tensor.scale + tensor.zero_point
        steps = (tensor.format.ordered(codes[name])
                 - tensor.format.ordered(tensor.format.encode(np.round(real, 9))))
        assert np.abs(steps).max() <= (1 if allowed else 0)
        assert (steps != 0).mean() <= allowed
        differ += (steps != 0).sum()
    outputs = graph.decode_outputs(codes)
    for item in model.graph.output:
        result = outputs[item.name] if isinstance(outputs, dict) else outputs
        assert result.shape == expected[item.name].shape
        if not differ:
            assert np.allclose(result, expected[item.name], rtol=1e-5, atol=1e-5)
    return graph


# Floats.

def float_cnn(rng, exponent, mantissa, exact):
    """Input, two convolutions (ReLU, pooling, batch norm), dense layer with a raw result.

    Exact: scales are powers of two and the bias a multiple of the sums' steps.
    """
    net = Network(rng, (2, 9, 8), opset=17)
    format = Float(exponent, mantissa)
    top = format.decode(format.max_code)

    def scale_to(largest):
        scale = np.float32(largest / top)
        return np.exp2(np.round(np.log2(scale))) if exact else scale

    def weights(*shape, per_channel=True):
        values = np.float32(rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])))
        axes = tuple(range(1, len(shape))) if per_channel else None
        scale = scale_to(np.abs(values).max(axis=axes, keepdims=True))
        return net.float_quant(net.constant(values), scale, exponent, mantissa), scale

    def quantize(x, largest):
        return net.float_quant(x, scale_to(largest), exponent, mantissa)
    weight, scale = weights(7, 2, 3, 3)
    step = scale.ravel() * scale_to(4) * 4.0 ** format.exponent
    bias = rng.integers(-100, 100, 7) * step if exact else rng.standard_normal(7) / 2
    x = net.node("Conv", quantize("x", 4), weight, np.float32(bias), pads=(1, 1, 0, 1))
    if not exact:
        x = net.node("BatchNormalization", x, *np.float32([
            rng.standard_normal(7), rng.standard_normal(7), rng.standard_normal(7),
            rng.uniform(0.2, 2, 7)]), epsilon=1e-3)
    x = net.node("MaxPool", net.node("Relu", x), kernel_shape=(2, 2), strides=(2, 2))
    x = net.node("Conv", quantize(x, 3), weights(5, 7, 2, 3, per_channel=False)[0], strides=(1, 2))
    x = net.node("Flatten", quantize(x, 3))
    size = evaluate(net.model(x), np.zeros((1, 2, 9, 8)))[x].shape[1]
    return net.model(net.node("Gemm", x, weights(6, size)[0], np.float32(rng.standard_normal(6)),
                              transB=1))


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "rounded"])
@pytest.mark.parametrize("exponent, mantissa", [(3, 2), (2, 3), (4, 3), (3, 4), (4, 0), (2, 1)])
def test_float_networks(exponent, mantissa, exact):
    rng = np.random.default_rng([40, exponent, mantissa, exact])
    model = float_cnn(rng, exponent, mantissa, exact)
    # A bias and a scale that are rounded may put a value on the edge to either side.
    graph = compare(model, np.float32(rng.standard_normal((20, 2, 9, 8))),
                    allowed=0 if exact else 0.02)
    name = str(Float(exponent, mantissa))
    assert required_formats(graph) == ([name], [name])
    assert [layer.pool.size for layer in graph.layers] == [(2, 2), (1, 1), (1, 1)]
    assert graph.layers[0].requantization.low == 0 and graph.layers[1].requantization.low < 0
    assert graph.layers[0].geometry.pad_code is None


def test_the_largest_value_limits_inputs_weights_and_results():
    rng = np.random.default_rng(41)
    net = Network(rng, (3, 4, 4), opset=17)
    # As in OCP's e4m3fn: the code of 480 is taken.
    x = net.float_quant("x", 0.01, 4, 3, largest=448)
    weight = net.float_quant(net.constant(np.float32(rng.standard_normal((4, 3, 2, 2)) * 9)), 0.01,
                             4, 3, largest=448)
    model = net.model(net.float_quant(net.node("Conv", x, weight), 0.25, 4, 3, largest=448))
    graph = compare(model, np.float32(rng.standard_normal((20, 3, 4, 4)) * 4), allowed=0.002)
    assert graph.encoders[0].high == 0x7e == graph.layers[0].requantization.high
    assert (graph.layers[0].weights.codes & 0x7f).max() == 0x7e


def test_an_own_exponent_bias_is_part_of_the_format():
    rng = np.random.default_rng(42)
    net = Network(rng, (3, 4, 4), opset=17)
    x = net.float_quant("x", 0.5, 3, 2, bias=5)
    weight = net.float_quant(net.constant(np.float32(rng.standard_normal((4, 3, 2, 2)))), 0.5,
                             3, 2, bias=1)
    graph = compare(net.model(net.float_quant(net.node("Conv", x, weight), 0.5, 3, 2, bias=5)),
                    np.float32(rng.standard_normal((20, 3, 4, 4))), allowed=0.002)
    assert required_formats(graph) == (["e3m2b5"], ["e3m2b1"])


# Integers.

@pytest.mark.parametrize("signed, zero", [(1, 0), (0, 0), (0, 2), (1, -2)])
@pytest.mark.parametrize("bits, narrow", [(8, 0), (4, 1), (3, 0)])
def test_integer_networks(bits, narrow, signed, zero):
    rng = np.random.default_rng([43, bits, signed, zero + 8])
    net = Network(rng, (2, 6, 5), opset=17)
    settings = dict(zero=zero, bits=bits, signed=signed, narrow=narrow)
    x = net.quant("x", 1 / 4, **settings)
    weight = net.quant(net.constant(np.float32(rng.standard_normal((4, 2, 3, 2)))),
                       np.float32(2.0) ** rng.integers(-4, -1, (4, 1, 1, 1)), bits=4, narrow=1)
    bias = net.quant(net.constant(np.float32(rng.standard_normal(4))), 1 / 4, bits=24)
    x = net.node("Relu", net.node("Conv", x, weight, bias, pads=(0, 1, 1, 0)))
    model = net.model(net.quant(x, 1 / 2, **settings))
    graph = compare(model, np.float32(rng.standard_normal((9, 2, 6, 5)) * 3))
    assert required_formats(graph) == ([f"int{bits}"], ["int4"])


# Binary.

def signs(rng, *shape):
    return rng.choice(np.float32([-1, 1]), shape)


def batch_norm(net, x, channels, gamma=None, beta=None, mean=None):
    rng = net.rng
    gamma = rng.standard_normal(channels) if gamma is None else gamma
    beta = rng.standard_normal(channels) if beta is None else beta
    mean = rng.standard_normal(channels) * 3 if mean is None else mean
    return net.node("BatchNormalization", x, *np.float32([gamma, beta, mean,
                                                          rng.uniform(0.5, 50, channels)]))


def test_binary_dense_network():
    rng = np.random.default_rng(44)
    net = Network(rng, (30,), opset=17)
    x, size = net.bipolar_quant(net.node("Sub", "x", np.float32(0.5))), 30
    for width in (21, 16, 9):
        weight = net.bipolar_quant(net.constant(np.float32(rng.standard_normal((size, width)))),
                                   0.3)
        x = net.node("MatMul", x, weight)
        x = batch_norm(net, x, width)
        if width != 9:
            x = net.bipolar_quant(x)
        size = width
    graph = compare(net.model(x), np.float32(rng.uniform(0, 1, (200, 30))))
    assert required_formats(graph) == (["bipolar1"], ["bipolar1"])
    assert [layer.raw for layer in graph.layers] == [False, False, True]
    assert graph.inputs[0].shape == (30, 1, 1)


def test_binary_convolutions_pad_with_true_zeros():
    rng = np.random.default_rng(45)
    net = Network(rng, (3, 7, 8), opset=17)
    x = net.bipolar_quant("x", 0.5)
    weight = net.bipolar_quant(net.constant(signs(rng, 6, 3, 3, 3)),
                               np.float32(rng.uniform(0.1, 2, (6, 1, 1, 1))))
    x = batch_norm(net, net.node("Conv", x, weight, pads=(1, 1, 1, 1)), 6)
    x = net.node("MaxPool", net.bipolar_quant(x), kernel_shape=(2, 2), strides=(2, 2))
    weight = net.bipolar_quant(net.constant(signs(rng, 4, 6, 2, 2)))
    x = net.bipolar_quant(batch_norm(net, net.node("Conv", x, weight), 4))
    graph = compare(net.model(x), np.float32(rng.standard_normal((30, 3, 7, 8))))
    assert graph.layers[0].geometry.pad_code is None and graph.layers[0].pool.size == (2, 2)
    assert len(graph.layers) == 2


def test_thresholds_are_exact_where_a_sum_meets_them():
    """gamma * (sum - mean) + beta is exactly 0 at a sum that occurs: the result is +1."""
    sums = np.arange(-6, 7, 2)
    net = Network(np.random.default_rng(46), (6,), opset=17)
    weight = net.bipolar_quant(net.constant(np.ones((6, 8), np.float32)))
    x = net.node("MatMul", net.bipolar_quant("x"), weight)
    gamma = np.float32([1, -1, 3, -3, 0, 0, 0, 1e-30])
    beta = np.float32([0, 0, 6, 6, 1, -1, 0, 0])
    mean = np.float32([2, 2, 4, -2, 0, 0, 0, 100])
    x = net.node("BatchNormalization", x, gamma, beta, mean, np.full(8, 4, np.float32), epsilon=0.0)
    x = net.bipolar_quant(x)
    graph = load(net.model(x))
    images = np.float32([[1] * (3 + n // 2) + [-1] * (3 - n // 2) for n in sums])
    result = graph.run(graph.encode_inputs(images))[x][:, :, 0, 0]
    # variance 4: the value is gamma * (sum - mean) / 2 + beta.
    expected = [[Fraction(float(g)) * (int(s) - int(m)) / 2 + int(b) >= 0
                 for g, b, m in zip(gamma, beta, mean, strict=True)] for s in sums]
    assert (result == np.array(expected)).all()
    assert any(0 < sum(row) < 8 for row in expected)


def test_thresholds_with_irrational_deviations_agree_with_many_digits():
    rng = np.random.default_rng(47)
    net = Network(rng, (64,), opset=17)
    weight = net.bipolar_quant(net.constant(signs(rng, 64, 500)))
    x = net.node("MatMul", net.bipolar_quant("x"), weight)
    gamma, beta = rng.standard_normal((2, 500)).astype(np.float32)
    mean, variance = np.float32(rng.normal(0, 9, 500)), np.float32(rng.uniform(1, 90, 500))
    x = net.bipolar_quant(net.node("BatchNormalization", x, gamma, beta, mean, variance,
                                   epsilon=float(np.float32(1e-5))))
    layer, = load(net.model(x)).layers
    bias, flipped = layer.bias, gamma < 0
    # The integer sum at which the output changes, in long double arithmetic.
    deviation = np.sqrt(variance.astype(np.longdouble) + np.float32(1e-5))
    edge = (mean - beta * deviation / gamma) * np.where(flipped, -1, 1)
    inside = np.abs(edge) < 64
    assert inside.sum() > 300 and (-bias[inside] == np.ceil(edge[inside])).all()
    assert (np.abs(bias) <= 65).all()


@pytest.mark.usefixtures("chip_alone")
def test_binary_results_of_any_clip_are_refused():
    net = Network(np.random.default_rng(48), (6,), opset=17)
    weight = net.bipolar_quant(net.constant(np.ones((6, 3), np.float32)))
    x = net.node("Relu", net.node("MatMul", net.bipolar_quant("x"), weight))
    with pytest.raises(UserError, match="sign of a clipped value is always the same"):
        load(net.model(net.bipolar_quant(x)))


def test_one_bit_quant_is_bipolar():
    rng = np.random.default_rng(49)
    net = Network(rng, (6,), opset=17)
    x = net.quant("x", 0.5, bits=1, signed=1, narrow=1)
    weight = net.bipolar_quant(net.constant(signs(rng, 6, 4)))
    graph = load(net.model(net.node("MatMul", x, weight), shapes=[(4,)]))
    assert graph.inputs[0].format == Bipolar(1)


# What is refused.

def small(quantize):
    """A network whose only activation quantizer is made by `quantize(net)`."""
    net = Network(np.random.default_rng(50), (3, 4, 4), opset=17)
    weight = net.float_quant(net.constant(np.ones((2, 3, 1, 1), np.float32)), 0.5, name="w")
    return net.model(net.node("Conv", quantize(net), weight), shapes=[(2, 4, 4)])


@pytest.mark.usefixtures("chip_alone")
@pytest.mark.parametrize("change, message", [
    (dict(rounding_mode="FLOOR"), "'q' .FloatQuant.: attribute rounding_mode must be 'ROUND'"),
    (dict(saturation=0), "attribute saturation must be 1, not 0"),
    (dict(has_subnormal=0), "attribute has_subnormal must be 1, not 0"),
    (dict(has_inf=2), "attribute has_inf must be 0 or 1, not 2"),
    (dict(signed=1), "attribute signed is not supported; supported are has_inf")])
def test_float_attributes_that_change_the_result_are_refused(change, message):
    def quantize(net):
        name = net.float_quant("x", 0.5, name="q")
        node = net.nodes[-1]
        for key, value in change.items():
            for item in [item for item in node.attribute if item.name == key]:
                node.attribute.remove(item)
            node.attribute.append(helper.make_attribute(key, value))
        return name
    with pytest.raises(UserError, match=message):
        load(small(quantize))


@pytest.mark.usefixtures("chip_alone")
@pytest.mark.parametrize("settings, message", [
    (dict(exponent=9, mantissa=7, bias=500), "supports floats of 1 to 15 exponent and mantissa"),
    (dict(mantissa=2.5, largest=28), "its mantissa bit width must be one whole number"),
    (dict(largest=27), r"its largest value 27.0 must have a code in e3m2"),
    (dict(largest=-1), "its largest value must be one positive number"),
    (dict(scale=-1.0), "must be finite and positive, not -1.0")])
def test_float_parameters_that_are_no_format_are_refused(settings, message):
    with pytest.raises(UserError, match=f"node 'q' .FloatQuant.*{message}"):
        load(small(lambda net: net.float_quant("x", settings.pop("scale", 0.5), name="q",
                                               **settings)))


@pytest.mark.usefixtures("chip_alone")
@pytest.mark.parametrize("settings, message", [
    (dict(bits=17), "its bit width must be from 1 to 16, not 17"),
    (dict(bits=0), "its bit width must be from 1 to 16, not 0"),
    (dict(zero=0.5), "its zero point must be one whole number"),
    (dict(narrow=2), "attribute narrow must be 0 or 1, not 2"),
    (dict(bits=1, zero=1), "zero point must be 0 where the bit width is 1")])
def test_integer_parameters_are_checked(settings, message):
    with pytest.raises(UserError, match=f"node 'q' .Quant.*{message}"):
        load(small(lambda net: net.quant("x", 0.5, name="q", **settings)))


def test_quantizers_keep_their_format_type():
    rng = np.random.default_rng(51)
    net = Network(rng, (3, 4, 4), opset=17)
    weight = net.quant(net.constant(np.float32(rng.standard_normal((2, 3, 1, 1)))), 0.1, bits=6)
    graph = load(net.model(net.node("Conv", net.quant("x", 0.5, bits=5), weight)))
    assert graph.inputs[0].format == Int(5) and graph.layers[0].weights.format == Int(6)


@pytest.mark.parametrize("signed, least", [(1, 2), (0, 1)])
def test_widths_of_channels_have_limits(signed, least):
    net = Network(np.random.default_rng(0), (4, 5, 5))

    def model(*widths):
        weight = net.quant(np.float32(net.rng.integers(0, 2, (4, 4, 1, 1)) * 0.1), 0.1,
                           bits=np.float32(widths).reshape(4, 1, 1, 1), signed=signed)
        return net.model(net.quant(net.node("Conv", net.quant("x", 0.1), weight), 0.1))
    assert load(model(least, 3, 4, 5)).layers
    for wrong in (least - 1, 17):
        with pytest.raises(UserError, match=f"bit widths must be from {least} to 16"):
            load(model(3, 4, 5, wrong))
