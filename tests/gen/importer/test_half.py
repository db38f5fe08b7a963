"""Networks in float16 and bfloat16: scales, casts, inputs and outputs."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from systolith.gen.importer.reader import load
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.notes import lines
from systolith.gen.quantize.quantize import quantize
from systolith.sim.model.edges import rounded

from ...onnx_networks import Network, run_onnx

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def golden(model, images):
    graph = load(model)
    return graph, graph.decode_outputs(graph.run(graph.encode_inputs(images)))


def network(rng, element, *, prepared, relu, cast, dense):
    """A quantized layer in float16: input of type `element`, a mean and factor before where it is
    `prepared`; the output is cast to float32 where `cast` says so."""
    net = Network(rng, (3, 7, 6), opset=21, element=element)
    x = "x" if element == HALF else net.node("Cast", "x", to=HALF)
    if prepared:
        x = net.node("Sub", x, np.float16(rng.uniform(-1, 1, (1, 3, 1, 1))))
        x = net.node("Mul", x, np.float16(rng.uniform(0.5, 1.5, (1, 3, 1, 1))))
    numbers = net.constant(np.float16(rng.uniform(0.02, 0.05))), net.constant(
        np.int8(rng.integers(-20, 20)))
    x = net.node("DequantizeLinear", net.node("QuantizeLinear", x, *numbers), *numbers)
    w = net.node("DequantizeLinear", rng.integers(-127, 128, (5, 3, 3, 3)).astype(np.int8),
                 np.float16(rng.uniform(0.005, 0.01, 5)), np.zeros(5, np.int8), axis=0)
    x = net.node("Conv", x, w, np.float16(rng.standard_normal(5)), pads=[1] * 4)
    if relu:
        x = net.node("Relu", x)
    numbers = net.constant(np.float16(rng.uniform(0.05, 0.1))), net.constant(np.uint8(100))
    x = net.node("DequantizeLinear", net.node("QuantizeLinear", x, *numbers), *numbers)
    if dense:
        x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        x = net.node("Flatten", x)
    if cast:
        x = net.node("Cast", x, to=FLOAT)
    shape = (5 * 3 * 3,) if dense else (5, 7, 6)
    model = net.model(x, types=FLOAT if cast else HALF, shapes=[shape])
    model.ir_version = 10
    return model


@pytest.mark.parametrize("seed", range(8))
def test_float16_as_in_onnx_runtime(seed):
    rng = np.random.default_rng(seed)
    element = HALF if seed % 2 else FLOAT
    model = network(rng, element, prepared=seed in (1, 2, 6, 7), relu=seed % 3 == 0,
                    cast=seed in (0, 1, 4, 5), dense=seed in (2, 5))
    images = np.float32(rng.standard_normal((4, 3, 7, 6)) * 1.5)
    expected, = run_onnx(model, images.astype(np.float16) if element == HALF else images,
                         optimized=False).values()
    graph, found = golden(model, images)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    step = float(graph.tensors[graph.outputs[0]].scale)
    off = np.abs(found.astype(np.float64) - expected)
    assert (off > 0).mean() < 0.08 and off.max() < 1.1 * step
    assert len(graph.notes) == 1 and "to float16" in lines(graph.notes)[0]


@pytest.mark.parametrize("element", [FLOAT, HALF])
def test_inputs_are_quantized_as_in_onnx_runtime(element):
    """Bit for bit: the layer between what the host does at both ends copies the codes."""
    rng = np.random.default_rng(3)
    net = Network(rng, (50,), opset=21, element=element)
    x = "x" if element == HALF else net.node("Cast", "x", to=HALF)
    x = net.node("Mul", net.node("Add", x, np.float16([0.1234])), np.float16([1.7]))
    numbers = net.constant(np.float16(0.0123)), net.constant(np.int8(3))
    x = net.node("DequantizeLinear", net.node("QuantizeLinear", x, *numbers), *numbers)
    x = net.node("MatMul", x, net.node("DequantizeLinear", np.eye(50, dtype=np.int8),
                                       np.float16(1), np.int8(0)))
    x = net.node("DequantizeLinear", net.node("QuantizeLinear", x, *numbers), *numbers)
    x = net.node("Cast", x, to=FLOAT)
    model = net.model(x, shapes=[(50,)])
    model.ir_version = 10
    images = np.float32(rng.standard_normal((400, 50)))
    images[0, :3] = 1e6, -1e6, 65519
    if element == HALF:
        images = np.clip(images, -65504, 65504).astype(np.float16)
    expected = run_onnx(model, images, optimized=False)[x]
    _, found = golden(model, images)
    np.testing.assert_array_equal(found, expected)


def test_bfloat16():
    import ml_dtypes
    kind = ml_dtypes.bfloat16
    rng = np.random.default_rng(4)
    values = np.float32(rng.standard_normal(10_000) * 10.0 ** rng.integers(-30, 30, 10_000))
    np.testing.assert_array_equal(rounded(values, "bfloat16"), values.astype(kind).astype("f4"))
    net = Network(rng, (40,), opset=21)
    x = net.node("Cast", "x", to=TensorProto.BFLOAT16)
    numbers = net.constant(np.array(0.0625, kind)), net.constant(np.int8(3))
    x = net.node("DequantizeLinear", net.node("QuantizeLinear", x, *numbers), *numbers)
    w = net.node("DequantizeLinear", rng.integers(-127, 128, (40, 8)).astype(np.int8),
                 np.array(0.0078125, kind), np.int8(0))
    numbers = net.constant(np.array(0.5, kind)), net.constant(np.int8(-5))
    x = net.node("QuantizeLinear", net.node("MatMul", x, w), *numbers)
    x = net.node("Cast", net.node("DequantizeLinear", x, *numbers), to=FLOAT)
    model = net.model(x, shapes=[(8,)])
    model.ir_version = 10
    images = np.float32(rng.standard_normal((64, 40)))
    expected, = ReferenceEvaluator(model).run(None, {"x": images})
    graph, found = golden(model, images)
    off = np.abs(found - expected)
    assert (off > 0).mean() < 0.1 and off.max() <= 0.51
    assert "to bfloat16" in lines(graph.notes)[0]


def test_other_casts_are_refused():
    net = Network(np.random.default_rng(0), (4,), opset=21)
    x = net.node("QuantizeLinear", net.node("Cast", "x", to=TensorProto.DOUBLE),
                 np.float64(0.1), np.int8(0))
    with pytest.raises(UserError, match=r"casts to float32|not valid ONNX"):
        load(net.model(x, types=TensorProto.INT8, shapes=[(4,)]))


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_float_networks_of_other_types_are_quantized(kind):
    """Casts, constants and attributes; the network is the same as its float32 twin."""
    models = []
    for element in (np.float32, kind):
        rng = np.random.default_rng(6)
        number = helper.np_dtype_to_tensor_dtype(np.dtype(element))
        net = Network(rng, (3, 6, 6), element=number)

        def numbers(*shape, rng=rng, element=element):
            return rng.standard_normal(shape).astype(np.float16).astype(element)
        x = net.node("Conv", "x", numbers(4, 3, 3, 3), numbers(4))
        if kind is element:
            x = net.node("Cast", net.node("Cast", x, to=FLOAT), to=number)
        x = net.node("Flatten", net.node("Relu", x))
        x = net.node("Gemm", x, numbers(64, 5), numbers(5))
        models.append(net.model(x, types=number, shapes=[(5,)]))
    data = np.random.default_rng(7).standard_normal((16, 3, 6, 6)).astype(np.float16)
    twin, own = (quantize(model, data.astype(np.float32)).model for model in models)
    arrays = [[onnx.numpy_helper.to_array(item) for item in model.graph.initializer]
              for model in (twin, own)]
    for one, other in zip(*arrays, strict=True):
        np.testing.assert_array_equal(one, other)
