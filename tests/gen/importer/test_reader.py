"""The importer against ONNX Runtime, ONNX's reference evaluator and float64 arithmetic."""

import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import QuantFormat, QuantType
from systolith.gen.importer.reader import load, required_formats

from ...onnx_exact import bias, integer_network, qdq, weights
from ...onnx_networks import Network, quantized, random_cnn, run_onnx


def signed(codes):
    """ONNX codes as the values that Systolith stores: uint8 moved by 128."""
    codes = np.asarray(codes)
    return codes.astype(np.int64) - (128 if codes.dtype == np.uint8 else 0)


def golden(graph, images):
    """What the golden model makes of ONNX inputs: ({tensor: codes}, ONNX output)."""
    codes = graph.run(graph.encode_inputs(images))
    return codes, graph.decode_outputs(codes)


# Integers, against ONNX Runtime.

SETTINGS = {
    "default": {},
    "uint8": dict(activation_type=QuantType.QUInt8),
    "per-channel": dict(per_channel=True),
    "uint8-per-channel": dict(activation_type=QuantType.QUInt8, per_channel=True),
    "symmetric": dict(extra_options={"ActivationSymmetric": True, "AddQDQPairToWeight": True}),
    "uint8-weights": dict(activation_type=QuantType.QUInt8, weight_type=QuantType.QUInt8,
                          extra_options={"WeightSymmetric": True}),
    "qoperator": dict(quant_format=QuantFormat.QOperator, per_channel=True),
    "qoperator-uint8": dict(quant_format=QuantFormat.QOperator,
                            activation_type=QuantType.QUInt8),
}


@pytest.mark.parametrize("optimized", [False, True], ids=["plain", "optimized"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_quantized_networks_equal_onnx_runtime(setting, optimized, tmp_path):
    logging.disable(logging.WARNING)
    equal = total = 0
    for seed in range(10):
        rng = np.random.default_rng([seed, sorted(SETTINGS).index(setting)])
        model, batches = random_cnn(rng, layers=int(rng.integers(1, 5)))
        path = quantized(model, batches, tmp_path / "net.onnx", **SETTINGS[setting])
        graph = load(path)
        images = np.float32(rng.standard_normal((9, *batches.shape[2:])))
        _, output = golden(graph, images)
        expected = next(iter(run_onnx(path, images, optimized).values()))
        assert output.shape == expected.shape and output.dtype == np.float32
        # Real numbers differ by whole steps of the output's scale, so these are its codes.
        steps = np.rint((output - expected) / graph.tensors[graph.outputs[0]].scale)
        assert np.abs(steps).max() <= 1
        equal, total = equal + (steps == 0).sum(), total + steps.size
    assert equal >= 0.999 * total


def test_every_layer_equals_onnx_runtime(tmp_path):
    """Each layer alone, from ONNX Runtime's own input codes."""
    equal = total = 0
    for seed in range(12):
        rng = np.random.default_rng(1000 + seed)
        model, batches = random_cnn(rng, layers=4)
        path = quantized(model, batches, tmp_path / "net.onnx", per_channel=bool(seed % 2),
                         activation_type=[QuantType.QInt8, QuantType.QUInt8][seed // 2 % 2])
        graph = load(path)
        names = [name for node in onnx.load(path).graph.node for name in node.output
                 if node.op_type == "QuantizeLinear" and name in graph.tensors]
        images = batches[:, 0]
        codes = run_onnx(path, images, extra=names, optimized=False)
        codes = {name: signed(codes[name]).reshape(-1, *graph.tensors[name].shape)
                 for name in names}
        for layer in graph.layers:
            if layer.input in codes and layer.output in codes:
                source, target = (graph.tensors[name].format
                                  for name in (layer.input, layer.output))
                result = layer.run(source.from_ordered(codes[layer.input]), source,
                                   target)
                steps = target.ordered(result) - codes[layer.output]
                assert np.abs(steps).max() <= 1
                equal, total = equal + (steps == 0).sum(), total + steps.size
    assert total > 10000 and equal >= 0.9995 * total


def check_exact(net, result, count=3, scale=0.5):
    """Quantize `result`; the golden model must equal ONNX's reference evaluator bit for bit."""
    model = net.model(qdq(net, result, scale, -7))
    images = np.float32(net.rng.standard_normal((count, *net.shape)) * 4)
    graph = load(model)
    _, output = golden(graph, images)
    expected, = ReferenceEvaluator(model).run(None, {"x": images})
    assert output.shape == expected.shape and (output == expected).all()
    assert len(np.unique(output)) > 5
    return graph


@pytest.mark.parametrize("auto_pad", ["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("kernel", [(3, 2), (2, 4), (1, 5)])
def test_auto_pad(auto_pad, stride, kernel):
    net, x = integer_network(np.random.default_rng(20), (2, 7, 8))
    check_exact(net, net.node("Conv", x, weights(net, 3, 2, *kernel), bias(net, 3),
                              auto_pad=auto_pad, strides=stride, kernel_shape=kernel))


@pytest.mark.parametrize("zero", [5, -128, 127, 0])
@pytest.mark.parametrize("pads", [(0, 1, 2, 0), (3, 0, 0, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (1, 3)])
def test_pads_dilations_and_zero_points(pads, dilation, zero):
    net, x = integer_network(np.random.default_rng(21), (3, 9, 8), zero)
    check_exact(net, net.node("Conv", x, weights(net, 2, 3, 3, 2), pads=pads, dilations=dilation,
                              strides=(2, 1)))


@pytest.mark.parametrize("group, channels, outputs", [(2, 4, 6), (3, 3, 3), (4, 8, 4)])
def test_groups(group, channels, outputs):
    net, x = integer_network(np.random.default_rng(22), (channels, 5, 6))
    graph = check_exact(net, net.node("Conv", x, weights(net, outputs, channels // group, 3, 3),
                                      bias(net, outputs), group=group, pads=(1, 0, 1, 2)))
    assert graph.layers[0].weights.shape == (outputs, channels // group, 3, 3)


@pytest.mark.parametrize("attributes", [dict(pads=(2, 1)), dict(strides=(2,), dilations=(2,)),
                                        dict(auto_pad="SAME_LOWER", strides=(3,))])
def test_one_dimensional_convolution(attributes):
    net, x = integer_network(np.random.default_rng(23), (3, 20))
    x = net.node("Relu", net.node("Conv", x, weights(net, 4, 3, 3), bias(net, 4), **attributes))
    x = qdq(net, x, 1 / 4, -128)
    check_exact(net, net.node("MaxPool", x, kernel_shape=(2,), strides=(2,)))


def test_convolutions_without_attributes_take_defaults():
    net, x = integer_network(np.random.default_rng(24), (2, 5, 4))
    check_exact(net, net.node("Conv", x, weights(net, 3, 2, 2, 3)))


@pytest.mark.parametrize("attributes", [dict(), dict(transB=1), dict(alpha=0.5, beta=2.0),
                                        dict(alpha=-2.0, transB=1)])
@pytest.mark.parametrize("bias_shape", [None, (5,), (1, 5), (1,), ()])
def test_gemm(attributes, bias_shape):
    net, x = integer_network(np.random.default_rng(25), (2, 3, 4))
    shape = (5, 24) if attributes.get("transB") else (24, 5)
    inputs = [net.node("Flatten", x), weights(net, *shape)]
    if bias_shape is not None:
        inputs.append(np.float32(net.rng.integers(-500, 500, bias_shape) / 64))
    check_exact(net, net.node("Gemm", *inputs, **attributes), count=20)


@pytest.mark.parametrize("pool", [
    dict(kernel_shape=(2, 2), strides=(2, 2)), dict(kernel_shape=(3, 2), strides=(3, 2)),
    dict(kernel_shape=(1, 1)), dict(kernel_shape=(7, 1), strides=(1, 1)),
    dict(kernel_shape=(2, 2), strides=(2, 2), auto_pad="VALID"),
    dict(kernel_shape=(1, 3), strides=(1, 3), ceil_mode=1),
    dict(kernel_shape=(1, 3), strides=(1, 3), auto_pad="SAME_UPPER"),
    dict(kernel_shape=(2, 2), strides=(2, 2), dilations=(1, 1), pads=(0, 0, 0, 0))])
@pytest.mark.parametrize("where", ["before", "after", "input"])
def test_max_pooling(pool, where):
    net, x = integer_network(np.random.default_rng(26), (3, 7, 9))
    if where == "input":
        x = net.node("MaxPool", x, **pool)
    x = net.node("Conv", x, weights(net, 4, 3, 1, 1), bias(net, 4))
    if where == "before":
        x = net.node("MaxPool", net.node("Relu", x), **pool)
    if where == "after":
        x = net.node("Relu", net.node("MaxPool", qdq(net, x, 1 / 2, -7), **pool))
    graph = check_exact(net, x)
    assert len(graph.layers) == 1 + (where == "input" and pool["kernel_shape"] != (1, 1))


def test_global_max_pool_and_squeeze():
    net, x = integer_network(np.random.default_rng(27), (2, 6, 5))
    x = qdq(net, net.node("Conv", x, weights(net, 4, 2, 2, 2)), 1, 0)
    x = net.node("Squeeze", net.node("GlobalMaxPool", x), np.array([2, 3]))
    check_exact(net, net.node("MatMul", x, weights(net, 4, 5)), count=9, scale=2)


def test_reshapes_that_flatten():
    net, x = integer_network(np.random.default_rng(28), (2, 4, 3))
    x = qdq(net, net.node("Conv", x, weights(net, 5, 2, 2, 1)), 1 / 2, 9)
    x = net.node("Dropout", net.node("Identity", net.node("Reshape", x, np.array([0, 45]))))
    x = qdq(net, net.node("Gemm", x, weights(net, 6, 45), transB=1), 4, 1)
    x = net.node("Unsqueeze", x, np.array([2]))
    x = net.node("Reshape", net.node("Transpose", x, perm=(0, 1, 2)), np.array([-1, 6]))
    check_exact(net, net.node("MatMul", x, weights(net, 6, 4)), count=7, scale=16)


def test_batch_norm_clip_and_scales_between_layers():
    net, x = integer_network(np.random.default_rng(29), (2, 5, 6))
    x = net.node("Conv", x, weights(net, 3, 2, 2, 2))
    x = net.node("Sub", np.float32([[[1]], [[2]], [[-3]]]), x)
    x = net.node("Div", net.node("Mul", x, np.float32([[[0.5]], [[-2]], [[1]]])), np.float32(4))
    x = qdq(net, net.node("Clip", x, np.float32(-2), np.float32(3)), 1 / 16, -3)
    x = net.node("Clip", x, np.float32(-1), "")
    x = net.node("Conv", x, weights(net, 4, 3, 1, 1))
    check_exact(net, net.node("Add", net.node("Relu", x), np.float32(0)))


def test_a_tensor_may_feed_several_layers_and_outputs():
    net, x = integer_network(np.random.default_rng(30), (2, 6, 6))
    x = qdq(net, net.node("Conv", x, weights(net, 3, 2, 3, 3)), 1 / 2, 4)
    pooled = net.node("MaxPool", x, kernel_shape=(2, 2), strides=(2, 2))
    outputs = [net.node("Conv", x, weights(net, 2, 3, 3, 1)),
               qdq(net, net.node("Conv", pooled, weights(net, 4, 3, 2, 2)), 2, 0), x]
    model = net.model(*outputs)
    graph = load(model)
    images = np.float32(net.rng.standard_normal((4, 2, 6, 6)) * 3)
    _, results = golden(graph, images)
    for name, expected in zip(outputs, ReferenceEvaluator(model).run(None, {"x": images}),
                              strict=True):
        assert (results[name] == expected).all()
    # The first convolution is not done again for its pooled result.
    assert [layer.weights.shape[2:] for layer in graph.layers] == [(3, 3), (1, 1), (2, 2), (3, 1)]


def test_a_dequantized_result_can_be_scaled_on_the_host():
    net, x = integer_network(np.random.default_rng(31), (3, 4, 4))
    x = qdq(net, net.node("Conv", x, weights(net, 2, 3, 1, 1)), 1 / 2, 4)
    model = net.model(net.node("Relu", net.node("Mul", x, np.float32([[[3]], [[-0.25]]]))))
    images = np.float32(net.rng.standard_normal((4, 3, 4, 4)) * 3)
    _, output = golden(load(model), images)
    assert (output == ReferenceEvaluator(model).run(None, {"x": images})[0]).all()


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_integer_inputs_and_outputs_are_codes(kind):
    rng = np.random.default_rng(32)
    element = TensorProto.UINT8 if kind is np.uint8 else TensorProto.INT8
    net = Network(rng, (2, 5, 4), element=element, opset=21)
    x = net.node("DequantizeLinear", "x", np.float32(1 / 8), kind(100))
    x = net.node("Conv", x, weights(net, 3, 2, 2, 2), pads=(1, 1, 0, 0))
    x = net.node("QuantizeLinear", x, np.float32(1 / 2), kind(90))
    model = net.model(x, types=element, shapes=[(3, 5, 4)])
    images = rng.integers(0, 128, (3, 2, 5, 4)).astype(kind)
    _, output = golden(load(model), images)
    assert (output == ReferenceEvaluator(model).run(None, {"x": images})[0]).all()


def test_the_input_is_prepared_on_the_host():
    rng = np.random.default_rng(33)
    net = Network(rng, (60,), opset=21)
    x = net.node("Reshape", net.node("Div", "x", np.float32(4)), np.array([-1, 4, 5, 3]))
    x = net.node("Transpose", net.node("Clip", x, np.float32(-1), np.float32(1)),
                 perm=(0, 3, 1, 2))
    x = net.node("BatchNormalization", x, *np.float32([[1, 2, .5], [0, 1, -1], [0, 0, 1],
                                                       [1, 4, 16]]), epsilon=0.0)
    x = net.node("Conv", qdq(net, x, 1 / 64, 2), weights(net, 2, 3, 2, 3))
    graph = check_exact(net, x)
    assert graph.inputs[0].shape == (3, 4, 5)


def test_an_input_that_only_dense_layers_read_is_one_pixel():
    net, x = integer_network(np.random.default_rng(34), (1, 6, 5))
    graph = check_exact(net, net.node("Gemm", net.node("Flatten", x), weights(net, 30, 4)), 9)
    assert graph.inputs[0].shape == (30, 1, 1) and graph.layers[0].weights.shape == (4, 30, 1, 1)


def test_a_dead_channel_gives_its_bias():
    net, x = integer_network(np.random.default_rng(35), (2, 4, 4))
    codes = net.rng.integers(-127, 128, (3, 2, 1, 1)).astype(np.int8)
    codes[1] = 0
    weight = net.node("DequantizeLinear", codes, np.float32([1 / 8, 1e-30, 1 / 4]),
                      np.zeros(3, np.int8), axis=0)
    graph = check_exact(net, net.node("Conv", x, weight, np.float32([1, 20, -3])))
    assert graph.run(np.zeros((1, 2, 4, 4), int))[graph.outputs[0]][0, 1, 0, 0] == 40 - 7


def test_the_shipped_format_names():
    net, x = integer_network(np.random.default_rng(36), (2, 4, 4))
    graph = check_exact(net, net.node("Conv", x, weights(net, 3, 2, 1, 1)))
    assert required_formats(graph) == (["int8"], ["int8"])
